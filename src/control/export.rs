//! Everything a spool holds, page by page: the client asks for the next one where the last one ended, so that an
//! export of any size costs little memory and keeps nobody else waiting.

use super::reader::Reader;
use super::view::{Filter, Row};
use super::wire::{
    Conversation, EXPORT_FORMAT, EnvelopeLine, Head, IdentityLine, Line, SettledLine, UnreadableLine, hex,
};
use super::{Refused, json, parameter};
use crate::clock::Timestamp;
use crate::spool::{Doubt, Entry, Hash, Id, Spool};
use std::collections::HashSet;

/// A page ends when it has grown to this; one event more may be on it.
const PAGE_BYTES: usize = 1 << 20;

/// Where an export goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Start,
    /// Conversations from here on.
    Tickets(u64),
    /// Settled envelopes from this number on.
    Settled(Id),
    /// Envelopes from this number on.
    Envelopes(Id),
    /// Identities from here on.
    Identities(u64),
}

/// One page of an export.
pub(super) struct Export {
    filter: Filter,
    cursor: Cursor,
    /// The first number that was not given when the export began.
    began_at: Id,
}

/// The page that is being written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &Line) {
        self.text.push_str(&json(line));
        self.text.push('\n');
    }

    fn is_full(&self) -> bool {
        self.text.len() >= PAGE_BYTES
    }
}

impl Export {
    /// `at` says where to go on and `began` when it began, as the last page's last line did; the rest is a filter.
    pub fn of_query(query: &str) -> Result<Export, Refused> {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let rest: Vec<_> = pairs.filter(|(name, _)| name != "at" && name != "began").collect();
        let rest = form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
        let filter = Filter::of_query(&rest).map_err(Refused::Usage)?;
        let wrong = || Refused::Usage("there is no such place in an export".to_owned());
        let at = parameter(query, "at");
        let cursor = match at.split_once('/') {
            None if at.is_empty() => Cursor::Start,
            Some(("tickets", from)) => Cursor::Tickets(from.parse().map_err(|_| wrong())?),
            Some(("settled", id)) => Cursor::Settled(id.parse().map_err(|_| wrong())?),
            Some(("envelopes", id)) => Cursor::Envelopes(id.parse().map_err(|_| wrong())?),
            Some(("identities", from)) => Cursor::Identities(from.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        Ok(Export { filter, cursor, began_at: parameter(query, "began").parse().unwrap_or(0) })
    }

    /// The page's lines, and one that says where to go on.
    pub fn page(mut self, reader: &Reader<'_>) -> Result<String, Refused> {
        let mut page = Page::default();
        let next = match self.cursor {
            Cursor::Start => Some(self.head(reader, &mut page)),
            Cursor::Tickets(from) => Some(self.tickets(reader, from, &mut page)?),
            Cursor::Settled(from) => Some(self.settled(reader, from, &mut page)?),
            Cursor::Envelopes(from) => self.envelopes(reader, from, &mut page)?,
            Cursor::Identities(from) => self.identities(reader, from, &mut page)?,
        };
        let next = next.map(|next| match next {
            Cursor::Start => String::new(),
            Cursor::Tickets(from) => format!("tickets/{from}"),
            Cursor::Settled(id) => format!("settled/{id}"),
            Cursor::Envelopes(id) => format!("envelopes/{id}"),
            Cursor::Identities(from) => format!("identities/{from}"),
        });
        page.text.push_str(&serde_json::json!({ "next": next, "began": self.began_at }).to_string());
        page.text.push('\n');
        Ok(page.text)
    }

    /// Tickets come first, so that none is opened twice; identities last, so that an import that was cut off does not
    /// take what it lacks for what it has. A part of a spool needs no more than the tickets of its envelopes.
    fn head(&mut self, reader: &Reader<'_>, page: &mut Page) -> Cursor {
        self.began_at = reader.spool.next_id();
        page.line(&Line::Head(Head {
            format: EXPORT_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spool: hex(&reader.spool.identity()),
            exported_at: reader.clock.now().to_string(),
            waiting: reader.spool.counts().iter().map(|(.., count)| count).sum(),
        }));
        match self.filter.is_empty() {
            true => Cursor::Tickets(0),
            false if self.filter.wants_settled() => Cursor::Settled(0),
            false => Cursor::Envelopes(0),
        }
    }

    fn tickets(&self, reader: &Reader<'_>, from: u64, page: &mut Page) -> Result<Cursor, Refused> {
        let tickets = reader.spool.tickets(from)?;
        let Some((next, tickets)) = tickets else { return Ok(Cursor::Envelopes(0)) };
        for (conversation, ticket, used_at) in &tickets {
            let conversation = hex(conversation);
            page.line(&Line::Conversation(Conversation {
                conversation,
                ticket: *ticket,
                used_ms: used_at.0,
            }));
        }
        Ok(Cursor::Tickets(next))
    }

    fn settled(&self, reader: &Reader<'_>, from: Id, page: &mut Page) -> Result<Cursor, Refused> {
        let (rows, now) = (reader.spool.history(from)?, reader.clock.now());
        let Some((last, _)) = rows.last() else { return Ok(Cursor::Envelopes(0)) };
        for (id, settled) in rows.iter().filter(|(id, one)| self.filter.passes(&Row::settled(*id, one, now)))
        {
            page.line(&Line::Settled(Box::new(SettledLine::of(*id, settled))));
        }
        Ok(Cursor::Settled(last + 1))
    }

    fn envelopes(&self, reader: &Reader<'_>, from: Id, page: &mut Page) -> Result<Option<Cursor>, Refused> {
        let entries = reader.spool.entries(from)?;
        let now = reader.clock.now();
        for (id, entry, in_flight) in &entries {
            let may_pass = self.filter.may_pass(entry, *in_flight, now);
            if may_pass
                && (self.filter.is_empty() || self.filter.passes(&reader.row(*id, entry, *in_flight)?))
            {
                page.line(&envelope(reader, (*id, entry, *in_flight))?);
            }
            if page.is_full() {
                return Ok(Some(Cursor::Envelopes(id + 1)));
            }
        }
        Ok(match entries.last() {
            Some((last, ..)) => Some(Cursor::Envelopes(last + 1)),
            None if self.filter.is_empty() => Some(Cursor::Identities(0)),
            None => None,
        })
    }

    /// Not those of events that came in since the export began: their envelopes may not be in it, and must not be
    /// taken for known when they are imported later.
    fn identities(&self, reader: &Reader<'_>, from: u64, page: &mut Page) -> Result<Option<Cursor>, Refused> {
        let identities = reader.spool.identities(from)?;
        let Some((next, identities)) = identities else { return Ok(None) };
        let (young, now) = (self.young(reader)?, reader.clock.now());
        for (identity, until) in &identities {
            if *until > now && !young.contains(identity) {
                page.line(&Line::Identity(IdentityLine { identity: hex(identity), until_ms: until.0 }));
            }
        }
        Ok(Some(Cursor::Identities(next)))
    }

    fn young(&self, reader: &Reader<'_>) -> Result<HashSet<Hash>, Refused> {
        let (mut young, mut from) = (HashSet::new(), self.began_at);
        loop {
            let entries = reader.spool.entries(from)?;
            let Some((last, ..)) = entries.last() else { return Ok(young) };
            from = last + 1;
            let envelopes = entries.iter().filter_map(|(_, entry, _)| reader.spool.envelope(entry).ok());
            young.extend(envelopes.map(|envelope| Spool::kept_identity(&envelope.dedupe)));
        }
    }
}

fn envelope(reader: &Reader<'_>, (id, entry, in_flight): (Id, &Entry, bool)) -> Result<Line, Refused> {
    let envelope = match reader.spool.envelope(entry) {
        Ok(envelope) => envelope,
        Err(error) => {
            let (source, reason) = (entry.source.clone(), error.to_string());
            return Ok(Line::Unreadable(UnreadableLine { id, source, reason }));
        }
    };
    let known = reader.spool.ticket_of(entry.conversation)?;
    let mut entry = entry.clone();
    if in_flight && entry.doubt.is_none() {
        // It is about to be sent here: whoever imports it looks first.
        let ticket = entry.ticket.or(known.map(|(ticket, _)| ticket)).filter(|_| !entry.opened);
        entry.doubt = Some(Doubt { since: reader.clock.now(), looks: 0, ticket });
    }
    let mut line = EnvelopeLine::of(&reader.spool.identity(), (id, &entry, in_flight), &envelope);
    line.held_until_ms = reader.pauses.held_until(id).map(|Timestamp(until)| until);
    line.conversation_ticket = known.map(|(ticket, _)| ticket);
    line.conversation_used_ms = known.map(|(_, Timestamp(used))| used);
    Ok(Line::Envelope(Box::new(line)))
}
