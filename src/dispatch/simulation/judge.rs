//! What must hold in every simulated world, whatever the dice say.
//!
//! - Nothing that was accepted is lost: in the end it is in Freshdesk, or dead with a reason that explains it.
//! - No write is done twice, unless Freshdesk did it so long after the client had given up that nobody can know; filling
//!   a contact twice is as good as once.
//! - The writes of a conversation are done in its order (what was dead and retried excepted).
//! - What is said to be delivered is there.
//! - While a `Retry-After` runs nobody calls; in no minute are there more calls than allowed; while nothing gets
//!   through, only probes with growing gaps go out.
//! - After a failed attempt the next one is due within the bounds of the backoff.

use super::desk::{Call, LATE, TIMEOUT, Weather};
use super::world::{Event, Settings, texts};
use crate::backoff::Backoff;
use crate::spool::Id;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A deadline is kept in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);
/// Of 20 that the smallest paid plan allows.
const LISTS_PER_MINUTE: usize = 15;
const LISTS_PER_LOOK: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);

/// The last call for an envelope failed, and that counts as an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Whether it may have been done.
    pub in_doubt: bool,
    /// The wait that Freshdesk asked for.
    pub asked: Option<Duration>,
}

/// Calls while nothing gets through.
struct Outage {
    since: Duration,
    calls: u64,
    lives: u64,
}

pub struct Judge {
    pub violations: Vec<String>,
    workers: u64,
    storms: bool,
    rate_per_minute: usize,
    backoff: Backoff,
    /// Of this life.
    minute: VecDeque<Duration>,
    /// Looks for tickets, of this life.
    looks: VecDeque<Duration>,
    told_to_wait_until: Duration,
    outage: Option<Outage>,
    /// By conversation, what was done last.
    last_done: BTreeMap<u64, (Id, u32)>,
    /// Done when nobody could know any more, by marker.
    too_late: BTreeSet<String>,
    /// Events that were dead once, by text.
    pub retried: BTreeSet<String>,
    /// Texts of all that is in Freshdesk.
    pub there: BTreeSet<String>,
    pub doubles_excused: u64,
}

/// The conversation of `c12/5` or `sick c12/5++`, and how many writes of its plan come before: `+` for each.
fn place(text: &str) -> (u64, u32) {
    let last = text.rsplit(' ').next().expect("a text has words");
    let step = u32::try_from(last.matches('+').count()).expect("plans are short");
    let (conversation, _) = last.split_once('/').expect("texts are made so");
    (conversation[1..].parse().expect("texts are made so"), step)
}

impl Judge {
    pub fn new(settings: &Settings, backoff: Backoff) -> Judge {
        Judge {
            violations: Vec::new(),
            workers: settings.workers as u64,
            storms: settings.storms,
            rate_per_minute: settings.rate_per_minute as usize,
            backoff,
            minute: VecDeque::new(),
            looks: VecDeque::new(),
            told_to_wait_until: Duration::ZERO,
            outage: None,
            last_done: BTreeMap::new(),
            too_late: BTreeSet::new(),
            retried: BTreeSet::new(),
            there: BTreeSet::new(),
            doubles_excused: 0,
        }
    }

    pub fn violate(&mut self, text: String) {
        self.violations.push(text);
    }

    /// A new process knows nothing of what the old one was told.
    pub fn begin_life(&mut self) {
        self.minute.clear();
        self.looks.clear();
        self.told_to_wait_until = Duration::ZERO;
        if let Some(outage) = &mut self.outage {
            outage.lives += 1;
        }
    }

    pub fn call_begins(&mut self, call: &Call, now: Duration) {
        if now < self.told_to_wait_until {
            let left = self.told_to_wait_until - now;
            self.violate(format!("{call:?} while a Retry-After runs for another {left:?}"));
        }
        for window in [&mut self.minute, &mut self.looks] {
            while window.front().is_some_and(|at| *at + MINUTE <= now) {
                window.pop_front();
            }
        }
        self.minute.push_back(now);
        if matches!(call, Call::FindTicket { .. }) {
            self.looks.push_back(now);
        }
        if self.looks.len() * LISTS_PER_LOOK > LISTS_PER_MINUTE {
            self.violate(format!("{} looks in a minute", self.looks.len()));
        }
        if self.minute.len() > self.rate_per_minute {
            self.violate(format!("{} calls in a minute", self.minute.len()));
        }
        if let Some(outage) = &mut self.outage {
            outage.calls += 1;
        }
    }

    pub fn told_to_wait(&mut self, wait: Duration, now: Duration) {
        self.told_to_wait_until = self.told_to_wait_until.max(now + wait);
    }

    pub fn weather_changes(&mut self, to: Weather, now: Duration) {
        if let Some(outage) = self.outage.take() {
            let lasted = (now - outage.since).as_secs();
            // Each worker may have had a call in the air, and three failures in a row are not yet an outage; then
            // one probe at a time, with gaps that double up to the longest.
            let rise = 12;
            let longest = self.backoff.bounds(u32::MAX).0.as_secs();
            let most = outage.lives * (2 * self.workers + 3 + rise) + lasted / longest + 1;
            if outage.calls > most {
                self.violate(format!(
                    "{} calls in an outage of {lasted}s with {} lives, where {most} are the most",
                    outage.calls, outage.lives
                ));
            }
        }
        let nothing_passes =
            matches!(to, Weather::Refusing | Weather::WrongKey | Weather::Failing | Weather::Silent);
        self.outage = nothing_passes.then_some(Outage { since: now, calls: 0, lives: 1 });
    }

    /// A write of an envelope is done in Freshdesk; its call began at `began`.
    pub fn done(&mut self, call: &Call, id: Id, is_again: bool, (began, now): (Duration, Duration)) {
        let (Some(marker), Some(text)) = (call.marker(), call.text()) else { return };
        if now > began + TIMEOUT + LATE {
            self.too_late.insert(marker.to_owned());
        }
        self.there.insert(text.to_owned());
        if is_again && matches!(call, Call::Contact { .. }) {
            return;
        }
        if is_again {
            if self.too_late.contains(marker) {
                self.doubles_excused += 1;
            } else {
                self.violate(format!("{text:?} is there twice"));
            }
            return;
        }
        let (conversation, step) = place(text);
        let last = self.last_done.entry(conversation).or_default();
        let is_in_order = *last < (id, step);
        *last = (*last).max((id, step));
        let last = *last;
        if !is_in_order && !self.too_late.contains(marker) && !self.retried.contains(text) {
            self.violate(format!("{text:?} is done after {last:?} of its conversation"));
        }
    }

    /// An envelope was deferred after a failure: is it due when the backoff says?
    pub fn deferred(&mut self, attempts: u32, wait: Duration, failed: Failed, guard: Duration) {
        let Failed { in_doubt, asked } = failed;
        let (shortest, longest) = self.backoff.bounds(attempts);
        let least = if in_doubt { guard } else { Duration::ZERO }.max(asked.unwrap_or_default());
        if wait + ROUNDING < shortest.max(least) || wait > longest.max(least) + ROUNDING {
            self.violate(format!(
                "due after {wait:?} for attempt {attempts}, {shortest:?} to {longest:?} are right"
            ));
        }
    }

    /// At the very end.
    pub fn ended(&mut self, event: &Event, stands: &str) {
        let is_there = texts(&event.text).iter().all(|text| self.there.contains(text));
        let explained = match stands {
            "delivered" => is_there,
            // Storms can follow one another for days.
            reason if reason.contains("gave up after 3d") => self.storms || event.text.starts_with("sick"),
            reason => event.text.starts_with("bad") && reason.contains("freshdesk 400"),
        };
        if !explained {
            self.violate(format!("{:?} ends as {stands:?}, in Freshdesk: {is_there}", event.text));
        }
    }
}
