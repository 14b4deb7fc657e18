//! What the metrics count since this process started: they are for a Prometheus that remembers.
//!
//! **Invariant:** bounded by the configured sources; no label carries a conversation, a requester or an id.

use super::period::{COUNTS, Count};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Answers to platforms: most are there within a disk's sync.
pub const REQUEST_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Calls of Freshdesk: from a quick note to the timeout.
pub const ATTEMPT_BOUNDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];
/// From event to ticket: from at once to the longest outage that is sat out.
pub const AGE_BOUNDS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// A Prometheus histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds in seconds, without the last, which is infinite.
    pub bounds: &'static [f64],
    /// Observations in each, one more than there are bounds; not cumulative.
    pub counts: Vec<u64>,
    /// Of all observations, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// Pairs of a source and a word.
pub type BySourceAnd = BTreeMap<(String, &'static str), u64>;

/// All numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Events and requests, by source.
    pub events: BTreeMap<String, [u64; COUNTS]>,
    /// Refused requests, by source and kind of reason.
    pub refused: BySourceAnd,
    /// From a request's arrival to its answer, by source.
    pub requests: BTreeMap<String, Histogram>,
    /// From putting an event to its being on disk.
    pub spool_writes: Histogram,
    /// Attempts, by source and outcome.
    pub attempts: BySourceAnd,
    /// How long attempts took.
    pub attempt_seconds: Histogram,
    /// Writes that are in Freshdesk, by source and action.
    pub delivered: BySourceAnd,
    /// From event to ticket, by source.
    pub ages: BTreeMap<String, Histogram>,
    /// Dead letters, by source and kind of reason.
    pub dead: BySourceAnd,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers {
            events: BTreeMap::new(),
            refused: BTreeMap::new(),
            requests: BTreeMap::new(),
            spool_writes: Histogram::new(REQUEST_BOUNDS),
            attempts: BTreeMap::new(),
            attempt_seconds: Histogram::new(ATTEMPT_BOUNDS),
            delivered: BTreeMap::new(),
            ages: BTreeMap::new(),
            dead: BTreeMap::new(),
        }
    }
}

/// The numbers, counted by every room.
#[derive(Default)]
pub struct Meters {
    numbers: Mutex<Numbers>,
}

impl Meters {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they stand.
    pub fn read(&self) -> Numbers {
        self.numbers().clone()
    }

    /// Events or requests of a source.
    pub fn count(&self, source: &str, what: Count, times: u64) {
        let mut numbers = self.numbers();
        match numbers.events.get_mut(source) {
            Some(counts) => counts[what as usize] += times,
            None => numbers.events.entry(source.to_owned()).or_default()[what as usize] = times,
        }
    }

    /// A refused request: `secret`, `too_large`, `not_json`, `unknown_source`.
    pub fn refused(&self, source: &str, reason: &'static str) {
        add(&mut self.numbers().refused, source, reason);
    }

    /// A request was answered.
    pub fn answered(&self, source: &str, took: Duration) {
        observe(&mut self.numbers().requests, source, REQUEST_BOUNDS, took);
    }

    /// Events are on disk.
    pub fn written(&self, took: Duration) {
        self.numbers().spool_writes.observe(took);
    }

    /// An attempt ended: `delivered`, `deferred`, `rejected`, `unknown`.
    pub fn attempted(&self, source: &str, outcome: &'static str, took: Duration) {
        let mut numbers = self.numbers();
        add(&mut numbers.attempts, source, outcome);
        numbers.attempt_seconds.observe(took);
    }

    /// A write is in Freshdesk: `create`, `note`, `reply` …
    pub fn wrote(&self, source: &str, action: &'static str) {
        add(&mut self.numbers().delivered, source, action);
    }

    /// An event is through.
    pub fn aged(&self, source: &str, age: Duration) {
        observe(&mut self.numbers().ages, source, AGE_BOUNDS, age);
    }

    /// An envelope is dead: `mapping`, `rejected`, `gave_up`, `bug`.
    pub fn died(&self, source: &str, reason: &'static str) {
        add(&mut self.numbers().dead, source, reason);
    }
}

fn add(counts: &mut BySourceAnd, source: &str, word: &'static str) {
    *counts.entry((source.to_owned(), word)).or_default() += 1;
}

fn observe(
    histograms: &mut BTreeMap<String, Histogram>,
    source: &str,
    bounds: &'static [f64],
    took: Duration,
) {
    match histograms.get_mut(source) {
        Some(histogram) => histogram.observe(took),
        None => histograms.entry(source.to_owned()).or_insert_with(|| Histogram::new(bounds)).observe(took),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [100, 101, 1000, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.counts, [1, 2, 1]);
        assert!((histogram.sum - 6.201).abs() < 1e-9);
    }
}
