//! Who answers a verb that only reads: the daemon, or the spool itself when no daemon runs, which is said.

use super::probe::PROBE_VERB;
use super::{Failure, Global};
use crate::config::spool_directory;
use crate::control::client::{AskError, Daemon};
use crate::daemon::AtRest;
use crate::spool::{OpenError, Probe};
use std::fs::File;
use std::io;

/// The daemon, until it turns out that there is none.
pub struct Answerer<'a> {
    global: &'a Global,
    daemon: Daemon,
    at_rest: Option<Box<AtRest>>,
}

impl Global {
    /// Who answers verbs that only read.
    pub fn answerer(&self) -> Answerer<'_> {
        Answerer { global: self, daemon: self.daemon(), at_rest: None }
    }
}

impl Answerer<'_> {
    /// The answer to a `GET`.
    pub fn get(&mut self, target: &str) -> Result<String, Failure> {
        if let Some(at_rest) = &self.at_rest {
            return Ok(at_rest.get(target)?);
        }
        match self.daemon.get(target) {
            Err(missing @ AskError::NotRunning(_)) => {
                let at_rest = self.open(missing)?;
                let answer = at_rest.get(target);
                self.at_rest = Some(Box::new(at_rest));
                Ok(answer?)
            }
            answer => Ok(answer?),
        }
    }

    /// Whether the spool was read, because no daemon runs.
    pub fn is_at_rest(&self) -> bool {
        self.at_rest.is_some()
    }

    /// Opens the spool, and says so.
    fn open(&self, missing: AskError) -> Result<AtRest, Failure> {
        let config = &self.global.config;
        let Some(directory) = spool_directory(config) else {
            return Err(match File::open(config) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Failure::AtRest(missing, OpenError::Directory { directory: config.clone(), error })
                }
                _ => Failure::Ask(missing),
            });
        };
        let probe = Probe::of_this_executable(PROBE_VERB).ok();
        let at_rest = match AtRest::open(config, &directory, probe) {
            Ok(at_rest) => at_rest,
            Err(error) => return Err(Failure::AtRest(missing, error)),
        };
        if !self.global.quiet {
            eprintln!("the daemon is not running; read from {}", at_rest.directory().display());
            at_rest.damage().iter().for_each(|line| eprintln!("   = {line}"));
        }
        Ok(at_rest)
    }
}

/// What helps when the spool cannot be read either; the first line has been said.
pub(super) fn tell_unreadable(error: &OpenError) {
    match error {
        OpenError::Directory { directory, error } if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!(
                "   = its spool may be read by root and by the user deskspool: permission denied on {}",
                directory.display()
            );
            eprintln!("   = sudo deskspool …, or sudo -u deskspool deskspool …");
        }
        OpenError::InUse { .. } => {
            eprintln!("   = but {error}; does it listen on another socket? --socket PATH");
        }
        // There never was one: what was said is all there is to say.
        OpenError::Directory { error, .. } if error.kind() == io::ErrorKind::NotFound => {}
        OpenError::Scratch { .. } => {
            eprintln!("   = and its spool cannot be read: {error}; set TMPDIR to where there is room")
        }
        _ => eprintln!("   = and its spool cannot be read: {error}"),
    }
}
