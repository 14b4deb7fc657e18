//! The lines of an export: what `deskspool export` prints and `deskspool import` takes. Every line is an object that
//! says its `type`; members that are not known are passed over, so that a later version may say more.

use crate::clock::Timestamp;
use crate::spool::{Doubt, Ended, Entry, Envelope, Hash, Id, Imported, Origin, Place, Settled, State, Try};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Version of these lines.
pub const EXPORT_FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Head(Head),
    /// A conversation has this ticket.
    Conversation(Conversation),
    /// An envelope.
    Envelope(Box<EnvelopeLine>),
    /// A settled envelope: history, which is not imported.
    Settled(Box<SettledLine>),
    /// An envelope whose text is lost.
    Unreadable(UnreadableLine),
    /// The event with this identity was taken; the platform may send it again.
    Identity(IdentityLine),
    /// The last; without it the file was cut off.
    End(End),
}

/// What the file is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Head {
    /// Of these lines: 1.
    pub format: u32,
    /// Of the deskspool that wrote it.
    pub version: String,
    /// The identity of the spool, in hexadecimal digits.
    pub spool: String,
    /// RFC 3339, UTC.
    pub exported_at: String,
    /// Envelopes that were not settled then.
    pub waiting: u64,
}

/// A conversation's ticket.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Conversation {
    /// Hash of source and conversation, in hexadecimal digits.
    pub conversation: String,
    /// Its ticket.
    pub ticket: u64,
    /// When it was used last, in milliseconds since 1970.
    pub used_ms: u64,
}

/// An identity.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct IdentityLine {
    /// Hash, in hexadecimal digits.
    pub identity: String,
    /// When it is forgotten, in milliseconds since 1970.
    pub until_ms: u64,
}

/// How many lines there were.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct End {
    /// Of type `envelope`.
    pub envelopes: u64,
}

/// An envelope that cannot be exported.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct UnreadableLine {
    /// Its number.
    pub id: Id,
    /// Its source.
    pub source: String,
    /// Why.
    pub reason: String,
}

/// Where an envelope was first.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct OriginLine {
    /// The identity of that spool, in hexadecimal digits.
    pub spool: String,
    /// Its number there.
    pub id: Id,
}

/// An envelope that is not settled, with all that a spool knows of it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct EnvelopeLine {
    /// Its number in this spool.
    pub id: Id,
    /// Where it was first.
    pub origin: OriginLine,
    /// `queued`, `deferred`, `in-flight`, `held` or `dead`.
    pub state: String,
    /// Why it is dead or held, or the last error.
    pub reason: String,
    /// Its source.
    pub source: String,
    /// The preset's name for the event.
    pub kind: String,
    /// The platform's id of the event.
    pub event: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// RFC 3339, UTC; for people.
    pub received_at: String,
    /// The same in milliseconds since 1970.
    pub received_ms: u64,
    /// Address its request came from.
    pub peer: String,
    /// What makes another event the same one, in hexadecimal digits.
    pub dedupe: String,
    /// How long that is remembered.
    pub dedupe_seconds: u64,
    /// Headers and query parameters that the mapping needs: JSON as text.
    pub context: String,
    /// The event as it was received, if it is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
    /// The event, if it is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body_base64: Option<String>,
    /// Why intake already knew that no attempt can succeed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub born_dead: Option<String>,
    /// Next try, in milliseconds since 1970.
    pub due_ms: u64,
    /// Attempts that counted.
    pub attempts: u32,
    /// Writes of its plan that are done.
    pub step: u32,
    /// The ticket they went to.
    pub ticket: Option<u64>,
    /// They opened it.
    pub opened: bool,
    /// It is unknown whether a write was done: the importer looks before it sends.
    pub doubt: Option<DoubtLine>,
    /// Its last attempts.
    pub tries: Vec<TryLine>,
    /// When it is released by itself, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_until_ms: Option<u64>,
    /// Its conversation's ticket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conversation_ticket: Option<u64>,
    /// When that was used last, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conversation_used_ms: Option<u64>,
}

/// A write that may have been done.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DoubtLine {
    /// When the first attempt began whose fate is unknown, in milliseconds since 1970.
    pub since_ms: u64,
    /// How often Freshdesk was asked since and did not show it.
    pub looks: u32,
    /// The ticket its plan was made with.
    pub ticket: Option<u64>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct TryLine {
    /// 1 for the first.
    pub number: u32,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// `delivered`, `deferred`, `rejected`, `unknown`.
    pub ended: String,
    /// Why.
    pub reason: String,
}

/// A settled envelope.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct SettledLine {
    /// Its number.
    pub id: Id,
    /// `delivered` or `dropped`.
    pub state: String,
    /// Its source.
    pub source: String,
    /// The preset's name for the event.
    pub kind: String,
    /// The platform's id of the event.
    pub event: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// RFC 3339, UTC.
    pub received_at: String,
    /// RFC 3339, UTC.
    pub settled_at: String,
    /// The ticket it went to.
    pub ticket: Option<u64>,
    /// Its last attempts.
    pub tries: Vec<TryLine>,
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen bytes from hexadecimal digits.
pub fn of_hex(text: &str) -> Result<Hash, String> {
    let number =
        Some(text).filter(|text| text.len() == 32).and_then(|text| u128::from_str_radix(text, 16).ok());
    number.map(u128::to_be_bytes).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
}

impl OriginLine {
    /// In words.
    pub fn of(origin: Origin) -> OriginLine {
        OriginLine { spool: hex(&origin.spool), id: origin.id }
    }
}

impl TryLine {
    fn of(one: &Try) -> TryLine {
        TryLine {
            number: one.number,
            at_ms: one.at.0,
            took_ms: u64::try_from(one.took.as_millis()).unwrap_or(u64::MAX),
            ended: one.ended.word().to_owned(),
            reason: one.reason.clone(),
        }
    }

    fn try_of(&self) -> Result<Try, String> {
        let all = [Ended::Delivered, Ended::Deferred, Ended::Rejected, Ended::Unknown];
        let ended = all.into_iter().find(|ended| ended.word() == self.ended);
        Ok(Try {
            number: self.number,
            at: Timestamp(self.at_ms),
            took: Duration::from_millis(self.took_ms),
            ended: ended.ok_or_else(|| format!("there is no end {:?} of an attempt", self.ended))?,
            reason: self.reason.clone(),
        })
    }
}

impl EnvelopeLine {
    /// Of an envelope; `here` is its spool.
    pub fn of(here: &Hash, (id, entry, in_flight): (Id, &Entry, bool), envelope: &Envelope) -> EnvelopeLine {
        let origin = envelope.origin.unwrap_or(Origin { spool: *here, id });
        let body = std::str::from_utf8(&envelope.body);
        let state = super::view::state_word(entry.state, in_flight).to_owned();
        EnvelopeLine {
            id,
            origin: OriginLine::of(origin),
            state,
            reason: entry.reason.clone(),
            source: envelope.source.clone(),
            kind: envelope.kind.clone(),
            event: envelope.event_id.clone(),
            conversation: envelope.conversation.clone(),
            received_at: envelope.received_at.to_string(),
            received_ms: envelope.received_at.0,
            peer: envelope.peer.clone(),
            dedupe: hex(&envelope.dedupe),
            dedupe_seconds: envelope.dedupe_window.as_secs(),
            context: String::from_utf8_lossy(&envelope.context).into_owned(),
            body: body.ok().map(str::to_owned),
            body_base64: body.is_err().then(|| BASE64_STANDARD.encode(&envelope.body)),
            born_dead: envelope.born_dead.clone(),
            due_ms: entry.due.0,
            attempts: entry.attempts,
            step: entry.step,
            ticket: entry.ticket,
            opened: entry.opened,
            doubt: entry.doubt.map(|doubt| DoubtLine {
                since_ms: doubt.since.0,
                looks: doubt.looks,
                ticket: doubt.ticket,
            }),
            tries: entry.tries.iter().map(TryLine::of).collect(),
            held_until_ms: None,
            conversation_ticket: None,
            conversation_used_ms: None,
        }
    }

    /// What a spool takes over, or what is wrong with the line.
    pub fn imported(&self) -> Result<Imported, String> {
        let named = |name: &'static str| move |error: String| format!("{name}: {error}");
        let state = match self.state.as_str() {
            "queued" | "in-flight" => State::Queued,
            "deferred" => State::Deferred,
            "held" => State::Held,
            "dead" => State::Dead,
            other => {
                return Err(format!("state: {other:?} is none of queued, deferred, in-flight, held, dead"));
            }
        };
        let body = match (&self.body, &self.body_base64) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(encoded)) => {
                BASE64_STANDARD.decode(encoded).map_err(|error| format!("body_base64: {error}"))?
            }
            (None, None) => return Err("there is neither body nor body_base64".to_owned()),
        };
        if self.tries.len() > crate::spool::TRIES_KEPT {
            return Err(format!("tries: at most {} are kept", crate::spool::TRIES_KEPT));
        }
        let envelope = Envelope {
            id: 0,
            received_at: Timestamp(self.received_ms),
            source: self.source.clone(),
            kind: self.kind.clone(),
            event_id: self.event.clone(),
            dedupe: of_hex(&self.dedupe).map_err(named("dedupe"))?,
            dedupe_window: Duration::from_secs(self.dedupe_seconds),
            conversation: self.conversation.clone(),
            peer: self.peer.clone(),
            context: self.context.clone().into_bytes(),
            body,
            born_dead: self.born_dead.clone().filter(|reason| !reason.is_empty()),
            origin: None,
        };
        let entry = Entry {
            place: Place { segment: 0, offset: 0, length: 0 },
            state,
            conversation: envelope.conversation_hash(),
            source: self.source.clone(),
            received_at: envelope.received_at,
            due: Timestamp(self.due_ms),
            attempts: self.attempts,
            step: self.step,
            ticket: self.ticket,
            opened: self.opened,
            doubt: self.doubt.as_ref().map(|doubt| Doubt {
                since: Timestamp(doubt.since_ms),
                looks: doubt.looks,
                ticket: doubt.ticket,
            }),
            reason: self.reason.clone(),
            tries: self.tries.iter().map(TryLine::try_of).collect::<Result<_, _>>()?,
        };
        let spool = of_hex(&self.origin.spool).map_err(named("origin.spool"))?;
        Ok(Imported { envelope, origin: Origin { spool, id: self.origin.id }, entry })
    }
}

impl SettledLine {
    /// Of a row of history.
    pub fn of(id: Id, settled: &Settled) -> SettledLine {
        SettledLine {
            id,
            state: if settled.dropped { "dropped" } else { "delivered" }.to_owned(),
            source: settled.source.clone(),
            kind: settled.kind.clone(),
            event: settled.event_id.clone(),
            conversation: settled.conversation.clone(),
            received_at: settled.received_at.to_string(),
            settled_at: settled.settled_at.to_string(),
            ticket: settled.ticket,
            tries: settled.tries.iter().map(TryLine::of).collect(),
        }
    }
}
