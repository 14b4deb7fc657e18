//! The rings of the status history: a row a minute for two days, a row a quarter of an hour for thirty days.
//!
//! They live in the spool's queue, so that a restart does not blank the pictures. A minute in which nothing happened
//! and nothing stands differently is not stored; one in fifteen is all the same, so that "nothing happened" and "nobody
//! was there" can be told apart.
//!
//! **Invariant:** about a megabyte: 2880 rows of each ring, each bounded by [`Period`].

use super::period::{Count, Counts, Gauges, Period};
use crate::clock::Timestamp;
use crate::spool::{QueueError, Spool};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Minutes of a row of the coarse ring.
const QUARTER_MINUTES: u64 = 15;
/// Minutes that are kept.
const MINUTES_KEPT: u64 = 48 * 60;
/// Quarters of an hour that are kept.
const QUARTERS_KEPT: u64 = 30 * 24 * 4;

/// What shows that a platform still calls.
pub const COMING_IN: [Count; 3] = [Count::Accepted, Count::Filtered, Count::Duplicate];

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Minutes = b'm' as isize,
    Quarters = b'q' as isize,
}

/// How much of the past a picture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// 60 cells of a minute.
    Hour,
    /// 96 cells of a quarter of an hour.
    #[default]
    Day,
    /// 168 cells of an hour.
    Week,
    /// 180 cells of four hours.
    Month,
}

impl Span {
    /// All of them.
    pub const ALL: [Span; 4] = [Span::Hour, Span::Day, Span::Week, Span::Month];

    /// `1h`, `24h`, `7d`, `30d`.
    pub fn word(self) -> &'static str {
        match self {
            Span::Hour => "1h",
            Span::Day => "24h",
            Span::Week => "7d",
            Span::Month => "30d",
        }
    }

    /// The span with this word.
    pub fn of_word(word: &str) -> Option<Span> {
        Span::ALL.into_iter().find(|span| span.word() == word)
    }

    /// Seconds of a cell, and how many there are.
    pub fn cells(self) -> (u64, u64) {
        match self {
            Span::Hour => (60, 60),
            Span::Day => (900, 96),
            Span::Week => (3600, 168),
            Span::Month => (4 * 3600, 180),
        }
    }
}

/// The past in cells of equal length; the last one is not over yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Seconds since 1970 at which the first cell begins.
    pub begin: u64,
    /// Seconds of a cell.
    pub cell_seconds: u64,
    /// What happened; nothing where nobody was there.
    pub cells: Vec<Option<Period>>,
}

impl Series {
    /// All cells together.
    pub fn total(&self) -> Period {
        let mut total = Period::default();
        self.cells.iter().flatten().for_each(|period| total.merge(period));
        total
    }

    fn add(&mut self, at: u64, period: &Period) {
        let index = at.checked_sub(self.begin).map(|since| since / self.cell_seconds);
        if let Some(cell) = index.and_then(|index| self.cells.get_mut(usize::try_from(index).ok()?)) {
            cell.get_or_insert_default().merge(period);
        }
    }

    /// Minutes in which nothing changed were not stored: what stood before them still stands.
    fn fill_unchanged(&mut self, before: Option<(u64, Gauges)>) {
        let reach = (QUARTER_MINUTES * 60).div_ceil(self.cell_seconds);
        let age = |at: u64| self.begin.saturating_sub(at) / self.cell_seconds;
        let mut standing: Option<(Gauges, u64)> = before.map(|(at, gauges)| (gauges, age(at)));
        for cell in &mut self.cells {
            standing = standing.filter(|(_, age)| *age < reach).map(|(gauges, age)| (gauges, age + 1));
            match (cell.as_ref().and_then(|period| period.gauges), standing) {
                (Some(gauges), _) => standing = Some((gauges, 0)),
                (None, Some((gauges, _))) => cell.get_or_insert_default().gauges = Some(gauges),
                (None, None) => {}
            }
        }
    }
}

/// The rings.
pub struct History {
    spool: Arc<Spool>,
}

impl History {
    /// The rings in `spool`.
    pub fn new(spool: Arc<Spool>) -> History {
        History { spool }
    }

    /// The spool they are in.
    #[cfg(test)]
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Adds to the row of a minute since 1970.
    pub fn put_minute(&self, minute: u64, period: &Period) -> Result<(), QueueError> {
        let mut row =
            self.rows(Ring::Minutes, minute..minute + 1)?.pop().map_or_else(Period::default, |(_, row)| row);
        row.merge(period);
        self.put(Ring::Minutes, minute, &row)
    }

    /// The minutes of a range, as stored.
    pub fn minutes(&self, range: std::ops::Range<u64>) -> Result<Vec<(u64, Period)>, QueueError> {
        self.rows(Ring::Minutes, range)
    }

    /// Whether a minute without events is stored all the same.
    pub fn is_kept_though_quiet(minute: u64) -> bool {
        minute % QUARTER_MINUTES == 0
    }

    /// Sums the quarters up that are over at `minute` and not summed up yet, and forgets what is too old, or in a
    /// future that a wrong clock has made.
    pub fn roll_up(&self, minute: u64) -> Result<(), QueueError> {
        let this_quarter = minute / QUARTER_MINUTES;
        let oldest = minute.saturating_sub(MINUTES_KEPT) / QUARTER_MINUTES + 1;
        let done = self.rows(Ring::Quarters, oldest..this_quarter)?.pop().map(|(number, _)| number);
        let first = done.map_or(oldest, |done| done + 1);
        let mut is_busy = false;
        let mut quarter: Option<(u64, Period)> = None;
        for (at, row) in self.rows(Ring::Minutes, first * QUARTER_MINUTES..this_quarter * QUARTER_MINUTES)? {
            is_busy |= !row.is_quiet();
            let number = at / QUARTER_MINUTES;
            match &mut quarter {
                Some((current, period)) if *current == number => period.merge(&row),
                _ => {
                    if let Some((number, period)) = quarter.replace((number, row)) {
                        self.put(Ring::Quarters, number, &period)?;
                    }
                }
            }
        }
        if let Some((number, period)) = quarter {
            self.put(Ring::Quarters, number, &period)?;
        }
        self.spool.trim_periods(Ring::Minutes as u8, 0..minute.saturating_sub(MINUTES_KEPT))?;
        self.spool.trim_periods(Ring::Quarters as u8, 0..this_quarter.saturating_sub(QUARTERS_KEPT))?;
        self.spool.trim_periods(Ring::Minutes as u8, minute + MINUTES_KEPT..u64::MAX)?;
        self.spool.trim_periods(Ring::Quarters as u8, this_quarter + QUARTERS_KEPT..u64::MAX)?;
        // A crash costs what was not written since the last of these; a quiet spool keeps its disk asleep.
        if is_busy { self.spool.flush_queue() } else { Ok(()) }
    }

    /// The longest gap between two events of each source within the last week, in minutes, for sources that have been
    /// heard of often enough to know.
    pub fn longest_gaps(&self, minute: u64) -> Result<BTreeMap<String, u64>, QueueError> {
        const HEARD_MIN: u32 = 8;
        let this_quarter = minute / QUARTER_MINUTES;
        let mut heard: BTreeMap<String, (u64, u64, u32)> = BTreeMap::new();
        for (number, row) in
            self.rows(Ring::Quarters, this_quarter.saturating_sub(7 * 24 * 4)..this_quarter)?
        {
            let came_in = |counts: &Counts| COMING_IN.iter().any(|what| counts.of(*what) > 0);
            for (source, _) in row.counts.iter().filter(|(_, counts)| came_in(counts)) {
                let (last, longest, times) = heard.entry(source.clone()).or_insert((number, 0, 0));
                *longest = (*longest).max(number - *last);
                *last = number;
                *times += 1;
            }
        }
        let known = heard.into_iter().filter(|(_, (_, _, times))| *times >= HEARD_MIN);
        Ok(known.map(|(source, (_, longest, _))| (source, longest * QUARTER_MINUTES)).collect())
    }

    /// The past up to `now`, with the minute that is not stored yet.
    pub fn series(&self, span: Span, now: Timestamp, current: (u64, &Period)) -> Result<Series, QueueError> {
        let (cell_seconds, count) = span.cells();
        let last = now.unix_seconds() / cell_seconds;
        let begin = (last + 1).saturating_sub(count) * cell_seconds;
        let cells = vec![None; usize::try_from(count).unwrap_or(0)];
        let mut series = Series { begin, cell_seconds, cells };
        let minute = now.unix_seconds() / 60;
        let mut minutes = begin / 60..minute + 1;
        let mut summed_up = None;
        if matches!(span, Span::Week | Span::Month) {
            let quarters =
                self.rows(Ring::Quarters, begin / 60 / QUARTER_MINUTES..minute / QUARTER_MINUTES)?;
            for (number, row) in &quarters {
                series.add(number * QUARTER_MINUTES * 60, row);
            }
            summed_up = quarters.last().map(|(number, _)| (number + 1) * QUARTER_MINUTES);
            minutes.start = summed_up.unwrap_or(minutes.start).max(minutes.start);
        }
        minutes.start = minutes.start.saturating_sub(QUARTER_MINUTES);
        let mut before = None;
        for (at, row) in self.rows(Ring::Minutes, minutes)? {
            if at * 60 < begin {
                before = row.gauges.map(|gauges| (at * 60, gauges)).or(before);
            } else if summed_up.is_none_or(|summed_up| at >= summed_up) {
                series.add(at * 60, &row);
            }
        }
        series.add(current.0 * 60, current.1);
        series.fill_unchanged(before);
        Ok(series)
    }

    fn put(&self, ring: Ring, number: u64, period: &Period) -> Result<(), QueueError> {
        let row = serde_json::to_vec(period).expect("a period holds nothing that JSON cannot");
        self.spool.put_period(ring as u8, number, row)
    }

    /// Rows that are not understood are passed over.
    fn rows(&self, ring: Ring, range: std::ops::Range<u64>) -> Result<Vec<(u64, Period)>, QueueError> {
        let (mut rows, mut from) = (Vec::new(), range.start);
        while from < range.end {
            let page = self.spool.periods(ring as u8, from)?;
            let Some((last, _)) = page.last() else { break };
            from = last + 1;
            let wanted = page.into_iter().filter(|(number, _)| *number < range.end);
            rows.extend(
                wanted.filter_map(|(number, row)| Some((number, serde_json::from_slice(&row).ok()?))),
            );
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::spool::Limits;

    /// 2025-11-21T08:00:00Z.
    const NOW: u64 = 1_763_712_000;

    fn rig() -> (tempfile::TempDir, History) {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp(NOW * 1000));
        let (spool, _) = Spool::open(directory.path(), Limits::default(), clock).unwrap();
        (directory, History::new(Arc::new(spool)))
    }

    fn busy(times: usize) -> Period {
        let mut period = Period::default();
        for source in ["botpress", "b2chat", "sendpulse", "contako", "empower"] {
            period.count(source, Count::Accepted, times);
            period.count(source, Count::Delivered, times);
            period.count(source, Count::Refused, 1);
        }
        period.age(std::time::Duration::from_secs(1));
        period.age(std::time::Duration::from_secs(40));
        period.observe(Gauges { queued: 12, oldest_seconds: 31, calls: Some((44, 50)), ..Gauges::default() });
        period
    }

    #[test]
    fn the_words_of_spans() {
        for span in Span::ALL {
            assert_eq!(Span::of_word(span.word()), Some(span));
        }
        assert_eq!(Span::of_word("2y"), None);
    }

    #[test]
    fn a_series_ends_now_and_empty_stretches_stay_empty() {
        let (_directory, history) = rig();
        let minute = NOW / 60;
        history.put_minute(minute - 90, &busy(7)).unwrap();
        history.put_minute(minute - 30, &busy(3)).unwrap();
        let current = busy(1);
        let series = history.series(Span::Hour, Timestamp(NOW * 1000), (minute, &current)).unwrap();
        assert_eq!((series.cells.len(), series.begin), (60, NOW - 59 * 60));
        let accepted = |index: usize| series.cells[index].as_ref().map(|cell| cell.total(Count::Accepted));
        assert_eq!((accepted(28), accepted(29), accepted(30)), (None, Some(15), Some(0)));
        assert_eq!(accepted(59), Some(5));
        let stands = series.cells.iter().filter(|cell| cell.is_some()).count();
        assert_eq!(stands, 1 + 15 + 1, "how it stood is believed for a quarter of an hour");
        let day = history.series(Span::Day, Timestamp(NOW * 1000), (minute, &current)).unwrap();
        assert_eq!(day.total().total(Count::Accepted), 5 * (7 + 3 + 1));
    }

    #[test]
    fn minutes_become_quarters_that_outlive_them() {
        let (_directory, history) = rig();
        let minute = NOW / 60;
        for back in 1..=60 {
            history.put_minute(minute - back, &busy(1)).unwrap();
        }
        history.roll_up(minute).unwrap();
        history.roll_up(minute).unwrap();
        let quiet = Period::default();
        let total = |span, at: u64| {
            let series = history.series(span, Timestamp(at * 1000), (at / 60, &quiet)).unwrap();
            series.total().total(Count::Accepted)
        };
        assert_eq!((total(Span::Week, NOW), total(Span::Month, NOW)), (300, 300));
        let later = NOW + 3 * 86_400;
        history.roll_up(later / 60).unwrap();
        assert!(history.minutes(0..u64::MAX).unwrap().is_empty());
        assert_eq!((total(Span::Week, later), total(Span::Day, later)), (300, 0));
        history.roll_up(NOW / 60 + 31 * 24 * 60).unwrap();
        assert!(history.rows(Ring::Quarters, 0..u64::MAX).unwrap().is_empty());
    }

    #[test]
    fn the_usual_gap_is_the_longest_of_the_week() {
        let (_directory, history) = rig();
        let minute = NOW / 60;
        for hour in 1..=40_u64 {
            let mut period = Period::default();
            // Nights are silent, and that is usual.
            if hour % 24 < 12 {
                period.count("shop", Count::Accepted, 1);
            }
            period.count("refused", Count::Refused, 1);
            history.put_minute(minute - hour * 60, &period).unwrap();
        }
        history.put_minute(minute - 100, &busy(1)).unwrap();
        history.roll_up(minute).unwrap();
        let gaps = history.longest_gaps(minute).unwrap();
        assert_eq!(
            gaps,
            BTreeMap::from([("shop".to_owned(), 13 * 60)]),
            "others are not heard of often enough"
        );
    }

    #[test]
    fn what_a_wrong_clock_wrote_goes() {
        let (_directory, history) = rig();
        history.put_minute(5, &busy(1)).unwrap();
        history.put_minute(NOW / 60 + 50 * 365 * 24 * 60, &busy(1)).unwrap();
        history.roll_up(NOW / 60).unwrap();
        assert!(history.minutes(0..u64::MAX).unwrap().is_empty());
    }

    #[test]
    fn thirty_days_of_five_busy_sources_take_about_a_megabyte() {
        let row = serde_json::to_vec(&busy(100)).unwrap().len() as u64;
        let key_and_checksum = 9 + 4;
        let bytes = (MINUTES_KEPT + QUARTERS_KEPT) * (row + key_and_checksum);
        assert!(bytes < 1_400_000, "{bytes}");
    }
}
