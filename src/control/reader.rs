//! What only reads: of a running daemon, or of a spool at rest, so that both give the same answer.

use super::events::Past;
use super::export::Export;
use super::listing::{Listing, lines};
use super::redact::Redaction;
use super::view::{EnvelopeView, Filter, Row};
use super::{Asker, Labeller, Refused, json};
use crate::clock::Clock;
use crate::dispatch::Planner;
use crate::pauses::Pauses;
use crate::spool::{Entry, Envelope, Id, Spool, State};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What reading verbs are answered from.
#[derive(Clone)]
pub struct Reader<'a> {
    /// The envelopes.
    pub spool: &'a Spool,
    /// The time.
    pub clock: &'a dyn Clock,
    /// What is set aside for a while.
    pub pauses: &'a Pauses,
    /// Names the requester of an event.
    pub label: &'a Labeller,
    /// Who asks in an event.
    pub requester: &'a Asker,
    /// What would be written for an event now.
    pub plan: &'a Planner,
    /// What is not shown of an event.
    pub redact: Arc<[String]>,
}

impl Reader<'_> {
    /// The answer to a request that only reads; none when there is no such.
    pub fn answer(&self, path: &str, query: &str) -> Result<Option<String>, Refused> {
        Ok(Some(match path {
            "/queue" => {
                let filter = Filter::of_query(query).map_err(Refused::Usage)?;
                let (mut listing, mut text) = (Listing::new(self.clone(), &filter), Vec::new());
                while let Some(rows) = listing.page()? {
                    text.extend(lines(&rows));
                }
                String::from_utf8_lossy(&text).into_owned()
            }
            "/export" => Export::of_query(query)?.page(self)?,
            "/log" => Past::of_query(query)?.page(self)?,
            _ => match path.strip_prefix("/envelope/") {
                Some(id) => self.show(id)?,
                None => return Ok(None),
            },
        }))
    }

    fn show(&self, id: &str) -> Result<String, Refused> {
        let id: Id = id.parse().map_err(|_| Refused::NotFound)?;
        self.look(id)?.map(|view| json(&view)).ok_or(Refused::NotFound)
    }

    /// One envelope, whole; none when there is no such.
    pub fn look(&self, id: Id) -> Result<Option<EnvelopeView>, Refused> {
        if let Some((entry, in_flight)) = self.spool.entry(id)? {
            let row = self.row(id, &entry, in_flight)?;
            // A damaged one is shown without its text.
            let Ok(envelope) = self.spool.envelope(&entry) else {
                return Ok(Some(EnvelopeView::unreadable(row, &entry)));
            };
            // As delivery plans it.
            let ticket = match entry.doubt {
                _ if entry.opened => None,
                Some(doubt) => doubt.ticket,
                None => entry.ticket.or(self.spool.ticket_of(entry.conversation)?.map(|(ticket, _)| ticket)),
            };
            let planned = (self.plan)(&envelope, ticket);
            let mut view = EnvelopeView::waiting(row, &entry, &envelope, &planned);
            self.hide(Some(&envelope), |redaction| redaction.view(&mut view));
            return Ok(Some(view));
        }
        let Some(settled) = self.spool.settled(id)? else { return Ok(None) };
        let mut view = EnvelopeView::settled(id, &settled);
        self.hide(None, |redaction| redaction.view(&mut view));
        Ok(Some(view))
    }

    /// Has what `privacy.redact` names hidden in something of this envelope's.
    pub(super) fn hide(&self, envelope: Option<&Envelope>, apply: impl FnOnce(&Redaction<'_>)) {
        if self.redact.is_empty() {
            return;
        }
        let requester = envelope.and_then(|envelope| {
            catch_unwind(AssertUnwindSafe(|| (self.requester)(envelope))).ok().flatten()
        });
        let event = envelope.and_then(|envelope| serde_json::from_slice(&envelope.body).ok());
        if let Some(redaction) = Redaction::of(&self.redact, event.as_ref(), requester.as_ref()) {
            apply(&redaction);
        }
    }

    /// An unsettled envelope as it stands in a listing.
    pub fn row(&self, id: Id, entry: &Entry, in_flight: bool) -> Result<Row, Refused> {
        let envelope = self.spool.envelope(entry).ok();
        let waits = matches!(entry.state, State::Queued | State::Deferred) && !in_flight;
        let waits_for = if waits { self.spool.waits_for(id, entry)? } else { None };
        let requester = envelope.as_ref().and_then(|envelope| {
            // A mapping that panics must not take the listing with it.
            catch_unwind(AssertUnwindSafe(|| (self.label)(envelope))).ok().flatten()
        });
        let mut row = Row::waiting(id, entry, in_flight, self.clock.now());
        row.waits_for = waits_for;
        row.requester = requester;
        if let Some(envelope) = envelope {
            row.conversation.clone_from(&envelope.conversation);
            row.event.clone_from(&envelope.event_id);
            self.hide(Some(&envelope), |redaction| redaction.row(&mut row));
        }
        Ok(row)
    }
}
