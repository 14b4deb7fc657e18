//! What the spool stands on: every change it makes to files that are its own goes through a [`Disk`], so that
//! a test can write down what was done in which order, and fail it.
//!
//! sled writes its files itself; what the spool does around them (syncs, renames) goes through here, too. So does
//! neither reading, which changes nothing, nor the lock, whose text is for people.
//!
//! **Invariant:** what is called here is durable only after the sync that says so: [`Disk::sync`] for a file's bytes and
//! length, [`Disk::sync_directory`] for the names in a directory.

use super::probe::Probe;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Changes to files.
pub trait Disk: Send + Sync {
    /// Creates a file that must not be there, readable for its owner only.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a file's bytes and length durable. One that is open for writing shows more of what went wrong.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Gives a file or directory another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory (0700) whose parent is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Sets blocks aside for a file without changing its length; best effort, and nothing anybody can read changes.
    fn preallocate(&self, _file: &File, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    /// Gives back the blocks behind a file's `length`.
    fn give_back_blocks(&self, _file: &File, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The operating system's files.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        takes_changes(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)?)
    }

    fn give_back_blocks(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}

/// Whether the file system of a file that was just synced still takes changes.
///
/// While ext4 gives up, after an error of its disk, an `fdatasync` that comes too late for the transaction that is
/// dropped returns as if all were well, and so does a second one: 8 of 100 times, Linux 6.18, two writers. From that
/// very moment it refuses everything that needs its journal; so it is asked for a block that is there already, which
/// takes 7 µs.
fn takes_changes(file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, 1) {
        Err(errno @ (Errno::IO | Errno::ROFS)) => Err(errno.into()),
        // Others have no such call, or no room: their sync is believed.
        _ => Ok(()),
    }
}

/// Told of how many, and of how many in all.
pub type Tell = dyn Fn(usize, usize) + Send + Sync;

/// The disk, and sizes that only tests change: rotation and copying must be cheap to provoke.
#[derive(Clone)]
pub struct Ground {
    /// Where changes go.
    pub disk: Arc<dyn Disk>,
    /// A segment is closed when it has grown to this size.
    pub segment_bytes: u64,
    /// Garbage below this is not worth copying anything for.
    pub garbage_min: u64,
    /// A queue below this is never rewritten.
    pub renew_bytes_min: u64,
    /// How to try a queue in another process before it is opened in this one.
    pub probe: Option<Probe>,
    /// Told how many of how many segments have been walked, where that may take long.
    pub tell: Option<Arc<Tell>>,
}

impl Default for Ground {
    fn default() -> Self {
        Ground {
            disk: Arc::new(RealDisk),
            segment_bytes: 8 << 20,
            garbage_min: 24 << 20,
            renew_bytes_min: 16 << 20,
            probe: None,
            tell: None,
        }
    }
}

impl Ground {
    /// Tells whoever wants to know.
    pub fn tell(&self, done: usize, total: usize) {
        if let Some(tell) = &self.tell {
            tell(done, total);
        }
    }
}
