//! Counters of what came in and what went out, per source and minute.
//!
//! The current minute is in memory; earlier ones are in the rings of [`History`], so that a restart does not
//! blank the numbers of the last 24 hours (it costs at most the minute it happened in).

use super::history::{COMING_IN, History, Series, Span};
use super::meters::Meters;
use super::period::{COUNTS, Count, Counts, Gauges, Mark, Period};
use super::recent::{Recent, Seen};
use super::refused::{Refused, RefusedView, Turned};
use crate::clock::{Clock, Timestamp};
use crate::spool::{QueueError, Spool};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Latencies that are kept for the median.
const AGES_KEPT: usize = 4096;
const HOUR: Duration = Duration::from_secs(3600);
const DAY_MINUTES: u64 = 24 * 60;
/// A platform with a wrong secret must not fill the journal: one line per source and this time.
const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// A source's numbers and last moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceTally {
    /// In the last 24 hours.
    pub day: [u64; COUNTS],
    /// In the last hour.
    pub hour: [u64; COUNTS],
    /// When its last event came in; to the minute when that was before the last start.
    pub last_event: Option<Timestamp>,
    /// Why its last request was turned away.
    pub last_refusal: Option<String>,
}

#[derive(Default)]
struct State {
    minute: u64,
    current: Period,
    last_event: BTreeMap<String, Timestamp>,
    refusals: BTreeMap<String, Refusals>,
    turned: Turned,
    ages: VecDeque<(Timestamp, Duration)>,
    last_delivery: Option<LastDelivery>,
    /// The minute in which the rings were last tended.
    rolled_up: u64,
    /// How things stood when a minute was last stored.
    stored_gauges: Option<Gauges>,
    /// The sums of the stored minutes, and the minute they were made in.
    sums: Option<(u64, BTreeMap<String, SourceTally>)>,
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
    history: History,
    meters: Meters,
    recent: Recent,
    state: Mutex<State>,
}

impl Tally {
    /// Counters over `spool`'s stored minutes.
    pub fn new(spool: Arc<Spool>, clock: Arc<dyn Clock>) -> Tally {
        let history = History::new(spool);
        let (meters, recent) = (Meters::default(), Recent::default());
        let tally = Tally { clock, history, meters, recent, state: Mutex::default() };
        tally.mark("started");
        tally
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the metrics count.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// What the clock says.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The last events and attempts.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Adds to a source's numbers.
    pub fn count(&self, source: &str, what: Count, times: usize) {
        if times == 0 {
            return;
        }
        self.meters.count(source, what, times as u64);
        let now = self.clock.now();
        let mut state = self.state();
        self.turn_minute(&mut state, now);
        state.current.count(source, what, times);
        if COMING_IN.contains(&what) {
            state.last_event.insert(source.to_owned(), now);
        }
    }

    /// Counts a refused request; how many like it went unlogged before, if this one is to be logged.
    pub fn refuse(&self, source: &str, reason: &str) -> Option<u64> {
        self.count(source, Count::Refused, 1);
        let seen = Seen { source: source.to_owned(), reason: reason.to_owned(), ..Seen::default() };
        self.recent.add(seen.at(self.clock.now()).what("refused"));
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
        self.meters.aged(source, age);
        let now = self.clock.now();
        let mut state = self.state();
        state.current.age(age);
        if state.ages.len() == AGES_KEPT {
            state.ages.pop_front();
        }
        state.ages.push_back((now, age));
        state.last_delivery = Some(LastDelivery { at: now, ticket, source: source.to_owned() });
    }

    /// Counts an attempt that did not come through (`Deferred`), or a dead letter (`Dead`), and why.
    pub fn fail(&self, source: &str, what: Count, reason: &str) {
        self.count(source, what, 1);
        self.state().current.reason(reason);
    }

    /// Remembers how things stand, and does once a minute what has to be done with the minutes.
    pub fn observe(&self, gauges: Gauges) -> Result<(), QueueError> {
        let now = self.clock.now();
        let (minute, rolled_up) = {
            let mut state = self.state();
            self.turn_minute(&mut state, now);
            state.current.observe(gauges);
            let minute = state.minute;
            (minute, std::mem::replace(&mut state.rolled_up, minute))
        };
        if minute == rolled_up { Ok(()) } else { self.history.roll_up(minute) }
    }

    /// Remembers something that explains a bend in a picture: `started`, `reloaded`.
    pub fn mark(&self, what: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        self.turn_minute(&mut state, now);
        state.current.mark(Mark(now.unix_seconds(), what.to_owned()));
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

    /// The longest gap between two events of each source that is known well enough, within the last week.
    pub fn usual_gaps(&self) -> Result<BTreeMap<String, Duration>, QueueError> {
        let gaps = self.history.longest_gaps(self.clock.now().unix_seconds() / 60)?;
        Ok(gaps.into_iter().map(|(source, minutes)| (source, Duration::from_secs(minutes * 60))).collect())
    }

    /// The past for pictures.
    pub fn series(&self, span: Span) -> Result<Series, QueueError> {
        let now = self.clock.now();
        let (minute, current) = {
            let state = self.state();
            (state.minute, state.current.clone())
        };
        self.history.series(span, now, (minute, &current))
    }

    /// Numbers by source. Minutes that cannot be read count as nothing.
    pub fn sources(&self) -> BTreeMap<String, SourceTally> {
        let minute = self.clock.now().unix_seconds() / 60;
        let mut state = self.state();
        let mut sources = match &state.sums {
            Some((made_in, sums)) if *made_in == minute => sums.clone(),
            _ => {
                let sums = self.stored_sums(minute);
                state.sums.insert((minute, sums)).1.clone()
            }
        };
        if state.minute + DAY_MINUTES > minute {
            for (source, counts) in &state.current.counts {
                add(sources.entry(source.clone()).or_default(), *counts, state.minute + 60 > minute);
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

    fn stored_sums(&self, minute: u64) -> BTreeMap<String, SourceTally> {
        let mut sources: BTreeMap<String, SourceTally> = BTreeMap::new();
        let stored = self.history.minutes(minute.saturating_sub(DAY_MINUTES) + 1..minute + 1);
        for (at, period) in stored.unwrap_or_default() {
            for (source, counts) in &period.counts {
                let tally = sources.entry(source.clone()).or_default();
                add(tally, *counts, at + 60 > minute);
                if COMING_IN.iter().any(|what| counts.of(*what) > 0) {
                    tally.last_event = tally.last_event.max(Some(Timestamp(at * 60_000)));
                }
            }
        }
        sources
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
        let (minute, period) = (state.minute, std::mem::take(&mut state.current));
        let is_news = !period.is_quiet()
            || (period.gauges.is_some()
                && (period.gauges != state.stored_gauges || History::is_kept_though_quiet(minute)));
        if !is_news {
            return;
        }
        state.stored_gauges = period.gauges;
        state.sums = None;
        if let Err(error) = self.history.put_minute(minute, &period) {
            log::warn!("counters not stored error={:?}", error.to_string());
        }
    }
}

fn add(tally: &mut SourceTally, counts: Counts, in_hour: bool) {
    let counts: Vec<u32> = counts.into();
    for (index, count) in counts.into_iter().enumerate() {
        tally.day[index] += u64::from(count);
        if in_hour {
            tally.hour[index] += u64::from(count);
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
        let spool = tally.history.spool().clone();
        let again = Tally::new(spool, clock.clone());
        assert_eq!(again.sources()["botpress"].day[Count::Delivered as usize], 4);
        clock.advance(Duration::from_secs(600));
        let series = again.series(Span::Hour).unwrap();
        let delivered = |cell: &Option<Period>| cell.as_ref().map(|cell| cell.total(Count::Delivered));
        assert_eq!(delivered(&series.cells[49]), Some(4));
        assert_eq!(series.cells[49].as_ref().unwrap().marks.len(), 1, "it was started in that minute, twice");
    }

    #[test]
    fn a_minute_without_news_is_not_stored_but_one_in_fifteen_is() {
        let (_directory, clock, tally) = rig();
        let gauges = Gauges { dead: 5, ..Gauges::default() };
        for _ in 0..60 {
            tally.observe(gauges).unwrap();
            clock.advance(Duration::from_secs(60));
        }
        tally.store();
        let rows = tally.history.minutes(0..u64::MAX).unwrap();
        assert!((4..=6).contains(&rows.len()), "{rows:?}");
        let series = tally.series(Span::Hour).unwrap();
        let dead = series.cells.iter().flatten().filter(|cell| cell.gauges == Some(gauges)).count();
        assert_eq!(dead, 60, "what was not stored is as it was before");
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
