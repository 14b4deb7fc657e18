//! Opening a spool: after a clean stop the queue is believed; otherwise the journal is read, the queue is
//! compared with it and mended.
//!
//! Everything that can be read is made durable before it is believed: after a crash the page cache may hold
//! records that were never synced, and a platform's retry of one of them will be answered as a duplicate.
//! A queue that sled says is corrupt, or that makes it panic or hang, is set aside and rebuilt; one that cannot be
//! opened for another reason, such as a full disk, is left alone, because it knows tickets and identities
//! that the journal has forgotten.

use super::clean::{self, Clean};
use super::generations;
use super::ground::{Disk, Ground};
use super::journal::{Files, segment_numbers};
use super::queue::Queue;
use super::reading::Scratch;
use super::record::Identity;
use super::replay::{ReadError, Replay};
use super::stock::Stock;
use super::tables::QueueError;
use super::{Core, Damage, Group, Limits, OpenError, Shared, age, disk};
use crate::clock::{Clock, Eras};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

/// Unreadable queues that are kept for salvage.
const SET_ASIDE_MAX: usize = 3;

/// What opening found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last stop was a clean one, so the journal was not walked.
    pub was_clean: bool,
    /// Envelopes that are not settled.
    pub waiting: u64,
    /// Entries the queue lacked or had wrong.
    pub mended: u64,
    /// Entries the queue had that the journal does not know.
    pub removed: u64,
    /// Envelopes whose record is damaged: dead letters without their text.
    pub lost: Vec<super::Id>,
    /// Where the journal is damaged: segment and bytes. A torn tail of the last write is not damage.
    pub damaged: Vec<(u64, std::ops::Range<u64>)>,
    /// Bytes of unfinished writes at the ends of segments; they were never answered.
    pub torn_bytes: u64,
    /// The old queue did not open and was set aside under this name.
    pub queue_set_aside: Option<String>,
}

/// What the queue and, if need be, the journal told.
struct Found {
    queue: Queue,
    stock: Stock,
    next: Clean,
}

/// Everything but the threads; also the number of the next segment.
pub fn open(
    directory: &Path,
    limits: Limits,
    clock: Arc<dyn Clock>,
    ground: Ground,
) -> Result<(Shared, u64, Recovery), OpenError> {
    let wrong = |error: io::Error| OpenError::Directory { directory: directory.to_path_buf(), error };
    let journal = directory.join("journal");
    let disk = ground.disk.clone();
    disk::create_directory(disk.as_ref(), directory).map_err(wrong)?;
    let lock = disk::lock(directory)?;
    disk::create_directory(disk.as_ref(), &journal).map_err(wrong)?;
    let segments = segment_numbers(&journal).map_err(wrong)?;
    let identity = disk::identity(disk.as_ref(), directory, &journal, &segments).map_err(wrong)?;
    let files = Arc::new(Files::new(journal, identity, ground));
    let mut recovery = Recovery::default();
    let clean = clean::take(directory, &files, &segments).map_err(wrong)?;
    let reserve = disk::Reserve::new(directory, disk);
    if let Some(last) = segments.last().filter(|_| clean.is_none()) {
        files.give_back_blocks(*last).map_err(wrong)?;
    }
    let opening = Opening { directory, files: &files, segments: &segments, pass_dead: limits.pass_dead };
    let Found { queue, stock, next } = match opening.find(clean.clone(), &mut recovery) {
        // sled does not open without room to write.
        Err(error) if error.is_full() && reserve.give_up() => opening.find(clean, &mut recovery)?,
        found => found?,
    };
    reserve.take(limits.disk_free_min);
    let last = segments.last().map_or(1, |last| last + 1);
    let found = Found { queue, stock, next };
    let kept = Kept { directory, files, segments: &segments, lock, scratch: None, reserve };
    let shared = assemble(kept, found, (limits, clock), &mut recovery);
    shared.tell_unset_clock();
    Ok((shared, last, recovery))
}

/// A spool that is only to be looked into.
pub struct Reading<'a> {
    pub directory: &'a Path,
    pub scratch: Scratch,
    pub identity: Identity,
    pub segments: Vec<u64>,
    pub lock: disk::Lock,
}

/// Everything but the threads, of a spool that is not changed: its queue is a copy in `scratch`.
pub fn open_for_reading(
    reading: Reading<'_>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    ground: Ground,
) -> Result<(Shared, Recovery), OpenError> {
    let Reading { directory, scratch, identity, segments, lock } = reading;
    let reserve = disk::Reserve::new(scratch.path(), ground.disk.clone());
    let files = Arc::new(Files::new(directory.join("journal"), identity, ground));
    let mut recovery = Recovery::default();
    let clean = clean::look(directory, &files, &segments);
    let aside = scratch.path().to_path_buf();
    let opening =
        Opening { directory: &aside, files: &files, segments: &segments, pass_dead: limits.pass_dead };
    let found = opening.find(clean, &mut recovery).map_err(|error| match error {
        OpenError::Directory { error, .. } => {
            OpenError::Directory { directory: directory.to_path_buf(), error }
        }
        error => error,
    })?;
    let kept = Kept { directory, files, segments: &segments, lock, scratch: Some(scratch), reserve };
    let shared = assemble(kept, found, (limits, clock), &mut recovery);
    shared.core().closed = true;
    Ok((shared, recovery))
}

/// What stays of opening.
struct Kept<'a> {
    directory: &'a Path,
    files: Arc<Files>,
    segments: &'a [u64],
    lock: disk::Lock,
    scratch: Option<Scratch>,
    reserve: disk::Reserve,
}

fn assemble(
    kept: Kept<'_>,
    found: Found,
    (limits, clock): (Limits, Arc<dyn Clock>),
    recovery: &mut Recovery,
) -> Shared {
    let Found { queue, stock, next } = found;
    let Kept { directory, files, segments, lock, scratch, reserve } = kept;
    recovery.waiting = stock.counts.values().sum();
    let mut shares = stock.shares;
    for number in segments {
        shares.entry(*number).or_default().bytes = files.length(*number);
    }
    let core = Core {
        group: Group::default(),
        next_id: next.next_id,
        next_sequence: next.next_sequence,
        arriving: HashMap::new(),
        flights: HashMap::new(),
        flying_conversations: HashSet::new(),
        unplaced: HashSet::new(),
        segments: shares,
        moving: 0,
        wanted: super::group::NOBODY,
        damaged: recovery.damaged.iter().map(|(segment, _)| *segment).collect(),
        purge_to: 0,
        begins_segment: false,
        damage: damage(&queue, recovery),
        counts: stock.counts,
        none_before: BTreeMap::new(),
        free: None,
        appended: 0,
        work: 1,
        closed: false,
        stopping: false,
        failed: false,
    };
    Shared {
        directory: directory.to_path_buf(),
        files,
        reserve,
        service: age::Service::of(&queue, clock.monotonic()),
        queue,
        eras: Mutex::new((Eras::new(clock.now(), clock.monotonic()), 0)),
        clock,
        limits: RwLock::new(limits),
        core: Mutex::new(core),
        commit_wake: Condvar::new(),
        work_wake: Condvar::new(),
        upkeep_wake: Condvar::new(),
        broken: OnceLock::new(),
        on_broken: OnceLock::new(),
        scratch,
        _lock: lock,
    }
}

/// What opening found, for those who look later.
fn damage(queue: &Queue, recovery: &Recovery) -> Damage {
    let segment = |id| queue.entry(id).ok().flatten().map_or(0, |entry| entry.place.segment);
    let lost = recovery.lost.iter().map(|id| (*id, segment(*id))).collect();
    Damage { lost, stretches: recovery.damaged.clone() }
}

/// A spool that is being opened.
struct Opening<'a> {
    directory: &'a Path,
    files: &'a Files,
    segments: &'a [u64],
    pass_dead: bool,
}

impl Opening<'_> {
    fn wrong(&self, error: io::Error) -> OpenError {
        OpenError::Directory { directory: self.directory.to_path_buf(), error }
    }

    fn ground(&self) -> &Ground {
        self.files.ground()
    }

    fn find(&self, clean: Option<Clean>, recovery: &mut Recovery) -> Result<Found, OpenError> {
        let home = self.directory.join("queue");
        if home.join("conf").exists() {
            // A queue of the time before there were generations.
            self.set_aside(&home, "its layout is an earlier one", recovery)?;
        } else if let Some(why) =
            self.ground().probe.as_ref().and_then(|probe| probe.objection(&home, clean.is_none()))
        {
            self.set_aside_current(&home, &why, recovery)?;
        } else if let Some(found) = clean.and_then(|next| self.believed(&home, next)) {
            recovery.was_clean = true;
            return Ok(found);
        }
        self.files.sync_all(self.segments).map_err(|error| self.wrong(error))?;
        let replay = Replay::read(self.files, self.segments, recovery);
        let replay = replay.map_err(|error| error.into_open_error(self.directory))?;
        self.mended(&home, &replay, recovery)
    }

    /// After a clean stop: the queue as it is, unless something is wrong with it after all.
    fn believed(&self, home: &Path, next: Clean) -> Option<Found> {
        let queue = Queue::open(home, self.ground().clone()).ok()?;
        let stock = Stock::take(&queue, self.pass_dead).ok()?;
        Some(Found { queue, stock, next })
    }

    /// Opens the queue and brings it in line with the journal; when that shows it to be corrupt, a fresh one.
    fn mended(&self, home: &Path, replay: &Replay<'_>, recovery: &mut Recovery) -> Result<Found, OpenError> {
        let before = recovery.clone();
        let why = match self.attempt(home, replay, recovery) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if !error.is_corruption() => return Err(error.into_open_error(self.directory)),
            Ok(Err(error)) => error.into_open_error(self.directory).to_string(),
            Err(_) => "sled panicked".to_owned(),
        };
        *recovery = before;
        self.set_aside_current(home, &why, recovery)?;
        match self.attempt(home, replay, recovery) {
            Ok(found) => found.map_err(|error| error.into_open_error(self.directory)),
            Err(_) => Err(OpenError::Queue(QueueError::Broken)),
        }
    }

    fn attempt(
        &self,
        home: &Path,
        replay: &Replay<'_>,
        recovery: &mut Recovery,
    ) -> std::thread::Result<Result<Found, ReadError>> {
        catch_unwind(AssertUnwindSafe(|| {
            let queue = Queue::open(home, self.ground().clone())?;
            let next_id = replay.next_id.max(queue.next_id()?).max(1);
            replay.mend(&queue, recovery)?;
            let stock = Stock::take(&queue, self.pass_dead)?;
            let next = Clean { next_id, next_sequence: replay.next_sequence.max(1) };
            Ok(Found { queue, stock, next })
        }))
    }

    fn set_aside_current(&self, home: &Path, why: &str, recovery: &mut Recovery) -> Result<(), OpenError> {
        match generations::current(home).map_err(|error| self.wrong(error))? {
            Some(number) => self.set_aside(&generations::directory(home, number), why, recovery),
            None => Ok(()),
        }
    }

    fn set_aside(&self, path: &Path, why: &str, recovery: &mut Recovery) -> Result<(), OpenError> {
        let aside = set_aside(self.ground().disk.as_ref(), path, self.directory)
            .map_err(|error| self.wrong(error))?;
        log::error!("queue is unreadable error={why:?} effect=\"rebuilt from the journal\" kept={aside}");
        recovery.queue_set_aside = Some(aside);
        Ok(())
    }
}

/// Renames the queue's directory; the oldest of those set aside goes when there are too many.
fn set_aside(disk: &dyn Disk, path: &Path, directory: &Path) -> io::Result<String> {
    let mut kept: Vec<u64> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("queue.damaged."));
        kept.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    kept.sort_unstable();
    while kept.len() >= SET_ASIDE_MAX {
        disk.remove_tree(&directory.join(format!("queue.damaged.{}", kept.remove(0))))?;
    }
    let aside = format!("queue.damaged.{}", kept.last().map_or(1, |last| last + 1));
    disk.rename(path, &directory.join(&aside))?;
    disk.sync_directory(directory)?;
    Ok(aside)
}
