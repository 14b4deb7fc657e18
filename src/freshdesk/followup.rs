//! What comes after a ticket was opened: notes and replies, where the ticket may be closed by now, and updates.
//!
//! **Invariants:** the ticket is asked for its state before anything is written, and what is written first can be
//! done twice; so whatever is cut off here, the one write that carries the marker is done or not, and looking
//! tells which.

use super::answer::{Answer, Subject};
use super::client::Client;
use super::failure::Failure;
use super::outcome::{Cause, Looked, Outcome};
use super::write::{NoteFields, UpdateFields, WhenClosed, changed_tags};
use super::{Desk, request};
use crate::clock::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// Freshdesk's numbers for "open", "resolved" and "closed".
const OPEN: u64 = 2;
const RESOLVED: u64 = 4;
const CLOSED: u64 = 5;

/// How a ticket stands.
enum Standing {
    Open,
    Closed,
    Gone,
}

#[derive(Deserialize)]
struct Ticket {
    id: u64,
    #[serde(default)]
    status: u64,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    spam: bool,
}

impl Client {
    /// See `Desk::add_note`.
    pub(super) fn follow_up(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        let standing = match &note.when_closed {
            WhenClosed::Leave => Standing::Open,
            WhenClosed::Reopen | WhenClosed::NewTicket(_) => match self.standing(ticket) {
                Ok(standing) => standing,
                Err(outcome) => return outcome,
            },
        };
        match (standing, &note.when_closed) {
            (Standing::Open, _) | (_, WhenClosed::Leave) => self.post_note(ticket, note, marker),
            (_, WhenClosed::NewTicket(fields)) => self.create_ticket(fields, marker),
            (Standing::Closed, WhenClosed::Reopen) => self.reopen(ticket, note, marker),
            (Standing::Gone, WhenClosed::Reopen) => Outcome::Rejected { reason: gone(ticket) },
        }
    }

    /// A form that requires more of an open ticket must not cost the customer's message: agents are told in it.
    fn reopen(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        let path = format!("/api/v2/tickets/{ticket}");
        let reopened = self.put(&path, &json!({ "status": OPEN }));
        match self.outcome_of(Subject::Ticket(ticket), reopened) {
            Outcome::Delivered { .. } => self.post_note(ticket, note, marker),
            Outcome::Rejected { reason } if note.private && !note.reply => {
                let told = format!("<br>\n<b>[this ticket could not be opened again: {reason}]</b>");
                let note = NoteFields { body: format!("{}{told}", note.body), ..note.clone() };
                self.post_note(ticket, &note, marker)
            }
            Outcome::Rejected { .. } => self.post_note(ticket, note, marker),
            outcome => outcome,
        }
    }

    fn post_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        let place = if note.reply { "reply" } else { "notes" };
        let path = format!("/api/v2/tickets/{ticket}/{place}");
        let body = request::note(note, marker);
        self.post_with_files(Subject::NoteOn(ticket), &path, body, ("body", &note.attachments))
    }

    /// See `Desk::find_follow_up`. A note of a ticket that is gone cannot be found, and need not be.
    pub(super) fn look_for_follow_up(
        &self,
        ticket: u64,
        note: &NoteFields,
        (marker, since): (&str, Timestamp),
    ) -> Looked {
        let WhenClosed::NewTicket(fields) = &note.when_closed else { return self.find_note(ticket, marker) };
        match self.find_ticket(&fields.requester, marker, since) {
            Looked::Absent => match self.find_note(ticket, marker) {
                Looked::Undecidable { .. } if matches!(self.standing(ticket), Ok(Standing::Gone)) => {
                    Looked::Absent
                }
                looked => looked,
            },
            looked => looked,
        }
    }

    fn standing(&self, ticket: u64) -> Result<Standing, Outcome> {
        let answer = self.ask(&format!("/api/v2/tickets/{ticket}"))?;
        if answer.status == 404 {
            return Ok(Standing::Gone);
        }
        let found = wished_for(&answer, ticket)?;
        Ok(match found.status {
            _ if found.deleted || found.spam => Standing::Gone,
            RESOLVED | CLOSED => Standing::Closed,
            _ => Standing::Open,
        })
    }

    /// See `Desk::update_ticket`.
    pub(super) fn update(&self, ticket: u64, update: &UpdateFields) -> Outcome {
        let path = format!("/api/v2/tickets/{ticket}");
        let mut body = request::update(update);
        if !update.tags_add.is_empty() || !update.tags_remove.is_empty() {
            let found = self.ask(&path).and_then(|answer| wished_for(&answer, ticket));
            let tags = match found {
                Ok(found) => found.tags,
                Err(outcome) => return outcome,
            };
            let changed = changed_tags(&tags, &update.tags_add, &update.tags_remove);
            if changed != tags {
                body.insert("tags".to_owned(), json!(changed));
            }
        }
        if body.is_empty() {
            return Outcome::Delivered { ticket };
        }
        self.outcome_of(Subject::Ticket(ticket), self.put(&path, &Value::Object(body)))
    }

    /// See `Desk::find_update`. What agents changed since is theirs: a ticket that is as wanted is not changed again.
    pub(super) fn look_for_update(&self, ticket: u64, update: &UpdateFields) -> Looked {
        let answer = match self.get(&format!("/api/v2/tickets/{ticket}")) {
            Ok(answer) => answer,
            Err(Failure { reason, .. }) => {
                return Looked::Deferred { not_before: None, cause: Cause::Unreachable, reason };
            }
        };
        // Sending it again tells best what became of a ticket that is gone.
        if answer.status == 404 {
            return Looked::Absent;
        }
        let Some(found) =
            answer.json::<Value>().filter(|found| answer.status == 200 && found["id"] == ticket)
        else {
            return answer.looked(Subject::Ticket(ticket));
        };
        let tags: Vec<String> = serde_json::from_value(found["tags"].clone()).unwrap_or_default();
        let has_tags = changed_tags(&tags, &update.tags_add, &update.tags_remove) == tags;
        let is_so =
            has_tags && request::update(update).iter().all(|(name, wanted)| shows(&found[name], wanted));
        if is_so { Looked::Found { ticket } } else { Looked::Absent }
    }

    /// Asks before something is written: without an answer nothing was done.
    pub(super) fn ask(&self, path: &str) -> Result<Answer, Outcome> {
        self.get(path).map_err(|Failure { reason, .. }| Outcome::Deferred {
            not_before: None,
            cause: Cause::Unreachable,
            reason,
        })
    }
}

/// Whether a field is as wanted; of an object only the members that are wanted count.
fn shows(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(members) => members.iter().all(|(name, wanted)| shows(&found[name], wanted)),
        wanted => found == wanted,
    }
}

fn wished_for(answer: &Answer, ticket: u64) -> Result<Ticket, Outcome> {
    let found = if answer.status == 200 { answer.json::<Ticket>() } else { None };
    found.filter(|found| found.id == ticket).ok_or_else(|| match answer.outcome(Subject::Ticket(ticket)) {
        // Only a question was asked.
        Outcome::Unknown { reason } => Outcome::Deferred { not_before: None, cause: Cause::Server, reason },
        Outcome::Delivered { .. } => Outcome::Deferred {
            not_before: None,
            cause: Cause::Server,
            reason: "the ticket's answer is not what Freshdesk sends".to_owned(),
        },
        outcome => outcome,
    })
}

fn gone(ticket: u64) -> String {
    format!("freshdesk 404: ticket {ticket} was deleted, set followup.when_closed = \"new-ticket\"")
}
