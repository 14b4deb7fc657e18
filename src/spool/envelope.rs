//! What the spool holds: envelopes, the changes they go through, and where they stand.

mod tries;

pub use tries::{Ended, TRIES_KEPT, Try};
pub(super) use tries::{decode_tries, encode_tries};

use super::codec::{Decoder, Encoder, Malformed};
use super::origin::Origin;
use super::record::Identity;
use crate::clock::Timestamp;
use ring::digest::{SHA256, digest};
use std::time::Duration;
use tries::CUT_OFF;

/// Number of an envelope: short, decimal, in order of arrival, never reused.
pub type Id = u64;

/// A 128-bit hash that stands for a conversation or for an event's identity.
pub type Hash = [u8; 16];

/// The first 16 bytes of the SHA-256 of the parts, each preceded by its length so that no two lists of
/// parts collide by concatenation.
pub fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..16]);
    hash
}

/// One event as it is stored: raw, to be mapped when it is delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Assigned by the spool.
    pub id: Id,
    /// When its request came in.
    pub received_at: Timestamp,
    /// Name of the configured source.
    pub source: String,
    /// Kind from the URL (`/in/<source>/<kind>`) or found by the preset; may be empty.
    pub kind: String,
    /// The platform's id of the event, or `sha256:…`.
    pub event_id: String,
    /// What makes another event the same one.
    pub dedupe: Hash,
    /// How long it is remembered.
    pub dedupe_window: Duration,
    /// The thread on the platform's side; the ordering key.
    pub conversation: String,
    /// Address the request came from.
    pub peer: String,
    /// Kept headers and query parameters, as JSON.
    pub context: Vec<u8>,
    /// The event's JSON, or the raw body when it could not be understood.
    pub body: Vec<u8>,
    /// Set when intake already knows that no attempt can succeed: `not JSON: …`.
    pub born_dead: Option<String>,
    /// Where it was before it was imported here.
    pub origin: Option<Origin>,
}

impl Envelope {
    /// The ordering key: source and conversation.
    pub fn conversation_hash(&self) -> Hash {
        hash_of(&[self.source.as_bytes(), self.conversation.as_bytes()])
    }

    /// What its markers in Freshdesk are made of; `here` is this spool's identity. An imported one keeps those of
    /// the spool it comes from: that one may have sent already.
    pub fn marked_as(&self, here: Identity) -> (Identity, Id) {
        self.origin.map_or((here, self.id), |origin| (origin.spool, origin.id))
    }

    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.id).u64(self.received_at.0);
        encoder.hash(&self.dedupe).u64(self.dedupe_window.as_secs());
        for text in [&self.source, &self.kind, &self.event_id, &self.conversation, &self.peer] {
            encoder.text(text);
        }
        encoder.text(self.born_dead.as_deref().unwrap_or_default());
        encoder.bytes(&self.context).bytes(&self.body);
        Origin::encode(self.origin, encoder);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Envelope, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let (id, received_at) = (decoder.u64()?, Timestamp(decoder.u64()?));
        let (dedupe, window) = (decoder.hash()?, decoder.u64()?);
        let (source, kind, event_id) = (decoder.text()?, decoder.text()?, decoder.text()?);
        let (conversation, peer, born_dead) = (decoder.text()?, decoder.text()?, decoder.text()?);
        let (context, body) = (decoder.bytes()?.to_vec(), decoder.bytes()?.to_vec());
        let origin = Origin::decode(&mut decoder)?;
        decoder.end()?;
        Ok(Envelope {
            id,
            received_at,
            source,
            kind,
            event_id,
            dedupe,
            dedupe_window: Duration::from_secs(window),
            conversation,
            peer,
            context,
            body,
            born_dead: Some(born_dead).filter(|reason| !reason.is_empty()),
            origin,
        })
    }
}

/// Where an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Due now, or as soon as the conversation's earlier ones are through.
    Queued,
    /// Waits for its next try.
    Deferred,
    /// Set aside by an admin, or because its source is not configured.
    Held,
    /// Not tried until an admin says so.
    Dead,
}

impl State {
    pub(super) fn from_byte(byte: u8) -> Result<State, Malformed> {
        [State::Queued, State::Deferred, State::Held, State::Dead]
            .get(usize::from(byte))
            .copied()
            .ok_or(Malformed)
    }

    pub(super) fn byte(self) -> u8 {
        self as u8
    }
}

/// What happens to an envelope after it was put. Each is one journal record.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An attempt starts; durable before its first byte leaves.
    Begun {
        /// When.
        at: Timestamp,
        /// The conversation's ticket its plan was made with; none when it was to open one.
        ticket: Option<u64>,
    },
    /// One write of the plan is done; a retry goes on after it.
    Progressed {
        /// Writes done so far.
        step: u32,
        /// The ticket they went to; none while they concern no ticket.
        ticket: Option<u64>,
        /// This plan opened it: planned again, the conversation has none yet.
        opened: bool,
    },
    /// Not before `due`.
    Deferred {
        /// Attempts that counted.
        attempts: u32,
        /// When to try again.
        due: Timestamp,
        /// Set when it is unknown whether a write was done: look before sending.
        doubt: Option<Doubt>,
        /// The attempt.
        ran: Ran,
        /// One line for admins.
        reason: String,
    },
    /// In Freshdesk. The envelope leaves the spool.
    Delivered {
        /// The conversation's ticket; none when the plan was empty.
        ticket: Option<u64>,
        /// The conversation it belongs to.
        conversation: Hash,
        /// The attempt.
        ran: Ran,
    },
    /// Not tried until an admin says so.
    Buried {
        /// Set when it is unknown whether a write was done: look before sending, should it be retried.
        doubt: Option<Doubt>,
        /// The attempt, when there was one.
        ran: Option<Ran>,
        /// One line for admins.
        reason: String,
    },
    /// Due now; attempts start again from zero.
    Retried,
    /// Set aside.
    Held {
        /// One line for admins.
        reason: String,
    },
    /// Given up by an admin. The envelope leaves the spool.
    Dropped {
        /// When.
        at: Timestamp,
    },
}

/// When an attempt ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// It is unknown whether a write was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// When the first attempt began whose fate is unknown.
    pub since: Timestamp,
    /// How often Freshdesk was asked since and did not show it.
    pub looks: u32,
    /// The conversation's ticket its plan was made with; none when it was to open one. What was sent must
    /// be looked for as it was planned, whatever the conversation has got since.
    pub ticket: Option<u64>,
}

fn encode_doubt(doubt: Option<Doubt>, encoder: &mut Encoder) {
    encoder.u8(u8::from(doubt.is_some()));
    if let Some(doubt) = doubt {
        encoder.u64(doubt.since.0).u32(doubt.looks).option_u64(doubt.ticket);
    }
}

fn decode_doubt(decoder: &mut Decoder<'_>) -> Result<Option<Doubt>, Malformed> {
    if decoder.u8()? == 0 {
        return Ok(None);
    }
    let (since, looks, ticket) = (Timestamp(decoder.u64()?), decoder.u32()?, decoder.option_u64()?);
    Ok(Some(Doubt { since, looks, ticket }))
}

impl Ran {
    fn encode(self, encoder: &mut Encoder) {
        encoder.u64(self.at.0).duration(self.took);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Ran, Malformed> {
        Ok(Ran { at: Timestamp(decoder.u64()?), took: decoder.duration()? })
    }
}

impl Change {
    /// Whether the envelope is gone from the spool after it.
    pub fn settles(&self) -> bool {
        matches!(self, Change::Delivered { .. } | Change::Dropped { .. })
    }

    pub(super) fn kind(&self) -> u8 {
        match self {
            Change::Begun { .. } => 2,
            Change::Progressed { .. } => 3,
            Change::Deferred { .. } => 4,
            Change::Delivered { .. } => 5,
            Change::Buried { .. } => 6,
            Change::Retried => 7,
            Change::Held { .. } => 8,
            Change::Dropped { .. } => 9,
        }
    }

    pub(super) fn encode(&self, id: Id) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.u64(id);
        match self {
            Change::Begun { at, ticket } => {
                encoder.u64(at.0).option_u64(*ticket);
            }
            Change::Dropped { at } => {
                encoder.u64(at.0);
            }
            Change::Progressed { step, ticket, opened } => {
                // Zero is no ticket's number.
                encoder.u32(*step).u64(ticket.unwrap_or_default()).u8(u8::from(*opened));
            }
            Change::Deferred { attempts, due, doubt, ran, reason } => {
                encoder.u32(*attempts).u64(due.0).text(reason);
                encode_doubt(*doubt, &mut encoder);
                ran.encode(&mut encoder);
            }
            Change::Delivered { ticket, conversation, ran } => {
                encoder.option_u64(*ticket).hash(conversation);
                ran.encode(&mut encoder);
            }
            Change::Buried { doubt, ran, reason } => {
                encode_doubt(*doubt, &mut encoder);
                encoder.text(reason).u8(u8::from(ran.is_some()));
                if let Some(ran) = ran {
                    ran.encode(&mut encoder);
                }
            }
            Change::Held { reason } => {
                encoder.text(reason);
            }
            Change::Retried => {}
        }
        encoder.finish()
    }

    pub(super) fn decode(kind: u8, bytes: &[u8]) -> Result<(Id, Change), Malformed> {
        let mut decoder = Decoder::new(bytes);
        let id = decoder.u64()?;
        let change = match kind {
            2 => Change::Begun { at: Timestamp(decoder.u64()?), ticket: decoder.option_u64()? },
            3 => Change::Progressed {
                step: decoder.u32()?,
                ticket: Some(decoder.u64()?).filter(|ticket| *ticket != 0),
                opened: decoder.u8()? == 1,
            },
            4 => {
                let (attempts, due, reason) = (decoder.u32()?, Timestamp(decoder.u64()?), decoder.text()?);
                let (doubt, ran) = (decode_doubt(&mut decoder)?, Ran::decode(&mut decoder)?);
                Change::Deferred { attempts, due, doubt, ran, reason }
            }
            5 => Change::Delivered {
                ticket: decoder.option_u64()?,
                conversation: decoder.hash()?,
                ran: Ran::decode(&mut decoder)?,
            },
            6 => {
                let doubt = decode_doubt(&mut decoder)?;
                let (reason, has_run) = (decoder.text()?, decoder.u8()? == 1);
                let ran = if has_run { Some(Ran::decode(&mut decoder)?) } else { None };
                Change::Buried { doubt, ran, reason }
            }
            7 => Change::Retried,
            8 => Change::Held { reason: decoder.text()? },
            9 => Change::Dropped { at: Timestamp(decoder.u64()?) },
            _ => return Err(Malformed),
        };
        decoder.end()?;
        Ok((id, change))
    }
}

/// Where a record lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// First byte of the record.
    pub offset: u64,
    /// Bytes of the record, header included.
    pub length: u32,
}

/// What the queue knows of an envelope: everything but its text. About a hundred bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where its text lies.
    pub place: Place,
    /// Where it stands.
    pub state: State,
    /// Ordering key.
    pub conversation: Hash,
    /// Name of the configured source.
    pub source: String,
    /// When its request came in.
    pub received_at: Timestamp,
    /// Not before.
    pub due: Timestamp,
    /// Attempts that counted.
    pub attempts: u32,
    /// Writes of its plan that are done.
    pub step: u32,
    /// The ticket those writes went to.
    pub ticket: Option<u64>,
    /// Those writes opened the ticket.
    pub opened: bool,
    /// Set when it is unknown whether a write was done: look before sending.
    pub doubt: Option<Doubt>,
    /// The last error, or why it is dead or held.
    pub reason: String,
    /// The last attempts, oldest first, at most a dozen.
    pub tries: Vec<Try>,
}

impl Entry {
    pub(super) fn of(envelope: &Envelope, place: Place) -> Entry {
        let dead = envelope.born_dead.clone();
        Entry {
            place,
            state: if dead.is_some() { State::Dead } else { State::Queued },
            conversation: envelope.conversation_hash(),
            source: envelope.source.clone(),
            received_at: envelope.received_at,
            due: envelope.received_at,
            attempts: 0,
            step: 0,
            ticket: None,
            opened: false,
            doubt: None,
            reason: dead.unwrap_or_default(),
            tries: Vec::new(),
        }
    }

    /// Adds an attempt; one that has begun is unknown until its end is known.
    fn add_try(&mut self, at: Timestamp) {
        let number = self.tries.last().map_or(1, |last| last.number + 1);
        if self.tries.len() == TRIES_KEPT {
            self.tries.remove(0);
        }
        let reason = CUT_OFF.to_owned();
        self.tries.push(Try { number, at, took: Duration::ZERO, ended: Ended::Unknown, reason });
    }

    /// Writes down how an attempt ended; one that only looked has not been added before.
    fn end_try(&mut self, ran: Ran, ended: Ended, reason: &str) {
        if self.tries.last().is_none_or(|last| last.at < ran.at || last.reason != CUT_OFF) {
            self.add_try(ran.at);
        }
        let last = self.tries.last_mut().expect("added above");
        last.at = ran.at;
        last.ended = ended;
        last.took = ran.took;
        reason.clone_into(&mut last.reason);
    }

    /// The entry after `change`; the same rule serves the running daemon and the recovery.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Begun { at, ticket } => {
                // Each write of a plan is begun; the next one, when this one is done, belongs to the same attempt. Until
                // that ends, it says when the write began whose fate nobody knows.
                let is_next = self.step > 0 && self.doubt.is_none();
                match self.tries.last_mut().filter(|last| is_next && last.reason == CUT_OFF) {
                    Some(last) => last.at = *at,
                    None => {
                        self.attempts += 1;
                        self.add_try(*at);
                    }
                }
                let since = self.doubt.map_or(*at, |doubt| doubt.since);
                self.doubt = Some(Doubt { since, looks: 0, ticket: *ticket });
            }
            Change::Progressed { step, ticket, opened } => {
                self.step = *step;
                self.ticket = ticket.or(self.ticket);
                self.opened = *opened;
                self.doubt = None;
            }
            Change::Deferred { attempts, due, doubt, ran, reason } => {
                let ended = if doubt.is_some() { Ended::Unknown } else { Ended::Deferred };
                self.end_try(*ran, ended, reason);
                self.state = State::Deferred;
                self.attempts = *attempts;
                self.due = *due;
                self.doubt = *doubt;
                self.reason.clone_from(reason);
            }
            Change::Buried { doubt, ran, reason } => {
                self.doubt = *doubt;
                if let Some(ran) = ran {
                    self.end_try(*ran, Ended::Rejected, reason);
                }
                self.state = State::Dead;
                self.reason.clone_from(reason);
            }
            Change::Held { reason } => {
                self.state = State::Held;
                self.reason.clone_from(reason);
            }
            Change::Retried => {
                self.state = State::Queued;
                self.due = self.received_at;
                self.attempts = 0;
                self.reason.clear();
            }
            Change::Delivered { ticket, ran, .. } => {
                self.ticket = ticket.or(self.ticket);
                self.end_try(*ran, Ended::Delivered, "");
            }
            Change::Dropped { .. } => {}
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.u64(self.place.segment).u64(self.place.offset).u32(self.place.length);
        encoder.u8(self.state.byte()).hash(&self.conversation).text(&self.source);
        encoder.u64(self.received_at.0).u64(self.due.0).u32(self.attempts).u32(self.step);
        encoder.option_u64(self.ticket).u8(u8::from(self.opened)).text(&self.reason);
        encode_doubt(self.doubt, &mut encoder);
        encode_tries(&self.tries, &mut encoder);
        encoder.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Entry, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let place = Place { segment: decoder.u64()?, offset: decoder.u64()?, length: decoder.u32()? };
        let entry = Entry {
            place,
            state: State::from_byte(decoder.u8()?)?,
            conversation: decoder.hash()?,
            source: decoder.text()?,
            received_at: Timestamp(decoder.u64()?),
            due: Timestamp(decoder.u64()?),
            attempts: decoder.u32()?,
            step: decoder.u32()?,
            ticket: decoder.option_u64()?,
            opened: decoder.u8()? == 1,
            reason: decoder.text()?,
            doubt: decode_doubt(&mut decoder)?,
            tries: decode_tries(&mut decoder)?,
        };
        decoder.end()?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: 10_432,
            received_at: Timestamp(1_763_712_073_000),
            source: "sendpulse".into(),
            kind: "incoming_message".into(),
            event_id: "wamid.1".into(),
            dedupe: [7; 16],
            dedupe_window: Duration::from_secs(600),
            conversation: "b1:c42".into(),
            peer: "203.0.113.9".into(),
            context: b"{}".to_vec(),
            body: "{\"text\":\"¿Dónde está?\"}".into(),
            born_dead: None,
            origin: None,
        }
    }

    #[test]
    fn envelopes_survive_encoding() {
        let dead = Envelope { born_dead: Some("not JSON".into()), ..envelope() };
        let imported = Envelope { origin: Some(Origin { spool: [4; 16], id: 7 }), ..envelope() };
        for envelope in [envelope(), dead, imported] {
            let mut encoder = Encoder::default();
            envelope.encode(&mut encoder);
            assert_eq!(Envelope::decode(&encoder.finish()), Ok(envelope));
        }
    }

    #[test]
    fn changes_survive_encoding() {
        let at = Timestamp(5);
        let ran = Ran { at, took: Duration::from_millis(410) };
        let doubt = Some(Doubt { since: at, looks: 1, ticket: Some(7) });
        let changes = [
            Change::Begun { at, ticket: Some(7) },
            Change::Progressed { step: 1, ticket: Some(8812), opened: true },
            Change::Deferred { attempts: 3, due: at, doubt, ran, reason: "503".into() },
            Change::Delivered { ticket: Some(8812), conversation: [1; 16], ran },
            Change::Buried { doubt, ran: Some(ran), reason: "gave up".into() },
            Change::Buried { doubt: None, ran: None, reason: "not JSON".into() },
            Change::Retried,
            Change::Held { reason: "source.x is not configured".into() },
            Change::Dropped { at },
        ];
        for change in changes {
            assert_eq!(Change::decode(change.kind(), &change.encode(9)), Ok((9, change)));
        }
    }

    #[test]
    fn an_attempt_without_an_outcome_is_unknown_from_its_first_beginning() {
        let mut entry = Entry::of(&envelope(), Place { segment: 1, offset: 64, length: 9 });
        entry.apply(&Change::Begun { at: Timestamp(10), ticket: None });
        entry.apply(&Change::Begun { at: Timestamp(20), ticket: Some(5) });
        assert_eq!(
            (entry.attempts, entry.doubt),
            (2, Some(Doubt { since: Timestamp(10), looks: 0, ticket: Some(5) }))
        );
        assert_eq!(entry.tries.iter().map(|one| one.ended).collect::<Vec<_>>(), [Ended::Unknown; 2]);
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn a_plan_of_several_writes_is_one_attempt() {
        let mut entry = Entry::of(&envelope(), Place { segment: 1, offset: 64, length: 9 });
        entry.apply(&Change::Begun { at: Timestamp(10), ticket: None });
        entry.apply(&Change::Progressed { step: 1, ticket: Some(5), opened: true });
        entry.apply(&Change::Begun { at: Timestamp(700), ticket: None });
        assert_eq!(entry.tries[0].at, Timestamp(700), "when the second write was begun");
        let ran = Ran { at: Timestamp(10), took: Duration::from_secs(1) };
        entry.apply(&Change::Delivered { ticket: Some(5), conversation: entry.conversation, ran });
        let told: Vec<_> = entry.tries.iter().map(|one| (one.number, one.ended, one.at, one.took)).collect();
        assert_eq!(told, [(1, Ended::Delivered, Timestamp(10), Duration::from_secs(1))]);
        assert_eq!(entry.attempts, 1);
    }

    #[test]
    fn parts_do_not_collide_by_concatenation() {
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
    }
}
