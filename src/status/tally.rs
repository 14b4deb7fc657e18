//! Counters of what came in and what went out, per source and minute.
//!
//! The current minute is in memory; earlier ones are in the spool's queue, so that a restart does not
//! blank the numbers of the last 24 hours (it costs at most the minute it happened in).

use super::refused::{Refused, RefusedView, Turned};
use crate::clock::{Clock, Timestamp};
use crate::spool::Spool;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What can happen to an event or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Stored as a new envelope.
    Accepted,
    /// In Freshdesk.
    Delivered,
    /// Counted and ignored, as the source wants it.
    Filtered,
    /// Was here before.
    Duplicate,
    /// A request that was turned away.
    Refused,
    /// A request that could not be stored and was answered 503.
    Unavailable,
}

/// Number of different counts.
pub const COUNTS: usize = 6;

/// Latencies that are kept for the median.
const AGES_KEPT: usize = 4096;
const HOUR: Duration = Duration::from_secs(3600);
/// A platform with a wrong secret must not fill the journal: one line per source and this time.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// A source's numbers and last moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceTally {
    /// In the last 24 hours.
    pub day: [u64; COUNTS],
    /// In the last hour.
    pub hour: [u64; COUNTS],
    /// When its last event came in, as far as this process knows.
    pub last_event: Option<Timestamp>,
    /// Why its last request was turned away.
    pub last_refusal: Option<String>,
}

#[derive(Default)]
struct State {
    minute: u64,
    current: BTreeMap<String, [u32; COUNTS]>,
    last_event: BTreeMap<String, Timestamp>,
    refusals: BTreeMap<String, Refusals>,
    turned: Turned,
    ages: VecDeque<(Timestamp, Duration)>,
    last_delivery: Option<LastDelivery>,
}

struct Refusals {
    last_reason: String,
    logged_at: Duration,
    unlogged: u64,
}

/// The last delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct LastDelivery {
    /// When.
    pub at: Timestamp,
    /// The ticket; none when nothing had to be written.
    pub ticket: Option<u64>,
    /// The source.
    pub source: String,
}

/// All counters.
pub struct Tally {
    clock: Arc<dyn Clock>,
    spool: Arc<Spool>,
    state: Mutex<State>,
}

impl Tally {
    /// Counters over `spool`'s stored minutes.
    pub fn new(spool: Arc<Spool>, clock: Arc<dyn Clock>) -> Tally {
        Tally { clock, spool, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to a source's numbers.
    pub fn count(&self, source: &str, what: Count, times: usize) {
        if times == 0 {
            return;
        }
        let now = self.clock.now();
        let mut state = self.state();
        self.turn_minute(&mut state, now);
        let row = state.current.entry(source.to_owned()).or_default();
        row[what as usize] = row[what as usize].saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        if matches!(what, Count::Accepted | Count::Filtered | Count::Duplicate) {
            state.last_event.insert(source.to_owned(), now);
        }
    }

    /// Counts a refused request; how many like it went unlogged before, if this one is to be logged.
    pub fn refuse(&self, source: &str, reason: &str) -> Option<u64> {
        self.count(source, Count::Refused, 1);
        let now = self.clock.monotonic();
        let mut state = self.state();
        let Some(refusals) = state.refusals.get_mut(source) else {
            let refusals = Refusals { last_reason: reason.to_owned(), logged_at: now, unlogged: 0 };
            state.refusals.insert(source.to_owned(), refusals);
            return Some(0);
        };
        reason.clone_into(&mut refusals.last_reason);
        if now.saturating_sub(refusals.logged_at) < REFUSALS_LOGGED_EVERY {
            refusals.unlogged += 1;
            return None;
        }
        refusals.logged_at = now;
        Some(std::mem::take(&mut refusals.unlogged))
    }

    /// Remembers a refused request for `deskspool refused`; `source` is one of ours, or
    /// [`NO_SOURCE`](super::refused::NO_SOURCE).
    pub fn remember_refused(&self, source: &str, refused: Refused) {
        let now = self.clock.now();
        self.state().turned.add(source, now, refused);
    }

    /// The last refused requests, of one source or of all.
    pub fn refused(&self, source: Option<&str>) -> Vec<RefusedView> {
        self.state().turned.views(source)
    }

    /// Counts a delivery and how long it took from the request to the ticket.
    pub fn deliver(&self, source: &str, ticket: Option<u64>, age: Duration) {
        self.count(source, Count::Delivered, 1);
        let now = self.clock.now();
        let mut state = self.state();
        if state.ages.len() == AGES_KEPT {
            state.ages.pop_front();
        }
        state.ages.push_back((now, age));
        state.last_delivery = Some(LastDelivery { at: now, ticket, source: source.to_owned() });
    }

    /// The last delivery of this process.
    pub fn last_delivery(&self) -> Option<LastDelivery> {
        self.state().last_delivery.clone()
    }

    /// Median from event to ticket in the last hour.
    pub fn median_age(&self) -> Option<Duration> {
        let now = self.clock.now();
        let mut ages: Vec<Duration> = {
            let state = self.state();
            state.ages.iter().filter(|(at, _)| now.since(*at) <= HOUR).map(|(_, age)| *age).collect()
        };
        ages.sort_unstable();
        ages.get(ages.len() / 2).copied()
    }

    /// Numbers by source. Minutes that cannot be read count as nothing.
    pub fn sources(&self) -> BTreeMap<String, SourceTally> {
        let now = self.clock.now();
        let minute = now.unix_seconds() / 60;
        let mut sources: BTreeMap<String, SourceTally> = BTreeMap::new();
        self.add_stored(minute, &mut sources);
        let state = self.state();
        for (source, counts) in &state.current {
            if state.minute + 24 * 60 > minute {
                add(sources.entry(source.clone()).or_default(), counts, state.minute + 60 > minute);
            }
        }
        for (source, at) in &state.last_event {
            sources.entry(source.clone()).or_default().last_event = Some(*at);
        }
        for (source, refusals) in &state.refusals {
            sources.entry(source.clone()).or_default().last_refusal = Some(refusals.last_reason.clone());
        }
        sources
    }

    fn add_stored(&self, minute: u64, sources: &mut BTreeMap<String, SourceTally>) {
        let mut after = (minute.saturating_sub(24 * 60), String::new());
        while let Ok(page) = self.spool.minute_counts::<COUNTS>((after.0, &after.1)) {
            let Some((last_minute, last_source, _)) = page.last() else { return };
            after = (*last_minute, last_source.clone());
            for (at, source, counts) in page.iter().filter(|(at, ..)| *at <= minute) {
                let tally = sources.entry(source.clone()).or_default();
                add(tally, counts, at + 60 > minute);
                let came_in = counts[Count::Accepted as usize] + counts[Count::Duplicate as usize];
                if came_in > 0 {
                    tally.last_event = tally.last_event.max(Some(Timestamp(at * 60_000)));
                }
            }
        }
    }

    /// Stores what is only in memory, as before the daemon ends.
    pub fn store(&self) {
        let mut state = self.state();
        self.store_current(&mut state);
    }

    fn turn_minute(&self, state: &mut State, now: Timestamp) {
        let minute = now.unix_seconds() / 60;
        if state.minute != minute {
            self.store_current(state);
            state.minute = minute;
        }
    }

    fn store_current(&self, state: &mut State) {
        let minute = state.minute;
        for (source, counts) in std::mem::take(&mut state.current) {
            if let Err(error) = self.spool.add_counts(minute, &source, counts) {
                log::warn!("counters not stored source={source} error={:?}", error.to_string());
            }
        }
    }
}

fn add(tally: &mut SourceTally, counts: &[u32; COUNTS], in_hour: bool) {
    for (index, count) in counts.iter().enumerate() {
        tally.day[index] += u64::from(*count);
        if in_hour {
            tally.hour[index] += u64::from(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::spool::Limits;

    fn rig() -> (tempfile::TempDir, Arc<ManualClock>, Tally) {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp(1_763_712_000_000));
        let (spool, _) = Spool::open(directory.path(), Limits::default(), clock.clone()).unwrap();
        let tally = Tally::new(Arc::new(spool), clock.clone());
        (directory, clock, tally)
    }

    #[test]
    fn numbers_fall_out_of_the_hour_and_then_of_the_day() {
        let (_directory, clock, tally) = rig();
        tally.count("sendpulse", Count::Accepted, 3);
        clock.advance(Duration::from_secs(90 * 60));
        tally.count("sendpulse", Count::Accepted, 2);
        let accepted = |tally: &Tally| {
            let source = tally.sources()["sendpulse"].clone();
            (source.hour[Count::Accepted as usize], source.day[Count::Accepted as usize])
        };
        assert_eq!(accepted(&tally), (2, 5));
        clock.advance(Duration::from_secs(23 * 3600));
        tally.count("sendpulse", Count::Refused, 1);
        assert_eq!(accepted(&tally), (0, 2));
    }

    #[test]
    fn numbers_survive_a_restart() {
        let (_directory, clock, tally) = rig();
        tally.count("botpress", Count::Delivered, 4);
        tally.store();
        let again = Tally::new(tally.spool.clone(), clock);
        assert_eq!(again.sources()["botpress"].day[Count::Delivered as usize], 4);
    }

    #[test]
    fn refusals_are_counted_all_and_logged_seldom() {
        let (_directory, clock, tally) = rig();
        let logged: Vec<Option<u64>> = (0..5).map(|_| tally.refuse("empower", "secret")).collect();
        assert_eq!(logged, [Some(0), None, None, None, None]);
        clock.advance(REFUSALS_LOGGED_EVERY);
        assert_eq!(tally.refuse("empower", "secret"), Some(4));
        assert_eq!(tally.sources()["empower"].day[Count::Refused as usize], 6);
    }

    #[test]
    fn the_median_is_of_the_last_hour() {
        let (_directory, clock, tally) = rig();
        tally.deliver("botpress", Some(1), Duration::from_secs(900));
        clock.advance(Duration::from_secs(3601));
        for seconds in [1, 2, 40] {
            tally.deliver("botpress", Some(2), Duration::from_secs(seconds));
        }
        assert_eq!(tally.median_age(), Some(Duration::from_secs(2)));
    }
}
