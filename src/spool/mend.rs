//! Bringing the queue in line with the journal after anything but a clean stop: the second walk.
//!
//! Each put that is not settled is compared with its entry in the queue, and its identity looked up. Both lie in
//! blocks with those of its neighbours, so the queue is read once, more or less in order.

use super::envelope::{Entry, Envelope, Id, Place, State};
use super::idset::IdSet;
use super::queue::Queue;
use super::record::Record;
use super::recover::Recovery;
use super::replay::{ReadError, Replay};
use super::segment::{self, Met};
use super::tables::QueueError;
use std::ops::Range;

impl Replay<'_> {
    /// Brings the queue in line with the journal.
    pub fn mend(&self, queue: &Queue, recovery: &mut Recovery) -> Result<(), ReadError> {
        let mut live = IdSet::default();
        let is_doubtful = !recovery.damaged.is_empty() || !self.torn.is_empty();
        // Copied stragglers stand twice; from the newest segment to the oldest, the copy is met first.
        for number in self.segments.iter().rev() {
            let file = self.files.open(*number)?;
            let mut failed = None;
            segment::walk(&file, self.files.identity(), |met| {
                let Met::Record { record, numbering, range } = met else { return };
                let is_void = !self.holds(&record, numbering);
                let Record::Put(envelope) = *record else { return };
                if failed.is_some() || is_void || self.voided.contains(envelope.id) {
                    return;
                }
                if self.half.contains(envelope.id) && !is_known(queue, envelope.id) {
                    return;
                }
                // The record that settled it may be the damaged one: then the queue's history is believed.
                if is_doubtful && queue.settled(envelope.id).is_ok_and(|settled| settled.is_some()) {
                    return;
                }
                failed = remember(queue, &envelope).err();
                if failed.is_none() && !self.gone.contains(envelope.id) && !live.contains(envelope.id) {
                    live.insert(envelope.id);
                    let length = u32::try_from(range.end - range.start).expect("a record's length is a u32");
                    let place = Place { segment: *number, offset: range.start, length };
                    let entry = self.entry(&envelope, place);
                    failed = keep_ticket(queue, &entry).err();
                    if failed.is_some() {
                        return;
                    }
                    failed = mend_entry(queue, (envelope.id, &entry), recovery).err();
                }
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        self.judge_strangers(queue, &live, recovery)?;
        for (conversation, (ticket, at)) in &self.tickets {
            if queue.ticket_of(*conversation).ok().flatten().is_none_or(|(_, used_at)| used_at < *at) {
                queue.set_ticket(*conversation, *ticket, *at);
            }
        }
        Ok(())
    }

    /// Entries that the journal does not know as waiting: settled ones go; those whose record is damaged stay
    /// as dead letters that say so.
    fn judge_strangers(
        &self,
        queue: &Queue,
        live: &IdSet,
        recovery: &mut Recovery,
    ) -> Result<(), QueueError> {
        let mut from = 0;
        loop {
            let page = queue.standings(from)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = last + 1;
            for (id, entry) in page.into_iter().filter(|(id, _)| !live.contains(*id)) {
                let entry = entry.filter(|_| !self.gone.contains(id));
                let unreadable =
                    |entry: &Entry| is_in(entry.place, &recovery.damaged) || is_in(entry.place, &self.torn);
                match entry.filter(unreadable) {
                    Some(mut entry) => {
                        entry.state = State::Dead;
                        entry.reason = format!(
                            "spool: record damaged in segment {}, its text is lost",
                            entry.place.segment
                        );
                        queue.put_entry(id, &entry);
                        recovery.lost.push(id);
                    }
                    None => {
                        queue.remove_entry(id);
                        recovery.removed += 1;
                    }
                }
            }
            relieve(queue)?;
        }
    }
}

/// Whether the queue has or had an envelope, so that its put was synced. One that it cannot read is known.
fn is_known(queue: &Queue, id: Id) -> bool {
    !matches!((queue.entry(id), queue.settled(id)), (Ok(None), Ok(None)))
}

/// Rebuilding a lost queue must not take more memory than keeping one.
fn relieve(queue: &Queue) -> Result<(), QueueError> {
    if queue.is_strained() { queue.step() } else { Ok(()) }
}

fn is_in(place: Place, stretches: &[(u64, Range<u64>)]) -> bool {
    let end = place.offset + u64::from(place.length);
    stretches
        .iter()
        .any(|(segment, range)| *segment == place.segment && range.start < end && place.offset < range.end)
}

fn mend_entry(queue: &Queue, (id, entry): (Id, &Entry), recovery: &mut Recovery) -> Result<(), QueueError> {
    let standing = match queue.entry(id) {
        Ok(standing) => standing,
        Err(QueueError::Malformed(_)) => None,
        Err(error) => return Err(error),
    };
    if standing.as_ref() != Some(entry) {
        recovery.mended += 1;
        queue.put_entry(id, entry);
        relieve(queue)?;
    }
    Ok(())
}

/// The plan of one that still waits has opened a ticket: its conversation goes on there.
fn keep_ticket(queue: &Queue, entry: &Entry) -> Result<(), QueueError> {
    let Some(ticket) = entry.ticket else { return Ok(()) };
    match queue.ticket_of(entry.conversation) {
        Ok(Some(_)) => {}
        Ok(None) | Err(QueueError::Malformed(_)) => {
            queue.set_ticket(entry.conversation, ticket, entry.received_at);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The platform may send it again: it must still be known, also when the queue was lost.
fn remember(queue: &Queue, envelope: &Envelope) -> Result<(), QueueError> {
    if envelope.dedupe_window.is_zero() || queue.is_duplicate(envelope.dedupe, envelope.received_at)? {
        return Ok(());
    }
    queue.remember(envelope.dedupe, envelope.received_at.plus(envelope.dedupe_window));
    relieve(queue)
}
