//! The alerts' tickets, carried out: each write's beginning is in the spool before it is made, and what may have been
//! made is looked for, so that a crash opens no second one. Where the queue was lost and rebuilt from the journal, which
//! knows of no alerts, what is still open gets a ticket anew.

use super::Daemon;
use super::alarm::RING;
use crate::alert::{Matter, Step, Ticket, Tickets};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::dispatch::{Aside, Beside, LOOKS_MIN, marker_of};
use crate::freshdesk::outcome::{Cause, Looked, Outcome};
use crate::freshdesk::write::{NoteFields, UpdateFields, Write};
use crate::source::table::{SourceTable, TicketTable};
use crate::source::{Source, StoredEvent};
use crate::spool::QueueError;
use std::time::Duration;

/// The row beside what is open.
const TICKETS: u64 = 1;
const RESOLVED: u64 = 4;
const CLOSED: u64 = 5;
/// Nothing waits.
const NOTHING: Duration = Duration::MAX;

impl Daemon {
    /// Opens a ticket for what is new, and says in it when it is over. When to look again.
    pub(super) fn alert_tickets(&self, config: &Config, matters: &[Matter]) -> Result<Duration, QueueError> {
        let kept = self.kept_tickets()?;
        let mut tickets = kept.clone();
        tickets.follow(self.rooms.clock.now(), matters);
        if tickets != kept {
            self.keep_tickets(&tickets)?;
        }
        let mut again = NOTHING;
        for index in 0..tickets.0.len() {
            // Telling the end is three steps, which follow each other when nobody is in the way.
            loop {
                let (now, guard) = (self.rooms.clock.now(), self.rooms.dispatch.guard());
                let wait = match tickets.0[index].due(now, guard) {
                    None => break,
                    Some(Duration::ZERO) => self.alert_step(config, &mut tickets, index)?,
                    Some(wait) => Some(wait),
                };
                if let Some(wait) = wait {
                    again = again.min(wait);
                    break;
                }
            }
        }
        Ok(again)
    }

    /// One step of a ticket; how long it has to wait, unless it is done.
    fn alert_step(
        &self,
        config: &Config,
        tickets: &mut Tickets,
        index: usize,
    ) -> Result<Option<Duration>, QueueError> {
        let write = match write(&tickets.0[index], &config.ticket) {
            Ok(write) => write,
            Err(reason) => return self.refused(tickets, index, &reason).map(|()| None),
        };
        let before = tickets.0[index].clone();
        let (number, since) = (before.number, Timestamp(before.since));
        let marker = self.alert_marker(&before);
        let aside = Aside { write: &write, ticket: number, marker: &marker, since };
        let wait = if before.is_in_doubt() {
            self.look_for(&aside, tickets, index)?
        } else if before.step == Step::Resolve && self.is_closed(number) {
            self.arrived(number.unwrap_or_default(), tickets, index);
            None
        } else {
            let begin = || {
                tickets.0[index].begin(self.rooms.clock.now());
                self.keep_tickets(tickets)
            };
            match self.rooms.dispatch.write_beside(&aside, begin)? {
                Beside::Done(outcome) => self.judge(outcome, tickets, index)?,
                Beside::NotFor(wait) => return Ok(Some(wait)),
            }
        };
        // A look that came to nothing; a write that did is not done, and its beginning was kept.
        if !before.is_in_doubt() || tickets.0[index] != before {
            self.keep_tickets(tickets)?;
        }
        Ok(wait)
    }

    fn look_for(
        &self,
        aside: &Aside<'_>,
        tickets: &mut Tickets,
        index: usize,
    ) -> Result<Option<Duration>, QueueError> {
        let looked = match self.rooms.dispatch.look_beside(aside) {
            Beside::Done(looked) => looked,
            Beside::NotFor(wait) => return Ok(Some(wait)),
        };
        match looked {
            Looked::Found { ticket } => self.arrived(ticket, tickets, index),
            Looked::Absent => tickets.0[index].not_found(self.rooms.clock.now(), LOOKS_MIN),
            Looked::Later { after } => return Ok(Some(after)),
            Looked::Deferred { .. } => return Ok(Some(NOTHING)),
            Looked::Undecidable { reason } => {
                let reason = format!("undecided whether it was written: {reason}");
                self.refused(tickets, index, &reason)?;
            }
        }
        Ok(None)
    }

    /// What an agent has closed is not opened so far again.
    fn is_closed(&self, number: Option<u64>) -> bool {
        let closed = UpdateFields { status: Some(CLOSED), ..UpdateFields::default() };
        let write = Write::UpdateTicket(Box::new(closed));
        let aside = Aside { write: &write, ticket: number, marker: "", since: Timestamp(0) };
        matches!(self.rooms.dispatch.look_beside(&aside), Beside::Done(Looked::Found { .. }))
    }

    fn judge(
        &self,
        outcome: Outcome,
        tickets: &mut Tickets,
        index: usize,
    ) -> Result<Option<Duration>, QueueError> {
        match outcome {
            Outcome::Delivered { ticket } => self.arrived(ticket, tickets, index),
            Outcome::Rejected { reason } => self.refused(tickets, index, &reason)?,
            Outcome::Unknown { .. } => {}
            Outcome::Deferred { not_before, cause, .. } => {
                tickets.0[index].not_done();
                // What is the account's trouble, the account says when it is over.
                let otherwise = if cause == Cause::Server { NOTHING } else { Duration::ZERO };
                return Ok(Some(not_before.unwrap_or(otherwise)));
            }
        }
        Ok(None)
    }

    fn arrived(&self, number: u64, tickets: &mut Tickets, index: usize) {
        let ticket = &mut tickets.0[index];
        let matter = ticket.matter.clone();
        let step = ticket.step;
        ticket.done(number);
        match step {
            Step::Open => log::info!("alert ticket opened matter={matter} ticket={number}"),
            Step::Resolve => log::info!("alert ticket resolved matter={matter} ticket={number}"),
            Step::Tell | Step::Nothing => {}
        }
    }

    fn refused(&self, tickets: &mut Tickets, index: usize, reason: &str) -> Result<(), QueueError> {
        let ticket = &mut tickets.0[index];
        let what = match ticket.step {
            Step::Open => "opened",
            Step::Tell | Step::Resolve | Step::Nothing => "closed",
        };
        log::error!("alert ticket not {what} matter={} reason={reason:?}", ticket.matter);
        ticket.refused();
        self.keep_tickets(tickets)
    }

    fn alert_marker(&self, ticket: &Ticket) -> String {
        let (spool, since) = (self.rooms.spool.identity(), ticket.since.to_be_bytes());
        marker_of(&[&spool, b"alert", ticket.matter.as_bytes(), &since, &[ticket.step as u8]])
    }

    fn kept_tickets(&self) -> Result<Tickets, QueueError> {
        let rows = self.rooms.spool.periods(RING, TICKETS)?;
        let row = rows.iter().find(|(number, _)| *number == TICKETS);
        Ok(row.and_then(|(_, row)| serde_json::from_slice(row).ok()).unwrap_or_default())
    }

    fn keep_tickets(&self, tickets: &Tickets) -> Result<(), QueueError> {
        let row = serde_json::to_vec(tickets).expect("tickets hold nothing that JSON cannot");
        self.rooms.spool.put_period(RING, TICKETS, row)?;
        self.rooms.spool.flush_queue()
    }
}

/// What a ticket's step writes, or why it cannot be.
fn write(ticket: &Ticket, defaults: &TicketTable) -> Result<Write, String> {
    match ticket.step {
        Step::Open => opening(ticket, defaults),
        Step::Tell => {
            let body = format!("<p>deskspool: {}</p>", crate::html::escape(&ticket.end()));
            Ok(Write::AddNote(NoteFields { body, private: true, ..NoteFields::default() }))
        }
        Step::Resolve | Step::Nothing => {
            let update = UpdateFields { status: Some(RESOLVED), ..UpdateFields::default() };
            Ok(Write::UpdateTicket(Box::new(update)))
        }
    }
}

/// The ticket as `[ticket]` and ours make it.
fn opening(ticket: &Ticket, defaults: &TicketTable) -> Result<Write, String> {
    let table: SourceTable =
        toml::from_str(include_str!("alert_ticket.toml")).expect("it is parsed by this module's test");
    let source = Source::compile("alert", &table, defaults, Vec::new()).map_err(|problems| {
        problems.first().map(|problem| format!("{} {}", problem.key, problem.what)).unwrap_or_default()
    })?;
    let since = Timestamp(ticket.since);
    let event = serde_json::json!({ "text": ticket.text, "next": ticket.next, "since": since.to_string() });
    let event = event.to_string();
    let stored = StoredEvent {
        body: event.as_bytes(),
        context: b"{}",
        received_at: since,
        event_id: &ticket.matter,
        kind: "alert",
        conversation: &ticket.matter,
    };
    let writes = source.plan(&stored, None).map_err(|error| error.to_string())?;
    writes.into_iter().next().ok_or_else(|| "nothing to write".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Matter;

    fn tickets() -> Tickets {
        let text = "1 dead letter, shop: <b>".to_owned();
        let matter = Matter { key: "dead".to_owned(), text, next: "deskspool queue --state dead".to_owned() };
        let mut tickets = Tickets::default();
        tickets.follow(Timestamp(1_763_712_000_000), &[matter]);
        tickets
    }

    #[test]
    fn a_ticket_has_what_every_ticket_has_and_nothing_is_markup() {
        let defaults: TicketTable =
            toml::from_str("group_id = 7\ncustom_fields = { cf_host = \"a\" }").unwrap();
        let Ok(Write::CreateTicket(ticket)) = write(&tickets().0[0], &defaults) else { panic!("no ticket") };
        assert_eq!(ticket.subject, "deskspool: 1 dead letter, shop: <b>");
        assert_eq!((ticket.group_id, ticket.priority, ticket.status), (Some(7), Some(3), Some(2)));
        assert_eq!((ticket.tags.join(","), ticket.custom_fields.len()), ("deskspool,alert".to_owned(), 1));
        assert!(ticket.description.contains("shop: &lt;b&gt;</p>"), "{}", ticket.description);
        assert!(
            ticket.description.contains("<code>deskspool queue --state dead</code>"),
            "{}",
            ticket.description
        );
        assert!(ticket.description.contains("Since 2025-11-21T08:00:00Z"), "{}", ticket.description);
        let mut tickets = tickets();
        tickets.0[0].done(9);
        tickets.follow(Timestamp(1_763_712_060_000), &[]);
        let Ok(Write::AddNote(note)) = write(&tickets.0[0], &defaults) else { panic!("no note") };
        assert_eq!(note.body, "<p>deskspool: over after 1m: 1 dead letter, shop: &lt;b&gt;</p>");
    }

    #[test]
    fn a_default_that_fails_is_told() {
        let defaults: TicketTable = toml::from_str("type = \"{{ nothing }}\"").unwrap();
        let reason = write(&tickets().0[0], &defaults).unwrap_err();
        assert!(reason.contains("\"nothing\", which does not exist"), "{reason}");
    }
}
