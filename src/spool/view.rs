//! Looking into the spool, for listings and for `status`: pages of entries, history, counts.
//!
//! Nothing here changes anything but the rings of the status history.

use super::{Entry, Envelope, Id, QueueError, Settled, Spool, State};
use crate::clock::Timestamp;

type Answer<T> = Result<T, QueueError>;

impl Spool {
    /// Where an unsettled envelope stands, and whether it is in flight.
    pub fn entry(&self, id: Id) -> Answer<Option<(Entry, bool)>> {
        let core = self.shared.core_with(id);
        if let Some(flight) = core.flights.get(&id) {
            return Ok(Some((flight.entry.clone(), true)));
        }
        Ok(self.shared.queue.entry(id)?.map(|entry| (entry, false)))
    }

    /// A page of unsettled envelopes from `from` on, in order of arrival.
    pub fn entries(&self, from: Id) -> Answer<Vec<(Id, Entry, bool)>> {
        let core = self.shared.core();
        let page = self.shared.queue.entries(from)?;
        Ok(page
            .into_iter()
            .map(|(id, entry)| match core.flights.get(&id) {
                Some(flight) => (id, flight.entry.clone(), true),
                None => (id, entry, false),
            })
            .collect())
    }

    /// The text of an unsettled envelope.
    pub fn envelope(&self, entry: &Entry) -> std::io::Result<Envelope> {
        self.shared.files.read(entry.place)
    }

    /// The envelope ahead of `id` in its conversation that it waits for, if it is not the head.
    pub fn waits_for(&self, id: Id, entry: &Entry) -> Answer<Option<Id>> {
        let head = self.shared.head(entry.conversation)?;
        Ok(head.map(|(head, _)| head).filter(|head| *head != id))
    }

    /// A settled envelope.
    pub fn settled(&self, id: Id) -> Answer<Option<Settled>> {
        self.shared.queue.settled(id)
    }

    /// The settled envelope with the highest number.
    pub fn last_settled(&self) -> Answer<Option<(Id, Settled)>> {
        self.shared.queue.last_settled()
    }

    /// A page of settled envelopes from `from` on.
    pub fn history(&self, from: Id) -> Answer<Vec<(Id, Settled)>> {
        self.shared.queue.history(from)
    }

    /// How many envelopes stand where, by source; those in flight are counted as queued or deferred.
    pub fn counts(&self) -> Vec<(String, State, u64)> {
        let core = self.shared.core();
        core.counts.iter().map(|((source, state), count)| (source.clone(), *state, *count)).collect()
    }

    /// How many envelopes are in flight, by source and the state the queue has them in.
    pub fn in_flight(&self) -> Vec<(String, State)> {
        self.shared
            .core()
            .flights
            .values()
            .map(|flight| (flight.entry.source.clone(), flight.entry.state))
            .collect()
    }

    /// When the oldest envelope that still waits for delivery came in.
    pub fn oldest_waiting(&self) -> Answer<Option<Timestamp>> {
        let oldest = self.oldest(&[State::Queued, State::Deferred])?;
        Ok(oldest.into_iter().map(|(_, at)| at).min())
    }

    /// When the oldest envelope came in that is in each of these states; what is in flight counts as it was before.
    pub fn oldest(&self, states: &[State]) -> Answer<Vec<(State, Timestamp)>> {
        let counts = self.counts();
        let is_there = |state: &State| counts.iter().any(|(_, other, count)| other == state && *count > 0);
        let mut found = Vec::new();
        for state in states.iter().copied().filter(is_there) {
            found.extend(self.oldest_of(state)?.map(|at| (state, at)));
        }
        Ok(found)
    }

    /// Each envelope is passed over once, however often it is asked for.
    fn oldest_of(&self, state: State) -> Answer<Option<Timestamp>> {
        loop {
            // A page is read and passed under the lock, so that nobody comes into this state behind our back.
            let mut core = self.shared.core();
            let from = core.none_before.get(&state).copied().unwrap_or(0);
            let page = self.shared.queue.entries(from)?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            let found = page.iter().find(|(_, entry)| entry.state == state);
            core.none_before.insert(state, found.map_or(last + 1, |(id, _)| *id));
            if let Some((_, entry)) = found {
                return Ok(Some(entry.received_at));
            }
        }
    }

    /// The latest settled envelopes before `before`, latest first, at most a page.
    pub fn history_before(&self, before: Id, most: usize) -> Answer<Vec<(Id, Settled)>> {
        self.shared.queue.history_before(before, most)
    }

    /// Writes one period of a ring of the status history; the bytes are the status room's business.
    pub fn put_period(&self, ring: u8, number: u64, row: Vec<u8>) -> Answer<()> {
        self.shared.queue.put_period(ring, number, &row);
        Ok(())
    }

    /// A page of periods of a ring from `from` on.
    pub fn periods(&self, ring: u8, from: u64) -> Answer<Vec<(u64, Vec<u8>)>> {
        self.shared.queue.periods(ring, from)
    }

    /// Removes periods of a ring, at most a page a call.
    pub fn trim_periods(&self, ring: u8, range: std::ops::Range<u64>) -> Answer<()> {
        self.shared.queue.trim_periods(ring, range)
    }

    /// Makes the queue durable as it stands, history included.
    pub fn flush_queue(&self) -> Answer<()> {
        self.shared.queue.flush()
    }
}
