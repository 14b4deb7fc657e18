//! Durable envelopes: put, lease, begin, settle, defer, bury. The third room on an event's road.
//!
//! # What is where
//!
//! ```text
//! <dir>/lock               one daemon at a time; holds its pid
//! <dir>/identity           16 random bytes: part of every checksum and of the markers in Freshdesk
//! <dir>/journal/N.seg      the truth: records in order of arrival (`record`, `segment`, `journal`)
//! <dir>/queue/             the index: sled trees that can be rebuilt from the journal (`queue`, `generations`)
//! <dir>/clean              the mark of a clean stop, until the next start (`clean`)
//! <dir>/queue.damaged.N/   queues that could not be opened, three at most
//! <dir>/damaged/           segments with damage whose other records are settled
//! ```
//!
//! Without a daemon all of it can be looked into (`reading`): the queue in a copy, nothing is changed. What another
//! spool held is taken over as it stood there (`import`), each of its envelopes once (`origin`).
//!
//! # The format on disk
//!
//! Everything that must not be lost is in the journal; this is its format 1. Numbers are little-endian.
//!
//! | what | bytes |
//! |---|---|
//! | segment `journal/<8 digits>.seg` | a head of 64 bytes, then records without gaps |
//! | its head | 0 `DSKSPOOL` · 8 format, u32 · 12 CRC-32 of the rest of the head · 16 identity · 32 number of the segment · 40 next envelope's number · 48 sequence number of its first record · 56 when it was created, ms since 1970 |
//! | a record | a head of 28 bytes, then its payload; both in the head of `record.rs` |
//! | a record's head | 0 `DSP1` · 4 length of the payload, u32 · 8 CRC-32 of identity, bytes 12–27, length and payload · 12 version · 13 kind · 14 its index in its request and 16 the last index, u16 · 18 check of the head, u16 · 20 sequence number |
//! | kinds | 1 put · 2 begun · 3 progressed · 4 deferred · 5 delivered · 6 buried · 7 retried · 8 held · 9 dropped · 10 void · 11 standing, which follows a put that was copied forward |
//! | a put | number, when it came in, what makes it the same as another, its names, context and event; for one that was imported, 24 bytes more: the other spool's identity and its number there |
//! | texts and byte strings in payloads | length, u32, then the bytes; an option is a byte, 0 or 1, then the value |
//!
//! Rules that a reader relies on: sequence numbers go up by one from record to record, over all segments. A group
//! is written after the one before it was synced, so bytes that make no sense are a torn write if they end a segment
//! and no number is missing before the next; otherwise they are damage. A segment that follows a failed write
//! begins with a void, which says from which sequence number on nothing holds.
//!
//! **Upgrade:** a daemon reads its own format and every earlier one, and writes its own into new segments; so the
//! journal moves forward by itself, in one step. What it finds of a newer format it refuses before it changes
//! anything, and says the way back: `deskspool export` with the newer one. One spool of each format is kept in
//! `tests/spools/`.
//!
//! The queue has a layout of its own, told in `packed`; it is 2. A queue of layout 1 moves into it when it is opened
//! (`earlier`). One of the time before there were generations, and one that does not open, is set aside and rebuilt
//! from the journal.
//!
//! # The road through this room
//!
//! `put` checks limits and duplicates, numbers the envelopes and appends them to the open *group*. The
//! thread `spool-commit` writes the group and syncs it once; `spool-answer` calls those who waited and
//! brings the envelopes into the queue, where they can be leased. `lease_due` hands out the head of a
//! conversation that is due; `begin` makes the attempt durable before its first byte may leave; `settle` records what it
//! came to. `spool-upkeep` brings what the queue was told to its tables on disk, removes segments whose
//! envelopes are settled, copies stragglers forward and trims history.
//!
//! # Invariants
//!
//! - What was answered `Ok` by `put` is on disk, synced.
//! - Changes are applied to the queue and appended to the journal under one lock, so that both agree on
//!   their order. The journal wins when they differ after a crash. Only new envelopes enter the queue outside
//!   that lock: nobody can change what is not there yet.
//! - One envelope per conversation is in flight. Dead ones keep their place in the order.
//! - The queue is in memory first (`overlay`, `index`), so telling it something cannot fail; a disk that fails
//!   delays only when it gets to the tables (`packed`). Only `tables` names `sled`.

mod age;
mod block;
mod catalog;
mod clean;
mod codec;
mod damage;
mod disk;
mod earlier;
mod envelope;
mod error;
mod forget;
mod generations;
mod ground;
mod group;
mod idset;
mod import;
mod index;
mod journal;
mod life;
mod limits;
mod mend;
mod origin;
mod overlay;
mod packed;
mod probe;
mod queue;
mod reading;
mod record;
mod recover;
mod replay;
mod row;
mod salvage;
mod segment;
mod stock;
mod tables;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

pub use damage::Damage;
pub use envelope::{
    Change, Doubt, Ended, Entry, Envelope, Hash, Id, Place, Ran, State, TRIES_KEPT, Try, hash_of,
};
pub use error::OpenError;
pub use group::CommitFailed;
pub use import::Imported;
pub use life::{Lease, Leased, Touched};
pub use limits::Limits;
pub use origin::Origin;
pub use probe::{Probe, try_queue};
pub use queue::{PAGE, Walked};
pub use recover::Recovery;
pub use row::{Settled, known_as};
pub use salvage::{Salvaged, Stretch, salvage};
pub use tables::QueueError;

use crate::clock::{Clock, Eras};
use ground::Ground;
use group::{Group, Waiter};
use journal::Files;
use queue::Queue;
use record::Identity;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;

/// Most events of one request.
pub const EVENTS_PER_REQUEST_MAX: usize = 10_000;
/// How often free space is asked for.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A request was not spooled; the platform keeps the event and is told to come again.
#[derive(Clone, Debug, Error)]
pub enum PutError {
    /// A limit is reached. The text is bland: peers may see it.
    #[error("{0}")]
    Full(&'static str),
    /// The journal could not be written.
    #[error("the journal cannot be written: {}", (.0).0)]
    Broken(CommitFailed),
    /// The queue could not be read.
    #[error("the queue cannot be read")]
    Unreadable,
    /// The daemon is going down.
    #[error("stopping")]
    Stopping,
}

/// What became of a request's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Numbers of the new envelopes, in order.
    pub ids: Vec<Id>,
    /// Events that were here before.
    pub duplicates: usize,
}

/// One segment's share of what is not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    live: u64,
    live_bytes: u64,
    bytes: u64,
    /// Puts that are counted as live, but on their way into the queue.
    entering: u64,
}

/// An envelope that is being attempted. The journal has its beginning; the queue still says waiting.
#[derive(Clone)]
struct Flight {
    /// As the queue has it.
    standing: Entry,
    /// With what happened since.
    entry: Entry,
    kind: String,
    event_id: String,
    conversation: String,
    origin: Option<Origin>,
}

/// What changes together, under one lock.
struct Core {
    group: Group,
    next_id: Id,
    next_sequence: u64,
    /// Identities of puts that are not yet in the queue.
    arriving: HashMap<Hash, Id>,
    flights: HashMap<Id, Flight>,
    flying_conversations: HashSet<Hash>,
    /// Conversations whose next head could not be looked up, because the queue was away.
    unplaced: HashSet<Hash>,
    segments: BTreeMap<u64, Share>,
    /// Copies whose group is not yet synced, or whose entries do not yet point to them.
    moving: usize,
    /// The committer sleeps, and is to be woken when so many wait for the group; `NOBODY` while it is awake.
    wanted: usize,
    /// Segments with bytes that made no sense: they are set aside, not removed.
    damaged: HashSet<u64>,
    /// Segments up to this one go as soon as they can, whether it pays or not.
    purge_to: u64,
    /// The next group begins a segment.
    begins_segment: bool,
    /// The same for people, and what was lost by it.
    damage: Damage,
    counts: BTreeMap<(String, State), u64>,
    /// By state, a number before which no envelope is in it; nothing is known of a state that is missing.
    none_before: BTreeMap<State, Id>,
    /// When free space was asked for, what there was, and what had been appended by then.
    free: Option<(Duration, u64, u64)>,
    /// Bytes of puts that were appended to groups.
    appended: u64,
    /// Moves on whenever there may be something to lease.
    work: u64,
    /// No more puts; attempts that are under way are still settled.
    closed: bool,
    /// The threads end when everything appended is on disk.
    stopping: bool,
    /// The last group failed: what nobody waits for is tried again a second later.
    failed: bool,
}

struct Shared {
    directory: PathBuf,
    files: Arc<Files>,
    reserve: disk::Reserve,
    queue: Queue,
    clock: Arc<dyn Clock>,
    /// The wall clock's readings, and how often it was set.
    eras: Mutex<(Eras, u64)>,
    /// How long the spool was open in earlier processes, and when this one opened it.
    service: age::Service,
    limits: RwLock<Limits>,
    core: Mutex<Core>,
    commit_wake: Condvar,
    work_wake: Condvar,
    upkeep_wake: Condvar,
    /// Why only a restart helps, once that is so.
    broken: OnceLock<String>,
    /// Told when that happens.
    on_broken: OnceLock<fn(&str)>,
    /// Set for one that is only looked into: where the copy of its queue is.
    scratch: Option<reading::Scratch>,
    _lock: disk::Lock,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("no thread panics while it holds the spool")
    }

    /// The queue or a thread failed in a way that only a restart mends: nothing more is taken or leased, so
    /// that nothing is delivered twice. The journal has everything.
    fn break_down(&self, why: &str) {
        if self.broken.set(why.to_owned()).is_ok() {
            log::error!(
                "spool broken error={why:?} next=\"systemd restarts deskspool, the journal has everything\""
            );
            self.work_wake.notify_all();
            if let Some(tell) = self.on_broken.get() {
                tell(why);
            }
        }
    }

    fn check(&self) -> Result<(), QueueError> {
        if self.broken.get().is_some() { Err(QueueError::Broken) } else { Ok(()) }
    }

    fn limits(&self) -> Limits {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The spool of one daemon. Dropping it stops its threads after everything appended is on disk.
pub struct Spool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Spool {
    /// Opens or creates the spool in `directory`: takes the lock, compares queue and journal, mends the
    /// queue, and starts the threads.
    pub fn open(
        directory: &Path,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<(Spool, Recovery), OpenError> {
        Spool::open_on(Ground::default(), directory, limits, clock)
    }

    /// The same, after another process has shown that the queue can be opened.
    pub fn open_probed(
        directory: &Path,
        limits: Limits,
        clock: Arc<dyn Clock>,
        probe: Option<Probe>,
    ) -> Result<(Spool, Recovery), OpenError> {
        Spool::open_on(Ground { probe, ..Ground::default() }, directory, limits, clock)
    }

    /// Like `open`, on a disk and with sizes of the caller's.
    fn open_on(
        ground: Ground,
        directory: &Path,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<(Spool, Recovery), OpenError> {
        let (shared, next_segment, recovery) = recover::open(directory, limits, clock, ground)?;
        let shared = Arc::new(shared);
        let writer = journal::Writer::new(shared.files.clone(), next_segment);
        // If the queue is slower than the disk, the disk waits: what is on its way into the queue is in memory.
        let (answers, answered) = std::sync::mpsc::sync_channel(group::ON_THEIR_WAY_MAX);
        let (committing, entering, tending) = (shared.clone(), shared.clone(), shared.clone());
        let mut threads = Vec::new();
        let mut start = |name: &'static str, life: Box<dyn FnOnce() + Send>| {
            let watched = shared.clone();
            let life = move || {
                if catch_unwind(AssertUnwindSafe(life)).is_err() {
                    watched.break_down(&format!("bug: {name} panicked"));
                }
            };
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(life);
            thread.map(|thread| threads.push(thread))
        };
        start("spool-commit", Box::new(move || group::commit_until_stopped(&committing, writer, &answers)))
            .and_then(|()| {
                start("spool-answer", Box::new(move || group::answer_until_stopped(&entering, &answered)))
            })
            .and_then(|()| start("spool-upkeep", Box::new(move || upkeep::tend_until_stopped(&tending))))
            .map_err(|error| OpenError::Directory { directory: directory.to_path_buf(), error })?;
        Ok((Spool { shared, threads }, recovery))
    }

    /// Takes the events of one request, all or none, and calls `answer` once: with the receipt after the
    /// sync, or with the error that the platform's retry will mend. The ids in `envelopes` are ignored.
    pub fn put<F>(&self, envelopes: Vec<Envelope>, answer: F)
    where
        F: FnOnce(Result<Receipt, PutError>) + Send + 'static,
    {
        let mut core = self.shared.core();
        let receipt = match self.shared.admit(&mut core, envelopes) {
            Ok(receipt) => receipt,
            Err(error) => {
                drop(core);
                return answer(Err(error));
            }
        };
        let waiter: Waiter =
            Box::new(move |result| answer(result.map(|()| receipt).map_err(PutError::Broken)));
        core.group.waiters.push(waiter);
        self.shared.wake_committer(core);
    }

    /// Like `put`, but waits for the answer.
    pub fn put_and_wait(&self, envelopes: Vec<Envelope>) -> Result<Receipt, PutError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.put(envelopes, move |result| drop(tell.send(result)));
        told.recv().unwrap_or(Err(PutError::Stopping))
    }

    /// Why `put` would refuse now, in bland words; `None` when it would not.
    pub fn unhealthy_reason(&self) -> Option<String> {
        let mut core = self.shared.core();
        self.shared.room_for(&mut core, 1).err().map(|error| error.to_string())
    }

    /// Applies new limits; they hold from the next request on.
    pub fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        let passed_dead = self.shared.limits().pass_dead;
        let passes_dead = limits.pass_dead;
        *self.shared.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        if passed_dead == passes_dead { Ok(()) } else { self.shared.place_heads_behind_dead() }
    }

    /// The spool's identity, for markers.
    pub fn identity(&self) -> Identity {
        *self.shared.files.identity()
    }

    /// The directory it lives in.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Bytes of the journal on disk.
    pub fn journal_bytes(&self) -> u64 {
        self.shared.core().segments.values().map(|share| share.bytes).sum()
    }

    /// Calls `tell` when only a restart helps.
    pub fn when_broken(&self, tell: fn(&str)) {
        // The first one stays; there is one daemon.
        let _ = self.shared.on_broken.set(tell);
    }

    /// For callers whose own panic may have left the spool half way: only a restart mends that.
    pub fn break_down(&self, why: &str) {
        self.shared.break_down(why);
    }

    /// Whether the spool's lock can be had and nothing is broken, for the watchdog.
    pub fn is_sound(&self) -> bool {
        self.shared.broken.get().is_none() && !self.shared.core.is_poisoned()
    }

    /// Refuses further puts; what is appended is still written.
    pub fn stop_taking(&self) {
        self.shared.core().closed = true;
        self.shared.work_wake.notify_all();
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.stop_taking();
        self.shared.core().stopping = true;
        self.shared.commit_wake.notify_all();
        self.shared.upkeep_wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
        if let Err(error) = self.shared.close() {
            log::warn!(
                "stop not marked as clean error={:?} effect=\"the next start walks over the journal\"",
                error.to_string()
            );
        }
    }
}

impl Shared {
    fn admit(&self, core: &mut Core, envelopes: Vec<Envelope>) -> Result<Receipt, PutError> {
        self.room_for(core, envelopes.len() as u64)?;
        let mut receipt = Receipt::default();
        let mut fresh: Vec<Envelope> = Vec::with_capacity(envelopes.len());
        let mut seen = HashSet::new();
        self.now();
        for mut envelope in envelopes {
            let here = core.arriving.contains_key(&envelope.dedupe)
                || !seen.insert(envelope.dedupe)
                || self.is_known(&envelope).map_err(|error| self.unreadable(&error))?;
            if here {
                receipt.duplicates += 1;
                continue;
            }
            envelope.id = core.next_id + fresh.len() as u64;
            receipt.ids.push(envelope.id);
            fresh.push(envelope);
        }
        core.next_id += fresh.len() as u64;
        if !fresh.is_empty() {
            core.append_puts(self.files.identity(), fresh);
        }
        Ok(receipt)
    }

    fn unreadable(&self, error: &QueueError) -> PutError {
        log::error!(
            "queue cannot be read error={:?} effect=\"platforms get 503 and keep their events\"",
            error.to_string()
        );
        PutError::Unreadable
    }

    fn room_for(&self, core: &mut Core, events: u64) -> Result<(), PutError> {
        if core.closed {
            return Err(PutError::Stopping);
        }
        if self.broken.get().is_some() {
            return Err(PutError::Unreadable);
        }
        if events > EVENTS_PER_REQUEST_MAX as u64 {
            return Err(PutError::Full("too many events in one request"));
        }
        let limits = self.limits();
        let entering: u64 = core.segments.values().map(|share| share.entering).sum();
        let held: u64 = core.counts.values().sum::<u64>() + core.arriving.len() as u64 - entering;
        if held + events > limits.envelopes_max {
            return Err(PutError::Full("spool full"));
        }
        let bytes: u64 =
            core.segments.values().map(|share| share.bytes).sum::<u64>() + core.group.bytes.len() as u64;
        if bytes > limits.bytes_max {
            return Err(PutError::Full("spool full"));
        }
        if self.free_bytes(core) < limits.disk_free_min {
            return Err(PutError::Full("disk low"));
        }
        if self.queue.is_away() || self.queue.is_bursting() {
            return Err(PutError::Full("disk not writable"));
        }
        Ok(())
    }

    /// Free space as of at most a second ago, less what was taken since: an event costs the journal its bytes
    /// and the queue less than as much again.
    fn free_bytes(&self, core: &mut Core) -> u64 {
        let now = self.clock.monotonic();
        let (_, free, appended) = match core.free {
            Some(asked) if now.saturating_sub(asked.0) < DISK_CHECK_INTERVAL => asked,
            _ => {
                // A file system that cannot say how much is free is judged by its writes.
                let free = disk::free_bytes(&self.directory).unwrap_or(u64::MAX);
                let unwritten = core.group.bytes.len() as u64;
                *core.free.insert((now, free, core.appended.saturating_sub(unwritten)))
            }
        };
        free.saturating_sub(core.appended.saturating_sub(appended).saturating_mul(2))
    }
}
