//! How long to wait before the next attempt: exponential, capped, with jitter. Pure: it never sleeps.
//!
//! **Invariants:** a delay always lies within `bounds`, and the bounds of attempt n+1 are never below
//! those of attempt n. Jitter spreads envelopes that failed together, so that they do not come back together.
//! `dispatch` calls it after an outcome that was deferred or unknown.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// With full jitter a delay could be nothing at all; it is at least this part of `first`.
const FLOOR_PART: f64 = 0.1;

/// `delivery.backoff = { first = "5s", factor = 2.0, max = "15m", jitter = 0.2 }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Longest delay after the first attempt.
    pub first: Duration,
    /// What each further attempt multiplies the delay by; below 1 counts as 1.
    pub factor: f64,
    /// No delay is longer.
    pub max: Duration,
    /// The part of a delay that is left to chance: 0 none, 0.2 its last fifth, 1 all of it (full jitter).
    pub jitter: f64,
}

impl Backoff {
    /// How long to wait after attempt number `attempt` (from 1), given a `random` number in 0..1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let (shortest, longest) = self.bounds(attempt);
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        shortest + share(longest - shortest, random)
    }

    /// The shortest and the longest delay that `delay` can give after that attempt.
    pub fn bounds(&self, attempt: u32) -> (Duration, Duration) {
        let longest = self.longest(attempt);
        let jitter = if self.jitter.is_nan() { 1.0 } else { self.jitter.clamp(0.0, 1.0) };
        let floor = share(self.first, FLOOR_PART).min(longest);
        (share(longest, 1.0 - jitter).max(floor), longest)
    }

    fn longest(&self, attempt: u32) -> Duration {
        let factor = if self.factor.is_nan() { 1.0 } else { self.factor.max(1.0) };
        // The product may be infinite after many attempts (and is not a number for 0 × infinity):
        // then it is not a Duration any more, and the cap is what was meant.
        let seconds = self.first.as_secs_f64() * factor.powf(f64::from(attempt.saturating_sub(1)));
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max)
    }
}

/// `part` (0 to 1) of `whole`. `Duration::mul_f64` would panic where rounding exceeds the largest duration.
fn share(whole: Duration, part: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * part).unwrap_or(whole).min(whole)
}

/// A small source of chance (splitmix64): good enough to spread retries, and repeatable when seeded.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The same seed gives the same throws.
    pub fn seeded(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// Seeded by the operating system, by way of the keys that the standard library's hash maps get.
    pub fn random() -> Dice {
        Dice::seeded(RandomState::new().build_hasher().finish())
    }

    /// The next number, all 64 bits of it.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number in 0..1, never 1 itself.
    pub fn throw(&mut self) -> f64 {
        // A double holds 53 bits exactly, so this division rounds nothing up to 1.
        const STEPS: u64 = 1 << 53;
        (self.next_u64() % STEPS) as f64 / STEPS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usual(jitter: f64) -> Backoff {
        Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(900), jitter }
    }

    #[test]
    fn the_longest_delay_doubles_up_to_the_cap() {
        let check = |attempt, seconds| assert_eq!(usual(0.2).bounds(attempt).1, Duration::from_secs(seconds));
        check(0, 5);
        check(1, 5);
        check(2, 10);
        check(8, 640);
        check(9, 900);
        check(u32::MAX, 900);
    }

    #[test]
    fn jitter_says_which_part_of_the_delay_is_left_to_chance() {
        let check = |jitter, random, milliseconds| {
            let delay = usual(jitter).delay(3, random);
            assert_eq!(delay, Duration::from_millis(milliseconds), "jitter {jitter}, random {random}");
        };
        check(0.0, 0.0, 20_000);
        check(0.0, 0.999, 20_000);
        check(0.2, 0.0, 16_000);
        check(0.2, 0.5, 18_000);
        check(1.0, 0.0, 500);
        check(1.0, 0.5, 10_250);
        check(1.0, 1.0, 20_000);
        check(1.0, f64::NAN, 500);
    }

    #[test]
    fn odd_settings_stay_within_the_cap() {
        let check = |backoff: Backoff, attempt, expect| assert_eq!(backoff.delay(attempt, 0.5), expect);
        let flat = Backoff { jitter: 0.0, factor: 0.1, ..usual(0.0) };
        check(flat, 7, Duration::from_secs(5));
        check(Backoff { factor: f64::NAN, ..flat }, 7, Duration::from_secs(5));
        check(Backoff { factor: f64::INFINITY, ..flat }, 7, Duration::from_secs(900));
        check(Backoff { max: Duration::from_secs(1), jitter: 1.0, ..flat }, 7, Duration::from_millis(750));
        check(Backoff { first: Duration::ZERO, ..usual(1.0) }, 7, Duration::ZERO);
        let endless = Backoff { first: Duration::MAX, max: Duration::MAX, ..flat };
        check(endless, 2, Duration::MAX);
    }

    #[test]
    fn the_same_seed_gives_the_same_throws() {
        // The first numbers of splitmix64 with seed 0, as its author publishes them.
        let mut dice = Dice::seeded(0);
        assert_eq!([dice.next_u64(), dice.next_u64()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        assert_ne!(Dice::random().next_u64(), Dice::random().next_u64());
    }

    #[test]
    fn throws_fill_the_range_evenly() {
        let mut dice = Dice::seeded(7);
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            tenths[(dice.throw() * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| (850..1150).contains(&count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn delays_keep_to_bounds_that_never_shrink(
            (first, max) in (0_u64..100_000, 0_u64..10_000_000),
            (factor, jitter) in (0.0..10.0, 0.0..1.0),
            (attempt, random) in (0_u32..5_000, 0.0..1.0),
        ) {
            let (first, max) = (Duration::from_millis(first), Duration::from_millis(max));
            let backoff = Backoff { first, factor, max, jitter };
            let ((low, high), delay) = (backoff.bounds(attempt), backoff.delay(attempt, random));
            let (next_low, next_high) = backoff.bounds(attempt + 1);
            prop_assert!(low <= delay && delay <= high && high <= max, "{low:?} {delay:?} {high:?}");
            prop_assert!(low <= next_low && high <= next_high, "{low:?} {next_low:?}, {high:?} {next_high:?}");
        }
    }
}
