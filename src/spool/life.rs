//! An envelope's life after it is durable: leased, begun, progressed, settled; and the admin's verbs.

use super::group::{CommitFailed, Group, Waiter};
use super::journal::Written;
use super::queue::{QueueError, Settled};
use super::record::Record;
use super::{Change, Core, Doubt, Entry, Envelope, Flight, Hash, Id, Share, Shared, Spool, State};
use crate::clock::Timestamp;
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
    /// The last error, if there was one.
    pub reason: String,
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

type Answer<T> = Result<T, QueueError>;

impl Spool {
    /// Leases the earliest due head of a conversation that has nothing in flight.
    pub fn lease_due(&self) -> Answer<Leased> {
        let shared = &self.shared;
        let mut core = shared.core();
        let now = shared.now();
        let mut after = None;
        loop {
            let page = shared.queue.due(after)?;
            for (due, id) in &page {
                if *due > now {
                    return Ok(Leased::NotBefore(*due));
                }
                if let Some(entry) = shared.leasable(&mut core, *due, *id)?
                    && let Some(lease) = shared.lease(&mut core, *id, entry)?
                {
                    return Ok(Leased::One(Box::new(lease)));
                }
            }
            match page.last() {
                Some(last) => after = Some(*last),
                None => return Ok(Leased::Nothing),
            }
        }
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

    /// Makes it durable that an attempt, begun `at`, is about to send. Nothing may be sent before this returns.
    pub fn begin(&self, id: Id, at: Timestamp) -> Result<(), CommitFailed> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        {
            let mut core = self.shared.core();
            let flight = core.flights.get_mut(&id).expect("only a leased envelope is begun");
            let change = Change::Begun { at };
            flight.entry.apply(&change);
            core.append_change(self.shared.files.identity(), Record::Change(id, change));
            core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
        }
        self.shared.commit_wake.notify_one();
        told.recv().unwrap_or_else(|_| Err(CommitFailed(std::io::Error::other("stopping").into())))
    }

    /// Ends a lease without an attempt, as if it had not been given.
    pub fn give_back(&self, id: Id) {
        let mut core = self.shared.core();
        if let Some(flight) = core.flights.remove(&id) {
            core.flying_conversations.remove(&flight.entry.conversation);
        }
    }

    /// Records that `step` writes of the plan are done and where they went. The lease goes on.
    pub fn progress(&self, id: Id, step: u32, ticket: u64, opened: bool) -> Answer<()> {
        let mut core = self.shared.core();
        let now = self.shared.now();
        let flight = core.flights.get_mut(&id).expect("only a leased envelope progresses");
        let change = Change::Progressed { step, ticket, opened };
        flight.entry.apply(&change);
        let entry = flight.entry.clone();
        self.shared.queue.put_entry(id, &entry)?;
        self.shared.queue.set_ticket(entry.conversation, ticket, now)?;
        core.append_change(self.shared.files.identity(), Record::Change(id, change));
        drop(core);
        self.shared.commit_wake.notify_one();
        Ok(())
    }

    /// Records what the attempt came to, and ends the lease.
    pub fn settle(&self, id: Id, change: Change) -> Answer<()> {
        let mut core = self.shared.core();
        let flight = core.flights.remove(&id).expect("only a leased envelope is settled");
        core.flying_conversations.remove(&flight.entry.conversation);
        let Some(standing) = self.shared.queue.entry(id)? else {
            // An admin cannot drop what is in flight, so this is damage; the journal still gets the change.
            core.append_change(self.shared.files.identity(), Record::Change(id, change));
            return Ok(());
        };
        let done = self.shared.changed(&mut core, (id, &standing), flight, change);
        drop(core);
        self.shared.commit_wake.notify_one();
        self.shared.work_wake.notify_all();
        done
    }

    /// Applies an admin's change to an envelope that is not in flight, durably.
    pub fn touch(&self, id: Id, change: Change) -> Answer<Touched> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        {
            let mut core = self.shared.core_with(id);
            if core.flights.contains_key(&id) {
                return Ok(Touched::InFlight);
            }
            let Some(entry) = self.shared.queue.entry(id)? else { return Ok(Touched::Unknown) };
            let flight = self.shared.flight(entry.clone());
            self.shared.changed(&mut core, (id, &entry), flight, change)?;
            let waiter: Waiter = Box::new(move |result| drop(tell.send(result)));
            core.group.waiters.push(waiter);
        }
        self.shared.commit_wake.notify_one();
        self.shared.work_wake.notify_all();
        match told.recv() {
            Ok(Ok(())) => Ok(Touched::Done),
            Ok(Err(failed)) => Err(QueueError::Io(std::io::Error::other(failed.0.to_string()))),
            Err(_) => Err(QueueError::Io(std::io::Error::other("stopping"))),
        }
    }

    /// Where an unsettled envelope stands, and whether it is in flight.
    pub fn entry(&self, id: Id) -> Answer<Option<(Entry, bool)>> {
        let core = self.shared.core_with(id);
        if let Some(flight) = core.flights.get(&id) {
            return Ok(Some((flight.entry.clone(), true)));
        }
        Ok(self.shared.queue.entry(id)?.map(|entry| (entry, false)))
    }

    /// A page of unsettled envelopes from `from` on, in order of arrival.
    pub fn entries(&self, from: Id) -> Answer<Vec<(Id, Entry, bool)>> {
        let core = self.shared.core();
        let page = self.shared.queue.entries(from)?;
        Ok(page
            .into_iter()
            .map(|(id, entry)| match core.flights.get(&id) {
                Some(flight) => (id, flight.entry.clone(), true),
                None => (id, entry, false),
            })
            .collect())
    }

    /// The text of an unsettled envelope.
    pub fn envelope(&self, entry: &Entry) -> std::io::Result<Envelope> {
        self.shared.files.read(entry.place)
    }

    /// The envelope ahead of `id` in its conversation that it waits for, if it is not the head.
    pub fn waits_for(&self, id: Id, entry: &Entry) -> Answer<Option<Id>> {
        let head = self.shared.head(entry.conversation)?;
        Ok(head.map(|(head, _)| head).filter(|head| *head != id))
    }

    /// A settled envelope.
    pub fn settled(&self, id: Id) -> Answer<Option<Settled>> {
        self.shared.queue.settled(id)
    }

    /// The settled envelope with the highest number.
    pub fn last_settled(&self) -> Answer<Option<(Id, Settled)>> {
        self.shared.queue.last_settled()
    }

    /// A page of settled envelopes from `from` on.
    pub fn history(&self, from: Id) -> Answer<Vec<(Id, Settled)>> {
        self.shared.queue.history(from)
    }

    /// How many envelopes stand where, by source; those in flight are counted as queued or deferred.
    pub fn counts(&self) -> Vec<(String, State, u64)> {
        let core = self.shared.core();
        core.counts.iter().map(|((source, state), count)| (source.clone(), *state, *count)).collect()
    }

    /// How many envelopes are in flight, by source and the state the queue has them in.
    pub fn in_flight(&self) -> Vec<(String, State)> {
        self.shared
            .core()
            .flights
            .values()
            .map(|flight| (flight.entry.source.clone(), flight.entry.state))
            .collect()
    }

    /// When the oldest envelope that still waits for delivery came in.
    pub fn oldest_waiting(&self) -> Answer<Option<Timestamp>> {
        let mut from = 0;
        loop {
            let page = self.shared.queue.entries(from)?;
            let waiting =
                page.iter().find(|(_, entry)| matches!(entry.state, State::Queued | State::Deferred));
            match (waiting, page.last()) {
                (Some((_, entry)), _) => return Ok(Some(entry.received_at)),
                (None, Some((last, _))) => from = last + 1,
                (None, None) => return Ok(None),
            }
        }
    }

    /// Adds to the numbers of one source in one minute since 1970.
    pub fn add_counts<const N: usize>(&self, minute: u64, source: &str, counts: [u32; N]) -> Answer<()> {
        self.shared.queue.add_counts(minute, source, counts)
    }

    /// A page of numbers after (minute, source).
    pub fn minute_counts<const N: usize>(&self, after: (u64, &str)) -> Answer<Vec<(u64, String, [u32; N])>> {
        self.shared.queue.counts(after)
    }
}

impl Shared {
    /// The core, once `id` is no longer between its sync and the queue.
    fn core_with(&self, id: Id) -> MutexGuard<'_, Core> {
        let arrived =
            self.work_wake.wait_while(self.core(), |core| core.arriving.values().any(|other| *other == id));
        arrived.expect("no thread panics while it holds the spool")
    }

    /// The entry behind a due row, if it may be leased. A row that leads nowhere is removed.
    fn leasable(&self, core: &mut Core, due: Timestamp, id: Id) -> Answer<Option<Entry>> {
        let entry = match self.queue.entry(id) {
            Ok(entry) => entry,
            Err(QueueError::Malformed(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(entry) = entry.filter(|entry| waits(entry) && entry.due == due) else {
            self.queue.remove_due(due, id)?;
            return Ok(None);
        };
        if core.flying_conversations.contains(&entry.conversation) {
            return Ok(None);
        }
        match self.head(entry.conversation)? {
            Some((head, _)) if head == id => Ok(Some(entry)),
            _ => {
                self.queue.remove_due(due, id)?;
                Ok(None)
            }
        }
    }

    fn lease(&self, core: &mut Core, id: Id, entry: Entry) -> Answer<Option<Lease>> {
        let envelope = match self.files.read(entry.place) {
            Ok(envelope) => envelope,
            Err(error) => {
                let reason = format!("spool: record damaged in segment {} ({error})", entry.place.segment);
                log::error!("envelope dead id={id} reason={reason:?}");
                let flight = self.flight(entry.clone());
                let change = Change::Buried { ran: None, doubt: entry.doubt, reason };
                self.changed(core, (id, &entry), flight, change)?;
                return Ok(None);
            }
        };
        let known = self.queue.ticket_of(entry.conversation)?.map(|(ticket, _)| ticket);
        let lease = Lease {
            attempts: entry.attempts,
            step: entry.step,
            ticket: entry.ticket.or(known),
            opened: entry.opened,
            doubt: entry.doubt,
            reason: entry.reason.clone(),
            envelope,
        };
        core.flying_conversations.insert(entry.conversation);
        let (kind, event_id) = (lease.envelope.kind.clone(), lease.envelope.event_id.clone());
        let conversation = lease.envelope.conversation.clone();
        core.flights.insert(id, Flight { entry, kind, event_id, conversation });
        Ok(Some(lease))
    }

    /// What history will say of an envelope that is settled without having been leased.
    fn flight(&self, entry: Entry) -> Flight {
        let (kind, event_id, conversation) = match self.files.read(entry.place) {
            Ok(envelope) => (envelope.kind, envelope.event_id, envelope.conversation),
            Err(_) => Default::default(),
        };
        Flight { entry, kind, event_id, conversation }
    }

    /// Applies a change to queue, counts and shares, appends it to the journal, and finds the next head.
    /// `standing` is the entry as the queue has it.
    fn changed(
        &self,
        core: &mut Core,
        (id, standing): (Id, &Entry),
        flight: Flight,
        change: Change,
    ) -> Answer<()> {
        let mut entry = flight.entry.clone();
        entry.apply(&change);
        self.queue.remove_due(standing.due, id)?;
        if change.settles() {
            self.queue.remove_entry(id)?;
            self.queue.remove_order(entry.conversation, id)?;
            self.queue.put_settled(id, &settled(&entry, flight, &change, self.now()))?;
            if let Change::Delivered { ticket: Some(ticket), ran, .. } = change {
                self.queue.set_ticket(entry.conversation, ticket, ran.at)?;
            }
            core.leave(standing);
        } else {
            self.queue.put_entry(id, &entry)?;
            self.queue.insert_order(entry.conversation, id)?;
            core.restate(standing, entry.state);
        }
        core.append_change(self.files.identity(), Record::Change(id, change));
        self.place_head(entry.conversation)?;
        core.work += 1;
        self.upkeep_wake.notify_one();
        Ok(())
    }

    /// The envelope of the conversation that is next: the first that is not passed over.
    pub(super) fn head(&self, conversation: Hash) -> Answer<Option<(Id, Entry)>> {
        let pass_dead = self.limits().pass_dead;
        let mut after = None;
        loop {
            let ids = self.queue.conversation_ids(conversation, after)?;
            for id in &ids {
                match self.queue.entry(*id)? {
                    None => self.queue.remove_order(conversation, *id)?,
                    Some(entry) if entry.state == State::Dead && pass_dead => {}
                    Some(entry) => return Ok(Some((*id, entry))),
                }
            }
            match ids.last() {
                Some(last) => after = Some(*last),
                None => return Ok(None),
            }
        }
    }

    /// Makes sure that the conversation's head, if it waits, has its row in `due`.
    pub(super) fn place_head(&self, conversation: Hash) -> Answer<()> {
        match self.head(conversation)? {
            Some((id, entry)) if waits(&entry) => self.queue.insert_due(entry.due, id),
            _ => Ok(()),
        }
    }

    /// After the admin changed whether dead heads are passed: finds the heads behind them.
    pub(super) fn place_heads_behind_dead(&self) -> Answer<()> {
        let mut core = self.core();
        let mut from = 0;
        loop {
            let page = self.queue.entries(from)?;
            for (_, entry) in page.iter().filter(|(_, entry)| entry.state == State::Dead) {
                self.place_head(entry.conversation)?;
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

    /// The group is on disk: its puts enter the queue, its stragglers move.
    pub(super) fn group_is_durable(&self, group: Group, written: Written) {
        let mut core = self.core();
        core.failed = false;
        if !group.bytes.is_empty() {
            core.segments.entry(written.segment).or_default().bytes += group.bytes.len() as u64;
        }
        for mut arriving in group.arriving {
            arriving.entry.place = written.place(arriving.entry.place);
            if let Err(error) = self.enter(&mut core, arriving.id, &arriving.entry) {
                // The event is in the journal; the next start brings it into the queue.
                log::error!(
                    "queue write failed id={} error={:?} next=\"systemctl restart deskspool\"",
                    arriving.id,
                    error.to_string()
                );
            }
            if let Err(error) = self.queue.remember(arriving.dedupe, arriving.expires, arriving.id) {
                log::error!("queue write failed id={} error={:?}", arriving.id, error.to_string());
            }
            core.arriving.remove(&arriving.dedupe);
        }
        for moved in group.moved {
            self.moved(&mut core, moved.id, moved.from, written.place(moved.to));
        }
        core.work += 1;
        drop(core);
        self.work_wake.notify_all();
        self.upkeep_wake.notify_one();
    }

    fn enter(&self, core: &mut Core, id: Id, entry: &Entry) -> Answer<()> {
        self.queue.put_entry(id, entry)?;
        self.queue.insert_order(entry.conversation, id)?;
        core.enter(entry);
        self.place_head(entry.conversation)
    }
}

fn waits(entry: &Entry) -> bool {
    matches!(entry.state, State::Queued | State::Deferred)
}

fn settled(entry: &Entry, flight: Flight, change: &Change, now: Timestamp) -> Settled {
    Settled {
        source: entry.source.clone(),
        kind: flight.kind,
        event_id: flight.event_id,
        conversation: flight.conversation,
        received_at: entry.received_at,
        settled_at: now,
        ticket: entry.ticket,
        dropped: matches!(change, Change::Dropped { .. }),
        tries: entry.tries.clone(),
    }
}

impl Core {
    pub(super) fn enter(&mut self, entry: &Entry) {
        *self.counts.entry((entry.source.clone(), entry.state)).or_default() += 1;
        let share = self.segments.entry(entry.place.segment).or_default();
        share.live += 1;
        share.live_bytes += u64::from(entry.place.length);
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

    fn restate(&mut self, entry: &Entry, state: State) {
        self.uncount(entry);
        *self.counts.entry((entry.source.clone(), state)).or_default() += 1;
    }
}
