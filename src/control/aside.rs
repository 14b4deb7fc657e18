//! What admins set aside, and what comes back: hold, release, pause, resume; and what is over by itself.

use super::view::{Aside, Done, Selection};
use super::{Refused, Rooms};
use crate::clock::Timestamp;
use crate::pauses::{DELIVERY, INTAKE};
use crate::spool::{Change, Entry, Id, PAGE, QueueError, State, Touched};
use std::sync::PoisonError;
use std::time::Duration;

/// How long nothing is over for sure, when nothing ends by itself.
const QUIET: Duration = Duration::from_secs(3600);

impl Rooms {
    /// Sets envelopes aside that wait for delivery.
    pub fn hold(&self, aside: &Aside) -> Result<Done, Refused> {
        let until = self.until(aside);
        let mut reason =
            if aside.reason.is_empty() { "by an admin".to_owned() } else { aside.reason.clone() };
        if let Some(until) = until {
            reason.push_str(&format!(", until {until}"));
        }
        let can_wait = |entry: &Entry| matches!(entry.state, State::Queued | State::Deferred);
        let (done, held) = self.touch_those(&aside.selection, &Change::Held { reason }, can_wait)?;
        self.pauses.forget(&held)?;
        if let Some(until) = until.filter(|_| !held.is_empty()) {
            self.pauses.hold_until(&held, until)?;
        }
        Ok(done)
    }

    /// Makes held envelopes due now.
    pub fn release(&self, selection: &Selection) -> Result<Done, Refused> {
        let is_held = |entry: &Entry| entry.state == State::Held;
        let (done, released) = self.touch_those(selection, &Change::Retried, is_held)?;
        self.pauses.forget(&released)?;
        self.spool.nudge();
        Ok(done)
    }

    /// Pauses intake, delivery or a source; what that means. `by` is who wants it.
    pub fn pause(&self, aside: &Aside, by: &str) -> Result<String, Refused> {
        let what = aside.what.as_str();
        let effect = match what {
            INTAKE => "platforms get 503 and keep their events".to_owned(),
            DELIVERY => "events are taken and wait".to_owned(),
            source if self.is_source(source) => format!("events of {source} are taken and held"),
            other => {
                let known = "what can be paused: intake, delivery, or the name of a source";
                return Err(Refused::Usage(format!("there is no [source.{other}]; {known}")));
            }
        };
        let until = self.until(aside);
        self.pauses.pause(what, (by, &aside.reason), until)?;
        self.dispatch.set_paused(self.pauses.of(DELIVERY).is_some());
        let ends = until.map(|until| format!(" until {until}")).unwrap_or_default();
        log::warn!(
            "paused what={what} by={by:?} reason={:?}{}",
            aside.reason,
            ends.replace(" until ", " until=")
        );
        Ok(format!("{what} paused{ends}, {effect}"))
    }

    /// Ends a pause; what that means.
    pub fn resume(&self, what: &str) -> Result<String, Refused> {
        if !self.pauses.resume(what)? {
            return Err(Refused::Usage(format!("{what} is not paused")));
        }
        self.resumed(what)
    }

    fn resumed(&self, what: &str) -> Result<String, Refused> {
        log::warn!("resumed what={what}");
        match what {
            INTAKE => return Ok("intake resumed".to_owned()),
            DELIVERY => {
                self.dispatch.set_paused(false);
                return Ok("delivery resumed".to_owned());
            }
            _ => {}
        }
        let reason = paused_reason(what);
        let mut ids = Vec::new();
        let mut from = 0;
        loop {
            let page = self.spool.entries(from)?;
            let Some((last, ..)) = page.last() else { break };
            from = last + 1;
            let of_pause = |entry: &Entry| entry.state == State::Held && entry.reason == reason;
            ids.extend(page.iter().filter(|(_, entry, _)| of_pause(entry)).map(|(id, ..)| *id));
        }
        self.retry_ids(&ids)?;
        Ok(format!("{what} resumed, {} released", ids.len()))
    }

    /// Carries out what is over by itself; how long nothing will be.
    pub(super) fn tick(&self) -> Duration {
        let over = self.pauses.over();
        for what in &over.resumed {
            if let Err(error) = self.resumed(what) {
                log::error!("not resumed what={what} error={:?}", error.to_string());
            }
        }
        let is_held = |id: &&Id| {
            self.spool
                .entry(**id)
                .is_ok_and(|entry| entry.is_some_and(|(entry, _)| entry.state == State::Held))
        };
        let held: Vec<Id> = over.released.iter().filter(is_held).copied().collect();
        match self.retry_ids(&held) {
            Ok(()) if held.is_empty() => {}
            Ok(()) => log::info!("holds are over released={}", held.len()),
            Err(error) => log::error!("holds not released error={:?}", error.to_string()),
        }
        self.pauses.next_end().unwrap_or(QUIET).min(QUIET)
    }

    fn retry_ids(&self, ids: &[Id]) -> Result<(), QueueError> {
        for page in ids.chunks(PAGE) {
            self.spool.touch_all(page, &Change::Retried)?;
        }
        self.spool.nudge();
        Ok(())
    }

    fn until(&self, aside: &Aside) -> Option<Timestamp> {
        aside.for_seconds.map(|seconds| self.clock.now().plus(Duration::from_secs(seconds)))
    }

    fn is_source(&self, name: &str) -> bool {
        let daemon = self.daemon.read().unwrap_or_else(PoisonError::into_inner);
        daemon.sources.iter().any(|source| source == name)
    }

    /// Applies a change to those of a selection whose state allows it; what was done, and to which.
    fn touch_those(
        &self,
        selection: &Selection,
        change: &Change,
        suits: impl Fn(&Entry) -> bool,
    ) -> Result<(Done, Vec<Id>), Refused> {
        let mut done = Done::default();
        let mut touched = Vec::new();
        self.each_page(selection, |page| {
            let mut suited = Vec::new();
            for (id, source) in page {
                match self.spool.entry(*id)? {
                    None => done.unknown.push(*id),
                    Some((_, true)) => done.in_flight.push(*id),
                    Some((entry, _)) if suits(&entry) => suited.push((*id, source)),
                    // Who filters wants those that suit; who names one wants to know.
                    Some(_) if selection.ids.is_empty() => {}
                    Some(_) => done.unsuited.push(*id),
                }
            }
            let ids: Vec<Id> = suited.iter().map(|(id, _)| *id).collect();
            for ((id, source), result) in suited.iter().zip(self.spool.touch_all(&ids, change)?) {
                match result {
                    Touched::Done => {
                        done.touch((*source).clone());
                        touched.push(*id);
                    }
                    Touched::InFlight => done.in_flight.push(*id),
                    Touched::Unknown => done.unknown.push(*id),
                }
            }
            Ok(())
        })?;
        Ok((done, touched))
    }
}

/// Why an envelope of a paused source is held.
pub fn paused_reason(source: &str) -> String {
    format!("source.{source} is paused")
}
