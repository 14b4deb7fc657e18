//! Trying a queue in another process first: a damaged sled database can make its opener fail, panic or hang.
//!
//! The daemon runs its own executable again with a hidden verb, which calls [`try_queue`]; nothing but its exit
//! code is believed. Libraries and tests that have no such executable open without a probe.

use super::generations;
use super::ground::{Disk, RealDisk};
use super::tables::{Answer, QueueError, Table, Tables};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The database opens, and everything in it can be read.
const SOUND: u8 = 0;
/// It may be sound, but the disk is full or does not answer.
const NOT_NOW: u8 = 10;
/// Its bytes are wrong.
const DAMAGED: u8 = 11;
/// How a program ends that could not be loaded, and under some emulators one that is not there.
const NOT_LOADED: i32 = 127;
/// Rows read at a time.
const PAGE: usize = 1024;

/// How to start the other process.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The executable.
    pub program: PathBuf,
    /// What comes before the directory.
    pub arguments: Vec<String>,
    /// Longer than this is a hang, for a database of no size.
    pub patience: Duration,
    /// So many more bytes are a second more.
    pub bytes_per_second: u64,
}

impl Probe {
    /// This executable with `verb`, and patience for slow disks.
    pub fn of_this_executable(verb: &str) -> io::Result<Probe> {
        Ok(Probe {
            program: std::env::current_exe()?,
            arguments: vec![verb.to_owned()],
            patience: Duration::from_secs(30),
            bytes_per_second: 4 << 20,
        })
    }

    /// Why the queue in `home` must not be opened; `None` when it may, or is not there.
    pub(super) fn objection(&self, home: &Path, walk: bool) -> Option<String> {
        let directory = generations::directory(home, generations::current(home).ok()??);
        let bytes = fs::metadata(directory.join("db")).map_or(0, |metadata| metadata.len());
        let patience = self.patience + Duration::from_secs(bytes / self.bytes_per_second.max(1));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(&directory).args(walk.then_some("--walk"));
        // It is us that systemd passed sockets to.
        command.env_remove("LISTEN_PID");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let status = command.spawn().and_then(|child| wait(child, patience)).and_then(loaded);
        match status {
            // Without a probe the daemon must start all the same.
            Err(error) => {
                log::warn!("queue not probed error={:?}", error.to_string());
                None
            }
            Ok(None) => Some(format!("it hung for {} s", patience.as_secs())),
            Ok(Some(status)) => match status.code().and_then(|code| u8::try_from(code).ok()) {
                Some(SOUND | NOT_NOW) => None,
                Some(DAMAGED) => Some("its bytes are damaged".to_owned()),
                _ => Some(format!("the probe ended with {status}")),
            },
        }
    }
}

fn loaded(status: Option<ExitStatus>) -> io::Result<Option<ExitStatus>> {
    match status.and_then(|status| status.code()) {
        Some(NOT_LOADED) => Err(io::Error::other("the program could not be loaded")),
        _ => Ok(status),
    }
}

/// Waits for the child; `None` when it had to be killed. It never writes: its output closes when it ends.
fn wait(mut child: Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let output = child.stdout.take().expect("it was asked for");
    let timeout = rustix::event::Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut closing = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
    let ended = loop {
        match rustix::event::poll(&mut closing, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => break polled? > 0,
        }
    };
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// The other process: opens the database in `directory`, reads all of it if told to, and says how it went by its
/// exit code.
pub fn try_queue(directory: &Path, walk: bool) -> u8 {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let tried =
        Tables::open(directory, &disk).and_then(|tables| if walk { read_all(&tables) } else { Ok(()) });
    match tried {
        Ok(()) => SOUND,
        Err(error) if error.is_corruption() => DAMAGED,
        Err(_) => NOT_NOW,
    }
}

fn read_all(tables: &Tables) -> Answer<()> {
    for table in Table::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let page: Result<Vec<_>, QueueError> = tables.rows(table, from).take(PAGE).collect();
            match page?.pop() {
                Some((last, _)) => after = Some(last.to_vec()),
                None => break,
            }
        }
    }
    Ok(())
}
