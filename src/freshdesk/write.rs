//! The writes deskspool makes in Freshdesk, as plain data: what a source plans and the client sends.
//!
//! Members are the vendor's documented fields and nothing else (API v2, "Create a ticket" and "Create
//! a note"); numbers are numbers, because Freshdesk refuses `"2"` where it wants `2`.

use serde_json::{Map, Value};

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
}

/// `POST /api/v2/tickets/{id}/notes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoteFields {
    /// HTML, already escaped where it quotes customers.
    pub body: String,
    /// Agents only, or visible to the customer.
    pub private: bool,
    /// Agents' addresses to notify.
    pub notify_emails: Vec<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Opens the conversation's ticket.
    CreateTicket(Box<TicketFields>),
    /// Adds to the conversation's ticket, which an earlier step may have opened.
    AddNote(NoteFields),
}
