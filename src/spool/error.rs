//! Why a spool cannot be opened, in the words that admins read.

use super::{QueueError, disk, segment};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The spool could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("spool {} is {}", directory.display(), held_by(pid))]
    InUse {
        /// The spool.
        directory: PathBuf,
        /// As the holder wrote it; empty for one that only reads.
        pid: String,
    },
    /// The directory, or a file in it, cannot be used.
    #[error("spool {}: {error}", directory.display())]
    Directory {
        /// The spool.
        directory: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// There is no room, or no right, to read the queue in a copy.
    #[error("no copy of the queue can be made: {error}")]
    Scratch {
        /// The system's words.
        error: io::Error,
    },
    /// A newer deskspool wrote it.
    #[error("spool format {found} was written by a newer deskspool (this is {}, format {}); with that one: deskspool export", env!("CARGO_PKG_VERSION"), segment::FORMAT)]
    Newer {
        /// The format that was found.
        found: u32,
    },
    /// Not even a fresh queue works.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl OpenError {
    /// Whether it is only somebody who reads the spool, and will be gone in a moment.
    pub fn is_being_read(&self) -> bool {
        matches!(self, OpenError::InUse { pid, .. } if pid.is_empty())
    }

    /// Whether there is no room on the disk, so that it works when there is.
    pub fn is_full(&self) -> bool {
        match self {
            OpenError::Directory { error, .. } => disk::is_full(error),
            OpenError::Queue(error) => error.is_full(),
            OpenError::InUse { .. } | OpenError::Newer { .. } | OpenError::Scratch { .. } => false,
        }
    }
}

fn held_by(pid: &str) -> String {
    match pid {
        "" => "being read by another deskspool command".to_owned(),
        pid => format!("open by another deskspool (pid {pid})"),
    }
}
