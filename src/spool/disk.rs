//! What the spool needs of its directory: one owner, an identity, free space, and some in reserve.

use super::OpenError;
use super::ground::Disk;
use super::record::Identity;
use super::segment::{SEGMENT_HEADER_LENGTH, SegmentHeader};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the lock is asked for while another has it, and how far apart.
const LOCK_ASKED_MAX: u32 = 25;
const LOCK_ASK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// Creates `directory` (0700) with its parents, and makes their names durable.
pub fn create_directory(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directory(disk, parent)?;
    disk.create_directory(directory)?;
    disk.sync_directory(parent)
}

/// The spool is this process's. A crash of it gives the lock up, too.
pub struct Lock(pub File);

impl Drop for Lock {
    /// Closing the file is not enough: a child that is just being started has a copy of it until it becomes another
    /// program, which takes seconds on a busy machine, and whoever opens the spool next would find it taken.
    fn drop(&mut self) {
        if let Err(errno) = flock(&self.0, FlockOperation::Unlock) {
            log::warn!("lock not given up error={:?}", io::Error::from(errno).to_string());
        }
    }
}

/// Takes the spool for this process.
pub fn lock(directory: &Path) -> Result<Lock, OpenError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| OpenError::Directory { directory: directory.to_path_buf(), error })?;
    match flock_soon(&file) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(OpenError::InUse { directory: directory.to_path_buf(), pid: holder(&mut file) });
        }
        Err(errno) => {
            return Err(OpenError::Directory { directory: directory.to_path_buf(), error: errno.into() });
        }
    }
    // The note is for people; a full disk must not keep the daemon from starting.
    if let Err(error) = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())) {
        log::warn!("pid not noted in the lock error={:?}", error.to_string());
    }
    Ok(Lock(file))
}

/// The pid in a lock that another has; empty when that process is gone, because those who only read the spool do not
/// write down theirs.
pub fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    file.read_to_string(&mut pid).unwrap_or_default();
    let is_alive = Path::new("/proc").join(pid.trim()).join("stat").exists();
    if is_alive { pid.trim().to_owned() } else { String::new() }
}

/// Takes the lock. A daemon that was killed a moment ago may have been starting a child, which has a copy of the
/// lock until it becomes another program: so it is asked for some times.
fn flock_soon(file: &File) -> Result<(), Errno> {
    let (never, nothing) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
    for _ in 0..LOCK_ASKED_MAX {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            done => return done,
        }
        let guard = never.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(nothing.wait_timeout(guard, LOCK_ASK_INTERVAL));
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// The spool's identity. The segments carry it too, with a checksum: they are believed before the file, or one
/// flipped bit in it would make every record unreadable.
pub fn identity(disk: &dyn Disk, directory: &Path, journal: &Path, segments: &[u64]) -> io::Result<Identity> {
    let path = directory.join("identity");
    let (written, carried) = (written(directory), carried(journal, segments));
    if let (Some(written), true) = (written, carried.is_none() || carried == written) {
        return Ok(written);
    }
    if carried.is_some() && written.is_some() {
        log::error!("identity file damaged effect=\"restored from the journal\"");
    }
    let identity = match carried {
        Some(identity) => identity,
        None => {
            let mut fresh = Identity::default();
            SystemRandom::new().fill(&mut fresh).map_err(|_| io::Error::other("no randomness to be had"))?;
            fresh
        }
    };
    let next = directory.join("identity.new");
    if next.exists() {
        disk.remove(&next)?;
    }
    let file = disk.create(&next)?;
    disk.write_at(&file, &identity, 0)?;
    disk.sync(&file)?;
    disk.rename(&next, &path)?;
    disk.sync_directory(directory)?;
    Ok(identity)
}

/// The spool's identity, if it has one; nothing is written.
pub fn known_identity(directory: &Path, journal: &Path, segments: &[u64]) -> Option<Identity> {
    carried(journal, segments).or_else(|| written(directory))
}

fn written(directory: &Path) -> Option<Identity> {
    let bytes = fs::read(directory.join("identity")).ok()?;
    Identity::try_from(bytes.as_slice()).ok()
}

fn carried(journal: &Path, segments: &[u64]) -> Option<Identity> {
    segments.iter().find_map(|number| {
        let mut head = [0; SEGMENT_HEADER_LENGTH as usize];
        let mut file = File::open(journal.join(super::journal::segment_name(*number))).ok()?;
        file.read_exact(&mut head).ok()?;
        SegmentHeader::decode(&head).ok().flatten().map(|header| header.identity)
    })
}

/// Bytes that an unprivileged process may still write on the file system of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let numbers = rustix::fs::statvfs(directory)?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
}

/// Room for a segment, or for several steps of the queue.
const RESERVE_BYTES: u64 = 8 << 20;

/// `<dir>/reserve`: blocks that nobody else can take. They are given up when the disk is full, so that what is in
/// flight can settle, and taken again when there is room.
pub struct Reserve {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Reserve {
    /// The reserve of the spool in `directory`; nothing is done yet.
    pub fn new(directory: &Path, disk: Arc<dyn Disk>) -> Reserve {
        Reserve { path: directory.join("reserve"), disk }
    }

    /// Takes the reserve if there is room for it above `floor` and it is not there. A file system that cannot set
    /// blocks aside has none.
    pub fn take(&self, floor: u64) {
        let Some(directory) = self.path.parent() else { return };
        let is_roomy = free_bytes(directory).is_ok_and(|free| free > floor.saturating_add(2 * RESERVE_BYTES));
        if self.path.exists() || !is_roomy {
            return;
        }
        let taken = self.disk.create(&self.path);
        if let Err(error) = taken.and_then(|file| self.disk.preallocate(&file, RESERVE_BYTES)) {
            log::debug!("no reserve error={:?}", error.to_string());
            // An empty one would only pretend.
            let _ = self.disk.remove(&self.path);
        }
    }

    /// Gives the reserve up. Whether there was one.
    pub fn give_up(&self) -> bool {
        let given = self.path.exists() && self.disk.remove(&self.path).is_ok();
        if given {
            log::warn!("disk full effect=\"the reserve is used; new events get 503 until there is room\"");
        }
        given
    }
}

/// Whether an error says that the disk is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_being_started_keeps_nobody_out_of_a_spool_that_was_closed() {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let first = lock(directory.path()).expect("nobody has it");
        // As such a child has it.
        let copy = first.0.try_clone().expect("there are descriptors");
        assert!(matches!(lock(directory.path()), Err(OpenError::InUse { .. })));
        drop(first);
        assert!(lock(directory.path()).is_ok());
        drop(copy);
    }
}
