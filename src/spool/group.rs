//! Group commit: what is appended while a sync runs goes out with the next one.
//!
//! One thread, `spool-commit`, writes and syncs; one, `spool-answer`, tells those who waited and then brings
//! the puts into the queue, while the next group is on its way to the disk. A group that fails is answered
//! with an error, its puts are voided in the next segment, and its changes are appended there again, so that
//! nothing that was settled in memory is forgotten on disk.

use super::envelope::{Entry, Envelope, Hash, Id};
use super::journal::{Counters, Writer, Written};
use super::origin::Origin;
use super::record::{Identity, Numbering, Record};
use super::{Core, Shared};
use crate::clock::Timestamp;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How long changes that nobody waits for may stay in memory. Losing one costs a look in Freshdesk after
/// a crash, never an event.
const LAZY: Duration = Duration::from_millis(100);
/// The same after a failure, so that a full disk is not hammered.
const LAZY_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Waiters of two groups one after the other from which on a group is given a moment to grow.
const CROWD_MIN: usize = 16;
/// The longest such moment; at most twice what the last sync took, too.
const CROWD_PATIENCE_MAX: Duration = Duration::from_millis(4);
/// What a group's buffer may keep for a later group; a usual group under load has some 100 KiB.
const SPARE_BYTES_MAX: usize = 512 * 1024;
/// Groups that are on disk but not yet in the queue.
pub const ON_THEIR_WAY_MAX: usize = 4;
const NO_PANIC: &str = "no thread panics while it holds the spool";
/// No number of waiters wakes the committer.
pub const NOBODY: usize = usize::MAX;

/// The journal did not take the group. It says why, in words for admins.
#[derive(Clone, Debug)]
pub struct CommitFailed(pub Arc<io::Error>);

/// Called once, after the sync or its failure.
pub type Waiter = Box<dyn FnOnce(Result<(), CommitFailed>) + Send>;

/// A put whose group is not yet synced, and where in the group its record lies.
pub struct Arriving {
    pub id: Id,
    pub entry: Entry,
    pub dedupe: Hash,
    pub expires: Timestamp,
    /// Set for an imported one.
    pub origin: Option<Origin>,
}

/// A straggler's new place, valid once the group is synced.
pub struct Moved {
    pub id: Id,
    pub from: super::Place,
    pub to: super::Place,
}

/// Records that go to disk together.
#[derive(Default)]
pub struct Group {
    pub bytes: Vec<u8>,
    /// Sequence number of its first record.
    pub first_sequence: Option<u64>,
    pub arriving: Vec<Arriving>,
    pub moved: Vec<Moved>,
    /// Changes, kept in case the group fails.
    pub changes: Vec<Record>,
    pub waiters: Vec<Waiter>,
}

impl Group {
    /// Appends one record; the answer is its place, relative to the group's first byte.
    pub fn append(&mut self, identity: &Identity, numbering: Numbering, record: &Record) -> super::Place {
        let offset = self.bytes.len();
        self.first_sequence.get_or_insert(numbering.sequence);
        record.encode(identity, numbering, &mut self.bytes);
        let length = u32::try_from(self.bytes.len() - offset).expect("bodies are bounded far below 4 GiB");
        super::Place { segment: 0, offset: offset as u64, length }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.waiters.is_empty()
    }
}

impl Core {
    /// The group, and a new one that is written into `spare`.
    fn take_group(&mut self, now: Timestamp, spare: &mut Vec<u8>) -> (Group, Counters) {
        let first_sequence = self.group.first_sequence.unwrap_or(self.next_sequence);
        let counters = Counters { next_id: self.next_id, first_sequence, now };
        let next = Group { bytes: std::mem::take(spare), ..Group::default() };
        (std::mem::replace(&mut self.group, next), counters)
    }

    /// Numbers a record that stands alone and appends it to the group.
    pub(super) fn append(&mut self, identity: &Identity, record: &Record) -> super::Place {
        let numbering = Numbering { sequence: self.next_sequence, index: 0, last_index: 0 };
        self.next_sequence += 1;
        self.group.append(identity, numbering, record)
    }

    /// Appends a change; it is repeated in the next segment if the group fails.
    pub(super) fn append_change(&mut self, identity: &Identity, record: Record) {
        self.append(identity, &record);
        self.group.changes.push(record);
    }

    /// Appends the puts of one request as one unit.
    pub(super) fn append_puts(&mut self, identity: &Identity, envelopes: Vec<Envelope>) {
        let last_index = u16::try_from(envelopes.len() - 1).expect("events of one request are limited");
        let before = self.group.bytes.len();
        for (index, envelope) in (0..).zip(envelopes) {
            let numbering = Numbering { sequence: self.next_sequence, index, last_index };
            self.next_sequence += 1;
            let (id, dedupe) = (envelope.id, envelope.dedupe);
            let expires = envelope.received_at.plus(envelope.dedupe_window);
            let record = Record::Put(envelope);
            let place = self.group.append(identity, numbering, &record);
            let Record::Put(envelope) = record else { unreachable!("it was just made") };
            self.arriving.insert(dedupe, id);
            let entry = Entry::of(&envelope, place);
            self.group.arriving.push(Arriving { id, entry, dedupe, expires, origin: None });
        }
        self.appended += (self.group.bytes.len() - before) as u64;
    }
}

/// How it went with the last group.
#[derive(Default)]
struct Last {
    waiters: usize,
    took: Duration,
}

/// What a group on disk changes in the queue.
pub struct Durable {
    pub arriving: Vec<Arriving>,
    pub moved: Vec<Moved>,
    pub written: Written,
}

/// A group that is on disk, or is not, and who wants to know.
pub struct Done {
    waiters: Vec<Waiter>,
    result: Result<Durable, CommitFailed>,
}

/// The committer thread's life: until the spool stops and everything appended is on disk.
pub fn commit_until_stopped(shared: &Shared, mut writer: Writer, answers: &SyncSender<Done>) {
    let (mut spare, mut last) = (Vec::new(), Last::default());
    while let Some((mut group, counters)) = shared.next_group(&mut spare, &last) {
        let started = shared.clock.monotonic();
        let written = writer.append(&group.bytes, counters);
        last.took = shared.clock.monotonic().saturating_sub(started);
        last.waiters = group.waiters.len();
        let waiters = std::mem::take(&mut group.waiters);
        let done = match written {
            Ok(written) => {
                spare = emptied(std::mem::take(&mut group.bytes));
                Done { waiters, result: Ok(shared.group_is_written(group, written)) }
            }
            Err(error) => {
                log::error!(
                    "journal write failed error={:?} effect=\"platforms get 503 and keep their events\"",
                    error.to_string()
                );
                if super::disk::is_full(&error) {
                    shared.reserve.give_up();
                }
                let abandoned = shared.group_failed(group, writer.take_failed());
                let waiters = waiters.into_iter().chain(abandoned).collect();
                Done { waiters, result: Err(CommitFailed(Arc::new(error))) }
            }
        };
        // The answering thread outlives this one; if it is gone the process is going down.
        let _ = answers.send(done);
    }
}

/// A group's buffer for a later one, unless it has grown out of the ordinary.
fn emptied(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.clear();
    if bytes.capacity() > SPARE_BYTES_MAX { Vec::new() } else { bytes }
}

/// The answering thread's life. Groups come in the order in which they went to disk.
pub fn answer_until_stopped(shared: &Shared, answers: &Receiver<Done>) {
    for Done { waiters, result } in answers {
        let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
        for waiter in waiters {
            // One that panics must not leave all that come after it without an answer.
            if catch_unwind(AssertUnwindSafe(|| waiter(told.clone()))).is_err() {
                log::error!("bug: an answer panicked");
            }
        }
        if let Ok(durable) = result {
            shared.group_enters(durable);
        }
    }
}

impl Shared {
    /// Waits for the next group; `None` when the spool has stopped and nothing is left to write.
    fn next_group(&self, spare: &mut Vec<u8>, last: &Last) -> Option<(Group, Counters)> {
        let mut core = self.core();
        loop {
            let urgent = !core.group.waiters.is_empty() || core.stopping;
            if !core.group.is_empty() && urgent {
                let mut core = self.let_others_in(core, last);
                return Some(core.take_group(self.clock.now(), spare));
            }
            if core.stopping {
                return None;
            }
            if core.group.is_empty() {
                core.wanted = 0;
                core = self.commit_wake.wait(core).expect(NO_PANIC);
                core.wanted = NOBODY;
                continue;
            }
            let linger = if core.failed { LAZY_AFTER_FAILURE } else { LAZY };
            core = self.sleep(core, 1, linger);
            return Some(core.take_group(self.clock.now(), spare));
        }
    }

    /// Sleeps until `wanted` wait for the group, the spool stops, or time is up.
    fn sleep<'a>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        wanted: usize,
        most: Duration,
    ) -> MutexGuard<'a, Core> {
        core.wanted = wanted;
        let are_few = |core: &mut Core| core.group.waiters.len() < wanted && !core.stopping;
        let mut core = self.commit_wake.wait_timeout_while(core, most, are_few).expect(NO_PANIC).0;
        core.wanted = NOBODY;
        core
    }

    /// Something was appended: wakes the committer, if that is what it sleeps for.
    pub(super) fn wake_committer(&self, core: MutexGuard<'_, Core>) {
        let is_awaited = core.group.waiters.len() >= core.wanted;
        drop(core);
        if is_awaited {
            self.commit_wake.notify_one();
        }
    }

    /// In a crowd, waits a moment for those who are on their way: whoever was just answered comes again, and a
    /// sync costs as much for one as for all. Few are never kept waiting.
    fn let_others_in<'a>(&'a self, core: MutexGuard<'a, Core>, last: &Last) -> MutexGuard<'a, Core> {
        let crowd = last.waiters + core.group.waiters.len();
        let wanted = crowd * 3 / 4;
        let patience = (last.took * 2).min(CROWD_PATIENCE_MAX);
        if crowd < CROWD_MIN || patience.is_zero() || core.group.waiters.len() >= wanted || core.stopping {
            return core;
        }
        self.sleep(core, wanted, patience)
    }

    /// Records that failed to sync: voids the puts, repeats the changes, gives back who else must be told.
    fn group_failed(&self, failed: Group, segment: Option<u64>) -> Vec<Waiter> {
        let mut core = self.core();
        core.failed = true;
        if let Some(number) = segment {
            // What was not synced may be readable after a restart: it must go before the record that voids it.
            let bytes = self.files.length(number);
            core.segments.entry(number).or_default().bytes = bytes;
        }
        let following = std::mem::take(&mut core.group);
        core.moving -= failed.moved.len() + following.moved.len();
        let lost = || failed.arriving.iter().chain(&following.arriving);
        for arriving in lost() {
            core.arriving.remove(&arriving.dedupe);
        }
        let (first, last) = (lost().map(|one| one.id).min(), lost().map(|one| one.id).max());
        if first.is_some() || segment.is_some() {
            // Without puts it still says that the end of the segment before it is no damage.
            let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
            let from_sequence = failed.first_sequence.unwrap_or(core.next_sequence);
            core.append_change(self.files.identity(), Record::Void { first, last, from_sequence });
        }
        if core.stopping {
            // Trying for ever would keep a daemon with a broken disk from going down; what is lost here
            // costs a look in Freshdesk at the next start.
            core.group = Group::default();
            return following.waiters;
        }
        for record in failed.changes.into_iter().chain(following.changes) {
            core.append_change(self.files.identity(), record);
        }
        drop(core);
        self.work_wake.notify_all();
        following.waiters
    }
}
