//! A spool whose daemon does not run, as reading verbs see it: the same answers, from the same rooms, by the
//! configuration that is there. Nothing of the spool is changed.

use super::{by_name, facts, load};
use crate::clock::{Clock, SystemClock};
use crate::config::Surroundings;
use crate::control::client::AskError;
use crate::control::{Labeller, Reader, Refused};
use crate::dispatch::{Planned, Planner, mapping};
use crate::pauses::Pauses;
use crate::source::Sources;
use crate::spool::{OpenError, Probe, Recovery, Spool};
use crate::status::snapshot::{Daemon as Facts, at_rest};
use crate::status::{Snapshot, Tally};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is said of a mapping when the configuration does not load.
const NO_CONFIGURATION: &str = "the configuration cannot be loaded (deskspool check)";

/// An open spool at rest. While it is there, no daemon starts on it.
pub struct AtRest {
    directory: PathBuf,
    spool: Arc<Spool>,
    clock: Arc<dyn Clock>,
    pauses: Pauses,
    tally: Tally,
    facts: Facts,
    label: Box<Labeller>,
    plan: Box<Planner>,
    recovery: Recovery,
    is_configured: bool,
}

impl AtRest {
    /// Opens the spool in `directory`; the configuration at `path` says how its events are mapped, if it loads.
    pub fn open(path: &Path, directory: &Path, probe: Option<Probe>) -> Result<AtRest, OpenError> {
        let clock: Arc<dyn Clock> = SystemClock::new();
        let (spool, recovery) = Spool::open_for_reading(directory, probe, clock.clone())?;
        let spool = Arc::new(spool);
        let loaded = load(path, &Surroundings::of_check()).ok();
        let is_configured = loaded.is_some();
        let sources: Arc<Sources> = Arc::new(loaded.as_ref().map(by_name).unwrap_or_default());
        let named = sources.clone();
        let plan = move |envelope: &_, ticket| match is_configured {
            true => mapping::plan(&sources, envelope, ticket),
            false => Planned::Unmappable(NO_CONFIGURATION.to_owned()),
        };
        let now = clock.monotonic();
        let facts = loaded.map_or_else(|| no_facts(now), |loaded| facts(&loaded.config, now, now));
        Ok(AtRest {
            directory: directory.to_path_buf(),
            pauses: Pauses::open(directory, clock.clone()),
            tally: Tally::new(spool.clone(), clock.clone()),
            facts,
            label: Box::new(move |envelope| mapping::label(&named, envelope)),
            plan: Box::new(plan),
            spool,
            clock,
            recovery,
            is_configured,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What cannot be read, one line each.
    pub fn damage(&self) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(why) = &self.recovery.queue_set_aside {
            told.push(format!("its queue cannot be read ({why}): history and tickets are not shown"));
        }
        for (segment, range) in &self.recovery.damaged {
            told.push(format!(
                "its journal is damaged in segment {segment}, bytes {}..{}",
                range.start, range.end
            ));
        }
        if !self.recovery.lost.is_empty() {
            told.push(format!(
                "the text of {} envelopes is lost (deskspool salvage)",
                self.recovery.lost.len()
            ));
        }
        if !self.is_configured {
            told.push(format!("{NO_CONFIGURATION}: what would be written is not shown"));
        }
        told
    }

    /// The answer a daemon would give to a `GET` that only reads.
    pub fn get(&self, target: &str) -> Result<String, AskError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = match path {
            "/status" => self.snapshot().map(|snapshot| {
                Some(serde_json::to_string(&snapshot).expect("a snapshot holds nothing that JSON cannot"))
            }),
            _ => self.reader().answer(path, query),
        };
        let answer = answer.and_then(|answer| answer.ok_or(Refused::NotFound));
        answer.map_err(|refused| AskError::Refused { status: refused.status(), reason: refused.to_string() })
    }

    fn snapshot(&self) -> Result<Snapshot, Refused> {
        let rooms = (&*self.spool, &self.tally, &self.pauses);
        let mut snapshot = at_rest(&self.facts, &*self.clock, rooms)?;
        snapshot.read_from = Some(self.directory.display().to_string());
        Ok(snapshot)
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            spool: &self.spool,
            clock: &*self.clock,
            pauses: &self.pauses,
            label: &*self.label,
            plan: &*self.plan,
        }
    }
}

fn no_facts(now: Duration) -> Facts {
    Facts {
        started: now,
        configured: now,
        account: String::new(),
        sources: Vec::new(),
        refused: None,
        freshdesk_url: String::new(),
        public_url: None,
        envelopes_max: 0,
        bytes_max: 0,
        passed: Vec::new(),
    }
}
