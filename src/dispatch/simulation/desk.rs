//! The scripted Freshdesk: what it has, what it does with a call, and the seam through which dispatch calls it.

use super::between;
use super::world::World;
use crate::backoff::Dice;
use crate::clock::Timestamp;
use crate::freshdesk::Desk;
use crate::freshdesk::outcome::{Cause, Looked, Outcome, Rate};
use crate::freshdesk::write::{ContactFields, NoteFields, Requester, TicketFields, UpdateFields};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the client waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// How long after that a write may still be done and count as decidable.
pub const LATE: Duration = Duration::from_secs(5);
/// Until a new ticket is seen by lists, at most.
const LIST_DELAY_MAX_SECONDS: u64 = 15;

/// What goes wrong with everything for hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Nobody listens.
    Refusing,
    /// 401.
    WrongKey,
    /// Every answer is a 5xx.
    Failing,
    /// Questions are answered, writes get a 5xx.
    WritesFail,
    /// Nothing is answered.
    Silent,
    /// 429 with a long `Retry-After` for most calls.
    Limited,
    /// Every second call goes wrong in its own way.
    Flaky,
}

/// What one call comes to.
#[derive(Clone, Debug)]
pub enum Reply {
    Fine,
    Deferred(Cause, Option<Duration>, &'static str),
    Rejected,
    Unknown(&'static str),
}

impl Reply {
    pub fn name(&self) -> &'static str {
        match self {
            Reply::Fine => "fine",
            Reply::Deferred(..) => "deferred",
            Reply::Rejected => "rejected",
            Reply::Unknown(_) => "unknown",
        }
    }
}

/// What is decided when a call begins.
#[derive(Clone, Debug)]
pub struct Fate {
    /// After how long it is done in Freshdesk, if it is.
    pub done_after: Option<Duration>,
    /// After how long the client has its reply.
    pub took: Duration,
    pub reply: Reply,
}

/// A call, as dispatch makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Create {
        marker: String,
        text: String,
    },
    Note {
        ticket: u64,
        marker: String,
        text: String,
    },
    /// Neither this nor a contact carries a marker in Freshdesk; here each is known by one nevertheless.
    Update {
        ticket: u64,
        marker: String,
        text: String,
    },
    Contact {
        marker: String,
        text: String,
    },
    FindTicket {
        marker: String,
    },
    FindNote {
        ticket: u64,
        marker: String,
    },
    FindUpdate {
        ticket: u64,
        marker: String,
    },
    Probe,
}

impl Call {
    pub fn is_write(&self) -> bool {
        self.text().is_some()
    }

    /// What a write says; questions say nothing.
    pub fn text(&self) -> Option<&str> {
        match self {
            Call::Create { text, .. }
            | Call::Note { text, .. }
            | Call::Update { text, .. }
            | Call::Contact { text, .. } => Some(text),
            Call::FindTicket { .. } | Call::FindNote { .. } | Call::FindUpdate { .. } | Call::Probe => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Call::Create { .. } => "create",
            Call::Note { .. } => "note",
            Call::Update { .. } => "update",
            Call::Contact { .. } => "contact",
            Call::FindTicket { .. } => "find ticket",
            Call::FindNote { .. } => "find note",
            Call::FindUpdate { .. } => "find update",
            Call::Probe => "probe",
        }
    }

    pub fn marker(&self) -> Option<&str> {
        match self {
            Call::Create { marker, .. }
            | Call::Note { marker, .. }
            | Call::Update { marker, .. }
            | Call::Contact { marker, .. }
            | Call::FindTicket { marker }
            | Call::FindNote { marker, .. }
            | Call::FindUpdate { marker, .. } => Some(marker),
            Call::Probe => None,
        }
    }
}

/// A write that was done.
#[derive(Clone, Debug)]
pub struct Done {
    pub ticket: u64,
    /// When lists show it.
    pub seen_from: Duration,
}

/// What Freshdesk has.
pub struct Account {
    pub weather: Weather,
    pub tickets: u64,
    /// By marker, every time it was done.
    pub done: BTreeMap<String, Vec<Done>>,
}

impl Account {
    pub fn new() -> Account {
        Account { weather: Weather::Fine, tickets: 0, done: BTreeMap::new() }
    }

    /// Does a write; its ticket.
    pub fn perform(&mut self, call: &Call, now: Duration, dice: &mut Dice) -> u64 {
        let (ticket, marker) = match call {
            Call::Create { marker, .. } => {
                self.tickets += 1;
                (self.tickets, marker)
            }
            Call::Note { ticket, marker, .. } | Call::Update { ticket, marker, .. } => (*ticket, marker),
            // Of no ticket.
            Call::Contact { marker, .. } => (0, marker),
            _ => unreachable!("only writes are done"),
        };
        let seen_from = now + Duration::from_secs(between(dice, 0, LIST_DELAY_MAX_SECONDS));
        self.done.entry(marker.clone()).or_default().push(Done { ticket, seen_from });
        ticket
    }

    /// The ticket that carries the marker, as lists show it at `now`.
    pub fn find(&self, call: &Call, now: Duration) -> Option<u64> {
        let within = match call {
            Call::FindNote { ticket, .. } | Call::FindUpdate { ticket, .. } => Some(*ticket),
            _ => None,
        };
        let done = self.done.get(call.marker()?)?;
        let seen = done.iter().find(|one| one.seen_from <= now && within.is_none_or(|t| t == one.ticket));
        seen.map(|one| one.ticket)
    }

    /// Decides what becomes of a call.
    pub fn fate(&self, call: &Call, (chance, too_late): (f64, f64), dice: &mut Dice) -> Fate {
        let odds = match self.weather {
            Weather::Fine => chance,
            Weather::Flaky => 0.5,
            _ => return self.bad_weather(call, dice),
        };
        if dice.throw() < odds { fault(call, too_late, dice) } else { fine(dice) }
    }

    fn bad_weather(&self, call: &Call, dice: &mut Dice) -> Fate {
        match self.weather {
            Weather::Refusing => refused(),
            Weather::WrongKey => denied(),
            Weather::WritesFail if !call.is_write() => fine(dice),
            Weather::Failing | Weather::WritesFail => failing(call, dice),
            Weather::Silent => silent(call, dice),
            Weather::Limited if dice.throw() < 0.7 => limited(between(dice, 30, 3600)),
            _ => fine(dice),
        }
    }
}

fn millis(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(between(dice, low, high))
}

fn fine(dice: &mut Dice) -> Fate {
    let took = if dice.throw() < 0.05 { millis(dice, 2000, 19_000) } else { millis(dice, 100, 1500) };
    Fate { done_after: Some(took / 2), took, reply: Reply::Fine }
}

fn refused() -> Fate {
    let reply = Reply::Deferred(Cause::Unreachable, None, "connection refused");
    Fate { done_after: None, took: Duration::from_millis(3), reply }
}

fn denied() -> Fate {
    let reply = Reply::Deferred(Cause::Denied, None, "freshdesk 401");
    Fate { done_after: None, took: Duration::from_millis(200), reply }
}

fn limited(seconds: u64) -> Fate {
    let wait = Some(Duration::from_secs(seconds));
    let reply = Reply::Deferred(Cause::RateLimited, wait, "429 rate limited");
    Fate { done_after: None, took: Duration::from_millis(200), reply }
}

/// An ambiguous answer to a write is no answer to a question.
fn ambiguous(call: &Call, reason: &'static str) -> Reply {
    match call.is_write() {
        true => Reply::Unknown(reason),
        false => Reply::Deferred(Cause::Server, None, reason),
    }
}

fn failing(call: &Call, dice: &mut Dice) -> Fate {
    let took = millis(dice, 100, 2000);
    let is_done = dice.throw() < 0.3;
    Fate { done_after: is_done.then_some(took / 2), took, reply: ambiguous(call, "503") }
}

fn silent(call: &Call, dice: &mut Dice) -> Fate {
    let is_done = dice.throw() < 0.5;
    let most = u64::try_from((TIMEOUT + LATE).as_millis()).expect("it is short") - 1000;
    let done_after = is_done.then(|| millis(dice, 100, most));
    Fate { done_after, took: TIMEOUT, reply: ambiguous(call, "timeout after the request was sent") }
}

/// One of all that can go wrong with a single call.
fn fault(call: &Call, too_late: f64, dice: &mut Dice) -> Fate {
    let took = millis(dice, 50, 3000);
    match between(dice, 0, 9) {
        0 => refused(),
        1 => limited(between(dice, 1, 90)),
        2 => failing(call, dice),
        3 => denied(),
        // Reset before it was read.
        4 => Fate { done_after: None, took, reply: ambiguous(call, "connection lost") },
        // Done, and then reset; or the answer was cut off and names no ticket.
        5 | 6 => Fate { done_after: Some(took / 2), took, reply: ambiguous(call, "connection lost") },
        7 => {
            let reply = Reply::Deferred(Cause::Server, Some(Duration::from_secs(60)), "403 access_denied");
            Fate { done_after: None, took, reply }
        }
        _ if call.is_write() && dice.throw() < too_late => {
            // The client gives up; minutes later it is done nevertheless. Nobody can know.
            Fate { done_after: Some(millis(dice, 90_000, 900_000)), ..silent(call, dice) }
        }
        _ => silent(call, dice),
    }
}

/// The seam: one life's view of Freshdesk. After that life has ended, its calls reach nobody.
pub struct Line {
    pub world: Arc<World>,
    pub life: u32,
}

impl Line {
    fn write(&self, call: &Call) -> Outcome {
        match self.world.call(self.life, call) {
            (Reply::Fine, Some(ticket)) => Outcome::Delivered { ticket },
            // The judge has stopped the world.
            (Reply::Fine, None) => Outcome::Unknown { reason: "the world has ended".to_owned() },
            (Reply::Deferred(cause, not_before, reason), _) => {
                Outcome::Deferred { not_before, cause, reason: reason.to_owned() }
            }
            (Reply::Rejected, _) => Outcome::Rejected { reason: "freshdesk 400: scripted".to_owned() },
            (Reply::Unknown(reason), _) => Outcome::Unknown { reason: reason.to_owned() },
        }
    }

    fn look(&self, call: &Call) -> Looked {
        match self.world.call(self.life, call) {
            (Reply::Fine, Some(ticket)) => Looked::Found { ticket },
            (Reply::Fine, None) => Looked::Absent,
            (Reply::Deferred(cause, not_before, reason), _) => {
                Looked::Deferred { not_before, cause, reason: reason.to_owned() }
            }
            (Reply::Rejected | Reply::Unknown(_), _) => unreachable!("questions change nothing"),
        }
    }
}

/// What plans here put into the tags of updates and contacts: a marker and the text.
fn known_by(tags: &[String]) -> (String, String) {
    let [marker, text] = tags else { unreachable!("plans here make it so") };
    (marker.clone(), text.clone())
}

impl Desk for Line {
    fn create_ticket(&self, fields: &TicketFields, marker: &str) -> Outcome {
        self.write(&Call::Create { marker: marker.to_owned(), text: fields.subject.clone() })
    }

    fn add_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        self.write(&Call::Note { ticket, marker: marker.to_owned(), text: note.body.clone() })
    }

    fn update_ticket(&self, ticket: u64, update: &UpdateFields) -> Outcome {
        let (marker, text) = known_by(&update.tags_add);
        self.write(&Call::Update { ticket, marker, text })
    }

    fn put_contact(&self, contact: &ContactFields) -> Result<(), Outcome> {
        let (marker, text) = known_by(&contact.tags_add);
        match self.write(&Call::Contact { marker, text }) {
            Outcome::Delivered { .. } => Ok(()),
            outcome => Err(outcome),
        }
    }

    fn find_update(&self, ticket: u64, update: &UpdateFields) -> Looked {
        let (marker, _) = known_by(&update.tags_add);
        self.look(&Call::FindUpdate { ticket, marker })
    }

    fn find_follow_up(&self, ticket: u64, _: &NoteFields, marker: &str, _: Timestamp) -> Looked {
        self.find_note(ticket, marker)
    }

    fn find_ticket(&self, _: &Requester, marker: &str, _: Timestamp) -> Looked {
        self.look(&Call::FindTicket { marker: marker.to_owned() })
    }

    fn find_note(&self, ticket: u64, marker: &str) -> Looked {
        self.look(&Call::FindNote { ticket, marker: marker.to_owned() })
    }

    fn probe(&self) -> Result<String, Outcome> {
        match self.world.call(self.life, &Call::Probe) {
            (Reply::Deferred(cause, not_before, reason), _) => {
                Err(Outcome::Deferred { not_before, cause, reason: reason.to_owned() })
            }
            _ => Ok("Integrations".to_owned()),
        }
    }

    fn rate(&self) -> Rate {
        Rate::default()
    }
}
