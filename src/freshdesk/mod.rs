//! The Freshdesk API v2 client: building requests, reading answers, looking before resending.
//!
//! **Invariant:** only this room and `control` name `ureq`. It never retries and never sleeps; the
//! caller decides. `Desk` is the seam that simulations replace.

pub mod outcome;
pub mod write;

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
    /// Asks who the key belongs to; `Delivered { ticket: 0 }` never occurs: `Ok` is the agent's name.
    fn probe(&self) -> Result<String, Outcome>;
    /// What the last answer said of the account's budget.
    fn rate(&self) -> Rate;
}
