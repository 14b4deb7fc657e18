//! The Freshdesk API v2 client: building requests, reading answers, looking before resending.
//!
//! **Invariant:** only this room and `control` name `ureq`. It never retries and never sleeps; the
//! caller decides. `Desk` is the seam that simulations replace.

mod address;
mod answer;
pub mod client;
mod contact;
mod failure;
mod followup;
mod form;
mod look;
pub mod outcome;
pub mod poster;
mod refusal;
mod request;
mod tap;
#[cfg(test)]
mod test_server;
pub mod ticket_form;
mod tls;
pub mod write;

pub use client::{ApiKey, Client, ClientConfig, ClientError};

use crate::clock::Timestamp;
use outcome::{Calls, Looked, Outcome, Rate};
use std::time::Duration;
use write::{ContactFields, NoteFields, Requester, TicketFields, UpdateFields};

/// May so many more calls be made? Otherwise how long to wait.
pub type More = Box<dyn Fn(Calls) -> Result<(), Duration>>;

/// A Freshdesk account, or its stand-in.
pub trait Desk: Send + Sync {
    /// Creates a ticket that carries `marker` (as a tag or in the configured custom field).
    fn create_ticket(&self, fields: &TicketFields, marker: &str) -> Outcome;
    /// Adds a note or a reply that carries `marker` in its body; the ticket is first opened again, or another one
    /// opened instead, as `note.when_closed` says.
    fn add_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome;
    /// Changes a ticket. Done twice it is as done once.
    fn update_ticket(&self, ticket: u64, update: &UpdateFields) -> Outcome;
    /// Finds a contact and fills what it lacks, or makes it. Done twice it is as done once. The error is never
    /// `Delivered`.
    fn put_contact(&self, contact: &ContactFields) -> Result<(), Outcome>;
    /// Looks for a ticket of `requester` with `marker`, updated since `since`.
    fn find_ticket(&self, requester: &Requester, marker: &str, since: Timestamp) -> Looked;
    /// Looks for a note with `marker` in `ticket`.
    fn find_note(&self, ticket: u64, marker: &str) -> Looked;
    /// Looks for a note with `marker` in `ticket`, or for the ticket that was opened instead.
    fn find_follow_up(&self, ticket: u64, note: &NoteFields, marker: &str, since: Timestamp) -> Looked;
    /// Looks whether `ticket` is as `update` makes it.
    fn find_update(&self, ticket: u64, update: &UpdateFields) -> Looked;
    /// Asks who the key belongs to: the agent's name, or why it could not be asked (always `Deferred`).
    fn probe(&self) -> Result<String, Outcome>;
    /// What the last answer said of the account's budget.
    fn rate(&self) -> Rate;
    /// How often it answered with which status; 0 stands for no answer.
    fn answers(&self) -> Vec<(u16, u64)> {
        Vec::new()
    }
    /// From here on a look of this thread asks for each call beyond `calls` before it makes it, until `spent` is
    /// asked. Where nobody counts nobody asks.
    fn grant(&self, _calls: Calls, _more: More) {}
    /// The calls that this thread has made since it was last asked; nothing where nobody counts.
    fn spent(&self) -> Option<Calls> {
        None
    }
    /// Lets go of idle connections. For the caller that expects to have nothing to send for a while.
    fn rest(&self) {}
}

/// The most calls that a usual look for `write` takes; pages beyond the first are extra.
pub fn calls_of_look(write: &write::Write) -> Calls {
    match write {
        write::Write::CreateTicket(fields) => look::calls(&fields.requester),
        write::Write::AddNote(note) => match &note.when_closed {
            write::WhenClosed::NewTicket(fields) => look::calls(&fields.requester).and(Calls::plain(2)),
            write::WhenClosed::Leave | write::WhenClosed::Reopen => Calls::plain(1),
        },
        write::Write::UpdateTicket(_) => Calls::plain(1),
        // Filling a contact looks by itself.
        write::Write::PutContact(_) => Calls::default(),
    }
}

/// The most calls that `write` usually takes itself, questions before it included.
pub fn calls_of(write: &write::Write) -> Calls {
    match write {
        write::Write::CreateTicket(_) => Calls::plain(1),
        write::Write::AddNote(note) => match &note.when_closed {
            write::WhenClosed::Leave => Calls::plain(1),
            write::WhenClosed::NewTicket(_) => Calls::plain(2),
            write::WhenClosed::Reopen => Calls::plain(3),
        },
        write::Write::UpdateTicket(update) => Calls::plain(1 + usize::from(update.changes_tags())),
        write::Write::PutContact(_) => Calls { all: 4, ticket_lists: 0, contact_lists: 2 },
    }
}

/// The method and path of the call that a write makes; `ticket` stands for its conversation's ticket.
pub fn call(write: &write::Write, ticket: &str) -> (&'static str, String) {
    match write {
        write::Write::CreateTicket(_) => ("POST", "/api/v2/tickets".to_owned()),
        write::Write::AddNote(note) if note.reply => ("POST", format!("/api/v2/tickets/{ticket}/reply")),
        write::Write::AddNote(_) => ("POST", format!("/api/v2/tickets/{ticket}/notes")),
        write::Write::UpdateTicket(_) => ("PUT", format!("/api/v2/tickets/{ticket}")),
        write::Write::PutContact(_) => {
            ("POST", "/api/v2/contacts (or PUT to the one that is there, what it lacks)".to_owned())
        }
    }
}

/// The word that the configuration takes for a number of Freshdesk's: `("status", 2)` is `open`.
pub fn word(field: &str, number: u64) -> Option<&'static str> {
    let words: &[(u64, &str)] = match field {
        "status" => &[(2, "open"), (3, "pending"), (4, "resolved"), (5, "closed")],
        "priority" => &[(1, "low"), (2, "medium"), (3, "high"), (4, "urgent")],
        "source" => &[(1, "email"), (2, "portal"), (3, "phone"), (7, "chat"), (9, "feedback")],
        _ => &[],
    };
    words.iter().find(|(known, _)| *known == number).map(|(_, word)| *word)
}

/// The body that a write would have, for people; the marker is only hinted at.
pub fn preview(write: &write::Write) -> serde_json::Value {
    const MARKER: &str = "ds-…";
    let with_files = |mut body: serde_json::Value, files: &[write::Attachment]| {
        if !files.is_empty() {
            body["attachments"] = files.iter().map(|file| format!("{file:?}")).collect();
        }
        body
    };
    match write {
        write::Write::CreateTicket(fields) => {
            with_files(request::ticket(fields, MARKER, None).unwrap_or_default(), &fields.attachments)
        }
        write::Write::AddNote(note) => with_files(request::note(note, MARKER), &note.attachments),
        write::Write::UpdateTicket(update) => request::update_preview(update),
        write::Write::PutContact(contact) => contact::preview(contact),
    }
}
