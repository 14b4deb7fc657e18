//! One attempt at one envelope: look if in doubt, write what its plan says, settle what it came to.

use super::{Delivery, Dispatch, Noted, Orders, Planned, marker};
use crate::clock::Timestamp;
use crate::freshdesk::Desk;
use crate::freshdesk::outcome::{Cause, Looked, Outcome};
use crate::freshdesk::write::Write;
use crate::spool::{Change, Doubt, Id, Lease, QueueError, Ran};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Attempts before age alone makes us give up: after a long outage everything gets its chances.
const ATTEMPTS_MIN: u32 = 5;
/// Looks in vain before a write is repeated.
pub const LOOKS_MIN: u32 = 2;
/// Panics of the same envelope before it is buried.
const PANICS_MAX: usize = 3;
const PANICKED: &str = "bug: panicked";
/// Why a note is sent alone the next time.
pub(super) const REFUSED_TOGETHER: &str = "refused together with others, goes alone next";
/// How long an envelope waits when its own source's Freshdesk trouble is the account's: the account's
/// pause or probe decides, not this.
const BEHIND_THE_ACCOUNT: Duration = Duration::from_secs(1);

const LOOKS_LATER: &str = "may look later: Freshdesk allows few lists a minute";
/// Over how long those are spread that wait for lists.
const LISTS_SPREAD: Duration = Duration::from_secs(60);

/// An attempt that is under way.
pub(super) struct Attempt<'a> {
    pub(super) dispatch: &'a Dispatch,
    pub(super) orders: &'a Orders,
    pub(super) lease: &'a Lease,
    /// Those behind it whose notes go out with its own.
    pub(super) with: &'a [Lease],
    at: Timestamp,
    started: Duration,
    /// The ticket the next write goes to.
    ticket: Option<u64>,
    /// Whether this plan opened it.
    opened: bool,
    /// Whether the attempt's beginning is in the journal.
    pub(super) begun: bool,
}

/// How one write ended, when the attempt does not go on after it.
struct Stop(Change);

type Go<T> = Result<T, Stop>;

impl Dispatch {
    /// What is to be written; `None` when the envelope was settled without Freshdesk.
    pub(super) fn plan_safely(
        &self,
        orders: &Orders,
        lease: &Lease,
    ) -> Result<Option<Vec<Write>>, QueueError> {
        let at = self.clock.now();
        let ran = Ran { at, took: Duration::ZERO };
        let planned = catch_unwind(AssertUnwindSafe(|| (orders.plan)(&lease.envelope, planned_with(lease))));
        let change = match planned {
            Ok(Planned::Writes(writes)) if writes.len() > lease.step as usize => return Ok(Some(writes)),
            Ok(Planned::Writes(_)) => self.delivered_change(lease, lease.ticket, ran),
            Ok(Planned::Unmappable(reason)) => Change::Buried { doubt: lease.doubt, ran: None, reason },
            Ok(Planned::NoSource) => {
                let reason = format!("source.{} is not configured", lease.envelope.source);
                Change::Held { reason }
            }
            Ok(Planned::Paused) => {
                Change::Held { reason: format!("source.{} is paused", lease.envelope.source) }
            }
            Err(_) => self.panicked(orders, lease, ran),
        };
        self.record(lease, change).map(|()| None)
    }

    /// Attempts and settles; a panic is settled too.
    pub(super) fn attempt_safely(
        &self,
        orders: &Orders,
        lease: &Lease,
        writes: &[Write],
    ) -> Result<(), QueueError> {
        let mut attempt = self.attempt(orders, lease, &[]);
        let change = attempt.run_safely(writes);
        self.record(lease, change)
    }

    pub(super) fn attempt<'a>(
        &'a self,
        orders: &'a Orders,
        lease: &'a Lease,
        with: &'a [Lease],
    ) -> Attempt<'a> {
        Attempt {
            dispatch: self,
            orders,
            lease,
            with,
            at: self.clock.now(),
            started: self.clock.monotonic(),
            ticket: target(lease),
            opened: lease.opened,
            begun: false,
        }
    }

    fn panicked(&self, orders: &Orders, lease: &Lease, ran: Ran) -> Change {
        let attempts = lease.attempts + 1;
        let panics = lease.tries.iter().filter(|one| one.reason == PANICKED).count() + 1;
        if panics >= PANICS_MAX {
            let reason = format!("{PANICKED} {panics} times (see journal, id {})", lease.envelope.id);
            return Change::Buried { doubt: Some(in_doubt(lease, ran.at)), ran: Some(ran), reason };
        }
        let due = self.clock.now().plus(orders.backoff.delay(attempts, self.throw()).max(orders.guard));
        let doubt = Some(in_doubt(lease, ran.at));
        Change::Deferred { attempts, due, doubt, ran, reason: PANICKED.to_owned() }
    }

    pub(super) fn delivered_change(&self, lease: &Lease, ticket: Option<u64>, ran: Ran) -> Change {
        Change::Delivered { ticket, conversation: lease.envelope.conversation_hash(), ran }
    }

    /// The few lists of this minute are used up: the others go on meanwhile, and those that look do not all come
    /// back together.
    pub(super) fn look_later(&self, lease: &Lease, wait: Duration) -> Result<(), QueueError> {
        let at = self.clock.now();
        let due = at.plus(wait + LISTS_SPREAD.mul_f64(self.throw()));
        let reason = LOOKS_LATER.to_owned();
        let ran = Ran { at, took: Duration::ZERO };
        self.record(
            lease,
            Change::Deferred { attempts: lease.attempts, due, doubt: lease.doubt, ran, reason },
        )
    }

    /// Logs and settles.
    pub(super) fn record(&self, lease: &Lease, change: Change) -> Result<(), QueueError> {
        let envelope = &lease.envelope;
        let age = self.spool.age(envelope.received_at);
        log_change(envelope.id, &envelope.source, &change, age);
        let delivery = match &change {
            Change::Delivered { ticket, .. } => Some(Delivery { ticket: *ticket, age }),
            _ => None,
        };
        (self.observer)(envelope, &Noted::Settled(&change));
        self.spool.settle(envelope.id, change)?;
        if let Some(delivery) = delivery {
            (self.delivered)(envelope, &delivery);
        }
        Ok(())
    }
}

impl Attempt<'_> {
    /// What the attempt comes to; a panic is something too.
    pub(super) fn run_safely(&mut self, writes: &[Write]) -> Change {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(writes)));
        ran.unwrap_or_else(|_| self.dispatch.panicked(self.orders, self.lease, self.ran()))
    }

    fn run(&mut self, writes: &[Write]) -> Change {
        let done = self.lease.step as usize;
        for (index, write) in writes.iter().enumerate().skip(done) {
            let step = u32::try_from(index).expect("plans are short");
            let in_doubt = self.lease.doubt.filter(|_| index == done);
            if let Err(Stop(change)) = self.write(write, step, in_doubt) {
                return change;
            }
            if index + 1 == writes.len() {
                break;
            }
            if let Some(change) = self.progressed(step + 1) {
                return change;
            }
        }
        self.dispatch.delivered_change(self.lease, self.ticket, self.ran())
    }

    /// One write, looked for first when it may have been done before.
    fn write(&mut self, write: &Write, step: u32, doubt: Option<Doubt>) -> Go<()> {
        self.pause_if_told(doubt)?;
        let (spool, id) = self.lease.envelope.marked_as(self.dispatch.spool.identity());
        let marker = marker(&spool, id, step);
        if let Some(doubt) = doubt {
            if let Some(ticket) = self.look(write, &marker, doubt)? {
                self.arrived(ticket);
                (self.dispatch.observer)(&self.lease.envelope, &Noted::Wrote(write));
                return Ok(());
            }
            // Looking took its time, too.
            self.pause_if_told(Some(doubt))?;
        }
        self.begin()?;
        let outcome = send(&*self.orders.desk, (write, self.ticket), &marker);
        self.judge(outcome)?;
        (self.dispatch.observer)(&self.lease.envelope, &Noted::Wrote(write));
        Ok(())
    }

    /// A write is in this ticket. Where it is another one than the plan was made with, this plan opened it.
    fn arrived(&mut self, ticket: u64) {
        self.opened |= self.ticket != Some(ticket);
        self.ticket = Some(ticket);
    }

    /// Another worker may have been told to wait since this attempt got its permit.
    fn pause_if_told(&self, doubt: Option<Doubt>) -> Go<()> {
        let now = self.dispatch.clock.monotonic();
        let left = self.dispatch.account().paused_until().saturating_sub(now);
        if left.is_zero() {
            return Ok(());
        }
        let reason = "freshdesk asked everybody to wait".to_owned();
        Err(self.deferred(self.lease.attempts, self.after(left), doubt, reason))
    }

    /// Is what may have been sent already there? `None` when it may be sent (again).
    fn look(&mut self, write: &Write, marker: &str, doubt: Doubt) -> Go<Option<u64>> {
        let now = self.dispatch.clock.now();
        let sent = last_sent(self.lease, doubt);
        let safe_from = sent.plus(self.orders.guard);
        // A clock that was set back would make us wait for it to come round again.
        if now < safe_from && now >= sent {
            let reason = "cut off while sending, will look before resending".to_owned();
            return Err(self.deferred(self.lease.attempts, safe_from, Some(doubt), reason));
        }
        let desk = &*self.orders.desk;
        let Some(looked) = looked(desk, (write, self.ticket), marker, doubt.since) else { return Ok(None) };
        match looked {
            Looked::Found { ticket } => {
                self.dispatch.account().answered();
                log::info!(
                    "found what an earlier attempt wrote id={} ticket={ticket}",
                    self.lease.envelope.id
                );
                Ok(Some(ticket))
            }
            Looked::Absent if doubt.looks + 1 >= LOOKS_MIN => {
                self.dispatch.account().answered();
                if target(self.lease) == self.lease.ticket {
                    return Ok(None);
                }
                // The conversation has got a ticket since: it was surely not written, so it is planned anew.
                let reason = "looked: it is not there; the conversation has another ticket now".to_owned();
                Err(self.deferred(self.lease.attempts, now, None, reason))
            }
            Looked::Absent => {
                self.dispatch.account().answered();
                let doubt = Doubt { looks: doubt.looks + 1, ..doubt };
                let reason = "looked: not there yet, will look once more before resending".to_owned();
                Err(self.deferred(self.lease.attempts, now.plus(self.orders.guard), Some(doubt), reason))
            }
            Looked::Deferred { not_before, cause, reason } => {
                let outcome = Outcome::Deferred { not_before, cause, reason: format!("looking: {reason}") };
                Err(self.postponed(outcome, Some(doubt)))
            }
            Looked::Later { after } => {
                let wait = after + LISTS_SPREAD.mul_f64(self.dispatch.throw());
                let reason = LOOKS_LATER.to_owned();
                Err(self.deferred(self.lease.attempts, self.after(wait), Some(doubt), reason))
            }
            Looked::Undecidable { reason } => {
                let reason = format!("undecided whether it was written: {reason}");
                Err(Stop(Change::Buried { doubt: Some(doubt), ran: Some(self.ran()), reason }))
            }
        }
    }

    fn begin(&mut self) -> Go<()> {
        if self.begun {
            return Ok(());
        }
        let ids: Vec<Id> =
            std::iter::once(self.lease).chain(self.with).map(|lease| lease.envelope.id).collect();
        // Not since the attempt began: the writes before this one, and looking, took their time.
        let at = self.dispatch.clock.now();
        match self.dispatch.spool.begin_all(&ids, at, planned_with(self.lease)) {
            Ok(()) => {
                self.begun = true;
                Ok(())
            }
            Err(failed) => {
                let reason = format!("the journal cannot be written: {}", failed.0);
                let due = self.dispatch.clock.now().plus(self.orders.backoff.bounds(1).1);
                Err(self.deferred(self.lease.attempts, due, self.lease.doubt, reason))
            }
        }
    }

    fn judge(&mut self, outcome: Option<Outcome>) -> Go<()> {
        let outcome = match outcome {
            Some(Outcome::Delivered { ticket }) => {
                self.arrived(ticket);
                None
            }
            outcome => outcome,
        };
        let Some(outcome) = outcome else {
            let (rate, now) = (self.orders.desk.rate(), self.dispatch.clock.monotonic());
            self.dispatch.account().succeeded(rate, now);
            return Ok(());
        };
        match outcome {
            Outcome::Delivered { .. } => Ok(()),
            Outcome::Rejected { reason } => {
                self.dispatch.account().answered();
                if !self.with.is_empty() {
                    // Whose fault it is shows when each goes alone.
                    let reason = format!("{REFUSED_TOGETHER}: {reason}");
                    return Err(self.deferred(self.lease.attempts, self.dispatch.clock.now(), None, reason));
                }
                Err(Stop(Change::Buried { doubt: None, ran: Some(self.ran()), reason }))
            }
            Outcome::Unknown { .. } => Err(self.postponed(outcome, Some(in_doubt(self.lease, self.at)))),
            Outcome::Deferred { .. } => Err(self.postponed(outcome, None)),
        }
    }

    /// The envelope waits; the account learns why.
    fn postponed(&mut self, outcome: Outcome, doubt: Option<Doubt>) -> Stop {
        let monotonic = self.dispatch.clock.monotonic();
        let (cause, reason) = trouble_of(&outcome);
        let asked = match outcome {
            Outcome::Deferred { not_before, .. } => not_before,
            _ => None,
        };
        if cause == Cause::RateLimited {
            let wait = asked.unwrap_or(Duration::from_secs(60));
            self.dispatch.account().pause(wait, monotonic);
            return self.deferred(self.lease.attempts, self.after(wait), doubt, reason);
        }
        let random = self.dispatch.throw();
        self.dispatch.account().failed(cause, &reason, monotonic, random);
        if cause == Cause::Denied {
            return self.deferred(self.lease.attempts, self.after(BEHIND_THE_ACCOUNT), doubt, reason);
        }
        let attempts = self.lease.attempts + 1;
        let age = self.dispatch.spool.age(self.lease.envelope.received_at);
        // That nobody can be reached is no envelope's fault: after days without a line none is given up at once.
        let old_enough = age >= self.orders.give_up_after && cause != Cause::Unreachable;
        if old_enough && attempts >= ATTEMPTS_MIN {
            let days = self.orders.give_up_after.as_secs() / 86_400;
            let after = if days > 0 {
                format!("{days}d")
            } else {
                format!("{}s", self.orders.give_up_after.as_secs())
            };
            let reason = format!("gave up after {after}, last: {reason}");
            return Stop(Change::Buried { doubt, ran: Some(self.ran()), reason });
        }
        let wait = self.orders.backoff.delay(attempts, self.dispatch.throw()).max(asked.unwrap_or_default());
        let wait = if doubt.is_some() { wait.max(self.orders.guard) } else { wait };
        self.deferred(attempts, self.after(wait), doubt, reason)
    }

    fn after(&self, wait: Duration) -> Timestamp {
        self.dispatch.clock.now().plus(wait)
    }

    fn deferred(&self, attempts: u32, due: Timestamp, doubt: Option<Doubt>, reason: String) -> Stop {
        Stop(Change::Deferred { attempts, due, doubt, ran: self.ran(), reason })
    }

    /// One write of several is done.
    fn progressed(&mut self, step: u32) -> Option<Change> {
        self.begun = false;
        let written = self.dispatch.spool.progress(self.lease.envelope.id, step, self.ticket, self.opened);
        written.err().map(|error| {
            let due = self.after(self.orders.backoff.bounds(1).1);
            let doubt = Some(in_doubt(self.lease, self.at));
            self.deferred(self.lease.attempts, due, doubt, error.to_string()).0
        })
    }

    pub(super) fn ran(&self) -> Ran {
        Ran { at: self.at, took: self.dispatch.clock.monotonic().saturating_sub(self.started) }
    }
}

/// The ticket the plan is made with: the same as the first time, or its steps would not be the ones that are
/// done, and what was sent would be looked for in the wrong place.
fn planned_with(lease: &Lease) -> Option<u64> {
    match lease.doubt {
        _ if lease.opened => None,
        Some(doubt) => doubt.ticket,
        None => lease.ticket,
    }
}

/// The ticket its notes go to.
fn target(lease: &Lease) -> Option<u64> {
    if lease.opened { lease.ticket } else { planned_with(lease) }
}

/// A write may have been done in this attempt, or in the one before that is still in doubt.
pub(super) fn in_doubt(lease: &Lease, at: Timestamp) -> Doubt {
    let since = lease.doubt.map_or(at, |doubt| doubt.since);
    Doubt { since, looks: 0, ticket: planned_with(lease) }
}

/// The latest moment at which the write in doubt may have left: a doubt knows only the first. What this process saw end
/// is not due again before the guard is over.
fn last_sent(lease: &Lease, doubt: Doubt) -> Timestamp {
    let last = lease.tries.last().filter(|last| last.is_cut_off());
    last.map_or(doubt.since, |last| doubt.since.max(last.at))
}

/// What a write to its conversation's ticket came to; `None` when it is done and concerns no ticket.
pub(super) fn send(desk: &dyn Desk, (write, ticket): (&Write, Option<u64>), marker: &str) -> Option<Outcome> {
    let outcome = match (write, ticket) {
        (Write::CreateTicket(fields), _) => desk.create_ticket(fields, marker),
        (Write::AddNote(note), Some(ticket)) => desk.add_note(ticket, note, marker),
        (Write::UpdateTicket(update), Some(ticket)) => desk.update_ticket(ticket, update),
        (Write::AddNote(_) | Write::UpdateTicket(_), None) => no_ticket(),
        (Write::PutContact(contact), _) => return desk.put_contact(contact).err(),
    };
    Some(outcome)
}

/// Looks whether a write is there; `None` when it need not be looked for, because it may be sent again.
pub(super) fn looked(
    desk: &dyn Desk,
    (write, ticket): (&Write, Option<u64>),
    marker: &str,
    since: Timestamp,
) -> Option<Looked> {
    Some(match (write, ticket) {
        // Done twice it is as done once, and nothing of an earlier attempt is under way any more.
        (Write::PutContact(_), _) | (Write::UpdateTicket(_), None) => return None,
        // So is this, but what an agent has changed since is not changed back when it was done.
        (Write::UpdateTicket(update), Some(ticket)) => match desk.find_update(ticket, update) {
            Looked::Absent => return None,
            looked => looked,
        },
        (Write::CreateTicket(fields), _) => desk.find_ticket(&fields.requester, marker, since),
        (Write::AddNote(note), Some(ticket)) => desk.find_follow_up(ticket, note, marker, since),
        (Write::AddNote(_), None) => Looked::Absent,
    })
}

fn no_ticket() -> Outcome {
    Outcome::Rejected { reason: "bug: a note was planned for a conversation without a ticket".to_owned() }
}

/// Who is in trouble, and the reason in words.
pub(super) fn trouble_of(outcome: &Outcome) -> (Cause, String) {
    match outcome {
        Outcome::Deferred { cause, reason, .. } => (*cause, reason.clone()),
        Outcome::Rejected { reason } | Outcome::Unknown { reason } => (Cause::Server, reason.clone()),
        Outcome::Delivered { .. } => (Cause::Server, "an answer to a question that was not asked".to_owned()),
    }
}

fn log_change(id: Id, source: &str, change: &Change, age: Duration) {
    let seconds = |duration: Duration| format!("{:.2}s", duration.as_secs_f64());
    match change {
        Change::Delivered { ticket: Some(ticket), ran, .. } => {
            log::info!(
                "attempt delivered id={id} source={source} ticket={ticket} took={} age={}",
                seconds(ran.took),
                seconds(age)
            );
        }
        Change::Delivered { ticket: None, .. } => {
            log::info!("attempt delivered id={id} source={source} ticket=none age={}", seconds(age));
        }
        Change::Deferred { due, ran, reason, doubt, .. } => {
            if reason == super::together::WAITS_FOR_MORE {
                return log::debug!("note waits id={id} source={source} reason={reason:?}");
            }
            let word = if doubt.is_some() { "unknown" } else { "deferred" };
            let next = seconds(due.since(ran.at.plus(ran.took)));
            log::warn!(target: "deskspool::notice", "attempt {word} id={id} source={source} reason={reason:?} next={next}");
        }
        Change::Buried { reason, .. } => {
            log::error!("envelope dead id={id} source={source} reason={reason:?}")
        }
        Change::Held { reason } => log::warn!("envelope held id={id} source={source} reason={reason:?}"),
        Change::Begun { .. } | Change::Progressed { .. } | Change::Retried | Change::Dropped { .. } => {}
    }
}
