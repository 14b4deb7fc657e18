//! A request run through verify and map, delivering nothing: what `deskspool try` and the page's preview show.
//!
//! It goes the road's own way ([`intake::drafts`], [`Source::plan`]) and only adds why.
//! **Invariants:** no I/O, nothing is stored or sent. Its answer holds customer text, and never a secret.

pub mod request;

use crate::clock::Timestamp;
use crate::decode::{Posted, decode};
use crate::freshdesk::{self, write::Write};
use crate::intake;
use crate::source::{
    EventDraft, Explanation, RequestContext, Source, StoredEvent, Suggestion, Verdict, suggest,
};
use crate::verify::Evidence;
use request::TrialRequest;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::time::Duration;

/// What a compressed body may become; what a file holds is as long as it is.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What would become of a request. `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Is it let in?
    pub verify: Verified,
    /// Its events in order; none when it is not let in.
    pub events: Vec<EventTrial>,
}

/// What is in a request, as JSON; none when its body is not understood.
pub fn understood(request: &TrialRequest) -> Option<Json> {
    let posted = Posted { body: &request.body, headers: &request.headers, bytes_max: BODY_BYTES_MAX };
    Some(decode(&posted).ok()?.value)
}

/// What is in a request, and what its first event probably means; none when its body is not understood.
pub fn suggestion(request: &TrialRequest) -> Option<(usize, Suggestion)> {
    let understood = understood(request)?;
    let (count, first) = match &understood {
        Json::Array(events) => (events.len(), events.iter().find(|event| event.is_object())?),
        event => (1, event),
    };
    Some((count, suggest(first)))
}

/// Whether a request is let in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// `ok`, `refused` or `not checked`.
    pub result: &'static str,
    /// `header authorization matches`, or why not.
    pub why: String,
}

/// What would become of one event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventTrial {
    /// The preset's name for it.
    pub kind: String,
    /// The platform's id, or a content hash.
    pub event_id: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// `delivered`, `filtered`, `dead` or `duplicate`.
    pub result: &'static str,
    /// Why it is not delivered.
    pub why: Option<String>,
    /// What was asked of it.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What Freshdesk would be asked, in order.
    pub calls: Vec<Call>,
}

/// One call of Freshdesk's API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// `POST`.
    pub method: &'static str,
    /// `/api/v2/tickets`.
    pub path: String,
    /// Its JSON.
    pub body: Json,
}

/// The calls that writes make; `ticket` stands for their conversation's ticket.
pub fn calls(writes: &[Write], ticket: &str) -> Vec<Call> {
    let call = |write: &Write| {
        let (method, path) = freshdesk::call(write, ticket);
        Call { method, path, body: freshdesk::preview(write) }
    };
    writes.iter().map(call).collect()
}

/// What the events of one request share.
struct Run<'a> {
    source: &'a Source,
    received_at: Timestamp,
    /// The ticket of every conversation, as the admin supposes.
    ticket: Option<u64>,
    /// Conversations that got a ticket from an earlier event, and which.
    opened: HashMap<String, usize>,
    seen: HashMap<[u8; 16], usize>,
}

/// Runs an event that was stored through a source, as its delivery would. `ticket` is the ticket its conversation has
/// already.
pub fn run_stored(source: &Source, stored: &StoredEvent<'_>, ticket: Option<u64>) -> EventTrial {
    let draft = EventDraft {
        kind: stored.kind.to_owned(),
        event_id: stored.event_id.to_owned(),
        dedupe: [0; 16],
        dedupe_window: Duration::ZERO,
        conversation: stored.conversation.to_owned(),
        body: stored.body.to_vec(),
        context: stored.context.to_vec(),
        verdict: Verdict::Keep,
    };
    Run::new(source, stored.received_at, ticket).event(1, draft)
}

/// Runs a request through a source. `ticket` is the ticket its conversations have already.
pub fn run(
    source: &Source,
    request: &TrialRequest,
    (received_at, ticket): (Timestamp, Option<u64>),
    unchecked: Option<&str>,
) -> Trial {
    let place = intake::place(source, &request.rest).unwrap_or_default();
    let verify = verified(source, request, (&place.token, received_at), unchecked);
    if verify.result == "refused" {
        return Trial { verify, events: Vec::new() };
    }
    let kind = request.kind.as_ref().unwrap_or(&place.kind);
    let context = RequestContext { kind, headers: &request.headers, query: &request.query, received_at };
    let (drafts, _) = intake::drafts(source, &context, request.body.clone(), BODY_BYTES_MAX);
    let mut run = Run::new(source, received_at, ticket);
    let drafts = drafts.into_iter().take(request.events_max.unwrap_or(usize::MAX));
    let events = drafts.enumerate().map(|(index, draft)| run.event(index + 1, draft)).collect();
    Trial { verify, events }
}

fn verified(
    source: &Source,
    request: &TrialRequest,
    (path_token, now): (&str, Timestamp),
    unchecked: Option<&str>,
) -> Verified {
    let not_checked = |why: &str| Verified { result: "not checked", why: why.to_owned() };
    if let Some(captured) = &request.captured {
        return not_checked(&format!("when it was captured: {captured}"));
    }
    if source.verifier().is_open() {
        return Verified { result: "ok", why: "scheme \"none\", anyone may post".to_owned() };
    }
    if !request.has_head {
        return not_checked("a body alone has no headers and no URL");
    }
    if let Some(why) = unchecked {
        return not_checked(why);
    }
    let given = Evidence {
        now,
        target: &request.target,
        path_token,
        ..Evidence::of(&request.headers, &request.query, &request.body)
    };
    // A file has no address.
    match source.verifier().check_proof(&given) {
        Ok(()) => Verified { result: "ok", why: proof(source) },
        Err(refusal) => Verified { result: "refused", why: refusal.to_string() },
    }
}

/// What matched.
fn proof(source: &Source) -> String {
    let verifier = source.verifier();
    match (verifier.secret_query(), verifier.secret_header()) {
        (Some(name), _) => format!("query parameter {name} matches"),
        (None, Some(header)) => format!("header {} matches", header.to_ascii_lowercase()),
        (None, None) => "matches".to_owned(),
    }
}

impl<'a> Run<'a> {
    fn new(source: &'a Source, received_at: Timestamp, ticket: Option<u64>) -> Run<'a> {
        Run { source, received_at, ticket, opened: HashMap::new(), seen: HashMap::new() }
    }

    fn event(&mut self, number: usize, draft: EventDraft) -> EventTrial {
        let ticket = match self.opened.contains_key(&draft.conversation) {
            true => Some(0),
            false => self.ticket,
        };
        let stored = StoredEvent {
            body: &draft.body,
            context: &draft.context,
            received_at: self.received_at,
            event_id: &draft.event_id,
            kind: &draft.kind,
            conversation: &draft.conversation,
        };
        let planned = self.source.plan(&stored, ticket);
        let opens = planned.as_ref().map_or(ticket.is_none(), |writes| opens(writes));
        let mut explanation = self.source.explain(&stored, opens);
        let earlier = *self.seen.entry(draft.dedupe).or_insert(number);
        let (result, why, writes) = match (&draft.verdict, planned) {
            (Verdict::Bury(reason), _) => ("dead", Some(reason.clone()), Vec::new()),
            _ if earlier != number => ("duplicate", Some(format!("of event {earlier}")), Vec::new()),
            (Verdict::Ignore(reason), _) => ("filtered", Some(reason.clone()), Vec::new()),
            (Verdict::Keep, Err(error)) => ("dead", Some(error.to_string()), Vec::new()),
            (Verdict::Keep, Ok(writes)) if writes.is_empty() => {
                ("filtered", Some("nothing is to be written".to_owned()), writes)
            }
            (Verdict::Keep, Ok(writes)) => ("delivered", None, writes),
        };
        if result != "delivered" && result != "dead" {
            explanation.empty.clear();
        }
        let calls = self.calls(&draft.conversation, &writes);
        if opens && result == "delivered" {
            self.opened.insert(draft.conversation.clone(), number);
        }
        let EventDraft { kind, event_id, conversation, .. } = draft;
        EventTrial { kind, event_id, conversation, result, why, explanation, calls }
    }

    fn calls(&self, conversation: &str, writes: &[Write]) -> Vec<Call> {
        let ticket = match (self.opened.get(conversation), self.ticket) {
            (Some(event), _) => format!("{{ticket of event {event}}}"),
            (None, Some(ticket)) => ticket.to_string(),
            (None, None) => "{its ticket}".to_owned(),
        };
        calls(writes, &ticket)
    }
}

fn opens(writes: &[Write]) -> bool {
    writes.iter().any(|write| matches!(write, Write::CreateTicket(_)))
}
