//! An envelope's life after it is durable: leased, begun, progressed, settled; and the admin's changes.

use super::group::{Arriving, CommitFailed, Durable, Group, Waiter};
use super::journal::{self, Written};
use super::queue::PAGE;
use super::record::Record;
use super::row::Settled;
use super::tables::Answer;
use super::{
    Change, Core, Doubt, Entry, Envelope, Flight, Hash, Id, QueueError, Share, Shared, Spool, State, Try,
};
use crate::clock::Timestamp;
use std::ops::Range;
use std::sync::MutexGuard;
use std::time::Duration;

/// The exclusive right to attempt one envelope, until it is settled.
#[derive(Debug)]
pub struct Lease {
    /// The event.
    pub envelope: Envelope,
    /// Attempts that counted so far.
    pub attempts: u32,
    /// Writes of its plan that are done.
    pub step: u32,
    /// The ticket of its conversation, if one is known.
    pub ticket: Option<u64>,
    /// Earlier writes of its own plan opened that ticket.
    pub opened: bool,
    /// Set when an earlier attempt's fate is unknown: look before sending.
    pub doubt: Option<Doubt>,
    /// Its last attempts, oldest first.
    pub tries: Vec<Try>,
}

/// The answer to "what is due?".
#[derive(Debug)]
pub enum Leased {
    /// This.
    One(Box<Lease>),
    /// Nothing before this moment.
    NotBefore(Timestamp),
    /// Nothing at all, until something is put or settled.
    Nothing,
}

/// What an admin's verb did to one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Done, and durable.
    Done,
    /// It is being attempted right now.
    InFlight,
    /// There is no such envelope.
    Unknown,
}

impl Spool {
    /// Leases the earliest due head of a conversation that has nothing in flight.
    pub fn lease_due(&self) -> Answer<Leased> {
        let shared = &self.shared;
        shared.check()?;
        let mut core = shared.core();
        let now = shared.now();
        if shared.queue.is_bursting() {
            // The disk takes nothing, and what is settled is kept in memory until it does.
            return Ok(Leased::NotBefore(now.plus(Duration::from_secs(1))));
        }
        // A clock that was ahead and was set back has left due times that no wait of ours explains.
        if let Some(lease) =
            shared.first_leasable(&mut core, now.plus(shared.limits().wait_max)..Timestamp(u64::MAX))?
        {
            return Ok(Leased::One(lease));
        }
        if let Some(lease) =
            shared.first_leasable(&mut core, Timestamp(0)..now.plus(Duration::from_millis(1)))?
        {
            return Ok(Leased::One(lease));
        }
        let next = shared.queue.due_in(&(now.plus(Duration::from_millis(1))..Timestamp(u64::MAX)), None);
        Ok(next.first().map_or(Leased::Nothing, |(due, _)| Leased::NotBefore(*due)))
    }

    /// Waits until there may be something to lease, or `timeout` has passed. `seen` is what the last call
    /// gave back (0 at first); work that came since is not waited for.
    pub fn wait_for_work(&self, seen: u64, timeout: Duration) -> u64 {
        let core = self.shared.core();
        let waited =
            self.shared.work_wake.wait_timeout_while(core, timeout, |core| core.work == seen && !core.closed);
        waited.expect("no thread panics while it holds the spool").0.work
    }

    /// Wakes those who wait for work, as when the configuration has changed.
    pub fn nudge(&self) {
        self.shared.core().work += 1;
        self.shared.work_wake.notify_all();
    }

    /// Makes it durable that an attempt, begun `at` and planned with `ticket`, is about to send. Nothing may be
    /// sent before this returns.
    pub fn begin(&self, id: Id, at: Timestamp, ticket: Option<u64>) -> Result<(), CommitFailed> {
        self.begin_all(&[id], at, ticket)
    }

    /// As `begin`, for several that are sent together, with one sync.
    pub fn begin_all(&self, ids: &[Id], at: Timestamp, ticket: Option<u64>) -> Result<(), CommitFailed> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        {
            let mut core = self.shared.core();
            for id in ids {
                let flight = core.flights.get_mut(id).expect("only a leased envelope is begun");
                let change = Change::Begun { at, ticket };
                flight.entry.apply(&change);
                core.append_change(self.shared.files.identity(), Record::Change(*id, change));
            }
            core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
        }
        self.shared.commit_wake.notify_one();
        told.recv().unwrap_or_else(|_| Err(CommitFailed(std::io::Error::other("stopping").into())))
    }

    /// Ends a lease without an attempt, as if it had not been given.
    pub fn give_back(&self, id: Id) {
        let mut core = self.shared.core();
        if let Some(flight) = core.flights.remove(&id) {
            core.land(flight.entry.conversation);
        }
    }

    /// Leases what waits right behind the leased `head` in its conversation, in order, at most `most`. What is in
    /// doubt, half done, held, dead or not due ends the row. Each is settled or given back like any lease; the
    /// conversation is free when all are.
    pub fn lease_behind(&self, head: Id, most: usize) -> Vec<Lease> {
        let mut core = self.shared.core();
        let Some(flight) = core.flights.get(&head) else { return Vec::new() };
        let (conversation, now) = (flight.entry.conversation, self.shared.now());
        // What cannot be read ends the row too: whoever leases it as a head will meet the same and say so.
        let ids = self.shared.queue.conversation_ids(conversation, head, most);
        let mut leases = Vec::new();
        for id in ids {
            let is_free =
                !core.flights.contains_key(&id) && !core.arriving.values().any(|other| *other == id);
            let may_go = |entry: &Entry| {
                is_free
                    && entry.conversation == conversation
                    && waits(entry)
                    && entry.due <= now
                    && entry.doubt.is_none()
                    && entry.step == 0
            };
            let Ok(Some(entry)) = self.shared.queue.entry(id) else { break };
            if !may_go(&entry) {
                break;
            }
            let Ok(Some(lease)) = self.shared.lease(&mut core, id, entry) else { break };
            leases.push(lease);
        }
        leases
    }

    /// Records that `step` writes of the plan are done and where they went. The lease goes on.
    pub fn progress(&self, id: Id, step: u32, ticket: Option<u64>, opened: bool) -> Answer<()> {
        let mut core = self.shared.core();
        let now = self.shared.now();
        let flight = core.flights.get_mut(&id).expect("only a leased envelope progresses");
        let change = Change::Progressed { step, ticket, opened };
        flight.entry.apply(&change);
        let entry = flight.entry.clone();
        flight.standing.clone_from(&entry);
        core.append_change(self.shared.files.identity(), Record::Change(id, change));
        self.shared.queue.put_entry(id, &entry);
        if let Some(ticket) = ticket {
            self.shared.queue.set_ticket(entry.conversation, ticket, now);
        }
        drop(core);
        self.shared.commit_wake.notify_one();
        self.shared.check()
    }

    /// Records what the attempt came to, and ends the lease. Nothing of it needs the disk at once: the journal
    /// writes it down with its next group, and again with the one after if that fails.
    pub fn settle(&self, id: Id, change: Change) -> Answer<()> {
        let mut core = self.shared.core();
        core.append_change(self.shared.files.identity(), Record::Change(id, change.clone()));
        let flight = core.flights.remove(&id).expect("only a leased envelope is settled");
        self.shared.changed(&mut core, id, &flight, &change);
        core.land(flight.entry.conversation);
        drop(core);
        self.shared.commit_wake.notify_one();
        self.shared.work_wake.notify_all();
        self.shared.check()
    }

    /// Applies an admin's change to an envelope that is not in flight, durably.
    pub fn touch(&self, id: Id, change: Change) -> Answer<Touched> {
        Ok(self.touch_all(&[id], &change)?[0])
    }

    /// Applies an admin's change to those of the envelopes that are not in flight, with one sync for all.
    pub fn touch_all(&self, ids: &[Id], change: &Change) -> Answer<Vec<Touched>> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mut touched = Vec::with_capacity(ids.len());
        for id in ids {
            let mut core = self.shared.core_with(*id);
            touched.push(self.shared.touch(&mut core, *id, change)?);
        }
        let waiter: Waiter = Box::new(move |result| drop(tell.send(result)));
        self.shared.core().group.waiters.push(waiter);
        self.shared.commit_wake.notify_one();
        self.shared.work_wake.notify_all();
        match told.recv() {
            Ok(Ok(())) => Ok(touched),
            Ok(Err(failed)) => Err(QueueError::Io(std::io::Error::other(failed.0.to_string()))),
            Err(_) => Err(QueueError::Io(std::io::Error::other("stopping"))),
        }
    }
}

impl Shared {
    pub(super) fn touch(&self, core: &mut Core, id: Id, change: &Change) -> Answer<Touched> {
        if core.flights.contains_key(&id) {
            return Ok(Touched::InFlight);
        }
        let Some(entry) = self.queue.entry(id)? else { return Ok(Touched::Unknown) };
        let flight = self.flight(entry);
        self.changed(core, id, &flight, change);
        core.append_change(self.files.identity(), Record::Change(id, change.clone()));
        Ok(Touched::Done)
    }

    /// The core, once `id` is no longer between its sync and the queue.
    pub(super) fn core_with(&self, id: Id) -> MutexGuard<'_, Core> {
        let arrived = self.work_wake.wait_while(self.core(), |core| {
            self.broken.get().is_none() && core.arriving.values().any(|other| *other == id)
        });
        arrived.expect("no thread panics while it holds the spool")
    }

    /// Leases the first that may be among the rows that are due in `range`.
    fn first_leasable(&self, core: &mut Core, range: Range<Timestamp>) -> Answer<Option<Box<Lease>>> {
        let mut after = None;
        loop {
            let page = self.queue.due_in(&range, after);
            for (due, id) in &page {
                let Some(entry) = self.leasable(core, *due, *id)? else { continue };
                if let Some(lease) = self.lease(core, *id, entry)? {
                    return Ok(Some(Box::new(lease)));
                }
            }
            after = page.last().copied();
            if page.len() < PAGE {
                return Ok(None);
            }
        }
    }

    /// The entry behind a due row, if it may be leased. A row that leads nowhere is removed.
    fn leasable(&self, core: &mut Core, due: Timestamp, id: Id) -> Answer<Option<Entry>> {
        let entry = match self.queue.entry(id) {
            Ok(entry) => entry,
            Err(QueueError::Malformed(_)) => {
                log::error!("queue entry damaged id={id} next=\"systemctl restart deskspool\"");
                None
            }
            Err(error) => return Err(error),
        };
        let Some(entry) = entry.filter(|entry| waits(entry) && entry.due == due) else {
            self.queue.remove_due(due, id);
            return Ok(None);
        };
        if core.flying_conversations.contains(&entry.conversation) {
            return Ok(None);
        }
        match self.head(entry.conversation)? {
            Some((head, _)) if head == id => Ok(Some(entry)),
            _ => {
                self.queue.remove_due(due, id);
                Ok(None)
            }
        }
    }

    fn lease(&self, core: &mut Core, id: Id, entry: Entry) -> Answer<Option<Lease>> {
        let envelope = match self.files.read(entry.place) {
            Ok(envelope) => envelope,
            Err(error) if journal::is_damage(&error) => {
                self.bury_damaged(core, id, &entry)?;
                return Ok(None);
            }
            // No descriptor, no memory: the next time it may work.
            Err(error) => return Err(error.into()),
        };
        let known = match self.queue.ticket_of(entry.conversation) {
            Err(QueueError::Malformed(_)) => None,
            found => found?.map(|(ticket, _)| ticket),
        };
        let lease = Lease {
            attempts: entry.attempts,
            step: entry.step,
            ticket: entry.ticket.or(known),
            opened: entry.opened,
            doubt: entry.doubt,
            tries: entry.tries.clone(),
            envelope,
        };
        core.flying_conversations.insert(entry.conversation);
        let (kind, event_id) = (lease.envelope.kind.clone(), lease.envelope.event_id.clone());
        let conversation = lease.envelope.conversation.clone();
        core.flights.insert(id, Flight { standing: entry.clone(), entry, kind, event_id, conversation });
        Ok(Some(lease))
    }

    /// An envelope whose record cannot be read becomes a dead letter that says so; a record without its text
    /// takes the place of the damaged one, so that the damage neither pins its segment nor hides the letter.
    pub(super) fn bury_damaged(&self, core: &mut Core, id: Id, entry: &Entry) -> Answer<()> {
        let reason = format!("spool: record damaged in segment {}, its text is lost", entry.place.segment);
        log::error!("envelope dead id={id} reason={reason:?}");
        let flight = Flight {
            standing: entry.clone(),
            entry: entry.clone(),
            kind: String::new(),
            event_id: String::new(),
            conversation: String::new(),
        };
        let change = Change::Buried { doubt: entry.doubt, ran: None, reason: reason.clone() };
        self.changed(core, id, &flight, &change);
        core.append_change(self.files.identity(), Record::Change(id, change));
        if let Some(dead) = self.queue.entry(id)? {
            core.copy(self.files.identity(), &substitute(id, entry, reason), dead);
        }
        self.commit_wake.notify_one();
        Ok(())
    }

    /// What history will say of an envelope that is settled without having been leased.
    fn flight(&self, entry: Entry) -> Flight {
        let (kind, event_id, conversation) = match self.files.read(entry.place) {
            Ok(envelope) => (envelope.kind, envelope.event_id, envelope.conversation),
            Err(_) => Default::default(),
        };
        Flight { standing: entry.clone(), entry, kind, event_id, conversation }
    }

    /// Applies a change to queue, counts and shares, and finds the next head. The caller appends the change to
    /// the journal under the same lock.
    fn changed(&self, core: &mut Core, id: Id, flight: &Flight, change: &Change) {
        let mut entry = flight.entry.clone();
        entry.apply(change);
        self.queue.remove_due(flight.standing.due, id);
        if change.settles() {
            self.queue.put_settled(id, &settled(&entry, flight, change, self.now()));
            if let Change::Delivered { ticket: Some(ticket), ran, .. } = change {
                self.queue.set_ticket(entry.conversation, *ticket, ran.at);
            }
            self.queue.remove_order(entry.conversation, id);
            self.queue.remove_entry(id);
            core.leave(&flight.standing);
        } else {
            self.queue.put_entry(id, &entry);
            self.keep_order(id, &entry);
            core.restate(&flight.standing, entry.state);
            core.may_be_oldest(id, entry.state);
        }
        self.place_head(core, entry.conversation);
        core.work += 1;
        self.upkeep_wake.notify_one();
    }

    /// An envelope has its place in its conversation's order, unless it is dead and the dead are passed: many
    /// dead letters in one conversation must not be walked at every step. Whether it is the first there.
    pub(super) fn keep_order(&self, id: Id, entry: &Entry) -> bool {
        if entry.state == State::Dead && self.limits().pass_dead {
            self.queue.remove_order(entry.conversation, id);
            false
        } else {
            self.queue.insert_order(entry.conversation, id)
        }
    }

    /// The envelope of the conversation that is next: the first that is not passed over.
    pub(super) fn head(&self, conversation: Hash) -> Answer<Option<(Id, Entry)>> {
        let pass_dead = self.limits().pass_dead;
        let mut after = None;
        while let Some(id) = self.queue.next_in(conversation, after) {
            match self.queue.entry(id)? {
                None => self.queue.remove_order(conversation, id),
                Some(entry) if entry.state == State::Dead && pass_dead => {}
                Some(entry) => return Ok(Some((id, entry))),
            }
            after = Some(id);
        }
        Ok(None)
    }

    /// Makes sure that the conversation's head, if it waits, is known as due. While the queue is away that is
    /// made up for later.
    pub(super) fn place_head(&self, core: &mut Core, conversation: Hash) {
        match self.head(conversation) {
            Ok(Some((id, entry))) if waits(&entry) => self.queue.insert_due(entry.due, id),
            Ok(_) => {}
            Err(error @ QueueError::Malformed(_)) => self.break_down(&error.to_string()),
            Err(_) => drop(core.unplaced.insert(conversation)),
        }
    }

    /// The queue is back: looks for the heads that could not be looked up.
    pub(super) fn place_unplaced(&self) {
        let mut core = self.core();
        for conversation in std::mem::take(&mut core.unplaced) {
            self.place_head(&mut core, conversation);
        }
        core.work += 1;
        self.work_wake.notify_all();
    }

    /// After the admin changed whether dead heads are passed: the dead get or lose their place in the order,
    /// and those behind them become heads.
    pub(super) fn place_heads_behind_dead(&self) -> Answer<()> {
        let mut core = self.core();
        let mut from = 0;
        loop {
            let page = self.queue.entries(from)?;
            for (id, entry) in page.iter().filter(|(_, entry)| entry.state == State::Dead) {
                self.keep_order(*id, entry);
                self.place_head(&mut core, entry.conversation);
            }
            match page.last() {
                Some((last, _)) => from = last + 1,
                None => break,
            }
        }
        core.work += 1;
        self.work_wake.notify_all();
        Ok(())
    }

    /// The group is on disk: it is counted, before anybody can settle what is in it. What it changes in the
    /// queue waits until those who wait are told.
    pub(super) fn group_is_written(&self, mut group: Group, written: Written) -> Durable {
        let mut core = self.core();
        core.failed = false;
        if written.length > 0 {
            core.segments.entry(written.segment).or_default().bytes += written.length;
        }
        for arriving in &mut group.arriving {
            arriving.entry.place = written.place(arriving.entry.place);
            core.may_be_oldest(arriving.id, arriving.entry.state);
            core.enter(&arriving.entry).entering += 1;
        }
        Durable { arriving: group.arriving, moved: group.moved, written }
    }

    /// The puts of a group that is on disk enter the queue, its stragglers move.
    pub(super) fn group_enters(&self, group: Durable) {
        let written = group.written;
        if group.arriving.is_empty() && group.moved.is_empty() && !written.begins_segment() {
            return;
        }
        for arriving in &group.arriving {
            self.enter(arriving);
        }
        let mut core = self.core();
        for arriving in &group.arriving {
            core.arriving.remove(&arriving.dedupe);
        }
        if let Some(share) = core.segments.get_mut(&written.segment) {
            share.entering -= group.arriving.len() as u64;
        }
        let is_sealed = core.segments.range(written.segment + 1..).next().is_some();
        let may_shrink = is_sealed || written.begins_segment() || !group.moved.is_empty();
        for moved in group.moved {
            core.moving -= 1;
            self.moved(&mut core, moved.id, moved.from, written.place(moved.to));
        }
        core.work += 1;
        drop(core);
        self.work_wake.notify_all();
        if may_shrink || self.queue.wants_step() {
            self.upkeep_wake.notify_one();
        }
        if self.queue.is_strained() {
            if let Err(error) = self.queue.step() {
                log::debug!("queue not written error={:?}", error.to_string());
            }
        }
    }

    /// Brings a new envelope into the queue. The core is not locked meanwhile, so that requests and attempts
    /// go on. The first of its conversation is due. Whoever removes the first looks for the next one after he
    /// has removed it, and finds this one, because its entry was there before its place in the order.
    fn enter(&self, arriving: &Arriving) {
        let Arriving { id, entry, dedupe, expires } = arriving;
        // Whether a dead one is kept in the order can be changed, under the lock.
        let _core = (!waits(entry)).then(|| self.core());
        self.queue.put_new_entry(*id, entry);
        if self.keep_order(*id, entry) && waits(entry) {
            self.queue.insert_due(entry.due, *id);
        }
        self.queue.remember(*dedupe, *expires);
    }
}

/// What is left of an envelope whose text is gone.
fn substitute(id: Id, entry: &Entry, reason: String) -> Envelope {
    Envelope {
        id,
        received_at: entry.received_at,
        source: entry.source.clone(),
        kind: String::new(),
        event_id: String::new(),
        dedupe: Hash::default(),
        dedupe_window: Duration::ZERO,
        conversation: String::new(),
        peer: String::new(),
        context: Vec::new(),
        body: Vec::new(),
        born_dead: Some(reason),
    }
}

fn waits(entry: &Entry) -> bool {
    matches!(entry.state, State::Queued | State::Deferred)
}

fn settled(entry: &Entry, flight: &Flight, change: &Change, now: Timestamp) -> Settled {
    Settled {
        source: entry.source.clone(),
        kind: flight.kind.clone(),
        event_id: flight.event_id.clone(),
        conversation: flight.conversation.clone(),
        received_at: entry.received_at,
        settled_at: now,
        ticket: entry.ticket,
        dropped: matches!(change, Change::Dropped { .. }),
        tries: entry.tries.clone(),
    }
}

impl Core {
    /// The conversation may be leased again, unless others of it are still in flight.
    fn land(&mut self, conversation: Hash) {
        if !self.flights.values().any(|flight| flight.entry.conversation == conversation) {
            self.flying_conversations.remove(&conversation);
        }
    }

    /// Counts an envelope; its segment's share.
    pub(super) fn enter(&mut self, entry: &Entry) -> &mut Share {
        *self.counts.entry((entry.source.clone(), entry.state)).or_default() += 1;
        let share = self.segments.entry(entry.place.segment).or_default();
        share.live += 1;
        share.live_bytes += u64::from(entry.place.length);
        share
    }

    fn leave(&mut self, entry: &Entry) {
        self.uncount(entry);
        self.forget_share(entry.place);
    }

    pub(super) fn forget_share(&mut self, place: super::Place) {
        let share: &mut Share = self.segments.entry(place.segment).or_default();
        share.live = share.live.saturating_sub(1);
        share.live_bytes = share.live_bytes.saturating_sub(u64::from(place.length));
    }

    fn uncount(&mut self, entry: &Entry) {
        let key = (entry.source.clone(), entry.state);
        if let Some(count) = self.counts.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// An envelope is in this state from now on.
    fn may_be_oldest(&mut self, id: Id, state: State) {
        if let Some(before) = self.none_before.get_mut(&state) {
            *before = id.min(*before);
        }
    }

    fn restate(&mut self, entry: &Entry, state: State) {
        self.uncount(entry);
        *self.counts.entry((entry.source.clone(), state)).or_default() += 1;
    }
}
