//! An event to its Freshdesk writes, at delivery.

use super::plain::{one_line, truncate};
use super::rule::{Action, Effects, Rule};
use super::template::Template;
use super::view::{Asking, StoredEvent, View};
use super::{Source, html, requester};
use crate::freshdesk::write::{Attachment, TicketFields, WhenClosed, Write};
use serde_json::Value as Json;
use std::sync::Arc;
use thiserror::Error;

/// Why an event cannot become a write as its source is configured: one line, without customer text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MappingError {
    /// What was stored is no JSON object.
    #[error("mapping: the stored event is not a JSON object")]
    NotAnObject,
    /// A text that must not be empty is.
    #[error("mapping: {key} rendered empty{}", missing_text(.missing))]
    Empty {
        /// `ticket.subject`.
        key: String,
        /// Names it reads that the event does not have.
        missing: Vec<String>,
    },
    /// Nobody that Freshdesk could answer.
    #[error("mapping: no requester: none of email, phone, external_id found")]
    NoRequester,
    /// A template or condition that failed on this event.
    #[error("mapping: {key} {reason}")]
    Template {
        /// `rule[1].when`.
        key: String,
        /// `invalid operation in line 1`.
        reason: String,
    },
    /// A text where Freshdesk wants one of few words, or a number.
    #[error("mapping: {key} rendered something else than {allowed}")]
    Word {
        /// `ticket.priority`.
        key: String,
        /// `low, medium, high, urgent or a number`.
        allowed: String,
    },
}

fn missing_text(missing: &[String]) -> String {
    match missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => names,
        names => format!(" ({names} missing)"),
    }
}

impl From<(String, String)> for MappingError {
    fn from((key, reason): (String, String)) -> MappingError {
        MappingError::Template { key, reason }
    }
}

impl Source {
    /// The writes of an event, in order; none when a filter or a rule ignores it. `ticket` is the ticket its
    /// conversation has already.
    pub fn plan(&self, stored: &StoredEvent<'_>, ticket: Option<u64>) -> Result<Vec<Write>, MappingError> {
        let mut view = self.stored_view(stored)?;
        let asking = self.resolve_requester(&view)?;
        view.set_requester(&asking.requester);
        if let Some(keep_if) = &self.texts.keep_if {
            if !self.holds(keep_if, &view)? {
                return Ok(Vec::new());
            }
        }
        let (actions, effects) = match self.first_rule(&view)? {
            Some(rule) => (rule.actions.as_slice(), &rule.effects),
            None => (&[Action::Ticket][..], &self.effects),
        };
        let planning = Planning { source: self, stored, view: &view, asking: &asking, actions, effects };
        let mut writes = planning.contact(ticket)?;
        match ticket {
            Some(_) => writes.extend(planning.to_the_ticket()?),
            None => writes.extend(planning.without_ticket()?),
        }
        Ok(writes)
    }

    /// Who asks, in a few words, for listings.
    pub fn requester_label(&self, stored: &StoredEvent<'_>) -> Option<String> {
        let view = self.stored_view(stored).ok()?;
        let requester = self.resolve_requester(&view).ok()?.requester;
        let label = requester.name.or(requester.email).or(requester.phone).or(requester.external_id);
        label.map(|label| truncate(&label, 60))
    }

    pub(super) fn stored_view(&self, stored: &StoredEvent<'_>) -> Result<View, MappingError> {
        let event: Json = serde_json::from_slice(stored.body).map_err(|_| MappingError::NotAnObject)?;
        if !event.is_object() {
            return Err(MappingError::NotAnObject);
        }
        let around = self.stored_surroundings(stored.context, stored.received_at);
        let failed = |reason| MappingError::Template { key: "kind".to_owned(), reason };
        self.view(Arc::new(event), &around).map_err(failed)
    }

    /// The first rule whose condition holds: the admin's before the preset's.
    pub(super) fn first_rule(&self, view: &View) -> Result<Option<&Rule>, MappingError> {
        for rule in &self.rules {
            let holds = match &rule.when {
                Some(condition) => self.holds(condition, view)?,
                None => true,
            };
            if holds {
                return Ok(Some(rule));
            }
        }
        Ok(None)
    }

    fn holds(&self, condition: &Template, view: &View) -> Result<bool, MappingError> {
        let failed = |reason| MappingError::Template { key: condition.key.clone(), reason };
        self.engine.holds(condition, &view.context).map_err(failed)
    }

    pub(super) fn render(&self, template: &Template, view: &View) -> Result<String, MappingError> {
        let failed = |reason| MappingError::Template { key: template.key.clone(), reason };
        self.engine.render(template, &view.context).map_err(failed)
    }
}

/// One event that is being planned.
struct Planning<'a> {
    source: &'a Source,
    stored: &'a StoredEvent<'a>,
    view: &'a View,
    asking: &'a Asking,
    actions: &'a [Action],
    effects: &'a Effects,
}

impl Planning<'_> {
    fn does(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// The requester's contact. Somebody who only stands in has none of his own. A new ticket names its requester by
    /// one of address and external id; who has both gets a contact with both, or he is two people later.
    fn contact(&self, ticket: Option<u64>) -> Result<Vec<Write>, MappingError> {
        let asking = &self.asking.requester;
        let has_two = asking.email.is_some() && asking.external_id.is_some();
        let is_needed = ticket.is_none() && has_two && self.opens_ticket();
        if !self.does(Action::Contact) && !is_needed {
            return Ok(Vec::new());
        }
        let fields = self.source.contact_fields(&self.effects.contact, self.asking, self.view)?;
        match requester::is_somebody(&fields.requester) && !self.asking.is_fallback {
            true => Ok(vec![Write::PutContact(Box::new(fields))]),
            false if self.actions == [Action::Contact] => Err(MappingError::NoRequester),
            false => Ok(Vec::new()),
        }
    }

    /// The conversation has a ticket already.
    fn to_the_ticket(&self) -> Result<Vec<Write>, MappingError> {
        let mut writes = Vec::new();
        if self.does(Action::Ticket) || self.does(Action::Note) {
            let mut note = self.source.note_fields(&self.effects.note, self.view)?;
            note.attachments.extend(self.attachment());
            note.merge = self.effects.followup.merge;
            if self.does(Action::Ticket) {
                note.when_closed = self.when_closed();
            }
            writes.push(Write::AddNote(note));
        }
        if self.does(Action::Update) {
            let update = self.source.update_fields(&self.effects.update, self.view)?;
            writes.extend((!update.is_empty()).then(|| Write::UpdateTicket(Box::new(update))));
        }
        Ok(writes)
    }

    /// A later event that cannot open a ticket of its own opens the old one again.
    fn when_closed(&self) -> WhenClosed {
        let opens = self.effects.followup.opens_new_ticket == Some(true);
        match opens.then(|| self.ticket()) {
            Some(Ok(ticket)) => WhenClosed::NewTicket(Box::new(ticket)),
            _ => WhenClosed::Reopen,
        }
    }

    /// Would it, where the conversation has none?
    fn opens_ticket(&self) -> bool {
        self.does(Action::Ticket)
            || self.does(Action::Note) && self.effects.note.is_ignored_without_ticket != Some(true)
            || self.does(Action::Update) && self.effects.update.opens_ticket
    }

    fn without_ticket(&self) -> Result<Vec<Write>, MappingError> {
        if !self.opens_ticket() {
            return Ok(Vec::new());
        }
        Ok(vec![Write::CreateTicket(Box::new(self.ticket()?))])
    }

    /// The ticket that would be opened, as an update in the same plan would leave it.
    fn ticket(&self) -> Result<TicketFields, MappingError> {
        let mut ticket = self.source.ticket_fields(&self.effects.ticket, self.view)?;
        if !requester::is_somebody(&self.asking.requester) {
            return Err(MappingError::NoRequester);
        }
        ticket.requester = self.asking.requester.clone();
        if let Some(email) = &self.asking.unusable_email {
            mention(&mut ticket.description, "Email (not valid)", email);
        }
        if self.does(Action::Update) {
            self.source.update_fields(&self.effects.update, self.view)?.apply_to(&mut ticket);
        }
        ticket.attachments.extend(self.attachment());
        Ok(ticket)
    }

    /// The event as it came, readable.
    fn attachment(&self) -> Option<Attachment> {
        let event: Json =
            self.effects.attach_event.then(|| serde_json::from_slice(self.stored.body).ok())??;
        let bytes = serde_json::to_vec_pretty(&event).ok()?;
        Some(Attachment { name: "event.json".to_owned(), content_type: "application/json", bytes })
    }
}

/// Adds a line to a description that does not say it yet.
fn mention(description: &mut String, label: &str, text: &str) {
    let escaped = html::escape(&truncate(&one_line(text), 200));
    if !escaped.is_empty() && !description.contains(&escaped) {
        description.push_str(&format!("<br>\n<b>{label}:</b> {escaped}"));
    }
}
