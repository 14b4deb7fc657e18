//! Taking over lines of an export. A request's lines are taken or refused together, and each origin once.

use super::wire::{EXPORT_FORMAT, EnvelopeLine, Line, of_hex};
use super::{Refused, Rooms};
use crate::clock::Timestamp;
use crate::spool::{Hash, Id, Imported, PutError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What lines of an export came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Brought {
    /// Envelopes that are here now.
    pub imported: u64,
    /// Envelopes that were here before.
    pub known: u64,
    /// Lines of history and of lost texts, which are passed over.
    pub passed_over: u64,
    /// Conversations whose ticket was learned.
    pub conversations: u64,
    /// Identities of events that were learned.
    pub identities: u64,
}

impl Brought {
    /// Adds another request's.
    pub fn add(&mut self, other: &Brought) {
        self.imported += other.imported;
        self.known += other.known;
        self.passed_over += other.passed_over;
        self.conversations += other.conversations;
        self.identities += other.identities;
    }
}

/// The lines of a request, by what they are.
#[derive(Default)]
struct Sorted {
    tickets: Vec<(Hash, u64, Timestamp)>,
    envelopes: Vec<Imported>,
    /// Beside each envelope: when it is released by itself.
    held_until: Vec<Option<u64>>,
    identities: Vec<(Hash, Timestamp)>,
    passed_over: u64,
}

impl Rooms {
    /// Takes over lines; the first of them is line `first` of its file.
    pub(super) fn import(&self, text: &str, first: u64) -> Result<Brought, Refused> {
        let mut sorted = Sorted::default();
        for (number, line) in (first..).zip(text.lines()) {
            sorted.take(line).map_err(|error| Refused::Usage(format!("line {number}: {error}")))?;
        }
        let Sorted { tickets, envelopes, held_until, identities, passed_over } = sorted;
        let conversations = self.spool.learn_tickets(&tickets)?;
        let ids =
            if envelopes.is_empty() { Vec::new() } else { self.spool.import(envelopes).map_err(refused)? };
        self.hold_again(&ids, &held_until)?;
        let identities = self.spool.learn_identities(&identities)?;
        let imported = ids.iter().flatten().count() as u64;
        let known = ids.len() as u64 - imported;
        if !ids.is_empty() {
            log::info!("imported envelopes={imported} known={known}");
        }
        Ok(Brought { imported, known, passed_over, conversations, identities })
    }

    /// Holds that end by themselves still do.
    fn hold_again(&self, ids: &[Option<Id>], held_until: &[Option<u64>]) -> Result<(), Refused> {
        let mut by_end: BTreeMap<u64, Vec<Id>> = BTreeMap::new();
        for (id, until) in ids.iter().zip(held_until) {
            if let (Some(id), Some(until)) = (id, until) {
                by_end.entry(*until).or_default().push(*id);
            }
        }
        for (until, ids) in by_end {
            self.pauses.hold_until(&ids, Timestamp(until))?;
        }
        Ok(())
    }
}

fn refused(error: PutError) -> Refused {
    Refused::Conflict(error.to_string())
}

impl Sorted {
    fn take(&mut self, line: &str) -> Result<(), String> {
        match serde_json::from_str(line).map_err(|error| format!("not a line of an export: {error}"))? {
            Line::Head(head) if head.format > EXPORT_FORMAT => {
                return Err(format!(
                    "the export is of deskspool {}, in format {}; this one reads {EXPORT_FORMAT}",
                    head.version, head.format
                ));
            }
            Line::Head(_) | Line::End(_) => {}
            Line::Conversation(one) => {
                self.tickets.push((of_hex(&one.conversation)?, one.ticket, Timestamp(one.used_ms)));
            }
            Line::Envelope(one) => self.envelope(&one)?,
            Line::Settled(_) | Line::Unreadable(_) => self.passed_over += 1,
            Line::Identity(one) => {
                self.identities.push((of_hex(&one.identity)?, Timestamp(one.until_ms)));
            }
        }
        Ok(())
    }

    fn envelope(&mut self, line: &EnvelopeLine) -> Result<(), String> {
        let imported = line.imported()?;
        if let (Some(ticket), Some(used)) = (line.conversation_ticket, line.conversation_used_ms) {
            self.tickets.push((imported.entry.conversation, ticket, Timestamp(used)));
        }
        self.envelopes.push(imported);
        self.held_until.push(line.held_until_ms);
        Ok(())
    }
}
