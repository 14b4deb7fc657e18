//! What the control socket says: rows, envelopes, selections. These shapes are what `--json` prints; new
//! members may appear, none disappears without a major version.

use super::wire::OriginLine;
use crate::clock::Timestamp;
use crate::config::units::parse_duration;
use crate::dispatch::Planned;
use crate::freshdesk::write::Write;
use crate::spool::{Entry, Envelope, Id, Settled, State, Try};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The words of `--state`.
pub const STATES: [&str; 7] = ["queued", "deferred", "in-flight", "held", "dead", "delivered", "dropped"];

/// One envelope in a listing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// Its number.
    pub id: Id,
    /// One of [`STATES`].
    pub state: String,
    /// Its source.
    pub source: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// Who asks, when the mapping knows.
    pub requester: Option<String>,
    /// The platform's id of the event.
    pub event: String,
    /// RFC 3339, UTC.
    pub received_at: String,
    /// Since then.
    pub age_seconds: u64,
    /// Attempts that counted.
    pub attempts: u32,
    /// Next try, RFC 3339, UTC; none when it has none.
    pub due_at: Option<String>,
    /// Until then.
    pub due_seconds: Option<u64>,
    /// The envelope of its conversation it waits for.
    pub waits_for: Option<Id>,
    /// The last error, or why it is dead or held.
    pub last_error: Option<String>,
    /// Its ticket, once there is one.
    pub ticket: Option<u64>,
}

impl Row {
    /// Of an envelope that is not settled.
    pub fn waiting(id: Id, entry: &Entry, in_flight: bool, now: Timestamp) -> Row {
        let has_due = matches!(entry.state, State::Queued | State::Deferred) && !in_flight;
        Row {
            id,
            state: state_word(entry.state, in_flight).to_owned(),
            source: entry.source.clone(),
            received_at: entry.received_at.to_string(),
            age_seconds: now.since(entry.received_at).as_secs(),
            attempts: entry.attempts,
            due_at: has_due.then(|| entry.due.to_string()),
            due_seconds: has_due.then(|| entry.due.since(now).as_secs()),
            last_error: Some(entry.reason.clone()).filter(|reason| !reason.is_empty()),
            ticket: entry.ticket,
            ..Row::default()
        }
    }

    /// Of one that is.
    pub fn settled(id: Id, settled: &Settled, now: Timestamp) -> Row {
        Row {
            id,
            state: if settled.dropped { "dropped" } else { "delivered" }.to_owned(),
            source: settled.source.clone(),
            conversation: settled.conversation.clone(),
            event: settled.event_id.clone(),
            received_at: settled.received_at.to_string(),
            age_seconds: now.since(settled.received_at).as_secs(),
            attempts: settled.tries.last().map_or(0, |last| last.number),
            ticket: settled.ticket,
            ..Row::default()
        }
    }
}

pub(super) fn state_word(state: State, in_flight: bool) -> &'static str {
    match (in_flight, state) {
        (true, _) => "in-flight",
        (_, State::Queued) => "queued",
        (_, State::Deferred) => "deferred",
        (_, State::Held) => "held",
        (_, State::Dead) => "dead",
    }
}

/// Which envelopes. Everything that is set must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Words of [`STATES`]; none: all that are not settled.
    pub states: Vec<String>,
    /// Name of a source.
    pub source: Option<String>,
    /// Whole conversation key.
    pub conversation: Option<String>,
    /// Received at most this many seconds ago.
    pub since_seconds: Option<u64>,
    /// Received at least this many seconds ago.
    pub until_seconds: Option<u64>,
    /// Part of id, platform event id, requester or error, without case.
    pub matches: Option<String>,
}

impl Filter {
    /// Sets one criterion from its option's name and text.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let duration = || {
            let parsed = parse_duration(text).map(|duration| duration.as_secs());
            parsed.ok_or_else(|| format!("--{name} {text}: expected a duration such as 90s, 15m, 2h or 30d"))
        };
        match name {
            "state" => {
                for state in text.split(',') {
                    if !STATES.contains(&state) {
                        return Err(format!("--state {state}: allowed are {}", STATES.join(", ")));
                    }
                    self.states.push(state.to_owned());
                }
            }
            "source" => self.source = Some(text.to_owned()),
            "conversation" => self.conversation = Some(text.to_owned()),
            "since" => self.since_seconds = Some(duration()?),
            "until" => self.until_seconds = Some(duration()?),
            "match" => self.matches = Some(text.to_lowercase()),
            _ => return Err(format!("there is no filter {name}")),
        }
        Ok(())
    }

    /// From `state=dead&source=x`.
    pub fn of_query(query: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, text) in form_urlencoded::parse(query.as_bytes()) {
            filter.set(&name, &text)?;
        }
        Ok(filter)
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether delivered or dropped ones are asked for.
    pub fn wants_settled(&self) -> bool {
        self.states.iter().any(|state| state == "delivered" || state == "dropped")
    }

    /// Whether an envelope can pass, judged without its text.
    pub fn may_pass(&self, entry: &Entry, in_flight: bool, now: Timestamp) -> bool {
        let word = state_word(entry.state, in_flight);
        let age = now.since(entry.received_at).as_secs();
        if self.since_seconds.is_some_and(|seconds| age > seconds)
            || self.until_seconds.is_some_and(|seconds| age < seconds)
        {
            return false;
        }
        (self.states.is_empty() || self.states.iter().any(|state| state == word))
            && self.source.as_ref().is_none_or(|source| *source == entry.source)
    }

    /// Whether everything holds for this row.
    pub fn passes(&self, row: &Row) -> bool {
        (self.states.is_empty() || self.states.contains(&row.state))
            && self.since_seconds.is_none_or(|seconds| row.age_seconds <= seconds)
            && self.until_seconds.is_none_or(|seconds| row.age_seconds >= seconds)
            && self.passes_beside_time(row)
    }

    /// Whether everything holds for this row but what concerns its state and its age.
    pub fn passes_beside_time(&self, row: &Row) -> bool {
        self.source.as_ref().is_none_or(|source| *source == row.source)
            && self.conversation.as_ref().is_none_or(|key| *key == row.conversation)
            && self.matches.as_ref().is_none_or(|text| row_mentions(row, text))
    }
}

fn row_mentions(row: &Row, text: &str) -> bool {
    let mentions = |field: Option<&String>| field.is_some_and(|field| field.to_lowercase().contains(text));
    row.id.to_string().contains(text)
        || mentions(Some(&row.event))
        || mentions(row.requester.as_ref())
        || mentions(row.last_error.as_ref())
}

/// What a verb is to be applied to: the ids, or else all that pass the filter.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Numbers of envelopes.
    pub ids: Vec<Id>,
    /// Used when there are none.
    pub filter: Filter,
}

/// What is to be set aside, and for how long.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Aside {
    /// Envelopes to hold.
    pub selection: Selection,
    /// `intake`, `delivery` or a source to pause.
    pub what: String,
    /// In the admin's words; empty without.
    pub reason: String,
    /// It ends by itself after so long.
    pub for_seconds: Option<u64>,
}

/// What a verb did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Done {
    /// How many it was applied to.
    pub touched: u64,
    /// The same by source.
    pub by_source: BTreeMap<String, u64>,
    /// Not touched: they are being sent right now.
    pub in_flight: Vec<Id>,
    /// Not touched: there are no such envelopes, or they are settled.
    pub unknown: Vec<Id>,
    /// Not touched: dead ones are not held, and only held ones are released.
    #[serde(default)]
    pub unsuited: Vec<Id>,
}

impl Done {
    pub(super) fn touch(&mut self, source: String) {
        self.touched += 1;
        *self.by_source.entry(source).or_default() += 1;
    }
}

/// One envelope, whole.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct EnvelopeView {
    /// As in a listing.
    #[serde(flatten)]
    pub row: Row,
    /// The preset's name for the event.
    pub kind: String,
    /// Address its request came from.
    pub peer: Option<String>,
    /// Bytes of its event.
    pub bytes: Option<u64>,
    /// Its last attempts, oldest first.
    pub tries: Vec<TryView>,
    /// What would be written now, one line per write; or why nothing can be.
    pub will_do: Vec<String>,
    /// The writes in full, as Freshdesk's fields.
    pub writes: Vec<serde_json::Value>,
    /// Its event. Customer text.
    pub body: Option<String>,
    /// Where it was before it was imported here.
    #[serde(default)]
    pub origin: Option<OriginLine>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TryView {
    /// 1 for the first.
    pub number: u32,
    /// RFC 3339, UTC.
    pub at: String,
    /// How long it took.
    pub took_seconds: f64,
    /// `delivered`, `deferred`, `rejected`, `unknown`.
    pub ended: String,
    /// Why.
    pub reason: String,
}

impl EnvelopeView {
    pub(super) fn waiting(row: Row, entry: &Entry, envelope: &Envelope, planned: &Planned) -> EnvelopeView {
        let (will_do, writes) = match planned {
            Planned::Writes(writes) => {
                (writes.iter().map(line).collect(), writes.iter().map(crate::freshdesk::preview).collect())
            }
            Planned::Unmappable(reason) => {
                let reason = reason.strip_prefix("mapping: ").unwrap_or(reason);
                (vec![format!("cannot be mapped: {reason}")], Vec::new())
            }
            Planned::Paused => (vec![format!("source.{} is paused", entry.source)], Vec::new()),
            Planned::NoSource => (vec![format!("source.{} is not configured", entry.source)], Vec::new()),
        };
        EnvelopeView {
            kind: envelope.kind.clone(),
            peer: Some(envelope.peer.clone()),
            bytes: Some(envelope.body.len() as u64),
            tries: entry.tries.iter().map(TryView::of).collect(),
            will_do,
            writes,
            body: Some(String::from_utf8_lossy(&envelope.body).into_owned()),
            origin: envelope.origin.map(OriginLine::of),
            row,
        }
    }

    /// One whose record is damaged.
    pub(super) fn unreadable(row: Row, entry: &Entry) -> EnvelopeView {
        EnvelopeView {
            kind: String::new(),
            peer: None,
            bytes: None,
            tries: entry.tries.iter().map(TryView::of).collect(),
            will_do: vec!["nothing: its text is lost".to_owned()],
            writes: Vec::new(),
            body: None,
            origin: None,
            row,
        }
    }

    pub(super) fn settled(id: Id, settled: &Settled) -> EnvelopeView {
        EnvelopeView {
            row: Row::settled(id, settled, settled.settled_at),
            kind: settled.kind.clone(),
            peer: None,
            bytes: None,
            tries: settled.tries.iter().map(TryView::of).collect(),
            will_do: Vec::new(),
            writes: Vec::new(),
            body: None,
            origin: settled.origin.map(OriginLine::of),
        }
    }
}

impl TryView {
    fn of(one: &Try) -> TryView {
        TryView {
            number: one.number,
            at: one.at.to_string(),
            took_seconds: one.took.as_secs_f64(),
            ended: one.ended.word().to_owned(),
            reason: one.reason.clone(),
        }
    }
}

fn line(write: &Write) -> String {
    match write {
        Write::CreateTicket(ticket) => {
            let requester = &ticket.requester;
            let who = [&requester.name, &requester.email, &requester.phone, &requester.external_id];
            let who = who.into_iter().flatten().next().map_or("nobody", String::as_str);
            format!("create ticket {:?} for {who}", ticket.subject)
        }
        Write::AddNote(note) if note.reply => "reply to the customer in the conversation's ticket".to_owned(),
        Write::AddNote(note) if note.private => "add a private note to the conversation's ticket".to_owned(),
        Write::AddNote(_) => "add a public note to the conversation's ticket".to_owned(),
        Write::UpdateTicket(_) => "change the conversation's ticket".to_owned(),
        Write::PutContact(_) => "find the requester's contact and fill it, or make it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_from_words() {
        let filter =
            Filter::of_query("state=dead,held&source=contako&since=2h&match=WAMID").expect("all are allowed");
        assert_eq!(filter.states, ["dead", "held"]);
        assert_eq!((filter.since_seconds, filter.matches.as_deref()), (Some(7200), Some("wamid")));
        let check = |query: &str, expect: &str| {
            assert_eq!(Filter::of_query(query).expect_err("it is wrong"), expect);
        };
        check(
            "state=lost",
            "--state lost: allowed are queued, deferred, in-flight, held, dead, delivered, dropped",
        );
        check("since=yesterday", "--since yesterday: expected a duration such as 90s, 15m, 2h or 30d");
        check("colour=red", "there is no filter colour");
    }

    #[test]
    fn a_row_passes_when_everything_holds() {
        let row = Row {
            id: 10_432,
            state: "dead".into(),
            source: "contako".into(),
            requester: Some("Ana Ruiz".into()),
            age_seconds: 100,
            ..Row::default()
        };
        let check = |query: &str, expect: bool| {
            let filter = Filter::of_query(query).expect("well formed");
            assert_eq!(filter.passes(&row), expect, "{query}");
        };
        check("", true);
        check("state=dead&source=contako&since=2m&match=ana", true);
        check("match=1043", true);
        check("state=held", false);
        check("since=1m", false);
        check("until=1m", true);
        check("source=botpress", false);
    }
}
