//! Intake, spool and dispatch in miniature: verify, decode, split, dedupe, one ticket per conversation, plan.

use super::{Case, Request};
use deskspool::clock::Timestamp;
use deskspool::decode::{Posted, decode};
use deskspool::freshdesk::write::Write;
use deskspool::source::Credentials;
use deskspool::source::table::{SourceTable, TicketTable};
use deskspool::source::{EventDraft, RequestContext, Source, StoredEvent, Verdict};
use deskspool::verify::{Evidence, Secret};
use std::collections::HashMap;
use std::time::Duration;

/// `server.body_max` where nobody says otherwise.
const BODY_BYTES_MAX: usize = 10 << 20;

/// What became of one event.
pub struct Done {
    pub draft: EventDraft,
    pub effect: Effect,
}

pub enum Effect {
    Duplicate,
    Ignored(String),
    Dead(String),
    Writes(Vec<Write>),
}

/// What became of a request.
pub enum Results {
    Refused(String),
    NotUnderstood(String),
    Events { done: Vec<Done>, tickets: u64 },
}

struct World {
    now: Timestamp,
    seen: HashMap<[u8; 16], Timestamp>,
    tickets: HashMap<String, u64>,
}

/// The results of a case after the cases it names.
pub fn replay(case: &Case, cases: &[Case]) -> Results {
    let now = Timestamp(case.clock().map_or(1_763_712_073_000, |seconds| seconds * 1000));
    let mut world = World { now, seen: HashMap::new(), tickets: HashMap::new() };
    for before in case.before(cases) {
        world.post(before);
    }
    world.now = world.now.plus(Duration::from_secs(case.delay_seconds().unwrap_or(1)));
    world.post(case)
}

/// The source as its admin configured it; else what is wrong with that.
fn source(case: &Case) -> Result<Source, String> {
    let table: SourceTable =
        toml::from_str(&case.table()).map_err(|error| format!("{}: {error}", case.name))?;
    let secrets = Credentials {
        secrets: case.secret().map(Secret::new).into_iter().collect(),
        verify_tokens: Vec::new(),
        public_url: case.public_url().map(str::to_owned),
    };
    Source::compile(&case.platform, &table, &TicketTable::default(), secrets)
        .map_err(|problems| format!("{}: {problems:#?}", case.name))
}

impl World {
    fn post(&mut self, case: &Case) -> Results {
        let source = match source(case) {
            Ok(source) => source,
            Err(problems) => return Results::NotUnderstood(problems),
        };
        let Request { kind, query, headers, body } = &case.request;
        if let Err(refusal) = source.verifier().check(&Evidence {
            now: self.now,
            target: &format!("/in/{}", case.platform),
            ..Evidence::of(headers, query, body)
        }) {
            return Results::Refused(refusal.to_string());
        }
        let decoded = match decode(&Posted { body, headers, bytes_max: BODY_BYTES_MAX }) {
            Ok(decoded) => decoded,
            Err(error) => return Results::NotUnderstood(error.to_string()),
        };
        let request = RequestContext { kind, headers, query, received_at: self.now };
        let drafts = source.events(&request, decoded.value);
        let done: Vec<Done> = drafts.into_iter().map(|draft| self.deliver(&source, draft)).collect();
        Results::Events { done, tickets: self.tickets.len() as u64 }
    }

    fn deliver(&mut self, source: &Source, draft: EventDraft) -> Done {
        let effect = match &draft.verdict {
            Verdict::Ignore(reason) => Effect::Ignored(reason.clone()),
            Verdict::Bury(reason) => Effect::Dead(reason.clone()),
            Verdict::Keep if self.is_duplicate(&draft) => Effect::Duplicate,
            Verdict::Keep => self.write(source, &draft),
        };
        Done { draft, effect }
    }

    fn is_duplicate(&mut self, draft: &EventDraft) -> bool {
        let until = self.now.plus(draft.dedupe_window);
        let before = self.seen.insert(draft.dedupe, until);
        before.is_some_and(|until| self.now < until)
    }

    fn write(&mut self, source: &Source, draft: &EventDraft) -> Effect {
        let stored = StoredEvent {
            body: &draft.body,
            context: &draft.context,
            received_at: self.now,
            event_id: &draft.event_id,
            kind: &draft.kind,
            conversation: &draft.conversation,
        };
        let ticket = self.tickets.get(&draft.conversation).copied();
        match source.plan(&stored, ticket) {
            Err(error) => Effect::Dead(error.to_string()),
            Ok(writes) => {
                assert_eq!(
                    source.plan(&stored, ticket).as_ref(),
                    Ok(&writes),
                    "a plan is the same each time"
                );
                if writes.iter().any(|write| matches!(write, Write::CreateTicket(_))) {
                    let next = self.tickets.len() as u64 + 1;
                    self.tickets.insert(draft.conversation.clone(), next);
                }
                Effect::Writes(writes)
            }
        }
    }
}
