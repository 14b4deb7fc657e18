//! Looking into the spool, for listings and for `status`: pages of entries, history, counts.
//!
//! Nothing here changes anything but the counters of minutes.

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
        let mut from = 0;
        loop {
            let page = self.shared.queue.entries(from)?;
            let waiting =
                page.iter().find(|(_, entry)| matches!(entry.state, State::Queued | State::Deferred));
            match (waiting, page.last()) {
                (Some((_, entry)), _) => return Ok(Some(entry.received_at)),
                (None, Some((last, _))) => from = last + 1,
                (None, None) => return Ok(None),
            }
        }
    }

    /// Adds to the numbers of one source in one minute since 1970.
    pub fn add_counts<const N: usize>(&self, minute: u64, source: &str, counts: [u32; N]) -> Answer<()> {
        self.shared.queue.add_counts(minute, source, counts)
    }

    /// A page of numbers after (minute, source).
    pub fn minute_counts<const N: usize>(&self, after: (u64, &str)) -> Answer<Vec<(u64, String, [u32; N])>> {
        self.shared.queue.counts(after)
    }
}
