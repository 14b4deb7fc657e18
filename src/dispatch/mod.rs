//! The delivery loop, the fourth room: due head of a conversation → lease → plan → call → settle.
//!
//! Every worker thread (`dispatch-N`) runs the same step: ask the account whether a call may be made,
//! lease what is due, attempt it, settle it. What to wait for is always known: a moment, or new work.
//!
//! **Invariants:** one attempt per conversation at a time (the spool sees to it). Nothing is sent before
//! the attempt's beginning is durable. An attempt whose fate is unknown is never repeated before
//! Freshdesk was asked twice whether it has it. A panic in mapping or client costs the attempt, not the
//! worker.

mod account;
mod attempt;
mod beside;
pub mod mapping;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod together;

pub use account::{Account, Permit, Trouble};
pub use attempt::LOOKS_MIN;
pub use beside::{Aside, Beside};
pub use together::WAITS_FOR_MORE;

use crate::backoff::{Backoff, Dice};
use crate::clock::Clock;
use crate::freshdesk::Desk;
use crate::freshdesk::outcome::{Calls, Cause, Outcome, Rate};
use crate::freshdesk::write::Write;
use crate::spool::{Change, Envelope, Id, Lease, Leased, QueueError, Spool, hash_of};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// The longest a worker waits without looking at the clock again: a wall clock that jumps forward makes
/// envelopes due at once. It is also when idle connections to Freshdesk are closed.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// While no call may be made, what comes in is looked at this often and not at every put: nearly all of it
/// waits, only what needs no call (a mapping that fails, a source that is gone) does not.
const CLOSED_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a source makes of an event when it is delivered.
#[derive(Debug)]
pub enum Planned {
    /// These writes, in order; none when the event is to be ignored.
    Writes(Vec<Write>),
    /// The mapping failed, with the reason for the dead letter.
    Unmappable(String),
    /// The source is not configured (any more).
    NoSource,
    /// An admin has paused the source.
    Paused,
}

/// Maps an event, given its conversation's ticket.
pub type Planner = dyn Fn(&Envelope, Option<u64>) -> Planned + Send + Sync;

/// Told of every delivery.
pub type Delivered = dyn Fn(&Envelope, &Delivery) + Send + Sync;

/// Told of what happens to an envelope, for counters.
pub type Observer = dyn Fn(&Envelope, &Noted<'_>) + Send + Sync;

/// Something that happened to an envelope.
#[derive(Debug)]
pub enum Noted<'a> {
    /// An attempt ended like this.
    Settled(&'a Change),
    /// This write is in Freshdesk.
    Wrote(&'a Write),
}

/// A delivery, for counters.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The ticket, unless nothing had to be written.
    pub ticket: Option<u64>,
    /// From the request to the ticket.
    pub age: Duration,
}

/// Everything a reload can change. An attempt uses the orders it started with.
pub struct Orders {
    /// The Freshdesk account.
    pub desk: Arc<dyn Desk>,
    /// Maps events.
    pub plan: Box<Planner>,
    /// How attempts are spaced.
    pub backoff: Backoff,
    /// Age at which a failing envelope is given up.
    pub give_up_after: Duration,
    /// Our own ceiling of calls per minute.
    pub rate_per_minute: u32,
    /// How long a write whose answer never came may still be done by Freshdesk: longer than the client's timeout.
    pub guard: Duration,
}

/// What the workers share.
pub struct Dispatch {
    spool: Arc<Spool>,
    clock: Arc<dyn Clock>,
    orders: RwLock<Arc<Orders>>,
    account: Arc<Mutex<Account>>,
    /// The account may be open again, or the workers shall end.
    account_wake: Condvar,
    dice: Mutex<Dice>,
    is_stopping: AtomicBool,
    /// Of the spool's clock.
    jumps_seen: AtomicU64,
    is_paused: AtomicBool,
    delivered: Box<Delivered>,
    observer: Box<Observer>,
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again at once.
    Again,
    /// Nothing to do for this long, unless work comes in.
    Wait(Duration),
    /// No call may be made for this long, whatever comes in.
    Closed(Duration),
}

/// The worker threads.
pub struct Running {
    ended: Mutex<Receiver<()>>,
}

impl Running {
    /// Waits until all have ended, at most `timeout`; whether they did.
    pub fn wait(&self, timeout: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }
}

/// How delivery stands, for `status`.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Why nothing is delivered, if nothing is.
    pub trouble: Option<Trouble>,
    /// How long a `Retry-After` still runs.
    pub paused_for: Duration,
    /// How long ago Freshdesk last did what was asked.
    pub last_success: Option<Duration>,
    /// What Freshdesk said of its budget.
    pub rate: Rate,
    /// How often it answered with which status; 0 stands for no answer.
    pub answers: Vec<(u16, u64)>,
}

impl Dispatch {
    /// A dispatcher without threads; `run` starts them.
    pub fn new(
        spool: Arc<Spool>,
        clock: Arc<dyn Clock>,
        orders: Orders,
        delivered: Box<Delivered>,
    ) -> Dispatch {
        let account = Account::new(orders.rate_per_minute, orders.backoff);
        Dispatch {
            spool,
            clock,
            orders: RwLock::new(Arc::new(orders)),
            account: Arc::new(Mutex::new(account)),
            account_wake: Condvar::new(),
            dice: Mutex::new(Dice::random()),
            is_stopping: AtomicBool::new(false),
            jumps_seen: AtomicU64::new(0),
            is_paused: AtomicBool::new(false),
            delivered,
            observer: Box::new(|_, _| ()),
        }
    }

    /// With somebody who is told what happens.
    pub fn observed_by(self, observer: Box<Observer>) -> Dispatch {
        Dispatch { observer, ..self }
    }

    /// Starts the worker threads.
    pub fn run(self: &Arc<Self>, workers: usize) -> std::io::Result<Running> {
        let (alive, ended) = std::sync::mpsc::channel();
        for number in 1..=workers {
            let (dispatch, alive) = (self.clone(), alive.clone());
            let thread = std::thread::Builder::new().name(format!("dispatch-{number}"));
            thread.spawn(move || {
                dispatch.work();
                drop(alive);
            })?;
        }
        Ok(Running { ended: Mutex::new(ended) })
    }

    /// Lets the workers finish what they attempt and then end.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Applies a new configuration to the attempts that start from now on.
    pub fn set_orders(&self, orders: Orders) {
        self.account().reconfigure(orders.rate_per_minute, orders.backoff, self.clock.monotonic());
        *self.orders.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(orders);
        self.wake();
    }

    /// An admin pauses delivery, or lets it go on. What is being attempted is attempted to its end.
    pub fn set_paused(&self, is_paused: bool) {
        if self.is_paused.swap(is_paused, Ordering::AcqRel) != is_paused {
            self.wake();
        }
    }

    /// Lets every worker look again; one that is about to stand by may take a second longer.
    fn wake(&self) {
        // Under the lock, so that nobody misses the end between his look at `is_stopping` and his wait.
        let account = self.account();
        self.account_wake.notify_all();
        drop(account);
        self.spool.nudge();
    }

    /// How delivery stands.
    pub fn standing(&self) -> Standing {
        let now = self.clock.monotonic();
        let desk = self.orders().desk.clone();
        let (rate, answers) = (desk.rate(), desk.answers());
        let account = self.account();
        Standing {
            answers,
            trouble: account.trouble().cloned(),
            paused_for: account.paused_until().saturating_sub(now),
            last_success: account.last_success().map(|at| now.saturating_sub(at)),
            rate,
        }
    }

    fn orders(&self) -> Arc<Orders> {
        self.orders.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throw(&self) -> f64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).throw()
    }

    fn work(&self) {
        let mut seen = 0;
        while !self.is_stopping.load(Ordering::Acquire) {
            let step = match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(Ok(step)) => step,
                Ok(Err(error)) => {
                    log::error!("delivery stopped for a moment error={:?}", error.to_string());
                    Step::Wait(WAIT_MAX)
                }
                // Not in a mapping or the client, those are caught closer by: the spool may be half way.
                Err(_) => return self.spool.break_down("bug: delivery panicked"),
            };
            let duration = match step {
                Step::Again => continue,
                Step::Wait(duration) => duration,
                Step::Closed(duration) => duration.saturating_sub(self.stand_by(duration)),
            };
            let waited = self.spool.wait_for_work(seen, duration.min(WAIT_MAX));
            if waited == seen && duration >= WAIT_MAX {
                self.orders().desk.rest();
            }
            seen = waited;
        }
    }

    /// Waits for the account, deaf to what is put meanwhile; how long.
    fn stand_by(&self, closed_for: Duration) -> Duration {
        let account = self.account();
        let longest = closed_for.min(CLOSED_LOOK_INTERVAL);
        if !self.is_stopping.load(Ordering::Acquire) {
            drop(self.account_wake.wait_timeout(account, longest));
        }
        longest
    }

    /// One round of a worker: at most one attempt.
    pub fn step(&self) -> Result<Step, QueueError> {
        let now = self.clock.monotonic();
        if self.is_paused.load(Ordering::Acquire) {
            return Ok(Step::Wait(WAIT_MAX));
        }
        let jumps = self.spool.clock_jumps();
        if self.jumps_seen.swap(jumps, Ordering::AcqRel) != jumps {
            // With a clock that is right certificates may be valid: what failed before is tried at once.
            self.account().try_now(now);
        }
        // Whether there is something to do is asked before the budget, or idle workers would eat it.
        let lease = match self.spool.lease_due()? {
            Leased::One(lease) => lease,
            Leased::NotBefore(due) => return Ok(Step::Wait(due.since(self.clock.now()))),
            Leased::Nothing => return Ok(Step::Wait(WAIT_MAX)),
        };
        let orders = self.orders();
        let Some(writes) = self.plan_safely(&orders, &lease)? else { return Ok(Step::Again) };
        if self.waits_for_more(&lease, &writes)? {
            return Ok(Step::Again);
        }
        let look = needed_to_look(&lease, &writes);
        let calls = needed(&lease, &writes).and(look);
        let permit = self.account().ask(calls, now);
        match permit {
            Permit::Go => {
                // What others of this thread left is not ours.
                let _ = orders.desk.spent();
                let pages = self.grant(&orders, look, calls);
                let attempted = self.attempt_together(&orders, &lease, writes);
                self.charge(&orders, (calls, now), &pages.borrow());
                attempted.map(|()| Step::Again)
            }
            Permit::Probe => {
                self.spool.give_back(lease.envelope.id);
                let _ = orders.desk.spent();
                self.probe(&orders);
                self.charge(&orders, (Calls::plain(1), now), &[]);
                Ok(Step::Again)
            }
            Permit::NotBefore(later) => {
                self.spool.give_back(lease.envelope.id);
                Ok(Step::Closed(later.saturating_sub(now)))
            }
            Permit::ListsNotBefore(later) => {
                self.look_later(&lease, later.saturating_sub(now))?;
                Ok(Step::Again)
            }
        }
    }

    /// Lets a look read on beyond its first pages, page by page. Which, and when.
    fn grant(&self, orders: &Orders, look: Calls, calls: Calls) -> Pages {
        let (account, clock, pages) = (self.account.clone(), self.clock.clone(), Pages::default());
        let taken = pages.clone();
        let more = move |page| {
            let now = clock.monotonic();
            let own = taken.borrow().iter().fold(calls, |sum, (page, _)| sum.and(*page));
            account.lock().unwrap_or_else(PoisonError::into_inner).ask_more(page, own, now)?;
            taken.borrow_mut().push((page, now));
            Ok(())
        };
        orders.desk.grant(look, Box::new(more));
        pages
    }

    /// The calls that were asked for are over, and the pages that a look has read on.
    fn charge(&self, orders: &Orders, (calls, asked): (Calls, Duration), pages: &[(Calls, Duration)]) {
        let all = pages.iter().fold(calls, |sum, (page, _)| sum.and(*page));
        let spent = orders.desk.spent().unwrap_or(all);
        let (rate, now) = (orders.desk.rate(), self.clock.monotonic());
        let mut account = self.account();
        for page in pages {
            account.ended(*page, Calls::default(), now);
        }
        account.ended((calls, asked), spent, now);
        account.learn(rate);
    }

    fn probe(&self, orders: &Orders) {
        let found = catch_unwind(AssertUnwindSafe(|| orders.desk.probe()));
        let now = self.clock.monotonic();
        let random = self.throw();
        match found {
            Ok(Ok(_)) => {
                log::info!("freshdesk answers again");
                self.account().probe_succeeded();
            }
            Ok(Err(outcome)) => {
                let (cause, reason) = attempt::trouble_of(&outcome);
                if let Outcome::Deferred { not_before: Some(wait), .. } = outcome {
                    self.account().pause(wait, now);
                }
                self.account().failed(cause, &reason, now, random);
                log::warn!("freshdesk still fails reason={reason:?}");
            }
            Err(_) => self.account().failed(Cause::Server, "bug: probe panicked", now, random),
        }
        self.wake();
    }
}

/// The calls of an attempt's writes.
fn needed(lease: &Lease, writes: &[Write]) -> Calls {
    let left = writes.get(lease.step as usize..).unwrap_or_default();
    left.iter().map(crate::freshdesk::calls_of).fold(Calls::default(), Calls::and)
}

/// The calls of the look before them, as far as they can be told before it.
fn needed_to_look(lease: &Lease, writes: &[Write]) -> Calls {
    match (lease.doubt, writes.get(lease.step as usize)) {
        (Some(_), Some(write)) => crate::freshdesk::calls_of_look(write),
        _ => Calls::default(),
    }
}

/// Pages that a look asked for beyond its first ones, and when.
type Pages = Rc<RefCell<Vec<(Calls, Duration)>>>;

/// The marker of one write of one envelope: `ds-` and 20 characters, unique per spool.
pub fn marker(identity: &[u8; 16], id: Id, step: u32) -> String {
    marker_of(&[identity, &id.to_be_bytes(), &step.to_be_bytes()])
}

/// The marker of a write that these parts tell from all others.
pub fn marker_of(parts: &[&[u8]]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bits = u128::from_be_bytes(hash_of(parts));
    let mut marker = String::from("ds-");
    for _ in 0..20 {
        marker.push(char::from(ALPHABET[(bits >> 123) as usize]));
        bits <<= 5;
    }
    marker
}
