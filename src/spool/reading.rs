//! Opening a spool to look into it while no daemon has it: nothing of it is changed, whatever state it is in.
//!
//! The queue is copied into a directory of our own and opened there, because sled writes when it opens; what it
//! lacks is told to the copy from the journal, as at a start. A queue that cannot be read costs history and tickets,
//! not envelopes. The spool's lock is shared by those who read, and keeps daemons out meanwhile.
//!
//! **Invariants:** the disk behind such a spool refuses to create, rename or remove anything outside the copy. No
//! thread is started, nothing can be put, no mark of a clean stop is left or taken.

use super::ground::{Disk, Ground, RealDisk};
use super::journal::segment_numbers;
use super::probe::Probe;
use super::recover::{self, Recovery};
use super::{Limits, OpenError, Spool, disk, generations};
use crate::clock::Clock;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Spool {
    /// Opens the spool in `directory` to look into it; also why its queue cannot be read, if so.
    pub fn open_for_reading(
        directory: &Path,
        probe: Option<Probe>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Spool, Recovery), OpenError> {
        let wrong = |error: io::Error| OpenError::Directory { directory: directory.to_path_buf(), error };
        let lock = lock(directory)?;
        let journal = directory.join("journal");
        let segments = segment_numbers(&journal).map_err(wrong)?;
        let identity = disk::known_identity(directory, &journal, &segments);
        let identity = identity.ok_or_else(|| wrong(io::Error::other("it has no identity")))?;
        let scratch = Scratch::new().map_err(|error| OpenError::Scratch { error })?;
        let home = scratch.path.join("queue");
        let copied = copy_queue(&directory.join("queue"), &home);
        if let Err(error) = &copied {
            // The journal is the truth; a queue of which only a part was copied would be none.
            log::debug!("queue not copied error={:?}", error.to_string());
            let _ = fs::remove_dir_all(&home);
        }
        let guarded = Arc::new(OnlyBelow(scratch.path.clone()));
        let ground = Ground { disk: guarded, probe, ..Ground::default() };
        let reading = recover::Reading { directory, scratch, identity, segments, lock };
        let (shared, mut recovery) = recover::open_for_reading(reading, Limits::default(), clock, ground)?;
        if let Err(error) = copied {
            recovery.queue_set_aside = Some(error.to_string());
        }
        Ok((Spool { shared: Arc::new(shared), threads: Vec::new() }, recovery))
    }
}

/// Keeps daemons out while the spool is read. Several may read at once.
fn lock(directory: &Path) -> Result<disk::Lock, OpenError> {
    let wrong = |error: io::Error| OpenError::Directory { directory: directory.to_path_buf(), error };
    let mut file = File::open(directory.join("lock")).map_err(wrong)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(disk::Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(OpenError::InUse { directory: directory.to_path_buf(), pid: disk::holder(&mut file) })
        }
        Err(errno) => Err(wrong(errno.into())),
    }
}

/// A directory that nobody else can read, and that goes when this is dropped.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no randomness to be had"))?;
        let path = std::env::temp_dir().join(format!("deskspool-read-{:016x}", u64::from_be_bytes(random)));
        // One that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed goes with the next cleaning of the temporary directory.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Copies the generation that counts.
fn copy_queue(from: &Path, to: &Path) -> io::Result<()> {
    let Some(number) = generations::current(from)? else { return Ok(()) };
    DirBuilder::new().mode(0o700).create(to)?;
    fs::copy(from.join("current"), to.join("current"))?;
    copy_directory(&generations::directory(from, number), &generations::directory(to, number))
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A disk on which only what is below a directory can be changed.
struct OnlyBelow(PathBuf);

impl OnlyBelow {
    fn allow(&self, path: &Path) -> io::Result<()> {
        let is_below = path.starts_with(&self.0);
        if is_below { Ok(()) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }
}

impl Disk for OnlyBelow {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.allow(path)?;
        RealDisk.create(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        // What is read here need not survive, and the spool's own files are not ours to write out.
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.allow(from).and_then(|()| self.allow(to))?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.allow(path)?;
        RealDisk.remove(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.allow(path)?;
        RealDisk.remove_tree(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.allow(path)?;
        RealDisk.create_directory(path)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
