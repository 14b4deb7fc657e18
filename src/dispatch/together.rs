//! Notes of one conversation that wait together go out as one: calls grow with conversations, not with messages.
//!
//! **Invariants:** each of them keeps its own marker, in the same note. Each is begun in the journal before the note
//! is sent and settled by itself after. So whatever is cut off between, each is either settled or in doubt, and
//! one in doubt is looked for by its own marker, as if it had gone alone.

use super::attempt::{REFUSED_TOGETHER, in_doubt};
use super::{Dispatch, Orders, Planned, marker};
use crate::freshdesk::write::{NoteFields, Write};
use crate::spool::{Change, Lease, QueueError, Ran};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Notes that go out as one at most.
const NOTES_MAX: usize = 50;
/// Bytes of them together; the first may be longer.
const BYTES_MAX: usize = 64 * 1024;
/// Why a note is not due yet.
pub const WAITS_FOR_MORE: &str = "waits for more of its conversation (followup.merge)";

impl Dispatch {
    /// A young note may be one of a burst: it is due when `followup.merge` is over. Settled when this is so.
    pub(super) fn waits_for_more(&self, lease: &Lease, writes: &[Write]) -> Result<bool, QueueError> {
        let (Some(note), now) = (lone_note(lease, writes), self.clock.now()) else { return Ok(false) };
        let due = lease.envelope.received_at.plus(note.merge.unwrap_or_default());
        // A clock that was set back would make it wait for the time to come round again.
        if now >= due || now < lease.envelope.received_at || lease.attempts > 0 {
            return Ok(false);
        }
        let ran = Ran { at: now, took: Duration::ZERO };
        let reason = WAITS_FOR_MORE.to_owned();
        self.record(lease, Change::Deferred { attempts: 0, due, doubt: None, ran, reason })?;
        Ok(true)
    }

    /// Attempts the head, and with it the notes behind it that may go along; settles them all.
    pub(super) fn attempt_together(
        &self,
        orders: &Orders,
        lease: &Lease,
        writes: Vec<Write>,
    ) -> Result<(), QueueError> {
        let Some(note) = lone_note(lease, &writes) else {
            return self.attempt_safely(orders, lease, &writes);
        };
        let mut note = note.clone();
        let with = self.gather(orders, lease, &mut note);
        if with.is_empty() {
            return self.attempt_safely(orders, lease, &writes);
        }
        let mut attempt = self.attempt(orders, lease, &with);
        let change = attempt.run_safely(&[Write::AddNote(note)]);
        let (begun, ran) = (attempt.begun, attempt.ran());
        for other in &with {
            match begun {
                true => self.record(other, self.alike(other, &change, ran))?,
                false => self.spool.give_back(other.envelope.id),
            }
        }
        self.record(lease, change)
    }

    /// Leases those that go along and puts their notes into the head's.
    fn gather(&self, orders: &Orders, head: &Lease, note: &mut NoteFields) -> Vec<Lease> {
        let identity = self.spool.identity();
        let mut with = Vec::new();
        let mut bytes = note.body.len();
        let mut row = self.spool.lease_behind(head.envelope.id, NOTES_MAX - 1).into_iter();
        for lease in row.by_ref() {
            let body = self.companion(orders, &lease, note).filter(|body| bytes + body.len() <= BYTES_MAX);
            let Some(body) = body else {
                self.spool.give_back(lease.envelope.id);
                break;
            };
            bytes += body.len();
            let (spool, id) = lease.envelope.marked_as(identity);
            note.merged.push((body, marker(&spool, id, 0)));
            with.push(lease);
        }
        row.for_each(|lease| self.spool.give_back(lease.envelope.id));
        with
    }

    /// The body of its note, if that is all it comes to and it may stand beside the head's.
    fn companion(&self, orders: &Orders, lease: &Lease, head: &NoteFields) -> Option<String> {
        let plan = || (orders.plan)(&lease.envelope, lease.ticket);
        let Ok(Planned::Writes(writes)) = catch_unwind(AssertUnwindSafe(plan)) else { return None };
        let note = lone_note(lease, &writes).filter(|note| head.goes_with(note))?;
        Some(note.body.clone())
    }

    /// What becomes of a companion when that became of the head.
    fn alike(&self, lease: &Lease, change: &Change, ran: Ran) -> Change {
        let (doubt, reason) = match change {
            Change::Delivered { ticket, .. } => return self.delivered_change(lease, *ticket, ran),
            Change::Deferred { doubt, reason, .. } => (doubt, reason),
            Change::Buried { doubt, reason, .. } => (doubt, reason),
            _ => (&None, &String::new()),
        };
        let doubt = doubt.map(|_| in_doubt(lease, ran.at));
        let reason = format!("together with the note before it: {reason}");
        Change::Deferred { attempts: lease.attempts, due: self.clock.now(), doubt, ran, reason }
    }
}

/// The note, if the plan is nothing else, nothing of it was tried before, and it may go out with others.
fn lone_note<'a>(lease: &Lease, writes: &'a [Write]) -> Option<&'a NoteFields> {
    let was_refused = lease.tries.last().is_some_and(|last| last.reason.starts_with(REFUSED_TOGETHER));
    match writes {
        [Write::AddNote(note)] if note.goes_with(note) => {
            (lease.doubt.is_none() && lease.step == 0 && !was_refused).then_some(note)
        }
        _ => None,
    }
}
