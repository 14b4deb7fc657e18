//! Lists: query parameters, pages, and `GET /tickets`.

use super::answer::{Answer, Errors, invalid};
use super::knobs::UnknownRequester;
use super::moment;
use super::requesters;
use super::state::State;
use super::store::Ticket;
use super::tickets;
use super::view::{self, Shown};
use crate::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const PAGES_MAX: u64 = 300;
const PER_PAGE: u64 = 30;
const PER_PAGE_MAX: u64 = 100;
/// Older tickets are listed only when `updated_since` asks for them.
const LISTED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The query of a call.
pub(crate) struct Query<'a> {
    /// Of the account, for links to the next page.
    pub(crate) base_url: &'a str,
    pub(crate) path: &'a str,
    pub(crate) pairs: &'a [(String, String)],
}

/// Which page of how many rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) number: u64,
    pub(crate) rows: u64,
}

impl Query<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Refuses parameters that are not `known`.
    pub(crate) fn check_names(&self, known: &[&str], errors: &mut Errors) {
        for (name, _) in self.pairs {
            if !known.contains(&name.as_str()) {
                errors.add_unexpected(name);
            }
        }
    }

    /// The words of `include`.
    pub(crate) fn include<'b>(&self, known: &[&'b str], errors: &mut Errors) -> Vec<&'b str> {
        let mut words = Vec::new();
        for word in self.get("include").into_iter().flat_map(|list| list.split(',')) {
            match known.iter().find(|known| **known == word.trim()) {
                Some(word) => words.push(*word),
                None => {
                    let message = format!("It should be one of these values: '{}'", known.join(","));
                    errors.add("include", "invalid_value", message);
                }
            }
        }
        words
    }

    pub(crate) fn number(&self, name: &str, errors: &mut Errors) -> Option<u64> {
        let text = self.get(name)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            let message = "Value set is of type String.It should be a/an Positive Integer";
            errors.add(name, "datatype_mismatch", message);
        }
        number
    }

    pub(crate) fn moment(&self, name: &str, errors: &mut Errors) -> Option<Timestamp> {
        let moment = moment::parse(self.get(name)?);
        if moment.is_none() {
            let message = "It should be in the 'combined date and time ISO8601' format";
            errors.add(name, "invalid_value", message);
        }
        moment
    }

    /// One of `words`, the first when none is said.
    fn word<'b>(&self, name: &str, words: &[&'b str], errors: &mut Errors) -> &'b str {
        let said = self.get(name).unwrap_or(words[0]);
        words.iter().find(|word| **word == said).copied().unwrap_or_else(|| {
            let message = format!("It should be one of these values: '{}'", words.join(","));
            errors.add(name, "invalid_value", message);
            words[0]
        })
    }

    pub(crate) fn page(&self, errors: &mut Errors) -> Page {
        let number = self.number("page", errors).unwrap_or(1);
        let rows = self.number("per_page", errors).unwrap_or(PER_PAGE);
        if number > PAGES_MAX {
            let message =
                "You cannot access tickets beyond the 300th page. Please provide a smaller page number.";
            errors.add("page", "invalid_value", message);
        }
        if rows > PER_PAGE_MAX {
            let message = "It should be a Positive Integer less than or equal to 100";
            errors.add("per_page", "invalid_value", message);
        }
        Page { number, rows }
    }

    /// The answer with one page of `rows`, and where the next one is.
    pub(crate) fn answer<T>(&self, page: Page, rows: &[T], json: impl Fn(&T) -> Value) -> Answer {
        let start = usize::try_from((page.number - 1) * page.rows).unwrap_or(usize::MAX).min(rows.len());
        let end = start.saturating_add(usize::try_from(page.rows).unwrap_or(0)).min(rows.len());
        let shown: Vec<Value> = rows[start..end].iter().map(json).collect();
        let answer = Answer::json(200, &Value::Array(shown));
        if end == rows.len() {
            return answer;
        }
        let others = self.pairs.iter().filter(|(name, _)| name != "page");
        let next = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("page", &(page.number + 1).to_string())
            .finish();
        answer.with("Link", format!("<{}{}?{next}>; rel=\"next\"", self.base_url, self.path))
    }
}

/// What `GET /tickets` asks for.
struct Wanted<'a> {
    requester: Option<u64>,
    company: Option<u64>,
    updated_since: Option<Timestamp>,
    filter: &'a str,
}

/// `GET /tickets`.
pub(crate) fn tickets(state: &State, query: &Query<'_>) -> Result<Answer, Answer> {
    const KNOWN: [&str; 11] = [
        "requester_id",
        "email",
        "unique_external_id",
        "company_id",
        "updated_since",
        "filter",
        "order_by",
        "order_type",
        "include",
        "page",
        "per_page",
    ];
    let mut errors = Errors::default();
    query.check_names(&KNOWN, &mut errors);
    let page = query.page(&mut errors);
    let include = query.include(&["requester", "stats", "description"], &mut errors);
    let order = query.word("order_by", &["created_at", "due_by", "updated_at", "status"], &mut errors);
    let is_ascending = query.word("order_type", &["desc", "asc"], &mut errors) == "asc";
    let filters = ["", "new_and_my_open", "watching", "spam", "deleted"];
    let wanted = Wanted {
        requester: query.number("requester_id", &mut errors),
        company: query.number("company_id", &mut errors),
        updated_since: query.moment("updated_since", &mut errors),
        filter: query.word("filter", &filters, &mut errors),
    };
    errors.finish(400)?;
    let Some(wanted) = with_requester(state, query, wanted)? else {
        return Ok(Answer::json(200, &json!([])));
    };
    let mut rows = state.store.tickets_of(wanted.requester);
    rows.retain(|ticket| is_listed(state, ticket, &wanted));
    sort(&mut rows, order, is_ascending);
    let shown = Shown {
        description: include.contains(&"description"),
        tags: state.knobs.list_includes_tags,
        attachments: false,
    };
    Ok(query.answer(page, &rows, |ticket| {
        let mut json = view::ticket_json(state, ticket, shown);
        for part in include.iter().filter(|part| **part != "description") {
            json.insert((*part).to_owned(), tickets::embedded(state, ticket, part));
        }
        Value::Object(json)
    }))
}

/// Finds whom the filters name; nothing when they name nobody and that is no error.
fn with_requester<'a>(
    state: &State,
    query: &Query<'_>,
    wanted: Wanted<'a>,
) -> Result<Option<Wanted<'a>>, Answer> {
    let mut requester = wanted.requester;
    for name in ["requester_id", "email", "unique_external_id"] {
        let Some(value) = query.get(name) else { continue };
        let found = match name {
            "requester_id" => requester.filter(|id| requesters::is_somebody(state, *id)),
            "email" => {
                let agent = state.form.agent_by_email(value).map(|agent| agent.id);
                agent.or_else(|| state.store.contact_by("email", value))
            }
            _ => state.store.contact_by("unique_external_id", value),
        };
        match (found, state.knobs.unknown_requester_filter) {
            (Some(id), _) if requester.is_none_or(|other| other == id) => requester = Some(id),
            (Some(_), _) | (None, UnknownRequester::Empty) => return Ok(None),
            (None, UnknownRequester::Error) => {
                return Err(invalid(name, "invalid_value", &requesters::no_contact(name)));
            }
        }
    }
    Ok(Some(Wanted { requester, ..wanted }))
}

fn is_listed(state: &State, ticket: &Ticket, wanted: &Wanted<'_>) -> bool {
    let age = state.monotonic().saturating_sub(ticket.created_monotonic);
    let in_time = match wanted.updated_since {
        Some(since) => ticket.updated_at.unix_seconds() >= since.unix_seconds(),
        None => state.now().since(ticket.created_at) <= LISTED_FOR,
    };
    let me = state.form.agents.first().map(|agent| agent.id);
    let in_filter = match wanted.filter {
        "spam" => ticket.spam && !ticket.deleted,
        "deleted" => ticket.deleted,
        _ if ticket.spam || ticket.deleted => false,
        "watching" => false,
        "new_and_my_open" => {
            let responder = ticket.number("responder_id");
            ticket.number("status") == Some(2) && (responder.is_none() || responder == me)
        }
        _ => true,
    };
    let of_company = wanted.company.is_none_or(|company| ticket.number("company_id") == Some(company));
    in_time && in_filter && of_company && age >= Duration::from_secs(state.knobs.list_delay_s)
}

fn sort(rows: &mut [&Ticket], order: &str, is_ascending: bool) {
    let key = |ticket: &Ticket| match order {
        "updated_at" => ticket.updated_at.0,
        "status" => ticket.number("status").unwrap_or_default(),
        // Due times follow the creation by a fixed span unless a call set one.
        "due_by" => {
            moment::parse(ticket.text("due_by"))
                .unwrap_or_else(|| ticket.created_at.plus(Duration::from_secs(3 * 86_400)))
                .0
        }
        _ => ticket.created_at.0,
    };
    rows.sort_by_key(|ticket| (key(ticket), ticket.id));
    if !is_ascending {
        rows.reverse();
    }
}
