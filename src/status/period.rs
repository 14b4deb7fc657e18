//! What is remembered of one stretch of time: counts by source, how full the spool was at worst, how long tickets
//! took, why attempts failed, and what an admin did.
//!
//! **Invariant:** bounded. A period holds no conversation, requester or id; sources are bounded by the
//! configuration, reasons and marks by the limits here. It is stored as JSON with short names, so that an older
//! row lacks what a newer daemon counts, and nothing else happens.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// An attempt that did not come through; the envelope waits for the next.
    Deferred,
    /// An envelope that became a dead letter.
    Dead,
}

/// Number of different counts.
pub const COUNTS: usize = 8;

/// Different reasons that are told apart in one period; further ones are left out.
const REASONS_MAX: usize = 12;
/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 80;
/// Marks of one period.
const MARKS_MAX: usize = 16;
/// Ages up to this fall into the first bucket; each further one is twice as wide.
const AGE_FIRST_SECONDS: f64 = 0.125;
/// 2^22 times the first is six days; a ticket that took longer is in the last bucket.
const AGE_BUCKETS: u8 = 23;

/// Numbers by [`Count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u32>", into = "Vec<u32>")]
pub struct Counts([u32; COUNTS]);

impl From<Vec<u32>> for Counts {
    fn from(numbers: Vec<u32>) -> Counts {
        let mut counts = Counts::default();
        counts.0.iter_mut().zip(numbers).for_each(|(count, number)| *count = number);
        counts
    }
}

impl From<Counts> for Vec<u32> {
    /// Without the zeros at the end.
    fn from(counts: Counts) -> Vec<u32> {
        let used = counts.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts.0[..used].to_vec()
    }
}

impl Counts {
    /// How often this happened.
    pub fn of(&self, what: Count) -> u64 {
        u64::from(self.0[what as usize])
    }

    fn add(&mut self, what: Count, times: u32) {
        let count = &mut self.0[what as usize];
        *count = count.saturating_add(times);
    }

    fn merge(&mut self, other: Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count = count.saturating_add(more));
    }
}

/// How things stood, at the worst moment of the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub struct Gauges {
    /// Due now.
    pub queued: u64,
    /// Being sent.
    pub in_flight: u64,
    /// Waiting for the next try.
    pub deferred: u64,
    /// Set aside.
    pub held: u64,
    /// Dead letters.
    pub dead: u64,
    /// Age of the oldest that waits.
    pub oldest_seconds: u64,
    /// Calls left in Freshdesk's minute, and calls per minute; none before its first answer.
    pub calls: Option<(u64, u64)>,
}

impl From<Vec<u64>> for Gauges {
    fn from(numbers: Vec<u64>) -> Gauges {
        let at = |index: usize| numbers.get(index).copied();
        let number = |index: usize| at(index).unwrap_or(0);
        Gauges {
            queued: number(0),
            in_flight: number(1),
            deferred: number(2),
            held: number(3),
            dead: number(4),
            oldest_seconds: number(5),
            calls: at(6).zip(at(7)),
        }
    }
}

impl From<Gauges> for Vec<u64> {
    fn from(gauges: Gauges) -> Vec<u64> {
        let Gauges { queued, in_flight, deferred, held, dead, oldest_seconds, calls } = gauges;
        let mut numbers = vec![queued, in_flight, deferred, held, dead, oldest_seconds];
        numbers.extend(calls.into_iter().flat_map(|(left, total)| [left, total]));
        numbers
    }
}

impl Gauges {
    /// Envelopes that wait for delivery or are being sent.
    pub fn waiting(&self) -> u64 {
        self.queued + self.in_flight + self.deferred
    }

    fn worst(self, other: Gauges) -> Gauges {
        let fewer = match (self.calls, other.calls) {
            (Some(one), Some(two)) => Some(if two.0 <= one.0 { two } else { one }),
            (one, two) => one.or(two),
        };
        let fuller = if other.waiting() >= self.waiting() { other } else { self };
        Gauges {
            held: self.held.max(other.held),
            dead: self.dead.max(other.dead),
            oldest_seconds: self.oldest_seconds.max(other.oldest_seconds),
            calls: fewer,
            ..fuller
        }
    }
}

/// How long tickets took, in buckets that double.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ages(BTreeMap<u8, u32>);

impl Ages {
    fn add(&mut self, age: Duration) {
        let doublings = (age.as_secs_f64() / AGE_FIRST_SECONDS).max(1.0).log2().ceil();
        let bucket = (0..AGE_BUCKETS).find(|bucket| f64::from(*bucket) >= doublings);
        *self.0.entry(bucket.unwrap_or(AGE_BUCKETS)).or_default() += 1;
    }

    fn merge(&mut self, other: &Ages) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// The age that this share (0.5, 0.95) of the tickets did not exceed, within its bucket a guess.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u32 = self.0.values().sum();
        let wanted = share * f64::from(total);
        let mut before = 0.0;
        for (bucket, count) in &self.0 {
            let here = f64::from(*count);
            if before + here >= wanted && here > 0.0 {
                let inside = ((wanted - before) / here).clamp(0.0, 1.0);
                let seconds = AGE_FIRST_SECONDS * 2f64.powf(f64::from(*bucket) - 1.0 + inside);
                return Some(Duration::from_secs_f64(seconds));
            }
            before += here;
        }
        None
    }
}

/// Something that explains a bend in a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(
    /// Seconds since 1970.
    pub u64,
    /// `started`, `reloaded`, `intake paused` …
    pub String,
);

/// One stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Period {
    /// By source.
    #[serde(rename = "c", skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, Counts>,
    /// How things stood; none when nobody looked.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub gauges: Option<Gauges>,
    /// From event to ticket.
    #[serde(rename = "t", skip_serializing_if = "no_ages")]
    pub ages: Ages,
    /// Why attempts failed, how often.
    #[serde(rename = "w", skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u32>,
    /// What an admin did.
    #[serde(rename = "m", skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

fn no_ages(ages: &Ages) -> bool {
    ages.0.is_empty()
}

impl Period {
    /// Adds to a source's numbers.
    pub fn count(&mut self, source: &str, what: Count, times: usize) {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.counts.entry(source.to_owned()).or_default().add(what, times);
    }

    /// A ticket took this long.
    pub fn age(&mut self, age: Duration) {
        self.ages.add(age);
    }

    /// An attempt failed for this reason.
    pub fn reason(&mut self, reason: &str) {
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        self.add_reason(&reason, 1);
    }

    fn add_reason(&mut self, reason: &str, times: u32) {
        if let Some(count) = self.reasons.get_mut(reason) {
            *count = count.saturating_add(times);
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(reason.to_owned(), times);
        }
    }

    /// Somebody looked at how things stand.
    pub fn observe(&mut self, gauges: Gauges) {
        self.gauges = Some(self.gauges.map_or(gauges, |before| before.worst(gauges)));
    }

    /// Something was done that explains what follows.
    pub fn mark(&mut self, mark: Mark) {
        if self.marks.len() < MARKS_MAX && !self.marks.contains(&mark) {
            self.marks.push(mark);
        }
    }

    /// Whether anything happened, looking apart.
    pub fn is_quiet(&self) -> bool {
        self.counts.is_empty() && self.reasons.is_empty() && self.marks.is_empty() && no_ages(&self.ages)
    }

    /// Adds another stretch of time to this one.
    pub fn merge(&mut self, other: &Period) {
        for (source, counts) in &other.counts {
            self.counts.entry(source.clone()).or_default().merge(*counts);
        }
        if let Some(gauges) = other.gauges {
            self.observe(gauges);
        }
        self.ages.merge(&other.ages);
        other.reasons.iter().for_each(|(reason, times)| self.add_reason(reason, *times));
        other.marks.iter().for_each(|mark| self.mark(mark.clone()));
    }

    /// Of all sources together.
    pub fn total(&self, what: Count) -> u64 {
        self.counts.values().map(|counts| counts.of(what)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_stored_in_few_bytes_and_read_back() {
        let mut period = Period::default();
        period.count("sendpulse", Count::Accepted, 3);
        period.count("sendpulse", Count::Delivered, 2);
        period.observe(Gauges { queued: 2, oldest_seconds: 660, calls: Some((41, 50)), ..Gauges::default() });
        period.age(Duration::from_secs(1));
        period.reason("503 Service Unavailable");
        period.mark(Mark(1_763_712_000, "reloaded".to_owned()));
        let text = serde_json::to_string(&period).unwrap();
        let expect = "{\"c\":{\"sendpulse\":[3,2]},\"g\":[2,0,0,0,0,660,41,50],\"t\":{\"3\":1},\
            \"w\":{\"503 Service Unavailable\":1},\"m\":[[1763712000,\"reloaded\"]]}";
        assert_eq!(text, expect);
        assert_eq!(serde_json::from_str::<Period>(&text).unwrap(), period);
        assert_eq!(serde_json::to_string(&Period::default()).unwrap(), "{}");
    }

    #[test]
    fn rows_of_other_versions_are_read() {
        let row = "{\"c\":{\"a\":[1,2,3,4,5,6,7,8,9,10]},\"g\":[1],\"later\":true}";
        let period: Period = serde_json::from_str(row).unwrap();
        assert_eq!((period.total(Count::Dead), period.gauges.unwrap().queued), (8, 1));
    }

    #[test]
    fn together_means_sums_and_the_worst_moment() {
        let mut one = Period::default();
        one.count("a", Count::Accepted, 1);
        one.observe(Gauges { queued: 5, oldest_seconds: 10, calls: Some((9, 50)), ..Gauges::default() });
        let mut two = Period::default();
        two.count("a", Count::Accepted, 2);
        two.observe(Gauges { deferred: 7, dead: 1, calls: Some((3, 50)), ..Gauges::default() });
        one.merge(&two);
        assert_eq!(one.total(Count::Accepted), 3);
        let expect =
            Gauges { deferred: 7, dead: 1, oldest_seconds: 10, calls: Some((3, 50)), ..Gauges::default() };
        assert_eq!(one.gauges, Some(expect));
    }

    #[test]
    fn quantiles_are_near() {
        let mut period = Period::default();
        assert_eq!(period.ages.quantile(0.5), None);
        (0..90).for_each(|_| period.age(Duration::from_millis(1500)));
        (0..10).for_each(|_| period.age(Duration::from_secs(3600)));
        let check = |share: f64, least: u64, most: u64| {
            let seconds = period.ages.quantile(share).unwrap().as_secs();
            assert!((least..=most).contains(&seconds), "{share}: {seconds}");
        };
        check(0.5, 1, 2);
        check(0.95, 2000, 4096);
    }

    #[test]
    fn what_is_told_apart_is_bounded() {
        let mut period = Period::default();
        (0..100).for_each(|number| period.reason(&format!("reason {number}")));
        (0..100).for_each(|second| period.mark(Mark(second, "reloaded".to_owned())));
        period.reason(&"é".repeat(500));
        assert_eq!((period.reasons.len(), period.marks.len()), (REASONS_MAX, MARKS_MAX));
        period.age(Duration::from_secs(10_000_000));
        assert!(period.ages.quantile(0.5).is_some());
    }
}
