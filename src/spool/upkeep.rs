//! What keeps the spool small: settled segments go, stragglers are copied forward, history is trimmed.
//!
//! Runs after changes, never on a timer of its own: an idle spool touches no disk.

use super::group::Moved;
use super::record::{Numbering, Record};
use super::segment::{self, Met};
use super::{Core, Id, Place, QueueError, Share, Shared};
use std::time::Duration;
use thiserror::Error;

/// Stragglers that are copied while the lock is held once.
const COPIES_PER_STEP: usize = 64;
/// How often history and identities are trimmed while there is work.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How long it is until a queue that could not be written is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often dead letters are looked through for old ones while there is work.
const SIFT_INTERVAL: Duration = Duration::from_secs(3600);

#[derive(Debug, Error)]
pub enum UpkeepError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("journal: {0}")]
    Journal(#[from] std::io::Error),
}

/// The upkeep thread's life.
pub fn tend_until_stopped(shared: &Shared) {
    let mut trimmed_at = shared.clock.monotonic();
    let mut sifted_at = trimmed_at;
    let (mut seen, mut told) = (0, String::new());
    while let Some(work) = shared.wait_for_change(seen, !told.is_empty()) {
        seen = work;
        let tended = shared.tend_queue();
        let mut result = tended.and(shared.shrink());
        if shared.clock.monotonic().saturating_sub(trimmed_at) >= TRIM_INTERVAL {
            trimmed_at = shared.clock.monotonic();
            result = result.and_then(|()| shared.trim());
        }
        if shared.clock.monotonic().saturating_sub(sifted_at) >= SIFT_INTERVAL {
            sifted_at = shared.clock.monotonic();
            result = result.and_then(|()| Ok(shared.drop_old_dead()?));
        }
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        if !error.is_empty() && error != told {
            log::warn!("spool upkeep failed error={error:?} effect=\"disk use grows until it succeeds\"");
        }
        told = error;
    }
}

impl Shared {
    /// Waits until there is something to do; a second when it could not be done the last time, since nobody tells
    /// when a disk can be written again.
    fn wait_for_change(&self, seen: u64, has_failed: bool) -> Option<u64> {
        let core = self.core();
        let waited = if has_failed {
            let is_running = |core: &mut Core| !core.stopping;
            self.upkeep_wake.wait_timeout_while(core, LOOK_AGAIN, is_running).map(|(core, _)| core).ok()
        } else {
            let is_idle = |core: &mut Core| core.work == seen && !core.stopping && !self.queue.wants_step();
            self.upkeep_wake.wait_while(core, is_idle).ok()
        };
        let core = waited.expect("no thread panics while it holds the spool");
        if core.stopping { None } else { Some(core.work) }
    }

    /// Brings what was told lately to the queue's tables, and those back if they are away; rewrites them when
    /// they are mostly garbage.
    fn tend_queue(&self) -> Result<(), UpkeepError> {
        let tended = self.bring_to_disk();
        if tended.as_ref().is_err_and(QueueError::is_full) && self.reserve.give_up() {
            return Ok(self.bring_to_disk()?);
        }
        if tended.is_ok() {
            self.reserve.take(self.limits().disk_free_min);
        }
        Ok(tended?)
    }

    fn bring_to_disk(&self) -> Result<(), QueueError> {
        if self.queue.is_away() {
            match self.queue.come_back() {
                Ok(()) => log::info!("queue can be written again"),
                Err(error) if error.is_corruption() => self.break_down(&error.to_string()),
                Err(error) => return Err(error),
            }
            self.place_unplaced();
        }
        if self.queue.wants_step() {
            self.queue.step()?;
        }
        if !self.queue.renew_if_worth_it()? {
            return Ok(());
        }
        let renewed = self.renew();
        if renewed.is_err() {
            self.queue.stop_renewing();
        }
        renewed
    }

    /// Builds the next generation, page by page, and switches to it. Others go on meanwhile.
    fn renew(&self) -> Result<(), QueueError> {
        while !self.queue.renew_step()? {
            if self.core().stopping {
                self.queue.stop_renewing();
                return Ok(());
            }
            if self.queue.wants_step() {
                self.queue.step()?;
            }
        }
        Ok(())
    }

    /// Removes what is settled at the front of the journal, after copying stragglers out of the way.
    fn shrink(&self) -> Result<(), UpkeepError> {
        loop {
            let Some((oldest, share, garbage)) = self.oldest_sealed() else { return Ok(()) };
            if share.live == 0 {
                self.remove_segment(oldest)?;
            } else if garbage < self.files.ground().garbage_min
                || self.live_bytes() > garbage
                || !self.copy_forward(oldest)?
            {
                return Ok(());
            }
        }
    }

    /// Copying pays while there is more garbage than live bytes: each live byte is then copied at most once
    /// for every byte of garbage that goes.
    fn live_bytes(&self) -> u64 {
        self.core().segments.values().map(|share| share.live_bytes).sum()
    }

    /// The oldest segment nobody writes to, its share, and the garbage in the whole journal.
    fn oldest_sealed(&self) -> Option<(u64, Share, u64)> {
        let core = self.core();
        let garbage = core.segments.values().map(|share| share.bytes.saturating_sub(share.live_bytes)).sum();
        let newest = *core.segments.last_key_value()?.0;
        let (number, share) = core.segments.first_key_value()?;
        (*number < newest && share.entering == 0).then_some((*number, *share, garbage))
    }

    fn remove_segment(&self, number: u64) -> Result<(), UpkeepError> {
        // What the segment alone remembers (identities, tickets of conversations) must be durable in the queue.
        self.queue.flush()?;
        if self.core().damaged.contains(&number) {
            self.files.set_aside(number)?;
            log::warn!("segment with damage set aside number={number}");
        } else {
            self.files.remove(number)?;
            log::debug!("segment removed number={number}");
        }
        self.core().segments.remove(&number);
        Ok(())
    }

    /// Copies what is not settled out of a segment. Whether all of it could be.
    fn copy_forward(&self, number: u64) -> Result<bool, UpkeepError> {
        let mut stragglers: Vec<(Id, Place)> = Vec::new();
        let file = self.files.open(number)?;
        segment::walk(&file, self.files.identity(), |met| {
            let Met::Record { record, range, .. } = met else { return };
            if let Record::Put(envelope) = *record {
                let length = u32::try_from(range.end - range.start).expect("a record's length is a u32");
                stragglers.push((envelope.id, Place { segment: number, offset: range.start, length }));
            }
        })?;
        for step in stragglers.chunks(COPIES_PER_STEP) {
            if !self.copy_step(step)? {
                return Ok(false);
            }
        }
        if self.core().segments.get(&number).is_some_and(|share| share.live > 0) {
            self.bury_unreadable(number)?;
        }
        Ok(self.core().segments.get(&number).is_none_or(|share| share.live == 0))
    }

    /// What the queue still expects in a segment, though the walk did not meet it, is damaged.
    fn bury_unreadable(&self, number: u64) -> Result<(), UpkeepError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mut from = 0;
        loop {
            let mut core = self.core();
            if core.stopping {
                return Ok(());
            }
            let page = self.queue.entries(from)?;
            for (id, entry) in page.iter().filter(|(_, entry)| entry.place.segment == number) {
                let is_damaged =
                    self.files.read(entry.place).is_err_and(|error| super::journal::is_damage(&error));
                if is_damaged && !core.flights.contains_key(id) {
                    self.bury_damaged(&mut core, *id, entry)?;
                }
            }
            match page.last() {
                Some((last, _)) => from = last + 1,
                None => {
                    core.damaged.insert(number);
                    core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
                    break;
                }
            }
        }
        self.commit_wake.notify_one();
        // Whether it worked shows in the segment's share.
        let _ = told.recv();
        self.wait_for_moves();
        Ok(())
    }

    /// The committer tells those who wait before it points the entries to their copies.
    fn wait_for_moves(&self) {
        let settled = self.work_wake.wait_while(self.core(), |core| core.moving > 0 && !core.stopping);
        drop(settled.expect("no thread panics while it holds the spool"));
    }

    /// Copies some stragglers and waits for the sync. False when one was in flight, or the sync failed.
    fn copy_step(&self, step: &[(Id, Place)]) -> Result<bool, UpkeepError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mut complete = true;
        {
            let mut core = self.core();
            if core.stopping {
                // The committer may be gone already: nobody would answer.
                return Ok(false);
            }
            for (id, place) in step {
                let Some(entry) = self.queue.entry(*id)?.filter(|entry| entry.place == *place) else {
                    continue;
                };
                if core.flights.contains_key(id) {
                    complete = false;
                    continue;
                }
                let envelope = match self.files.read(entry.place) {
                    Err(error) if super::journal::is_damage(&error) => {
                        self.bury_damaged(&mut core, *id, &entry)?;
                        continue;
                    }
                    read => read?,
                };
                core.copy(self.files.identity(), &envelope, entry);
            }
            core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
        }
        self.commit_wake.notify_one();
        let synced = matches!(told.recv(), Ok(Ok(())));
        self.wait_for_moves();
        Ok(synced && complete)
    }

    /// A straggler's copy is durable: the queue points there, unless the envelope is gone meanwhile.
    pub(super) fn moved(&self, core: &mut Core, id: Id, from: Place, to: Place) {
        match self.queue.entry(id) {
            Ok(Some(mut entry)) if entry.place == from => {
                entry.place = to;
                self.queue.put_entry(id, &entry);
                core.forget_share(from);
                let share = core.segments.entry(to.segment).or_default();
                share.live += 1;
                share.live_bytes += u64::from(to.length);
                if let Some(flight) = core.flights.get_mut(&id) {
                    flight.standing.place = to;
                    flight.entry.place = to;
                }
            }
            Ok(_) => {}
            Err(error) => log::warn!("straggler not moved id={id} error={:?}", error.to_string()),
        }
    }

    pub(super) fn trim(&self) -> Result<(), UpkeepError> {
        // So that a power cut costs a minute of history and numbers, not weeks where little comes in.
        self.queue.step()?;
        let now = self.earliest_reading();
        self.queue.forget_expired(now)?;
        let keep = u64::try_from(self.limits().keep_delivered.as_millis()).unwrap_or(u64::MAX);
        while self.queue.trim_history(crate::clock::Timestamp(now.0.saturating_sub(keep)))? {}
        Ok(())
    }
}

impl Core {
    /// Appends a copy of an envelope and how it stands.
    pub(super) fn copy(
        &mut self,
        identity: &super::Identity,
        envelope: &super::Envelope,
        entry: super::Entry,
    ) {
        let numbering = Numbering { sequence: self.next_sequence, index: 0, last_index: 0 };
        self.next_sequence += 1;
        let to = self.group.append(identity, numbering, &Record::Put(envelope.clone()));
        self.group.moved.push(Moved { id: envelope.id, from: entry.place, to });
        self.moving += 1;
        self.append(identity, &Record::Standing(envelope.id, entry));
    }
}
