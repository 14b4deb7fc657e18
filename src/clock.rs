//! Time behind a trait, so that days of backoff can be tested in milliseconds.
//!
//! **Invariant:** outside this module nobody asks the operating system for the time and nobody sleeps
//! (the gate's socket deadlines excepted). Wall time is for what people read and for due times; the
//! monotonic reading is for durations, because boxes without a battery boot in 1970 and jump.

pub mod zone;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in wall time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `after` later; saturates instead of wrapping.
    pub fn plus(self, after: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(after)))
    }

    /// How much later this is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }
}

impl fmt::Display for Timestamp {
    /// `2026-11-21T08:01:13Z`, always UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix_seconds();
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of a number of days since 1970 (the proleptic Gregorian calendar; the
/// arithmetic is Howard Hinnant's `civil_from_days`, for dates after 1970).
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds as people read them: `40s`, `6m12s`, `2h10m`, `3d 4h`.
pub fn spell(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) if minutes < 10 && seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, 0) => format!("{hours}h"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, 0, _) => format!("{days}d"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A step of the wall clock that is no passing of time. Networks set clocks by less without anybody noticing.
pub const JUMP_MIN: Duration = Duration::from_secs(30);
/// How long the readings from before a jump are understood.
const ERA_KEPT: Duration = Duration::from_secs(8 * 86_400);
/// Jumps that are remembered.
const ERAS_MAX: usize = 16;
/// A clock that says less was never set: 2020-01-01T00:00:00Z.
pub const SET_SINCE: Timestamp = Timestamp(1_577_836_800_000);

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// What it would say.
    pub from: Timestamp,
    /// What it says.
    pub to: Timestamp,
}

/// A stretch of time without a jump: its first reading, and the last with its monotonic moment.
#[derive(Clone, Copy, Debug)]
struct Era {
    first: Timestamp,
    last: (Timestamp, Duration),
}

impl Era {
    /// What the clock would say at a monotonic moment, had it not been set since.
    fn reading(&self, at: Duration) -> Timestamp {
        self.last.0.plus(at.saturating_sub(self.last.1))
    }

    /// How long ago it said `moment`, if it did.
    fn since(&self, moment: Timestamp, at: Duration) -> Option<Duration> {
        let was_read = self.first <= moment && moment <= self.last.0.plus(JUMP_MIN);
        was_read.then(|| at.saturating_sub(self.last.1) + self.last.0.since(moment))
    }
}

/// The wall clock's readings since this process began, and its jumps: tells how old something really is whose
/// moment was read before the clock was set.
#[derive(Debug)]
pub struct Eras {
    began: Duration,
    eras: VecDeque<Era>,
}

impl Eras {
    /// The first reading.
    pub fn new(wall: Timestamp, monotonic: Duration) -> Eras {
        let reading = (wall, monotonic);
        Eras { began: monotonic, eras: [Era { first: wall, last: reading }].into() }
    }

    /// A reading; whether the clock has jumped since the last one.
    pub fn observe(&mut self, wall: Timestamp, monotonic: Duration) -> Option<Jump> {
        let era = self.eras.back_mut().expect("there is always one");
        let from = era.reading(monotonic);
        if wall.since(from).max(from.since(wall)) < JUMP_MIN {
            // Drift is followed, or it would add up to a jump.
            era.last = (wall, monotonic);
            return None;
        }
        self.eras.push_back(Era { first: wall, last: (wall, monotonic) });
        Some(Jump { from, to: wall })
    }

    /// What the clock says, and what it would say had it not been set: each is the right one for moments that were
    /// read before it was.
    pub fn readings(&mut self, monotonic: Duration) -> impl Iterator<Item = Timestamp> {
        let is_over = |era: &Era| era.last.1 + ERA_KEPT < monotonic;
        while self.eras.len() > 1 && (self.eras.len() > ERAS_MAX || self.eras.front().is_some_and(is_over)) {
            self.eras.pop_front();
        }
        self.eras.iter().rev().map(move |era| era.reading(monotonic))
    }

    /// How long ago `moment` was. One that no clock of this process has said, and that lies in the future or before
    /// clocks are set, tells nothing: it was before this process began, and that is all.
    pub fn age(&self, moment: Timestamp, (wall, monotonic): (Timestamp, Duration)) -> Duration {
        match moment >= SET_SINCE && moment <= wall {
            true => self.in_era(moment, monotonic).unwrap_or_else(|| wall.since(moment)),
            false => self.witnessed_age(moment, monotonic),
        }
    }

    /// How much of the time since `moment` this process has seen pass itself. No clock that was set between two
    /// processes makes it longer than it is.
    pub fn witnessed_age(&self, moment: Timestamp, monotonic: Duration) -> Duration {
        self.in_era(moment, monotonic).unwrap_or_else(|| monotonic.saturating_sub(self.began))
    }

    fn in_era(&self, moment: Timestamp, monotonic: Duration) -> Option<Duration> {
        self.eras.iter().rev().find_map(|era| era.since(moment, monotonic))
    }
}

/// Where a room gets its time from.
pub trait Clock: Send + Sync {
    /// Wall time. It may jump in either direction.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
    /// Lets `duration` pass.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock. Its monotonic reading goes on while the machine is suspended.
pub struct SystemClock {
    started: Duration,
    /// The wall time when it was started, when it is not the machine's.
    set_to: Option<Timestamp>,
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

impl SystemClock {
    /// A clock whose monotonic reading starts now.
    pub fn new() -> Arc<SystemClock> {
        SystemClock::set_to(None)
    }

    /// A clock that runs with the machine's but shows another time: `now` at this moment. For replaying requests
    /// that were signed at their own time; none shows the machine's.
    pub fn set_to(now: Option<Timestamp>) -> Arc<SystemClock> {
        Arc::new(SystemClock { started: since_boot(), set_to: now })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        if let Some(set_to) = self.set_to {
            return set_to.plus(self.monotonic());
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since_1970))
    }

    fn monotonic(&self) -> Duration {
        since_boot().saturating_sub(self.started)
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that moves only when a test moves it; `sleep` moves it too.
pub struct ManualClock {
    hands: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Arc<ManualClock> {
        Arc::new(ManualClock { hands: Mutex::new((now, Duration::ZERO)) })
    }

    /// Time passes: both readings move on.
    pub fn advance(&self, duration: Duration) {
        let mut hands = self.hands();
        hands.0 = hands.0.plus(duration);
        hands.1 += duration;
    }

    /// The wall clock is set, as by NTP after a boot in 1970; the monotonic reading stays.
    pub fn jump_to(&self, now: Timestamp) {
        self.hands().0 = now;
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.hands.lock().expect("nothing panics while it holds the hands")
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().0
    }

    fn monotonic(&self) -> Duration {
        self.hands().1
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_people_say_them() {
        let check = |given: u64, expect: &str| assert_eq!(spell(given), expect);
        check(0, "0s");
        check(40, "40s");
        check(372, "6m12s");
        check(660, "11m");
        check(3600, "1h");
        check(7800, "2h10m");
        check(273_600, "3d 4h");
        check(172_800, "2d");
    }

    #[test]
    fn timestamps_read_as_utc() {
        let check = |seconds: u64, expect: &str| assert_eq!(Timestamp(seconds * 1000).to_string(), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_763_712_073, "2025-11-21T08:01:13Z");
        check(4_102_444_799, "2099-12-31T23:59:59Z");
    }

    const TODAY: Timestamp = Timestamp(1_763_712_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_read_before_a_jump_keeps_its_age() {
        let mut eras = Eras::new(Timestamp(60_000), seconds(0));
        assert_eq!(eras.observe(Timestamp(160_000), seconds(100)), None);
        let jump = Jump { from: Timestamp(170_000), to: TODAY };
        assert_eq!(eras.observe(TODAY, seconds(110)), Some(jump));
        assert_eq!(eras.observe(TODAY.plus(seconds(90)), seconds(200)), None);
        let now = (TODAY.plus(seconds(90)), seconds(200));
        let check = |moment: Timestamp, expect: u64| assert_eq!(eras.age(moment, now), seconds(expect));
        check(Timestamp(100_000), 160);
        check(TODAY, 90);
        // Of an earlier process, whose clock was right; was never set; was ahead.
        check(Timestamp(TODAY.0 - 86_400_000), 86_490);
        check(Timestamp(5_000), 200);
        check(TODAY.plus(seconds(86_400)), 200);
        let readings: Vec<Timestamp> = eras.readings(seconds(200)).collect();
        assert_eq!(readings, [TODAY.plus(seconds(90)), Timestamp(260_000)]);
        assert_eq!(eras.readings(seconds(9 * 86_400)).count(), 1, "a jump is forgotten after days");
    }

    #[test]
    fn drift_is_no_jump_and_a_step_back_is() {
        let mut eras = Eras::new(TODAY, seconds(0));
        let mut wall = TODAY;
        for hour in 1..1000 {
            wall = wall.plus(seconds(3602));
            assert_eq!(eras.observe(wall, seconds(3600 * hour)), None);
        }
        let back = Timestamp(wall.0 - 365 * 86_400_000);
        let jump = eras.observe(back, seconds(3600 * 999));
        assert_eq!(jump, Some(Jump { from: wall, to: back }));
        assert_eq!(eras.age(Timestamp(wall.0 - 60_000), (back, seconds(3600 * 999))), seconds(60));
    }

    #[test]
    fn a_jump_moves_the_wall_clock_only() {
        let clock = ManualClock::at(Timestamp(5_000));
        clock.advance(Duration::from_secs(2));
        clock.jump_to(Timestamp(1_000_000));
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp(1_000_000), Duration::from_secs(2)));
    }
}
