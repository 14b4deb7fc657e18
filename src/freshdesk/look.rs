//! Looking before resending: is what may have been sent already there?
//!
//! Tickets are listed by the identifier they were created with, because lists are immediate where
//! Freshdesk's search lags by minutes; then the spam list, where tickets of blocked senders go, and the deleted
//! ones, because an agent may have been quick.
//!
//! **Invariants:** `Absent` is only said after every list was read to its end. What cannot be read to its
//! end is `Undecidable`, never guessed. Every loop has a bound, because lists have their own small budget
//! (20 a minute on the smallest paid plan); each page beyond what was granted is asked for before it is read.

use super::answer::{Answer, Subject};
use super::client::Client;
use super::failure::Failure;
use super::outcome::{Calls, Cause, Looked};
use super::refusal;
use super::request::Identifier;
use super::write::Requester;
use crate::clock::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Freshdesk's most.
const ROWS_PER_PAGE: usize = 100;
/// 500 tickets of one requester within the window; the vendor advises against paging further.
const TICKET_PAGES_MAX: u32 = 5;
/// 2,000 notes and replies of one ticket.
const NOTE_PAGES_MAX: u32 = 20;
/// Tickets fetched one by one because the list did not show what the marker is in.
const FETCHED_MAX: usize = 10;
/// Contacts that share a phone number.
const CONTACTS_MAX: usize = 5;
/// How much earlier than the attempt the window begins. It costs a few rows and forgives a clock that is
/// wrong by a time zone, which would otherwise hide the ticket and so make a second one.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// A row of a list, or one ticket: only what markers can be in.
#[derive(Deserialize)]
struct Ticket {
    id: u64,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    custom_fields: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    created_at: Option<String>,
}

/// A note or a reply.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    body_text: Option<String>,
}

#[derive(Deserialize)]
struct Contact {
    id: u64,
}

/// `Err` ends the search with an answer that is not `Absent`.
type Search<T> = Result<T, Looked>;

/// What one list came to.
enum Listed {
    Found(u64),
    NotThere,
    /// Freshdesk does not know the requester, so there is nothing in any list.
    NoSuchRequester,
}

/// See `Desk::find_ticket`.
pub(super) fn for_ticket(client: &Client, requester: &Requester, marker: &str, since: Timestamp) -> Looked {
    let search = TicketSearch { client, marker, window_start: earlier(since, SKEW).to_string() };
    search.run(requester).unwrap_or_else(|ended| ended)
}

/// See `Desk::find_note`.
pub(super) fn for_note(client: &Client, ticket: u64, marker: &str) -> Looked {
    find_in_conversations(client, ticket, marker).unwrap_or_else(|ended| ended)
}

/// The lists a ticket may be in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    /// What agents see.
    Usual,
    /// `filter=spam`.
    Spam,
    /// `filter=deleted`.
    Deleted,
}

const LISTS: [List; 3] = [List::Usual, List::Spam, List::Deleted];
/// States of contacts that a list must be asked for; without a state it shows the others.
const HIDDEN_CONTACTS: [&str; 2] = ["blocked", "deleted"];
/// Fields of a contact that hold a telephone number.
const PHONES: [&str; 2] = ["phone", "mobile"];

/// Calls of a look that reads one page of each list.
pub(super) fn calls(requester: &Requester) -> Calls {
    let contact_lists = match Identifier::of(requester) {
        Some(Identifier::Phone(_)) => PHONES.len() * (1 + HIDDEN_CONTACTS.len()),
        _ => 0,
    };
    Calls { all: LISTS.len() + contact_lists, ticket_lists: LISTS.len(), contact_lists }
}

struct TicketSearch<'a> {
    client: &'a Client,
    marker: &'a str,
    /// Tickets touched since are listed.
    window_start: String,
}

impl TicketSearch<'_> {
    fn run(&self, requester: &Requester) -> Search<Looked> {
        let Some(identifier) = Identifier::of(requester) else {
            return Err(undecidable("the requester has no email, external_id or phone"));
        };
        let found = match identifier {
            Identifier::Phone(phone) => self.search_contacts(phone)?,
            Identifier::Email(value) | Identifier::ExternalId(value) => {
                self.search_lists(&(identifier.field(), value.to_owned()))?
            }
        };
        Ok(found.map_or(Looked::Absent, |ticket| Looked::Found { ticket }))
    }

    fn search_lists(&self, filter: &(&'static str, String)) -> Search<Option<u64>> {
        for list in LISTS {
            match self.search_list(filter, list)? {
                Listed::Found(ticket) => return Ok(Some(ticket)),
                Listed::NotThere => {}
                Listed::NoSuchRequester => break,
            }
        }
        Ok(None)
    }

    /// Tickets cannot be listed by phone, so the contacts that a create may have used are asked for first, and
    /// those that are not shown unasked only when the others do not have it.
    fn search_contacts(&self, phone: &str) -> Search<Option<u64>> {
        let mut seen: Vec<u64> = Vec::new();
        for state in std::iter::once(None).chain(HIDDEN_CONTACTS.map(Some)) {
            let mut contacts = self.contacts_with(phone, state)?;
            contacts.retain(|id| !seen.contains(id));
            seen.extend(&contacts);
            if seen.len() > CONTACTS_MAX {
                return Err(undecidable("too many contacts share the requester's phone"));
            }
            for id in contacts {
                if let Some(ticket) = self.search_lists(&("requester_id", id.to_string()))? {
                    return Ok(Some(ticket));
                }
            }
        }
        Ok(None)
    }

    fn contacts_with(&self, phone: &str, state: Option<&str>) -> Search<Vec<u64>> {
        let mut ids = Vec::new();
        for field in PHONES {
            let mut parameters = vec![(field, phone)];
            parameters.extend(state.map(|state| ("state", state)));
            let answer = ask(self.client, &path("/api/v2/contacts", &parameters))?;
            let contacts: Vec<Contact> = wished_for(&answer, Subject::Account)?;
            ids.extend(contacts.iter().map(|contact| contact.id));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn search_list(&self, filter: &(&'static str, String), list: List) -> Search<Listed> {
        let mut window = Some(self.window_start.as_str());
        let mut page = 1;
        let mut fetched = 0;
        while page <= TICKET_PAGES_MAX {
            let answer = ask(self.client, &list_path(filter, list, window, page))?;
            if answer.status == 400 && refusal::is_invalid_value_of(answer.json().as_ref(), filter.0) {
                return Ok(Listed::NoSuchRequester);
            }
            let tickets: Vec<Ticket> = wished_for(&answer, Subject::Account)?;
            // Our clock is ahead of Freshdesk's by more than the skew: the window hides everything.
            // Without one Freshdesk lists what was created in the last 30 days.
            if window.is_some() && answer.date.is_some_and(|date| date.to_string() < self.window_start) {
                window = None;
                continue;
            }
            if let Some(ticket) = self.find_among(&tickets, (list, window), &mut fetched)? {
                return Ok(Listed::Found(ticket));
            }
            if !answer.has_next && tickets.len() < ROWS_PER_PAGE {
                return Ok(Listed::NotThere);
            }
            page += 1;
        }
        Err(undecidable("the requester has too many recent tickets to look through"))
    }

    /// Rows that do not show what the marker is in are fetched, when they are young enough to be ours.
    fn find_among(
        &self,
        tickets: &[Ticket],
        (list, window): (List, Option<&str>),
        fetched: &mut usize,
    ) -> Search<Option<u64>> {
        if let Some(ticket) = tickets.iter().find(|ticket| self.carries_marker(ticket)) {
            return Ok(Some(ticket.id));
        }
        for row in tickets.iter().filter(|row| !self.shows_marker_place(row) && created_within(row, window)) {
            *fetched += 1;
            if *fetched > FETCHED_MAX {
                return Err(undecidable("too many recent tickets to look into one by one"));
            }
            if self.fetch(row.id, list)?.is_some_and(|ticket| self.carries_marker(&ticket)) {
                return Ok(Some(row.id));
            }
        }
        Ok(None)
    }

    /// `None` when the ticket is gone meanwhile.
    fn fetch(&self, id: u64, list: List) -> Search<Option<Ticket>> {
        let answer = ask(self.client, &format!("/api/v2/tickets/{id}"))?;
        if answer.status == 404 {
            return Ok(None);
        }
        // Some accounts list what is deleted and do not show it; that is no reason to pause delivery.
        if answer.status == 403 && list == List::Deleted {
            return Err(undecidable("a deleted ticket of the requester cannot be looked into"));
        }
        wished_for(&answer, Subject::Account).map(Some)
    }

    /// Both places count, whichever is configured now: the ticket may have been made before a reload.
    fn carries_marker(&self, ticket: &Ticket) -> bool {
        let in_tags = ticket.tags.iter().flatten().any(|tag| tag == self.marker);
        let mut values = ticket.custom_fields.iter().flat_map(BTreeMap::values);
        in_tags || values.any(|value| value.as_str() == Some(self.marker))
    }

    fn shows_marker_place(&self, row: &Ticket) -> bool {
        match &self.client.marker_field {
            Some(field) => row.custom_fields.as_ref().is_some_and(|fields| fields.contains_key(field)),
            None => row.tags.is_some(),
        }
    }
}

/// Both are written `2026-11-21T08:01:13Z`, so their text sorts as time.
fn created_within(row: &Ticket, window: Option<&str>) -> bool {
    match (&row.created_at, window) {
        (Some(created_at), Some(start)) => created_at.as_str() >= start,
        _ => true,
    }
}

fn find_in_conversations(client: &Client, ticket: u64, marker: &str) -> Search<Looked> {
    let subject = Subject::NoteOn(ticket);
    for page in 1..=NOTE_PAGES_MAX {
        let (per_page, page) = (ROWS_PER_PAGE.to_string(), page.to_string());
        let parameters = [("per_page", per_page.as_str()), ("page", page.as_str())];
        let answer = ask(client, &path(&format!("/api/v2/tickets/{ticket}/conversations"), &parameters))?;
        let entries: Vec<Entry> = wished_for(&answer, subject)?;
        let has_marker = |text: &Option<String>| text.as_deref().is_some_and(|text| mentions(text, marker));
        if entries.iter().any(|entry| has_marker(&entry.body_text) || has_marker(&entry.body)) {
            return Ok(Looked::Found { ticket });
        }
        if !answer.has_next && entries.len() < ROWS_PER_PAGE {
            return Ok(Looked::Absent);
        }
    }
    Err(undecidable("the ticket has too many notes to look through"))
}

/// The marker as a whole word: `ds-ab` is not in `ds-abc`.
fn mentions(text: &str, marker: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
    text.match_indices(marker).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + marker.len()..]);
        !in_word(before.chars().next_back()) && !in_word(after.chars().next())
    })
}

fn ask(client: &Client, path: &str) -> Search<Answer> {
    let answer = client.get_if_granted(path).map_err(|after| Looked::Later { after })?;
    answer.map_err(|Failure { reason, .. }| Looked::Deferred {
        not_before: None,
        cause: Cause::Unreachable,
        reason: format!("while looking: {reason}"),
    })
}

/// What was asked for, or what the answer means for the search.
fn wished_for<T: DeserializeOwned>(answer: &Answer, subject: Subject) -> Search<T> {
    let wished_for = if answer.status == 200 { answer.json() } else { None };
    wished_for.ok_or_else(|| answer.looked(subject))
}

fn list_path(filter: &(&'static str, String), list: List, window: Option<&str>, page: u32) -> String {
    let (rows, page) = (ROWS_PER_PAGE.to_string(), page.to_string());
    let mut parameters = vec![(filter.0, filter.1.as_str())];
    match list {
        List::Usual => {}
        List::Spam => parameters.push(("filter", "spam")),
        List::Deleted => parameters.push(("filter", "deleted")),
    }
    parameters.extend(window.map(|start| ("updated_since", start)));
    parameters.extend([("order_by", "created_at"), ("order_type", "desc")]);
    parameters.extend([("per_page", rows.as_str()), ("page", page.as_str())]);
    path("/api/v2/tickets", &parameters)
}

fn path(path: &str, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("{path}?{query}")
}

fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    let since_1970 = moment.since(Timestamp(0));
    Timestamp(0).plus(since_1970.saturating_sub(by))
}

fn undecidable(reason: &str) -> Looked {
    Looked::Undecidable { reason: reason.to_owned() }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
