//! The state of the Freshdesk account, shared by all workers: its budget, its pauses, its breaker.
//!
//! **Invariants:** in any 60 seconds at most `rate_per_minute` calls are handed out, and of lists no more than
//! three quarters of what the account's plan allows. A look that reads on beyond its first pages asks for each page;
//! it is refused only what others have used, or it could never end. While a
//! `Retry-After` runs nothing is sent. When Freshdesk is unreachable or refuses our key, one probe waits
//! for all, with growing gaps; the envelopes stay where they are. Pure but for its own numbers: time
//! comes in as a monotonic reading.

use crate::backoff::Backoff;
use crate::freshdesk::outcome::{Calls, Cause, Rate};
use std::collections::VecDeque;
use std::time::Duration;

/// The window of Freshdesk's limits.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
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
    /// The lists that a look reads are used up until this monotonic moment; other calls may be made.
    ListsNotBefore(Duration),
}

/// Calls of the last minute of which only so many are allowed.
struct Window {
    limit: usize,
    calls: VecDeque<Duration>,
}

impl Window {
    fn new(limit: usize) -> Window {
        Window { limit: limit.max(1), calls: VecDeque::new() }
    }

    /// When `calls` more may be made, if not now. More at once than the limit take all of it.
    fn later(&mut self, calls: usize, now: Duration) -> Option<Duration> {
        while self.calls.front().is_some_and(|call| *call + WINDOW <= now) {
            self.calls.pop_front();
        }
        let too_many = (self.calls.len() + calls.min(self.limit)).saturating_sub(self.limit);
        too_many.checked_sub(1).map(|last| self.calls.get(last).map_or(now, |call| *call) + WINDOW)
    }

    fn take(&mut self, calls: usize, now: Duration) {
        self.calls.extend(std::iter::repeat_n(now, calls.min(self.limit)));
    }

    /// How long to wait for `calls` more of somebody who has `own` of those in the window already, and no use for
    /// waiting when all are.
    fn more(&mut self, calls: usize, own: usize, now: Duration) -> Option<Duration> {
        if calls == 0 {
            return None;
        }
        let later = self.later(calls, now)?;
        (self.calls.len() > own).then(|| later.saturating_sub(now))
    }

    /// Of the calls handed out at `asked`, `spent` were made, and are over.
    fn ended(&mut self, (handed_out, asked): (usize, Duration), spent: usize, now: Duration) {
        for _ in 0..handed_out.min(self.limit) {
            if let Some(at) = self.calls.iter().rposition(|call| *call == asked) {
                self.calls.remove(at);
            }
        }
        self.calls.extend(std::iter::repeat_n(now, spent));
    }
}

/// What a plan with so many calls a minute allows of each kind of list (vendor's table of March 2024), less what
/// others of the account are left with. Smaller or unknown plans count as the smallest paid one.
fn lists_per_minute(total: Option<u64>) -> usize {
    let allowed = match total.unwrap_or_default() {
        0..=200 => 20,
        201..=400 => 100,
        401..=700 => 200,
        701..=1000 => 300,
        more => more / 5,
    };
    usize::try_from(allowed * 3 / 4).unwrap_or(usize::MAX)
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
    all: Window,
    ticket_lists: Window,
    contact_lists: Window,
    backoff: Backoff,
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
            all: Window::new(rate_per_minute as usize),
            ticket_lists: Window::new(lists_per_minute(None)),
            contact_lists: Window::new(lists_per_minute(None)),
            backoff,
            paused_until: Duration::ZERO,
            trouble: None,
            is_probing: false,
            failures: 0,
            last_success: None,
        }
    }

    /// Applies a new configuration; what is known of the account stays, but a probe is due at once.
    pub fn reconfigure(&mut self, rate_per_minute: u32, backoff: Backoff, now: Duration) {
        self.all.limit = rate_per_minute.max(1) as usize;
        self.backoff = backoff;
        self.try_now(now);
    }

    /// Something has changed that may end the trouble: the next probe is due.
    pub fn try_now(&mut self, now: Duration) {
        if let Some(trouble) = &mut self.trouble {
            trouble.probe_at = now;
        }
    }

    /// Whether `calls` may be made now; they are taken off the budget when it says `Go` or `Probe`.
    pub fn ask(&mut self, calls: Calls, now: Duration) -> Permit {
        if let Some(trouble) =
            self.trouble.as_ref().filter(|trouble| self.is_probing || now < trouble.probe_at)
        {
            // The prober wakes the others when it is through; until then its deadline is a guess.
            return Permit::NotBefore(trouble.probe_at.max(now + Duration::from_secs(1)));
        }
        if now < self.paused_until {
            return Permit::NotBefore(self.paused_until);
        }
        let calls = if self.trouble.is_some() { Calls::plain(1) } else { calls };
        if let Some(later) = self.all.later(calls.all, now) {
            return Permit::NotBefore(later);
        }
        let lists =
            [(&mut self.ticket_lists, calls.ticket_lists), (&mut self.contact_lists, calls.contact_lists)];
        let later = lists.into_iter().filter_map(|(window, calls)| window.later(calls, now)).max();
        if let Some(later) = later {
            return Permit::ListsNotBefore(later);
        }
        self.all.take(calls.all, now);
        self.ticket_lists.take(calls.ticket_lists, now);
        self.contact_lists.take(calls.contact_lists, now);
        if self.trouble.is_some() {
            self.is_probing = true;
            return Permit::Probe;
        }
        Permit::Go
    }

    /// Whether somebody who was handed out `own` calls lately may make `calls` more; otherwise how long to wait. They
    /// are taken off the budget before they are made.
    pub fn ask_more(&mut self, calls: Calls, own: Calls, now: Duration) -> Result<(), Duration> {
        let waits = [
            (now < self.paused_until).then(|| self.paused_until - now),
            self.all.more(calls.all, own.all, now),
            self.ticket_lists.more(calls.ticket_lists, own.ticket_lists, now),
            self.contact_lists.more(calls.contact_lists, own.contact_lists, now),
        ];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        self.all.take(calls.all, now);
        self.ticket_lists.take(calls.ticket_lists, now);
        self.contact_lists.take(calls.contact_lists, now);
        Ok(())
    }

    /// The calls handed out at `asked` are over, and `spent` were made. Freshdesk counted them at some moment until
    /// `now`, so it is from now that the window is counted for them: a slow call must not let the next minute begin
    /// early.
    pub fn ended(&mut self, (calls, asked): (Calls, Duration), spent: Calls, now: Duration) {
        self.all.ended((calls.all, asked), spent.all, now);
        self.ticket_lists.ended((calls.ticket_lists, asked), spent.ticket_lists, now);
        self.contact_lists.ended((calls.contact_lists, asked), spent.contact_lists, now);
    }

    /// What Freshdesk says of the account tells its plan.
    pub fn learn(&mut self, rate: Rate) {
        let lists = lists_per_minute(rate.total);
        (self.ticket_lists.limit, self.contact_lists.limit) = (lists, lists);
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
            match account.ask(Calls::plain(1), now) {
                Permit::Go => made.push(now),
                Permit::NotBefore(later) => {
                    assert!(later > now);
                    now = later;
                }
                Permit::Probe | Permit::ListsNotBefore(_) => panic!("nothing is wrong"),
            }
        }
        for window in made.windows(4) {
            assert!(window[3] - window[0] >= WINDOW, "{window:?}");
        }
    }

    #[test]
    fn a_slow_call_is_in_the_window_until_a_minute_after_its_end() {
        let mut account = account(2);
        assert_eq!(account.ask(Calls::plain(1), seconds(0)), Permit::Go);
        assert_eq!(account.ask(Calls::plain(1), seconds(1)), Permit::Go);
        let one = Calls::plain(1);
        account.ended((one, seconds(1)), one, seconds(2));
        account.ended((one, seconds(0)), one, seconds(20));
        assert_eq!(account.ask(Calls::plain(1), seconds(61)), Permit::NotBefore(seconds(62)));
        assert_eq!(account.ask(Calls::plain(1), seconds(62)), Permit::Go);
        assert_eq!(account.ask(Calls::plain(1), seconds(63)), Permit::NotBefore(seconds(80)));
    }

    #[test]
    fn more_calls_at_once_than_the_budget_take_all_of_it() {
        let mut account = account(2);
        assert_eq!(account.ask(Calls::plain(5), seconds(1)), Permit::Go);
        assert_eq!(account.ask(Calls::plain(1), seconds(2)), Permit::NotBefore(seconds(61)));
    }

    #[test]
    fn what_was_not_needed_is_given_back_and_what_was_more_is_charged() {
        let mut account = account(10);
        assert_eq!(account.ask(Calls::plain(10), seconds(0)), Permit::Go);
        account.ended((Calls::plain(10), seconds(0)), Calls::plain(2), seconds(1));
        assert_eq!(account.ask(Calls::plain(8), seconds(2)), Permit::Go);
        account.ended((Calls::plain(8), seconds(2)), Calls::plain(11), seconds(3));
        assert_eq!(account.ask(Calls::plain(1), seconds(4)), Permit::NotBefore(seconds(63)));
        assert_eq!(account.ask(Calls::plain(1), seconds(63)), Permit::Go);
    }

    #[test]
    fn a_minute_has_few_lists_and_they_hold_nothing_else_back() {
        let mut account = account(1000);
        let look = Calls { all: 3, ticket_lists: 3, contact_lists: 0 };
        for _ in 0..5 {
            assert_eq!(account.ask(look, seconds(0)), Permit::Go);
        }
        assert_eq!(account.ask(look, seconds(1)), Permit::ListsNotBefore(seconds(60)));
        assert_eq!(account.ask(Calls::plain(1), seconds(1)), Permit::Go);
        // A larger plan has more of them.
        account.learn(Rate { total: Some(400), remaining: None });
        assert_eq!(account.ask(look, seconds(1)), Permit::Go);
    }

    #[test]
    fn a_look_that_reads_on_is_held_back_by_others_and_not_by_itself() {
        let mut account = account(1000);
        let (look, page) = (
            Calls { all: 3, ticket_lists: 3, contact_lists: 0 },
            Calls { all: 1, ticket_lists: 1, contact_lists: 0 },
        );
        assert_eq!(account.ask(look, seconds(0)), Permit::Go);
        assert_eq!(account.ask(look, seconds(10)), Permit::Go);
        let mut own = look;
        for _ in 0..9 {
            assert_eq!(account.ask_more(page, own, seconds(20)), Ok(()));
            own = own.and(page);
        }
        assert_eq!(
            account.ask_more(page, own, seconds(21)),
            Err(seconds(39)),
            "the other's are in this minute"
        );
        assert_eq!(account.ask(look, seconds(21)), Permit::ListsNotBefore(seconds(60)));
        // Alone it goes on to its end, whatever the plan allows.
        for _ in 0..20 {
            assert_eq!(account.ask_more(page, own, seconds(71)), Ok(()));
            own = own.and(page);
        }
        account.pause(seconds(5), seconds(72));
        assert_eq!(account.ask_more(page, own, seconds(73)), Err(seconds(4)));
    }

    #[test]
    fn everybody_waits_while_a_retry_after_runs() {
        let mut account = account(50);
        account.pause(seconds(30), seconds(10));
        account.pause(seconds(5), seconds(10));
        assert_eq!(account.ask(Calls::plain(1), seconds(39)), Permit::NotBefore(seconds(40)));
        assert_eq!(account.ask(Calls::plain(1), seconds(40)), Permit::Go);
    }

    #[test]
    fn one_probe_waits_for_all_and_its_gaps_grow() {
        let mut account = account(50);
        account.failed(Cause::Unreachable, "connection refused", seconds(0), 0.5);
        let mut gaps = Vec::new();
        let mut now = seconds(0);
        for _ in 0..4 {
            let Permit::NotBefore(later) = account.ask(Calls::plain(1), now) else { panic!("it is down") };
            assert_eq!(account.ask(Calls::plain(1), later), Permit::Probe);
            assert!(
                matches!(account.ask(Calls::plain(1), later), Permit::NotBefore(_)),
                "one probe at a time"
            );
            gaps.push((later - now).as_secs());
            now = later;
            account.failed(Cause::Unreachable, "connection refused", now, 0.5);
        }
        assert_eq!(gaps, [5, 10, 20, 40]);
        now = account.trouble().expect("still down").probe_at;
        assert_eq!(account.ask(Calls::plain(1), now), Permit::Probe);
        account.probe_succeeded();
        assert_eq!(account.ask(Calls::plain(1), now), Permit::Go);
    }

    #[test]
    fn one_failed_ticket_stops_nobody_but_a_row_of_them_does() {
        let mut account = account(50);
        for _ in 1..FAILURES_IN_A_ROW {
            account.failed(Cause::Server, "500", seconds(1), 0.0);
        }
        assert_eq!(account.ask(Calls::plain(1), seconds(1)), Permit::Go);
        account.answered();
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        assert_eq!(account.ask(Calls::plain(1), seconds(2)), Permit::Go);
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        account.failed(Cause::Server, "500", seconds(2), 0.0);
        assert!(matches!(account.ask(Calls::plain(1), seconds(2)), Permit::NotBefore(_)));
    }

    #[test]
    fn others_of_the_account_are_left_something() {
        let mut account = account(50);
        account.succeeded(Rate { total: Some(50), remaining: Some(1) }, seconds(5));
        assert_eq!(account.ask(Calls::plain(1), seconds(6)), Permit::NotBefore(seconds(20)));
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
        assert_eq!(account.ask(Calls::plain(1), seconds(1)), Permit::Probe);
    }
}
