//! `GET /search/tickets`: the query language, and an index that is late.
//!
//! **Invariant:** a ticket is found only `search_delay_s` after it was created, as the vendor warns; an empty
//! answer proves nothing.

use super::answer::{Answer, Errors, invalid};
use super::list::Query;
use super::moment;
use super::state::State;
use super::store::Ticket;
use super::view::{self, Shown};
use serde_json::{Value, json};
use std::time::Duration;

const PAGES_MAX: u64 = 10;
const ROWS: usize = 30;
const QUERY_MAX: usize = 512;
const DEPTH_MAX: usize = 16;

/// `GET /search/tickets?query="…"`.
pub(crate) fn tickets(state: &State, query: &Query<'_>) -> Result<Answer, Answer> {
    let mut errors = Errors::default();
    query.check_names(&["query", "page"], &mut errors);
    let page = query.number("page", &mut errors).unwrap_or(1);
    if page > PAGES_MAX {
        errors.add("page", "invalid_value", "It should be less than or equal to 10");
    }
    if query.get("query").is_none() {
        errors.add("query", "missing_field", "It should be a/an String");
    }
    errors.finish(400)?;
    let condition = parse(state, query.get("query").unwrap_or_default())?;
    let delay = Duration::from_secs(state.knobs.search_delay_s);
    let is_found = |ticket: &&Ticket| {
        let age = state.monotonic().saturating_sub(ticket.created_monotonic);
        !ticket.spam && !ticket.deleted && age >= delay && condition.holds(ticket)
    };
    let found: Vec<&Ticket> = state.store.tickets.values().rev().filter(is_found).collect();
    let start = usize::try_from(page - 1).unwrap_or(0) * ROWS;
    let shown = found.iter().skip(start).take(ROWS);
    let shown = shown.map(|ticket| Value::Object(view::ticket_json(state, ticket, Shown::ALL)));
    let results: Vec<Value> = shown.collect();
    Ok(Answer::json(200, &json!({"total": found.len(), "results": results})))
}

enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Field { name: String, comparison: Comparison, value: Option<String> },
}

#[derive(Clone, Copy)]
enum Comparison {
    Is,
    AtLeast,
    AtMost,
}

impl Condition {
    fn holds(&self, ticket: &Ticket) -> bool {
        match self {
            Condition::All(parts) => parts.iter().all(|part| part.holds(ticket)),
            Condition::Any(parts) => parts.iter().any(|part| part.holds(ticket)),
            Condition::Field { name, comparison, value } => {
                let has = values(ticket, name);
                match value {
                    None => has.is_empty(),
                    Some(wanted) => has.iter().any(|one| comparison.holds(one, wanted)),
                }
            }
        }
    }
}

impl Comparison {
    /// Numbers as numbers, moments as moments, a bare date as the whole day.
    fn holds(self, has: &str, wanted: &str) -> bool {
        let order = match (has.parse::<f64>(), wanted.parse::<f64>()) {
            (Ok(has), Ok(wanted)) => has.partial_cmp(&wanted),
            _ if moment::is_date(wanted) && has.len() > 10 => Some(has[..10].cmp(wanted)),
            _ => Some(has.cmp(wanted)),
        };
        match self {
            Comparison::Is => order.is_some_and(|order| order.is_eq()),
            Comparison::AtLeast => order.is_some_and(|order| order.is_ge()),
            Comparison::AtMost => order.is_some_and(|order| order.is_le()),
        }
    }
}

fn values(ticket: &Ticket, name: &str) -> Vec<String> {
    match name {
        "tag" => ticket.tags(),
        "created_at" => vec![ticket.created_at.to_string()],
        "updated_at" => vec![ticket.updated_at.to_string()],
        _ => {
            let custom = ticket.fields.get("custom_fields").and_then(|fields| fields.get(name));
            let key = if name == "agent_id" { "responder_id" } else { name };
            match custom.or_else(|| ticket.fields.get(key)) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::String(text)) => vec![text.clone()],
                Some(other) => vec![other.to_string()],
            }
        }
    }
}

fn parse(state: &State, query: &str) -> Result<Condition, Answer> {
    let broken = || invalid("query", "invalid_value", "Given query is invalid");
    let text = query.trim().strip_prefix('"').and_then(|query| query.strip_suffix('"')).ok_or_else(broken)?;
    if text.chars().count() > QUERY_MAX {
        return Err(invalid("query", "invalid_value", "It can have maximum of 512 characters"));
    }
    let mut parser = Parser { rest: text.trim(), depth: 0, unknown: None, state };
    let condition = parser.any();
    match (condition, parser.unknown, parser.rest.is_empty()) {
        (_, Some(name), _) => Err(invalid(&name, "invalid_field", "Unexpected/invalid field in request")),
        (Some(condition), None, true) => Ok(condition),
        _ => Err(broken()),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    unknown: Option<String>,
    state: &'a State,
}

impl Parser<'_> {
    fn any(&mut self) -> Option<Condition> {
        let mut parts = vec![self.all()?];
        while self.takes("OR ") {
            parts.push(self.all()?);
        }
        Some(Condition::Any(parts))
    }

    fn all(&mut self) -> Option<Condition> {
        let mut parts = vec![self.one()?];
        while self.takes("AND ") {
            parts.push(self.one()?);
        }
        Some(Condition::All(parts))
    }

    fn one(&mut self) -> Option<Condition> {
        if !self.takes("(") {
            return self.field();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let inner = self.any()?;
        self.depth -= 1;
        self.takes(")").then_some(inner)
    }

    fn field(&mut self) -> Option<Condition> {
        let (name, rest) = self.rest.split_once(':')?;
        let name = name.trim().to_owned();
        if !self.is_field(&name) {
            self.unknown = Some(name);
            return None;
        }
        self.rest = rest.trim_start();
        let comparison = match () {
            () if self.takes(">") => Comparison::AtLeast,
            () if self.takes("<") => Comparison::AtMost,
            () => Comparison::Is,
        };
        let value = self.value()?;
        Some(Condition::Field { name, comparison, value })
    }

    /// A value; `Some(None)` is null.
    fn value(&mut self) -> Option<Option<String>> {
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            let (value, rest) = quoted.split_once('\'')?;
            self.rest = rest.trim_start();
            return Some(Some(value.to_owned()));
        }
        let end = self.rest.find([' ', ')']).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        match value {
            "" => None,
            "null" => Some(None),
            value => Some(Some(value.to_owned())),
        }
    }

    fn is_field(&self, name: &str) -> bool {
        const KNOWN: [&str; 10] = [
            "agent_id",
            "group_id",
            "priority",
            "status",
            "tag",
            "type",
            "due_by",
            "fr_due_by",
            "created_at",
            "updated_at",
        ];
        KNOWN.contains(&name) || self.state.form.custom_fields.iter().any(|field| field.name == name)
    }

    fn takes(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }
}
