//! Writes that belong to no envelope, as an alert's ticket: in the account's one budget, and what they come to is
//! learned from like any other. Who makes them keeps what has begun, and looks before he sends again.

use super::attempt::{looked, send, trouble_of};
use super::{Dispatch, Permit};
use crate::clock::Timestamp;
use crate::freshdesk::outcome::{Calls, Cause, Looked, Outcome};
use crate::freshdesk::write::Write;
use crate::freshdesk::{Desk, calls_of, calls_of_look};
use crate::spool::QueueError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long to wait while delivery is paused.
const WAIT: Duration = Duration::from_secs(30);

/// A write of no envelope.
pub struct Aside<'a> {
    /// What is written.
    pub write: &'a Write,
    /// The ticket it goes to, unless it opens one.
    pub ticket: Option<u64>,
    /// What it is found by.
    pub marker: &'a str,
    /// Not made before this.
    pub since: Timestamp,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub enum Beside<T> {
    /// This.
    Done(T),
    /// No call may be made for so long.
    NotFor(Duration),
}

impl Dispatch {
    /// Makes a write. `begin` is called when it may be made and before it is, so that its beginning can be kept.
    pub fn write_beside(
        &self,
        aside: &Aside<'_>,
        begin: impl FnOnce() -> Result<(), QueueError>,
    ) -> Result<Beside<Outcome>, QueueError> {
        let ticket = aside.ticket.unwrap_or_default();
        let made = self.permitted(calls_of(aside.write), |desk| {
            begin()?;
            let outcome = send(desk, (aside.write, aside.ticket), aside.marker);
            Ok(outcome.unwrap_or(Outcome::Delivered { ticket }))
        });
        if let Beside::Done(Ok(outcome)) = &made {
            self.learn(outcome);
        }
        match made {
            Beside::Done(outcome) => outcome.map(Beside::Done),
            Beside::NotFor(wait) => Ok(Beside::NotFor(wait)),
        }
    }

    /// Looks whether a write is there.
    pub fn look_beside(&self, aside: &Aside<'_>) -> Beside<Looked> {
        let found = self.permitted(calls_of_look(aside.write), |desk| {
            looked(desk, (aside.write, aside.ticket), aside.marker, aside.since).unwrap_or(Looked::Absent)
        });
        match &found {
            Beside::Done(Looked::Deferred { not_before, cause, reason }) => {
                let (not_before, cause, reason) = (*not_before, *cause, reason.clone());
                self.learn(&Outcome::Deferred { not_before, cause, reason });
            }
            Beside::Done(_) => self.account().answered(),
            Beside::NotFor(_) => {}
        }
        found
    }

    /// How long a write whose answer never came may still be done.
    pub fn guard(&self) -> Duration {
        self.orders().guard
    }

    /// Calls, when the account lets them be made, paid for as a worker's.
    fn permitted<T>(&self, calls: Calls, call: impl FnOnce(&dyn Desk) -> T) -> Beside<T> {
        if self.is_paused.load(Ordering::Acquire) || self.is_stopping.load(Ordering::Acquire) {
            return Beside::NotFor(WAIT);
        }
        let (orders, now) = (self.orders(), self.clock.monotonic());
        let permit = self.account().ask(calls, now);
        match permit {
            Permit::Go => {
                // What others of this thread left is not ours.
                let _ = orders.desk.spent();
                let pages = self.grant(&orders, calls, calls);
                let made = call(&*orders.desk);
                self.charge(&orders, (calls, now), &pages.borrow());
                Beside::Done(made)
            }
            Permit::Probe => {
                let _ = orders.desk.spent();
                self.probe(&orders);
                self.charge(&orders, (Calls::plain(1), now), &[]);
                // The account knows now how long.
                Beside::NotFor(Duration::ZERO)
            }
            Permit::NotBefore(later) | Permit::ListsNotBefore(later) => {
                Beside::NotFor(later.saturating_sub(now))
            }
        }
    }

    /// What a write came to is said of the account, too.
    fn learn(&self, outcome: &Outcome) {
        let (rate, now, random) = (self.orders().desk.rate(), self.clock.monotonic(), self.throw());
        let mut account = self.account();
        match outcome {
            Outcome::Delivered { .. } => account.succeeded(rate, now),
            Outcome::Rejected { .. } => account.answered(),
            Outcome::Deferred { cause: Cause::RateLimited, not_before, .. } => {
                account.pause(not_before.unwrap_or(super::account::WINDOW), now);
            }
            Outcome::Deferred { .. } | Outcome::Unknown { .. } => {
                let (cause, reason) = trouble_of(outcome);
                account.failed(cause, &reason, now, random);
            }
        }
    }
}
