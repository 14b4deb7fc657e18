//! Opening a spool: the journal is read, the queue is compared with it and mended.
//!
//! Everything that can be read is made durable before it is believed: after a crash the page cache may hold
//! records that were never synced, and a platform's retry of one of them will be answered as a duplicate.
//! A queue that sled says is corrupt, or that makes it panic, is set aside and rebuilt; one that cannot be
//! opened for another reason, such as a full disk, is left alone, because it knows tickets and identities
//! that the journal has forgotten.

use super::ground::{Disk, Ground};
use super::journal::{Files, segment_numbers};
use super::queue::{Queue, QueueError};
use super::replay::{Left, ReadError, Replay};
use super::{Core, Group, Limits, OpenError, Shared, disk};
use crate::clock::{Clock, Eras};
use std::collections::{HashMap, HashSet};
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
    files.sync_all(&segments).map_err(wrong)?;
    let mut recovery = Recovery::default();
    let replay = Replay::read(&files, &segments, &mut recovery);
    let replay = replay.map_err(|error| error.into_open_error(directory))?;
    let (queue, left) = mended_queue(directory, &replay, limits.pass_dead, &mut recovery)?;
    recovery.waiting = left.counts.values().sum();
    let core = Core {
        group: Group::default(),
        next_id: replay.next_id.max(left.next_id).max(1),
        next_sequence: replay.next_sequence.max(1),
        arriving: HashMap::new(),
        flights: HashMap::new(),
        flying_conversations: HashSet::new(),
        segments: left.shares,
        moving: 0,
        wanted: super::group::NOBODY,
        damaged: recovery.damaged.iter().map(|(segment, _)| *segment).collect(),
        counts: left.counts,
        free: None,
        work: 1,
        closed: false,
        stopping: false,
        failed: false,
    };
    let shared = Shared {
        directory: directory.to_path_buf(),
        files,
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
        _lock: lock,
    };
    shared.tell_unset_clock();
    shared.place_all_heads()?;
    Ok((shared, segments.last().map_or(1, |last| last + 1), recovery))
}

/// Opens the queue and brings it in line with the journal; when that shows it to be corrupt, a fresh one.
fn mended_queue(
    directory: &Path,
    replay: &Replay<'_>,
    pass_dead: bool,
    recovery: &mut Recovery,
) -> Result<(Queue, Left), OpenError> {
    let path = directory.join("queue");
    let before = recovery.clone();
    let why = match attempt(&path, replay, pass_dead, recovery) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) if !error.is_corruption() => return Err(error.into_open_error(directory)),
        Ok(Err(error)) => error.into_open_error(directory).to_string(),
        Err(_) => "sled panicked".to_owned(),
    };
    *recovery = before;
    let aside = set_aside(replay.ground().disk.as_ref(), &path, directory);
    let aside = aside.map_err(|error| OpenError::Directory { directory: directory.to_path_buf(), error })?;
    log::error!("queue is unreadable error={why:?} effect=\"rebuilt from the journal\" kept={aside}");
    recovery.queue_set_aside = Some(aside);
    match attempt(&path, replay, pass_dead, recovery) {
        Ok(done) => done.map_err(|error| error.into_open_error(directory)),
        Err(_) => Err(OpenError::Queue(QueueError::Broken)),
    }
}

type Attempted = Result<(Queue, Left), ReadError>;

fn attempt(
    path: &Path,
    replay: &Replay<'_>,
    pass_dead: bool,
    recovery: &mut Recovery,
) -> std::thread::Result<Attempted> {
    catch_unwind(AssertUnwindSafe(|| {
        let queue = Queue::open(path, replay.ground().disk.clone())?;
        let left = replay.mend(&queue, pass_dead, recovery)?;
        Ok((queue, left))
    }))
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

impl Shared {
    /// Every conversation's head has its row in `due`.
    fn place_all_heads(&self) -> Result<(), QueueError> {
        let mut from = 0;
        loop {
            let page = self.queue.entries(from)?;
            for (_, entry) in &page {
                self.place_head(entry.conversation)?;
            }
            match page.last() {
                Some((last, _)) => from = last + 1,
                None => return Ok(()),
            }
        }
    }
}
