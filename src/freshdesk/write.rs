//! The writes deskspool makes in Freshdesk, as plain data: what a source plans and the client sends.
//!
//! Members are the vendor's documented fields and nothing else (API v2, "Create a ticket" and "Create
//! a note"); numbers are numbers, because Freshdesk refuses `"2"` where it wants `2`.

use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// Who asks. At least one of `email`, `phone`, `external_id` is set when a write is planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requester {
    /// Shown name. Freshdesk demands one when `phone` is the only identifier.
    pub name: Option<String>,
    /// Trimmed, lower case.
    pub email: Option<String>,
    /// E.164 where the country is known, else the digits as received.
    pub phone: Option<String>,
    /// `unique_external_id`, e.g. `sendpulse:65f0bb22`.
    pub external_id: Option<String>,
}

/// `POST /api/v2/tickets`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TicketFields {
    /// Sent as `email`, else `unique_external_id`, else `phone`: exactly one of them, and `name`.
    pub requester: Requester,
    /// Plain text of 1 to 255 characters.
    pub subject: String,
    /// HTML, already escaped where it quotes customers.
    pub description: String,
    /// 2 open, 3 pending, 4 resolved, 5 closed, above: the account's own.
    pub status: Option<u64>,
    /// 1 low, 2 medium, 3 high, 4 urgent.
    pub priority: Option<u64>,
    /// 1 email, 2 portal, 3 phone, 7 chat, 9 feedback widget, 10 outbound email.
    pub source: Option<u64>,
    /// Sent as `type`; one of the account's choices.
    pub ticket_type: Option<String>,
    /// Group that gets the ticket.
    pub group_id: Option<u64>,
    /// Product of the ticket.
    pub product_id: Option<u64>,
    /// Agent that gets the ticket.
    pub responder_id: Option<u64>,
    /// Company of the requester.
    pub company_id: Option<u64>,
    /// Support address the ticket belongs to.
    pub email_config_id: Option<u64>,
    /// At most 30 tags of at most 32 characters each, without commas.
    pub tags: Vec<String>,
    /// `cf_…` names and their values.
    pub custom_fields: Map<String, Value>,
    /// Addresses in copy; only at creation.
    pub cc_emails: Vec<String>,
    /// Files that come with it.
    pub attachments: Vec<Attachment>,
}

/// A file of a ticket or a note.
#[derive(Clone, PartialEq)]
pub struct Attachment {
    /// As agents see it: letters, digits, `-`, `_` and `.` only.
    pub name: String,
    /// `application/json`, `text/plain; charset=utf-8`.
    pub content_type: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Attachment {
    /// Without the content, which is customers' text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} bytes)", self.name, self.content_type, self.bytes.len())
    }
}

/// `POST /api/v2/tickets/{id}/notes`, or `…/reply`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoteFields {
    /// HTML, already escaped where it quotes customers.
    pub body: String,
    /// Agents only, or visible to the customer. A reply is never private.
    pub private: bool,
    /// Agents' addresses to notify; none of a reply.
    pub notify_emails: Vec<String>,
    /// Mailed to the customer as an answer.
    pub reply: bool,
    /// Files that come with it.
    pub attachments: Vec<Attachment>,
    /// What is done when the ticket is resolved, closed or gone.
    pub when_closed: WhenClosed,
    /// It may go out with others of its conversation, and waits this long for them.
    pub merge: Option<Duration>,
    /// The notes that go out with it, each with the marker it would have alone.
    pub merged: Vec<(String, String)>,
}

impl NoteFields {
    /// May `other` stand in one note with this one?
    pub fn goes_with(&self, other: &NoteFields) -> bool {
        let is_plain = |note: &NoteFields| {
            note.merge.is_some()
                && !note.reply
                && note.attachments.is_empty()
                && !matches!(note.when_closed, WhenClosed::NewTicket(_))
        };
        is_plain(self)
            && is_plain(other)
            && (self.private, &self.notify_emails, &self.when_closed)
                == (other.private, &other.notify_emails, &other.when_closed)
    }
}

/// What a note does where the ticket it belongs to is resolved, closed or gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum WhenClosed {
    /// It is added, and the ticket's state is not asked for.
    #[default]
    Leave,
    /// The ticket is opened again before the note is added.
    Reopen,
    /// This ticket is opened instead.
    NewTicket(Box<TicketFields>),
}

/// `PUT /api/v2/tickets/{id}`: what is not set stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateFields {
    /// As in [`TicketFields::status`].
    pub status: Option<u64>,
    /// As in [`TicketFields::priority`].
    pub priority: Option<u64>,
    /// Sent as `type`.
    pub ticket_type: Option<String>,
    /// Group that gets the ticket.
    pub group_id: Option<u64>,
    /// Product of the ticket.
    pub product_id: Option<u64>,
    /// Agent that gets the ticket.
    pub responder_id: Option<u64>,
    /// Added to those it has.
    pub tags_add: Vec<String>,
    /// Taken from those it has.
    pub tags_remove: Vec<String>,
    /// `cf_…` names and their values.
    pub custom_fields: Map<String, Value>,
}

impl UpdateFields {
    /// Nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == UpdateFields::default()
    }

    /// Whether the ticket's tags must be known first.
    pub fn changes_tags(&self) -> bool {
        !self.tags_add.is_empty() || !self.tags_remove.is_empty()
    }

    /// Lays it over the fields of a ticket that is about to be opened: one call instead of two.
    pub fn apply_to(self, ticket: &mut TicketFields) {
        ticket.status = self.status.or(ticket.status);
        ticket.priority = self.priority.or(ticket.priority);
        ticket.ticket_type = self.ticket_type.or(ticket.ticket_type.take());
        ticket.group_id = self.group_id.or(ticket.group_id);
        ticket.product_id = self.product_id.or(ticket.product_id);
        ticket.responder_id = self.responder_id.or(ticket.responder_id);
        ticket.tags = changed_tags(&ticket.tags, &self.tags_add, &self.tags_remove);
        ticket.custom_fields.extend(self.custom_fields);
    }
}

/// The tags without those to remove, and with those to add that are not there. Case is no difference.
pub fn changed_tags(tags: &[String], add: &[String], remove: &[String]) -> Vec<String> {
    let has =
        |tags: &[String], tag: &str| tags.iter().any(|other| other.to_lowercase() == tag.to_lowercase());
    let mut changed: Vec<String> = tags.iter().filter(|tag| !has(remove, tag)).cloned().collect();
    for tag in add {
        if !has(&changed, tag) {
            changed.push(tag.clone());
        }
    }
    changed
}

/// A contact that is found by external id, e-mail or phone, and made where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContactFields {
    /// Shown name, e-mail, phone and external id; at least one of the three identifiers is set.
    pub requester: Requester,
    /// Second number.
    pub mobile: Option<String>,
    /// Sent as it is.
    pub job_title: Option<String>,
    /// Sent as it is.
    pub address: Option<String>,
    /// Plain text, sent as it is.
    pub description: Option<String>,
    /// Added to those it has.
    pub tags_add: Vec<String>,
    /// The account's own contact fields and their values.
    pub custom_fields: Map<String, Value>,
    /// Replaces what is there; else only empty fields are filled.
    pub overwrite: bool,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Opens the conversation's ticket.
    CreateTicket(Box<TicketFields>),
    /// Adds to the conversation's ticket, which an earlier step may have opened.
    AddNote(NoteFields),
    /// Changes the conversation's ticket. Done twice it is as done once.
    UpdateTicket(Box<UpdateFields>),
    /// Finds or makes the requester's contact. Done twice it is as done once.
    PutContact(Box<ContactFields>),
}
