//! What the daemon writes down about itself: how things stand, every few seconds, and what became of attempts.

use crate::control::Rooms;
use crate::dispatch::{Noted, Observer, WAITS_FOR_MORE};
use crate::freshdesk::write::Write;
use crate::spool::{Change, Envelope};
use crate::status::snapshot::gauges;
use crate::status::{Count, Seen, Tally};
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked at how things stand; the worst of a minute is remembered.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The thread `watch`, which looks.
pub(super) struct Watch {
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Watch {
    /// Looks at once, and then again and again.
    pub fn start(rooms: Arc<Rooms>) -> io::Result<Watch> {
        let (stop, stopped) = channel();
        let life = move || {
            let mut paused = names_of_pauses(&rooms);
            loop {
                look(&rooms);
                mark_pauses(&rooms, &mut paused);
                // What repeated is summed up even when nothing else is said.
                log::logger().flush();
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(life)?;
        Ok(Watch { running: Mutex::new(Some((stop, thread))) })
    }

    /// Ends it, once.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

fn names_of_pauses(rooms: &Rooms) -> BTreeSet<String> {
    rooms.pauses.all().into_keys().collect()
}

/// What was paused or goes on since the last look explains a bend in a picture.
fn mark_pauses(rooms: &Rooms, before: &mut BTreeSet<String>) {
    let now = names_of_pauses(rooms);
    now.difference(before).for_each(|what| rooms.tally.mark(&format!("{what} paused")));
    before.difference(&now).for_each(|what| rooms.tally.mark(&format!("{what} resumed")));
    *before = now;
}

fn look(rooms: &Rooms) {
    let observed = gauges(&*rooms.clock, (&rooms.spool, &rooms.dispatch));
    if let Err(error) = observed.and_then(|gauges| rooms.tally.observe(gauges)) {
        log::warn!("history not kept error={:?}", error.to_string());
    }
}

/// Counts what happens to envelopes.
pub(super) fn counting(tally: Arc<Tally>) -> Box<Observer> {
    Box::new(move |envelope, noted| {
        let (source, meters) = (envelope.source.as_str(), tally.meters());
        if let Noted::Settled(change) = noted {
            remember(&tally, envelope, change);
        }
        match noted {
            Noted::Wrote(write) => meters.wrote(source, action(write)),
            Noted::Settled(Change::Delivered { ran, .. }) => meters.attempted(source, "delivered", ran.took),
            Noted::Settled(Change::Deferred { ran, reason, doubt, .. }) => {
                let outcome = if doubt.is_some() { "unknown" } else { "deferred" };
                meters.attempted(source, outcome, ran.took);
                tally.fail(source, Count::Deferred, reason);
            }
            Noted::Settled(Change::Buried { ran, reason, .. }) => {
                if let Some(ran) = ran {
                    meters.attempted(source, "rejected", ran.took);
                }
                meters.died(source, cause_of_death(ran.is_some(), reason));
                tally.fail(source, Count::Dead, reason);
            }
            Noted::Settled(_) => {}
        }
    })
}

/// For whoever follows the log.
fn remember(tally: &Tally, envelope: &Envelope, change: &Change) {
    let (what, ran, ticket, reason) = match change {
        Change::Deferred { reason, .. } if reason == WAITS_FOR_MORE => return,
        Change::Delivered { ticket, ran, .. } => ("delivered", Some(ran), *ticket, ""),
        Change::Deferred { doubt, ran, reason, .. } => {
            (if doubt.is_some() { "unknown" } else { "deferred" }, Some(ran), None, reason.as_str())
        }
        Change::Buried { ran, reason, .. } => ("dead", ran.as_ref(), None, reason.as_str()),
        Change::Held { reason } => ("held", None, None, reason.as_str()),
        Change::Begun { .. } | Change::Progressed { .. } | Change::Retried | Change::Dropped { .. } => return,
    };
    let seen = Seen {
        id: Some(envelope.id),
        source: envelope.source.clone(),
        conversation: envelope.conversation.clone(),
        event: envelope.event_id.clone(),
        took_seconds: ran.map(|ran| ran.took.as_secs_f64()),
        ticket,
        reason: reason.to_owned(),
        ..Seen::default()
    };
    let at = ran.map_or_else(|| tally.now(), |ran| ran.at);
    tally.recent().add(seen.at(at).what(what));
}

/// The label of a write.
fn action(write: &Write) -> &'static str {
    match write {
        Write::CreateTicket(_) => "create",
        Write::AddNote(note) if note.reply => "reply",
        Write::AddNote(_) => "note",
        Write::UpdateTicket(_) => "update",
        Write::PutContact(_) => "contact",
    }
}

/// The label of a dead letter.
fn cause_of_death(was_tried: bool, reason: &str) -> &'static str {
    match reason {
        _ if reason.starts_with("bug:") => "bug",
        _ if reason.starts_with("gave up") => "gave_up",
        _ if was_tried => "rejected",
        _ => "mapping",
    }
}
