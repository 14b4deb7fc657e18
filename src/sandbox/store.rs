//! Tickets and contacts, in memory.
//!
//! **Invariants:** what is in the store was valid when it came; numbers are never given twice; a contact is found
//! by its identifiers through an index, and a ticket by its requester, so that load tests measure the daemon and
//! not this room.

use crate::clock::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A file that came with a ticket or a note; its content is not kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) size_bytes: u64,
    pub(crate) created_at: Timestamp,
}

/// A note or a reply.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: u64,
    /// Everything the API shows beside ids, times and files.
    pub(crate) fields: Map<String, Value>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A ticket.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) id: u64,
    pub(crate) requester_id: u64,
    /// Everything the API shows beside what is a member here.
    pub(crate) fields: Map<String, Value>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// When it was created by the clock that never jumps; for the knobs that delay.
    pub(crate) created_monotonic: Duration,
    pub(crate) spam: bool,
    pub(crate) deleted: bool,
}

/// A contact.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    pub(crate) id: u64,
    pub(crate) fields: Map<String, Value>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) deleted: bool,
    pub(crate) blocked: bool,
}

/// Identifiers by which a contact is found; all but the phones are unique.
pub(crate) const IDENTIFIERS: [&str; 5] = ["email", "twitter_id", "unique_external_id", "phone", "mobile"];
/// The unique ones.
pub(crate) const UNIQUE: [&str; 3] = ["email", "twitter_id", "unique_external_id"];

/// What the account holds.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    pub(crate) contacts: BTreeMap<u64, Contact>,
    /// Which ticket holds a conversation.
    pub(crate) conversation_tickets: HashMap<u64, u64>,
    by_requester: HashMap<u64, Vec<u64>>,
    by_identifier: HashMap<(&'static str, String), Vec<u64>>,
    given_ids: u64,
}

impl Ticket {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name).and_then(Value::as_u64)
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        let tags = self.fields.get("tags").and_then(Value::as_array);
        tags.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Files of the ticket and of all that was added to it.
    pub(crate) fn attachment_bytes(&self) -> u64 {
        let added = self.conversations.iter().flat_map(|conversation| &conversation.attachments);
        self.attachments.iter().chain(added).map(|attachment| attachment.size_bytes).sum()
    }
}

impl Contact {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }
}

impl Store {
    /// A number for anything but a ticket; large, as the real ones are.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.given_ids += 1;
        51_000_500_000 + self.given_ids
    }

    /// The first contact with that identifier, deleted ones included.
    pub(crate) fn contact_by(&self, identifier: &'static str, value: &str) -> Option<u64> {
        let key = (identifier, normal(identifier, value));
        self.by_identifier.get(&key).and_then(|ids| ids.first().copied())
    }

    pub(crate) fn insert_contact(&mut self, given: Map<String, Value>, now: Timestamp) -> u64 {
        let id = self.next_id();
        let mut fields = blank_contact();
        fields.extend(given);
        self.index(id, &fields);
        let contact =
            Contact { id, fields, created_at: now, updated_at: now, deleted: false, blocked: false };
        self.contacts.insert(id, contact);
        id
    }

    pub(crate) fn update_contact(&mut self, id: u64, changes: Map<String, Value>, now: Timestamp) {
        let Some(mut contact) = self.contacts.remove(&id) else { return };
        for key in identifiers(&contact.fields) {
            if let Some(ids) = self.by_identifier.get_mut(&key) {
                ids.retain(|other| *other != id);
            }
        }
        contact.fields.extend(changes);
        contact.updated_at = now;
        self.index(id, &contact.fields);
        self.contacts.insert(id, contact);
    }

    fn index(&mut self, id: u64, fields: &Map<String, Value>) {
        for key in identifiers(fields) {
            self.by_identifier.entry(key).or_default().push(id);
        }
    }

    /// Keeps `ticket` under the next number, which it returns.
    pub(crate) fn insert_ticket(&mut self, mut ticket: Ticket) -> u64 {
        let id = self.tickets.last_key_value().map_or(1, |(last, _)| last + 1);
        ticket.id = id;
        self.by_requester.entry(ticket.requester_id).or_default().push(id);
        self.tickets.insert(id, ticket);
        id
    }

    /// Moves a ticket to another requester.
    pub(crate) fn set_requester(&mut self, ticket: u64, requester: u64) {
        let Some(found) = self.tickets.get_mut(&ticket) else { return };
        let before = std::mem::replace(&mut found.requester_id, requester);
        if let Some(ids) = self.by_requester.get_mut(&before) {
            ids.retain(|id| *id != ticket);
        }
        self.by_requester.entry(requester).or_default().push(ticket);
    }

    /// The tickets of `requester`, or all.
    pub(crate) fn tickets_of(&self, requester: Option<u64>) -> Vec<&Ticket> {
        match requester {
            None => self.tickets.values().collect(),
            Some(id) => {
                let ids = self.by_requester.get(&id).map(Vec::as_slice).unwrap_or_default();
                ids.iter().filter_map(|id| self.tickets.get(id)).collect()
            }
        }
    }
}

/// The keys under which a contact with these fields is found.
fn identifiers(fields: &Map<String, Value>) -> impl Iterator<Item = (&'static str, String)> {
    let found = IDENTIFIERS.map(|name| {
        let value = fields.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
        value.map(|value| (name, normal(name, value)))
    });
    found.into_iter().flatten()
}

fn normal(identifier: &str, value: &str) -> String {
    if identifier == "email" { value.to_lowercase() } else { value.to_owned() }
}

fn blank_contact() -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("active".to_owned(), json!(false));
    for name in ["address", "company_id", "description", "email", "job_title"] {
        fields.insert(name.to_owned(), Value::Null);
    }
    fields.insert("language".to_owned(), json!("en"));
    for name in ["mobile", "name", "phone"] {
        fields.insert(name.to_owned(), Value::Null);
    }
    fields.insert("time_zone".to_owned(), json!("UTC"));
    for name in ["twitter_id", "unique_external_id"] {
        fields.insert(name.to_owned(), Value::Null);
    }
    fields.insert("custom_fields".to_owned(), json!({}));
    for name in ["tags", "other_emails", "other_companies"] {
        fields.insert(name.to_owned(), json!([]));
    }
    fields
}
