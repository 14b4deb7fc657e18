//! The Freshdesk API v2 client: building requests, reading answers, looking before resending.
//!
//! **Invariant:** only this room and `control` name `ureq`. It never retries and never sleeps; the
//! caller decides. `Desk` is the seam that simulations replace.

mod address;
mod answer;
pub mod client;
mod failure;
mod look;
pub mod outcome;
mod refusal;
mod request;
mod tap;
#[cfg(test)]
mod test_server;
mod tls;
pub mod write;

pub use client::{ApiKey, Client, ClientConfig, ClientError};

use crate::clock::Timestamp;
use outcome::{Looked, Outcome, Rate};
use write::{NoteFields, Requester, TicketFields};

/// A Freshdesk account, or its stand-in.
pub trait Desk: Send + Sync {
    /// Creates a ticket that carries `marker` (as a tag or in the configured custom field).
    fn create_ticket(&self, fields: &TicketFields, marker: &str) -> Outcome;
    /// Adds a note that carries `marker` in its body.
    fn add_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome;
    /// Looks for a ticket of `requester` with `marker`, updated since `since`.
    fn find_ticket(&self, requester: &Requester, marker: &str, since: Timestamp) -> Looked;
    /// Looks for a note with `marker` in `ticket`.
    fn find_note(&self, ticket: u64, marker: &str) -> Looked;
    /// Asks who the key belongs to: the agent's name, or why it could not be asked (always `Deferred`).
    fn probe(&self) -> Result<String, Outcome>;
    /// What the last answer said of the account's budget.
    fn rate(&self) -> Rate;
    /// Lets go of idle connections. For the caller that expects to have nothing to send for a while.
    fn rest(&self) {}
}

/// The method and path of the call that a write makes; `ticket` stands for its conversation's ticket.
pub fn call(write: &write::Write, ticket: &str) -> (&'static str, String) {
    match write {
        write::Write::CreateTicket(_) => ("POST", "/api/v2/tickets".to_owned()),
        write::Write::AddNote(_) => ("POST", format!("/api/v2/tickets/{ticket}/notes")),
    }
}

/// The body that a write would have, for people; the marker is only hinted at.
pub fn preview(write: &write::Write) -> serde_json::Value {
    const MARKER: &str = "ds-…";
    match write {
        write::Write::CreateTicket(fields) => request::ticket(fields, MARKER, None).unwrap_or_default(),
        write::Write::AddNote(note) => request::note(note, MARKER),
    }
}
