//! Group commit: what is appended while a sync runs goes out with the next one.
//!
//! One thread, `spool-commit`, writes and syncs; one, `spool-answer`, tells those who waited. A group that
//! fails is answered with an error, its puts are voided in the next segment, and its changes are appended
//! there again, so that nothing that was settled in memory is forgotten on disk.

use super::envelope::{Entry, Envelope, Hash, Id};
use super::journal::{Counters, Writer};
use super::record::{Identity, Numbering, Record};
use super::{Core, Shared};
use crate::clock::Timestamp;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// How long changes that nobody waits for may stay in memory. Losing one costs a look in Freshdesk after
/// a crash, never an event.
const LAZY: Duration = Duration::from_millis(100);
/// The same after a failure, so that a full disk is not hammered.
const LAZY_AFTER_FAILURE: Duration = Duration::from_secs(1);

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
        record.encode(identity, numbering, &mut self.bytes);
        let length = u32::try_from(self.bytes.len() - offset).expect("bodies are bounded far below 4 GiB");
        super::Place { segment: 0, offset: offset as u64, length }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.waiters.is_empty()
    }
}

impl Core {
    fn take_group(&mut self, now: Timestamp) -> (Group, Counters) {
        let counters = Counters { next_id: self.next_id, next_sequence: self.next_sequence, now };
        (std::mem::take(&mut self.group), counters)
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
        for (index, envelope) in (0..).zip(envelopes) {
            let numbering = Numbering { sequence: self.next_sequence, index, last_index };
            self.next_sequence += 1;
            let (id, dedupe) = (envelope.id, envelope.dedupe);
            let expires = envelope.received_at.plus(envelope.dedupe_window);
            let record = Record::Put(envelope);
            let place = self.group.append(identity, numbering, &record);
            let Record::Put(envelope) = record else { unreachable!("it was just made") };
            self.arriving.insert(dedupe, id);
            self.group.arriving.push(Arriving { id, entry: Entry::of(&envelope, place), dedupe, expires });
        }
    }
}

/// The committer thread's life: until the spool stops and everything appended is on disk.
pub fn commit_until_stopped(shared: &Shared, mut writer: Writer, answers: &Sender<Vec<Done>>) {
    while let Some((mut group, counters)) = shared.next_group() {
        let written = writer.append(&group.bytes, counters);
        let waiters = std::mem::take(&mut group.waiters);
        match written {
            Ok(written) => {
                answer(answers, waiters, &Ok(()));
                shared.group_is_durable(group, written);
            }
            Err(error) => {
                log::error!(
                    "journal write failed error={:?} effect=\"platforms get 503 and keep their events\"",
                    error.to_string()
                );
                let failed = CommitFailed(Arc::new(error));
                let abandoned = shared.group_failed(group, writer.take_failed());
                answer(answers, waiters.into_iter().chain(abandoned).collect(), &Err(failed));
            }
        }
    }
}

/// Somebody who waited, and what to tell him.
pub struct Done {
    waiter: Waiter,
    result: Result<(), CommitFailed>,
}

fn answer(answers: &Sender<Vec<Done>>, waiters: Vec<Waiter>, result: &Result<(), CommitFailed>) {
    if waiters.is_empty() {
        return;
    }
    let done = waiters.into_iter().map(|waiter| Done { waiter, result: result.clone() }).collect();
    // The answering thread outlives this one; if it is gone the process is going down.
    let _ = answers.send(done);
}

/// The answering thread's life.
pub fn answer_until_stopped(answers: &std::sync::mpsc::Receiver<Vec<Done>>) {
    for done in answers {
        for Done { waiter, result } in done {
            // One that panics must not leave all that come after it without an answer.
            if catch_unwind(AssertUnwindSafe(|| waiter(result))).is_err() {
                log::error!("bug: an answer panicked");
            }
        }
    }
}

impl Shared {
    /// Waits for the next group; `None` when the spool has stopped and nothing is left to write.
    fn next_group(&self) -> Option<(Group, Counters)> {
        let mut core = self.core();
        loop {
            let urgent = !core.group.waiters.is_empty() || core.stopping;
            if !core.group.is_empty() && urgent {
                return Some(core.take_group(self.clock.now()));
            }
            if core.stopping {
                return None;
            }
            if core.group.is_empty() {
                core = self.commit_wake.wait(core).expect("no thread panics while it holds the spool");
                continue;
            }
            let linger = if core.failed { LAZY_AFTER_FAILURE } else { LAZY };
            let nobody_waits = |core: &mut Core| core.group.waiters.is_empty() && !core.stopping;
            let waited = self.commit_wake.wait_timeout_while(core, linger, nobody_waits);
            core = waited.expect("no thread panics while it holds the spool").0;
            return Some(core.take_group(self.clock.now()));
        }
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
            core.append_change(self.files.identity(), Record::Void { first, last });
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
