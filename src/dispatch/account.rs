//! The state of the Freshdesk account, shared by all workers: its budget, its pauses, its breaker.
//!
//! **Invariants:** in any 60 seconds at most `rate_per_minute` calls are handed out. While a
//! `Retry-After` runs nothing is sent. When Freshdesk is unreachable or refuses our key, one probe waits
//! for all, with growing gaps; the envelopes stay where they are. Pure but for its own numbers: time
//! comes in as a monotonic reading.

use crate::backoff::Backoff;
use crate::freshdesk::outcome::{Cause, Rate};
use std::collections::VecDeque;
use std::time::Duration;

/// The window of Freshdesk's limits.
const WINDOW: Duration = Duration::from_secs(60);
/// Calls the account's other users are left with; below it we wait for the next window.
const REMAINING_MIN: u64 = 2;
/// How long we step back when others have used the budget up.
const STEP_BACK: Duration = Duration::from_secs(15);
/// Failures in a row that no answer explains, after which a probe goes first.
const FAILURES_IN_A_ROW: u32 = 3;

/// May a call be made?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Go,
    /// First find out whether Freshdesk answers at all; only the caller who gets this may probe.
    Probe,
    /// Not before this monotonic moment.
    NotBefore(Duration),
}

/// Why nothing is delivered, for admins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub cause: Cause,
    /// One line.
    pub reason: String,
    /// Since when, monotonic.
    pub since: Duration,
    /// When the next probe is due, monotonic.
    pub probe_at: Duration,
}

/// The account as the workers know it.
pub struct Account {
    rate_per_minute: usize,
    backoff: Backoff,
    calls: VecDeque<Duration>,
    paused_until: Duration,
    trouble: Option<Trouble>,
    is_probing: bool,
    failures: u32,
    last_success: Option<Duration>,
}

impl Account {
    /// An account nothing bad is known of.
    pub fn new(rate_per_minute: u32, backoff: Backoff) -> Account {
        Account {
            rate_per_minute: rate_per_minute.max(1) as usize,
            backoff,
            calls: VecDeque::new(),
            paused_until: Duration::ZERO,
            trouble: None,
            is_probing: false,
            failures: 0,
            last_success: None,
        }
    }

    /// Applies a new configuration; what is known of the account stays, but a probe is due at once.
    pub fn reconfigure(&mut self, rate_per_minute: u32, backoff: Backoff, now: Duration) {
        self.rate_per_minute = rate_per_minute.max(1) as usize;
        self.backoff = backoff;
        if let Some(trouble) = &mut self.trouble {
            trouble.probe_at = now;
        }
    }

    /// Whether `calls` calls may be made now; they are taken off the budget when it says `Go` or `Probe`.
    pub fn ask(&mut self, calls: usize, now: Duration) -> Permit {
        if let Some(trouble) = &self.trouble
            && (self.is_probing || now < trouble.probe_at)
        {
            // The prober wakes the others when it is through; until then its deadline is a guess.
            return Permit::NotBefore(trouble.probe_at.max(now + Duration::from_secs(1)));
        }
        if now < self.paused_until {
            return Permit::NotBefore(self.paused_until);
        }
        while self.calls.front().is_some_and(|call| *call + WINDOW <= now) {
            self.calls.pop_front();
        }
        let calls = calls.min(self.rate_per_minute);
        if self.calls.len() + calls > self.rate_per_minute {
            let too_many = self.calls.len() + calls - self.rate_per_minute;
            return Permit::NotBefore(self.calls[too_many - 1] + WINDOW);
        }
        self.calls.extend(std::iter::repeat_n(now, calls));
        if self.trouble.is_some() {
            self.is_probing = true;
            return Permit::Probe;
        }
        Permit::Go
    }

    /// The calls handed out at `asked` are over. Freshdesk counted them at some moment until `now`, so it is from
    /// now that the window is counted for them: a slow call must not let the next minute begin early.
    pub fn ended(&mut self, calls: usize, asked: Duration, now: Duration) {
        for _ in 0..calls {
            if let Some(at) = self.calls.iter().rposition(|call| *call == asked) {
                self.calls.remove(at);
                self.calls.push_back(now);
            }
        }
    }

    /// Freshdesk did what was asked.
    pub fn succeeded(&mut self, rate: Rate, now: Duration) {
        self.failures = 0;
        self.trouble = None;
        self.is_probing = false;
        self.last_success = Some(now);
        if rate.remaining.is_some_and(|remaining| remaining <= REMAINING_MIN) {
            self.pause(STEP_BACK, now);
        }
    }

    /// Freshdesk answered, though not as hoped; it is there and takes our key.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// 429: everybody waits.
    pub fn pause(&mut self, wait: Duration, now: Duration) {
        self.paused_until = self.paused_until.max(now + wait);
    }

    /// Nothing will get through until a probe does.
    pub fn failed(&mut self, cause: Cause, reason: &str, now: Duration, random: f64) {
        self.failures += 1;
        let certain = matches!(cause, Cause::Unreachable | Cause::Denied) || self.trouble.is_some();
        if !certain && self.failures < FAILURES_IN_A_ROW {
            return;
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        let probe_at = now + self.backoff.delay(self.failures, random);
        self.trouble = Some(Trouble { cause, reason: reason.to_owned(), since, probe_at });
        self.is_probing = false;
    }

    /// The probe came through: deliveries go on, and the next failure is believed at once.
    pub fn probe_succeeded(&mut self) {
        self.trouble = None;
        self.is_probing = false;
        self.failures = self.failures.min(FAILURES_IN_A_ROW - 1);
    }

    /// Why nothing is delivered, if nothing is.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Until when a `Retry-After` runs, monotonic.
    pub fn paused_until(&self) -> Duration {
        self.paused_until
    }

    /// When Freshdesk last did what was asked, monotonic.
    pub fn last_success(&self) -> Option<Duration> {
        self.last_success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn account(rate: u32) -> Account {
        let backoff = Backoff { first: seconds(5), factor: 2.0, max: seconds(900), jitter: 0.0 };
        Account::new(rate, backoff)
    }

    #[test]
    fn no_window_of_a_minute_has_more_calls_than_allowed() {
        let mut account = account(3);
        let mut made = Vec::new();
        let mut now = Duration::ZERO;
        while made.len() < 20 {
            match account.ask(1, now) {
                Permit::Go => made.push(now),
                Permit::NotBefore(later) => {
                    assert!(later > now);
                    now = later;
                }
                Permit::Probe => panic!("nothing is wrong"),
            }
        }
        for window in made.windows(4) {
            assert!(window[3] - window[0] >= WINDOW, "{window:?}");
        }
    }

    #[test]
    fn a_slow_call_is_in_the_window_until_a_minute_after_its_end() {
        let mut account = account(2);
        assert_eq!(account.ask(1, seconds(0)), Permit::Go);
        assert_eq!(account.ask(1, seconds(1)), Permit::Go);
        account.ended(1, seconds(1), seconds(2));
        account.ended(1, seconds(0), seconds(20));
        assert_eq!(account.ask(1, seconds(61)), Permit::NotBefore(seconds(62)));
        assert_eq!(account.ask(1, seconds(62)), Permit::Go);
        assert_eq!(account.ask(1, seconds(63)), Permit::NotBefore(seconds(80)));
    }

    #[test]
    fn more_calls_at_once_than_the_budget_take_all_of_it() {
        let mut account = account(2);
        assert_eq!(account.ask(5, seconds(1)), Permit::Go);
        assert_eq!(account.ask(1, seconds(2)), Permit::NotBefore(seconds(61)));
    }

    #[test]
    fn everybody_waits_while_a_retry_after_runs() {
        let mut account = account(50);
        account.pause(seconds(30), seconds(10));
        account.pause(seconds(5), seconds(10));
        assert_eq!(account.ask(1, seconds(39)), Permit::NotBefore(seconds(40)));
        assert_eq!(account.ask(1, seconds(40)), Permit::Go);
    }

    #[test]
    fn one_probe_waits_for_all_and_its_gaps_grow() {
        let mut account = account(50);
        account.failed(Cause::Unreachable, "connection refused", seconds(0), 0.5);
        let mut gaps = Vec::new();
        let mut now = seconds(0);
        for _ in 0..4 {
            let Permit::NotBefore(later) = account.ask(1, now) else { panic!("it is down") };
            assert_eq!(account.ask(1, later), Permit::Probe);
            assert!(matches!(account.ask(1, later), Permit::NotBefore(_)), "one probe at a time");
            gaps.push((later - now).as_secs());
            now = later;
            account.failed(Cause::Unreachable, "connection refused", now, 0.5);
        }
        assert_eq!(gaps, [5, 10, 20, 40]);
        now = account.trouble().expect("still down").probe_at;
        assert_eq!(account.ask(1, now), Permit::Probe);
        account.probe_succeeded();
        assert_eq!(account.ask(1, now), Permit::Go);
    }

    #[test]
    fn one_failed_ticket_stops_nobody_but_a_row_of_them_does() {
        let mut account = account(50);
        for _ in 1..FAILURES_IN_A_ROW {
            account.failed(Cause::Server, "500", seconds(1), 0.0);
        }
        assert_eq!(account.ask(1, seconds(1)), Permit::Go);
        account.answered();
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        assert_eq!(account.ask(1, seconds(2)), Permit::Go);
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        assert!(matches!(account.ask(1, seconds(2)), Permit::NotBefore(_)));
    }

    #[test]
    fn others_of_the_account_are_left_something() {
        let mut account = account(50);
        account.succeeded(Rate { total: Some(50), remaining: Some(1) }, seconds(5));
        assert_eq!(account.ask(1, seconds(6)), Permit::NotBefore(seconds(20)));
    }

    #[test]
    fn a_new_configuration_is_tried_at_once() {
        let mut account = account(50);
        account.failed(Cause::Denied, "401", seconds(0), 0.0);
        account.reconfigure(
            50,
            Backoff { first: seconds(5), factor: 2.0, max: seconds(900), jitter: 0.0 },
            seconds(1),
        );
        assert_eq!(account.ask(1, seconds(1)), Permit::Probe);
    }
}
