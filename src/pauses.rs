//! What an admin has set aside for a while: intake, delivery, a source, or envelopes; and until when.
//!
//! **Invariants:** it survives a restart (a small file beside the journal, written aside and moved into place), for
//! an admin who paused something before a migration expects it to be paused after it. What is over is told once, by
//! [`Pauses::over`], to whoever carries it out. A file that cannot be read pauses nothing, and is told of.

use crate::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pauses the taking of events: platforms get 503 and keep theirs.
pub const INTAKE: &str = "intake";
/// Pauses every call of Freshdesk; events are still taken.
pub const DELIVERY: &str = "delivery";

/// One pause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Why, in the admin's words; empty without.
    pub reason: String,
    /// Who paused: a user of this machine, or the status page; empty when it is not known.
    #[serde(default)]
    pub by: String,
    /// Milliseconds since 1970.
    pub since: u64,
    /// The same; none: until somebody resumes.
    pub until: Option<u64>,
}

/// A hold that ends by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TimedHold {
    ids: Vec<u64>,
    until: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// By `intake`, `delivery` or the name of a source.
    pauses: BTreeMap<String, Pause>,
    holds: Vec<TimedHold>,
}

/// What is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Over {
    /// Names of pauses.
    pub resumed: Vec<String>,
    /// Envelopes to be released.
    pub released: Vec<u64>,
}

/// Everything that is set aside.
pub struct Pauses {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    stored: Mutex<Stored>,
    takes_nothing: AtomicBool,
}

impl Pauses {
    /// Reads what was set aside before; `directory` is the spool's.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Pauses {
        let path = directory.join("pauses.json");
        let stored = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                log::error!("pauses not read path={path:?} error={:?}", error.to_string());
                Stored::default()
            }),
            Err(_) => Stored::default(),
        };
        let takes_nothing = AtomicBool::new(stored.pauses.contains_key(INTAKE));
        Pauses { path, clock, stored: Mutex::new(stored), takes_nothing }
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no events are taken; costs nothing.
    pub fn is_intake_paused(&self) -> bool {
        self.takes_nothing.load(Ordering::Relaxed)
    }

    /// The pause of this name, if there is one.
    pub fn of(&self, what: &str) -> Option<Pause> {
        self.stored().pauses.get(what).cloned()
    }

    /// All pauses by name.
    pub fn all(&self) -> BTreeMap<String, Pause> {
        self.stored().pauses.clone()
    }

    /// Pauses; a pause of the same name is replaced.
    pub fn pause(&self, what: &str, (by, reason): (&str, &str), until: Option<Timestamp>) -> io::Result<()> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let pause = Pause { reason, by, since: self.clock.now().0, until: until.map(|until| until.0) };
        self.change(|stored| drop(stored.pauses.insert(what.to_owned(), pause)))
    }

    /// Ends a pause; whether there was one.
    pub fn resume(&self, what: &str) -> io::Result<bool> {
        let mut was_paused = false;
        self.change(|stored| was_paused = stored.pauses.remove(what).is_some())?;
        Ok(was_paused)
    }

    /// Remembers that these envelopes are to be released.
    pub fn hold_until(&self, ids: &[u64], until: Timestamp) -> io::Result<()> {
        self.change(|stored| stored.holds.push(TimedHold { ids: ids.to_vec(), until: until.0 }))
    }

    /// When an envelope is to be released, if a hold of it ends by itself.
    pub fn held_until(&self, id: u64) -> Option<Timestamp> {
        let stored = self.stored();
        let hold = stored.holds.iter().find(|hold| hold.ids.contains(&id));
        hold.map(|hold| Timestamp(hold.until))
    }

    /// Forgets when these were to be released: an admin has decided anew.
    pub fn forget(&self, ids: &[u64]) -> io::Result<()> {
        if self.stored().holds.is_empty() {
            return Ok(());
        }
        self.change(|stored| {
            stored.holds.iter_mut().for_each(|hold| hold.ids.retain(|id| !ids.contains(id)));
            stored.holds.retain(|hold| !hold.ids.is_empty());
        })
    }

    /// How long until something is over; none when nothing ends by itself.
    pub fn next_end(&self) -> Option<Duration> {
        let stored = self.stored();
        let ends = stored.pauses.values().filter_map(|pause| pause.until);
        let next = ends.chain(stored.holds.iter().map(|hold| hold.until)).min()?;
        Some(Duration::from_millis(next.saturating_sub(self.clock.now().0)))
    }

    /// What is over now; it is forgotten here.
    pub fn over(&self) -> Over {
        let now = self.clock.now().0;
        let mut over = Over::default();
        {
            let stored = self.stored();
            let is_over = |until: Option<u64>| until.is_some_and(|until| until <= now);
            let pauses = stored.pauses.iter().filter(|(_, pause)| is_over(pause.until));
            over.resumed.extend(pauses.map(|(name, _)| name.clone()));
            let holds = stored.holds.iter().filter(|hold| is_over(Some(hold.until)));
            over.released.extend(holds.flat_map(|hold| hold.ids.iter().copied()));
        }
        if over == Over::default() {
            return over;
        }
        let forgotten = self.change(|stored| {
            stored.pauses.retain(|name, _| !over.resumed.contains(name));
            stored.holds.retain(|hold| hold.until > now);
        });
        if let Err(error) = forgotten {
            log::warn!("pauses not written path={:?} error={:?}", self.path, error.to_string());
        }
        over
    }

    /// Changes memory and file; the file first, so that nothing is promised that a restart forgets.
    fn change(&self, change: impl FnOnce(&mut Stored)) -> io::Result<()> {
        let mut stored = self.stored();
        let mut changed = stored.clone();
        change(&mut changed);
        let aside = self.path.with_extension("json.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(&changed)?)?;
        file.sync_all()?;
        std::fs::rename(&aside, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.takes_nothing.store(changed.pauses.contains_key(INTAKE), Ordering::Relaxed);
        *stored = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_pause_survives_a_restart_and_ends_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = ManualClock::at(Timestamp(1_000_000));
        let pauses = Pauses::open(directory.path(), clock.clone());
        let in_a_minute = clock.now().plus(Duration::from_secs(60));
        pauses.pause(INTAKE, ("ana", "migrating"), Some(in_a_minute)).expect("the directory is ours");
        pauses.pause("contako", ("", ""), None).expect("the directory is ours");
        pauses.hold_until(&[4, 7, 9], in_a_minute).expect("the directory is ours");
        pauses.forget(&[7]).expect("the directory is ours");
        drop(pauses);
        let pauses = Pauses::open(directory.path(), clock.clone());
        assert!(pauses.is_intake_paused());
        assert_eq!(
            pauses.of(INTAKE).map(|pause| pause.by + ": " + &pause.reason),
            Some("ana: migrating".to_owned())
        );
        assert_eq!(pauses.over(), Over::default());
        assert_eq!(pauses.next_end(), Some(Duration::from_secs(60)));
        clock.advance(Duration::from_secs(60));
        let over = Over { resumed: vec![INTAKE.to_owned()], released: vec![4, 9] };
        assert_eq!(pauses.over(), over);
        assert_eq!(pauses.over(), Over::default());
        assert!(!pauses.is_intake_paused() && pauses.of("contako").is_some());
        assert!(pauses.resume("contako").expect("ours") && !pauses.resume("contako").expect("ours"));
        assert!(Pauses::open(directory.path(), clock).all().is_empty());
    }

    #[test]
    fn a_file_of_before_names_had_none_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = r#"{"pauses":{"intake":{"reason":"migrating","since":7,"until":null}},"holds":[]}"#;
        std::fs::write(directory.path().join("pauses.json"), text).expect("the directory is ours");
        let pauses = Pauses::open(directory.path(), ManualClock::at(Timestamp(0)));
        let pause = Pause { reason: "migrating".to_owned(), since: 7, ..Pause::default() };
        assert_eq!(pauses.of(INTAKE), Some(pause));
    }

    #[test]
    fn a_file_of_nonsense_pauses_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("pauses.json"), "{").expect("the directory is ours");
        assert!(Pauses::open(directory.path(), ManualClock::at(Timestamp(0))).all().is_empty());
    }
}
