//! One generation of the queue on disk: a sled database with a tree for each [`Table`]. Only this file names sled.
//!
//! sled 0.34 needs discipline, each rule measured: no thread of its own that flushes; `flush` writes but is no
//! barrier, so [`Tables::sync`] syncs a second handle of its file; what it creates is synced once by us; no
//! iterator lives long, because it pulls all it passes into memory. After a failed write it refuses everything
//! until it is opened again. It is written to by one thread at a time.

use super::codec::Malformed;
use super::envelope::{Hash, Id};
use super::ground::Disk;
use super::packed::Raw;
use super::row::IDENTITY_BYTES;
use rustix::thread::{current_timer_slack, set_current_timer_slack};
use sled::{Db, IVec, Tree};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;

const CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// Rows of the first layout that are read at a time.
const EARLIER_PAGE: usize = 1024;
const LOCK_LOOKS_MAX: u32 = 200;
const LOCK_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// sled's seven threads look for work every second, although who has some wakes them; the kernel may let that look
/// come this much later, so that an idle box sleeps.
const IDLE_LOOK_SLACK: Duration = Duration::from_secs(60);

/// The queue could not be read or written.
#[derive(Debug, Error)]
pub enum QueueError {
    /// sled's own words.
    #[error("queue: {0}")]
    Sled(#[from] sled::Error),
    /// A value whose checksum or shape is wrong.
    #[error("queue: a value is damaged")]
    Malformed(#[from] Malformed),
    /// A file operation beside sled.
    #[error("queue: {0}")]
    Io(#[from] io::Error),
    /// A write failed, and the queue cannot be opened again yet. What it was told since is in memory and in the
    /// journal.
    #[error("queue: away until it can be written again")]
    Away,
    /// Its file failed to sync, and it is not yet renewed in another one.
    #[error("queue: its file failed to sync, it is to be rewritten")]
    Unsure,
    /// A thread of the spool panicked; only a restart mends that, from the journal.
    #[error("queue: broken, a restart rebuilds it from the journal")]
    Broken,
}

impl QueueError {
    /// Whether the queue's own bytes are to blame, so that a fresh one helps; a full disk is not.
    pub fn is_corruption(&self) -> bool {
        match self {
            QueueError::Sled(sled::Error::Io(_))
            | QueueError::Io(_)
            | QueueError::Away
            | QueueError::Unsure => false,
            QueueError::Sled(_) | QueueError::Malformed(_) | QueueError::Broken => true,
        }
    }

    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            QueueError::Sled(sled::Error::Io(error)) | QueueError::Io(error) => super::disk::is_full(error),
            _ => false,
        }
    }
}

/// What an answer of the queue is.
pub type Answer<T> = Result<T, QueueError>;

/// The trees. All but the last are packed: sled's rows in them are blocks, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// id → how an unsettled envelope stands.
    Envelopes,
    /// Identity → when it is forgotten.
    Dedupe,
    /// Conversation → its ticket.
    Conversations,
    /// id → a settled envelope.
    History,
    /// ring, number of a period → what happened in it.
    Counters,
}

impl Table {
    /// All of them, in the order of their declaration.
    pub const ALL: [Table; 5] =
        [Table::Envelopes, Table::Dedupe, Table::Conversations, Table::History, Table::Counters];

    /// Those of the second layout have another name than those of the first, which had no blocks.
    fn name(self) -> &'static str {
        match self {
            Table::Envelopes => "envelopes.2",
            Table::Dedupe => "dedupe.2",
            Table::Conversations => "conversations.2",
            Table::History => "history.2",
            Table::Counters => "counters",
        }
    }

    /// Whether its rows are in blocks.
    pub fn is_packed(self) -> bool {
        self != Table::Counters
    }

    /// Whether its keys are numbers, with an order that matters; those of the others are hashes.
    pub fn has_numbers(self) -> bool {
        matches!(self, Table::Envelopes | Table::History)
    }

    /// Bytes of a key.
    pub fn key_bytes(self) -> usize {
        match self {
            Table::Envelopes | Table::History => size_of::<Id>(),
            Table::Dedupe => IDENTITY_BYTES,
            Table::Conversations => size_of::<Hash>(),
            // A ring before the number; they are in no block.
            Table::Counters => 1 + size_of::<u64>(),
        }
    }
}

/// What a table was called in the first layout.
fn earlier_name(table: Table) -> &'static str {
    table.name().trim_end_matches(".2")
}

/// An open generation.
pub struct Tables {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    db: Option<Db>,
    trees: Vec<Tree>,
}

impl Tables {
    /// Opens or creates the database in `directory`. A panic of sled's is an error that tells of corruption.
    pub fn open(directory: &Path, disk: &Arc<dyn Disk>) -> Answer<Tables> {
        let opened = catch_unwind(AssertUnwindSafe(|| Tables::open_unguarded(directory, disk)));
        opened.unwrap_or(Err(QueueError::Malformed(Malformed)))
    }

    fn open_unguarded(directory: &Path, disk: &Arc<dyn Disk>) -> Answer<Tables> {
        let is_fresh = !directory.exists();
        let config = sled::Config::new()
            .path(directory)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        let db = open_unlocked(&config)?;
        let trees = Table::ALL.iter().map(|table| db.open_tree(table.name())).collect::<Result<_, _>>()?;
        let (directory, disk) = (directory.to_path_buf(), disk.clone());
        let tables = Tables { directory, disk, db: Some(db), trees };
        if is_fresh {
            tables.sync_creation()?;
        }
        Ok(tables)
    }

    /// sled creates its files without syncing them; a power cut in the first seconds would leave a
    /// database that never opens again.
    fn sync_creation(&self) -> Answer<()> {
        self.sync()?;
        self.disk.sync(&File::options().write(true).open(self.directory.join("conf"))?)?;
        for directory in [self.directory.join("blobs"), self.directory.clone()] {
            self.disk.sync_directory(&directory)?;
        }
        if let Some(parent) = self.directory.parent() {
            self.disk.sync_directory(parent)?;
        }
        Ok(())
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is taken only when it is dropped")
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Hands everything so far to the operating system. A crash of ours loses nothing of it; a power cut may.
    pub fn write_out(&self) -> Answer<()> {
        self.db().flush()?;
        Ok(())
    }

    /// Makes everything so far durable. `Db::flush` alone is no barrier on Linux: it never calls fsync.
    pub fn sync(&self) -> Answer<()> {
        self.write_out()?;
        self.disk.sync(&File::options().write(true).open(self.directory.join("db"))?)?;
        Ok(())
    }

    /// One value.
    pub fn get(&self, table: Table, key: &[u8]) -> Answer<Option<IVec>> {
        Ok(self.trees[table as usize].get(key)?)
    }

    /// Sets a value or removes it.
    pub fn put(&self, table: Table, key: &[u8], value: Option<&[u8]>) -> Answer<()> {
        let tree = &self.trees[table as usize];
        match value {
            Some(value) => tree.insert(key, value)?,
            None => tree.remove(key)?,
        };
        Ok(())
    }

    /// Rows from `from` on, in the order of their keys. Drop it after a page.
    pub fn rows(
        &self,
        table: Table,
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = Answer<(IVec, IVec)>> + use<> {
        let range = (from.map(IVec::from), Bound::<IVec>::Unbounded);
        self.trees[table as usize].range(range).map(|row| Ok(row?))
    }

    /// Sets and removes rows, and hands them to the operating system.
    pub fn write(&self, raw: &Raw) -> Answer<()> {
        for (table, key, value) in raw {
            self.put(*table, key, value.as_deref())?;
        }
        self.write_out()
    }

    /// Up to a page of the rows that the first layout had of a table, after `after`; none when it was not of that
    /// layout, or had no such table.
    pub fn earlier_rows(&self, table: Table, after: Option<&[u8]>) -> Answer<Vec<(IVec, IVec)>> {
        let name = earlier_name(table);
        if !self.db().tree_names().iter().any(|other| *other == name) {
            return Ok(Vec::new());
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded).map(IVec::from);
        let rows = self.db().open_tree(name)?.range((from, Bound::<IVec>::Unbounded));
        Ok(rows.take(EARLIER_PAGE).collect::<Result<_, _>>()?)
    }

    /// Removes what the first layout had, when it has moved.
    pub fn remove_earlier(&self, table: Table) -> Answer<()> {
        self.db().drop_tree(earlier_name(table))?;
        Ok(())
    }

    /// Bytes it takes on disk.
    pub fn bytes_on_disk(&self) -> u64 {
        let db = fs::metadata(self.directory.join("db"));
        db.map_or(0, |metadata| metadata.blocks() * 512)
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.trees.clear();
        // sled syncs when it is closed, and panics if that fails; what it had to keep is kept elsewhere.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            log::warn!("queue not closed cleanly effect=\"the next start compares more\"");
        }
    }
}

/// Waits until nobody in this process holds the database in `directory` any more. Whether that came about.
pub fn wait_until_closed(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join("db")) else { return true };
    wait_for(|| {
        let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        taken.is_ok().then_some(())
    })
    .is_some()
}

/// Threads of a queue that was just closed in this process may hold sled's own lock for a moment longer. Other
/// processes are kept out by the spool's lock, so the wait is never for them.
fn open_unlocked(config: &sled::Config) -> sled::Result<Db> {
    let opened = wait_for(|| match with_slack(|| start(config)) {
        Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => None,
        opened => Some(opened),
    });
    opened.unwrap_or_else(|| start(config))
}

/// sled starts its threads with the first task: here, and not whenever one comes.
fn start(config: &sled::Config) -> sled::Result<Db> {
    let db = config.open()?;
    db.flush()?;
    Ok(db)
}

/// Threads that `start` starts inherit how late their timeouts may be, and keep it. Nothing depends on it but how
/// often they wake, so a kernel that refuses is no error.
fn with_slack<T>(start: impl FnOnce() -> T) -> T {
    let own = current_timer_slack().ok().and_then(NonZeroU64::new);
    let nanoseconds = usize::try_from(IDLE_LOOK_SLACK.as_nanos()).unwrap_or(usize::MAX);
    let _ = set_current_timer_slack(NonZeroU64::new(nanoseconds as u64));
    let started = start();
    let _ = set_current_timer_slack(own);
    started
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let (never, nothing) = (Mutex::new(()), Condvar::new());
    for _ in 0..LOCK_LOOKS_MAX {
        if let Some(found) = look() {
            return Some(found);
        }
        let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
        drop(nothing.wait_timeout(guard, LOCK_LOOK_INTERVAL));
    }
    None
}
