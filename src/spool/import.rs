//! Taking over what another spool held: envelopes as they stood there, tickets of conversations, identities.
//!
//! **Invariants:** an origin enters once, whatever is imported how often: it is an identity, remembered with the
//! envelope's put. How an envelope stood is written before its put in the same group, so that no torn write leaves
//! a dead letter that is delivered or an attempt in doubt that is not looked for. Tickets are durable before an
//! envelope that may need them can be leased. One import runs at a time: the control room has one thread.

use super::envelope::{Entry, Envelope, Hash, Id, Place, State};
use super::group::Arriving;
use super::origin::{ORIGIN_KEPT, Origin};
use super::queue::Walked;
use super::record::{Numbering, Record};
use super::tables::{Answer, QueueError};
use super::{CommitFailed, Core, PutError, Shared, Spool};
use crate::clock::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

/// An envelope of another spool.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The event; its number is ignored.
    pub envelope: Envelope,
    /// Where it was.
    pub origin: Origin,
    /// How it stood; its place is ignored.
    pub entry: Entry,
}

impl Spool {
    /// Takes envelopes, durably; the number of each, none for one that is here already.
    pub fn import(&self, envelopes: Vec<Imported>) -> Result<Vec<Option<Id>>, PutError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mut core = self.shared.core();
        let ids = self.shared.take_over(&mut core, envelopes)?;
        core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
        self.shared.wake_committer(core);
        match told.recv() {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => return Err(PutError::Broken(failed)),
            Err(_) => {
                return Err(PutError::Broken(CommitFailed(Arc::new(std::io::Error::other("stopping")))));
            }
        }
        // Until it is in the queue the next import would not know it.
        if let Some(last) = ids.iter().rev().flatten().next() {
            drop(self.shared.core_with(*last));
        }
        Ok(ids)
    }

    /// Learns the tickets of conversations, durably; one that was used later is kept. How many were new.
    pub fn learn_tickets(&self, tickets: &[(Hash, u64, Timestamp)]) -> Answer<u64> {
        let queue = &self.shared.queue;
        let mut learned = 0;
        for (conversation, ticket, used_at) in tickets {
            let _core = self.shared.core();
            let known = match queue.ticket_of(*conversation) {
                Err(QueueError::Malformed(_)) => None,
                known => known?,
            };
            if known.is_none_or(|(known, at)| known != *ticket && at < *used_at) {
                queue.set_ticket(*conversation, *ticket, *used_at);
                learned += 1;
            }
        }
        if learned > 0 {
            queue.flush()?;
        }
        Ok(learned)
    }

    /// Learns identities of events that were taken elsewhere, durably. How many were new.
    pub fn learn_identities(&self, identities: &[(Hash, Timestamp)]) -> Answer<u64> {
        let queue = &self.shared.queue;
        let mut learned = 0;
        for (identity, expires) in identities {
            let _core = self.shared.core();
            if !queue.is_duplicate(*identity, Timestamp(expires.0.saturating_sub(1)))? {
                queue.remember(*identity, *expires);
                learned += 1;
            }
        }
        if learned > 0 {
            queue.flush()?;
        }
        Ok(learned)
    }

    /// The next new envelope's number.
    pub fn next_id(&self) -> Id {
        self.shared.core().next_id
    }

    /// Some conversations with their tickets, when each was used last, and where to go on; one may be told twice.
    pub fn tickets(&self, from: u64) -> Answer<Walked<(Hash, u64, Timestamp)>> {
        self.shared.queue.tickets(from)
    }

    /// The ticket of a conversation, and when it was used last. A damaged one counts as none.
    pub fn ticket_of(&self, conversation: Hash) -> Answer<Option<(u64, Timestamp)>> {
        match self.shared.queue.ticket_of(conversation) {
            Err(QueueError::Malformed(_)) => Ok(None),
            known => known,
        }
    }

    /// Some identities as [`known_as`](super::known_as) has them, with when each is forgotten, and where to go on.
    pub fn identities(&self, from: u64) -> Answer<Walked<(Hash, Timestamp)>> {
        self.shared.queue.identities(from)
    }
}

impl Shared {
    fn take_over(&self, core: &mut Core, envelopes: Vec<Imported>) -> Result<Vec<Option<Id>>, PutError> {
        let now = self.now();
        let (mut origins, mut siblings) = (HashSet::new(), HashSet::new());
        let mut fresh = Vec::with_capacity(envelopes.len());
        for imported in &envelopes {
            let dedupe = imported.envelope.dedupe;
            let is_new = origins.insert(imported.origin.hash());
            let is_arriving = core.arriving.contains_key(&dedupe) && !siblings.contains(&dedupe);
            let is_here = !is_new
                || is_arriving
                || self.is_here(imported, now).map_err(|error| self.unreadable(&error))?;
            fresh.push(!is_here);
            siblings.insert(dedupe);
        }
        let count = fresh.iter().filter(|fresh| **fresh).count() as u64;
        if count > 0 {
            self.room_for(core, count)?;
        }
        let taken = envelopes.into_iter().zip(fresh);
        Ok(taken
            .map(|(imported, is_fresh)| is_fresh.then(|| self.append_imported(core, imported, now)))
            .collect())
    }

    /// Whether it was imported before, or the platform has sent its event here, too.
    fn is_here(&self, imported: &Imported, now: Timestamp) -> Answer<bool> {
        let origin = imported.origin;
        if self.queue.is_duplicate(origin.hash(), now)? {
            return Ok(true);
        }
        if origin.spool == *self.files.identity() {
            // It comes back to where it was taken first, where its event is known anyway.
            let settled = self.queue.settled(origin.id)?;
            return Ok(self.queue.entry(origin.id)?.is_some() || settled.is_some_and(|one| !one.dropped));
        }
        self.is_known(&imported.envelope)
    }

    fn append_imported(&self, core: &mut Core, imported: Imported, now: Timestamp) -> Id {
        let Imported { envelope, origin, entry } = imported;
        let id = core.next_id;
        core.next_id += 1;
        let envelope = Envelope { id, origin: Some(origin), ..envelope };
        let (dedupe, received_at) = (envelope.dedupe, envelope.received_at);
        let expires = received_at.plus(envelope.dedupe_window);
        let place = Place { segment: 0, offset: 0, length: 0 };
        let due = if entry.state == State::Deferred { entry.due } else { received_at };
        let source = envelope.source.clone();
        let conversation = envelope.conversation_hash();
        let entry = Entry { place, due, source, conversation, received_at, ..entry };
        if entry != Entry::of(&envelope, place) {
            core.append(self.files.identity(), &Record::Standing(id, entry.clone()));
        }
        let numbering = Numbering { sequence: core.next_sequence, index: 0, last_index: 0 };
        core.next_sequence += 1;
        let before = core.group.bytes.len();
        let place = core.group.append(self.files.identity(), numbering, &Record::Put(envelope));
        core.appended += (core.group.bytes.len() - before) as u64;
        // What the platform may send again is not known any more when its window is over: only the origin is.
        let arriving = |dedupe, expires, origin| Arriving {
            id,
            entry: Entry { place, ..entry.clone() },
            dedupe,
            expires,
            origin,
        };
        let arriving = if expires > now {
            arriving(dedupe, expires, Some(origin))
        } else {
            arriving(origin.hash(), received_at.plus(ORIGIN_KEPT), None)
        };
        core.arriving.insert(arriving.dedupe, id);
        core.group.arriving.push(arriving);
        id
    }
}
