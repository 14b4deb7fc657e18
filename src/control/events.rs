//! What happened, one line per event and attempt: from history and from what waits, and live from the daemon's
//! memory. It needs neither journald nor the right to read the journal.

use super::reader::Reader;
use super::view::{Filter, Row};
use super::{Refused, json, parameter};
use crate::clock::Timestamp;
use crate::spool::{Entry, Id, Settled, State, Try};
use crate::status::{Recent, Seen};
use std::time::Duration;

/// Where the past is read on.
enum Cursor {
    Settled(Id),
    Waiting(Id),
}

/// One page of the past. Its lines are in order of arrival; the client sorts them by time.
pub(super) struct Past {
    filter: Filter,
    cursor: Cursor,
}

impl Past {
    /// `at` says where to go on, as the last page's last line did; the rest is a filter.
    pub fn of_query(query: &str) -> Result<Past, Refused> {
        let at = parameter(query, "at");
        let wrong = |_| Refused::Usage("there is no such place in the log".to_owned());
        let cursor = match at.split_once('/') {
            Some(("waiting", id)) => Cursor::Waiting(id.parse().map_err(wrong)?),
            Some((_, id)) => Cursor::Settled(id.parse().map_err(wrong)?),
            None => Cursor::Settled(0),
        };
        Ok(Past { filter: filter_of(query)?, cursor })
    }

    /// The page's lines, and one that says where to go on.
    pub fn page(&self, reader: &Reader<'_>) -> Result<String, Refused> {
        let now = reader.clock.now();
        let mut seen = Vec::new();
        let next = match self.cursor {
            Cursor::Settled(from) => {
                let page = reader.spool.history(from)?;
                for (id, settled) in &page {
                    let mut row = Row::settled(*id, settled, now);
                    reader.hide(None, |redaction| redaction.row(&mut row));
                    seen.extend(self.passing(&row, now, || settled_lines(*id, settled, &row)));
                }
                Some(page.last().map_or("waiting/0".to_owned(), |(last, _)| format!("settled/{}", last + 1)))
            }
            Cursor::Waiting(from) => {
                let page = reader.spool.entries(from)?;
                for (id, entry, in_flight) in &page {
                    let row = reader.row(*id, entry, *in_flight)?;
                    seen.extend(self.passing(&row, now, || waiting_lines(*id, entry, &row)));
                }
                page.last().map(|(last, ..)| format!("waiting/{}", last + 1))
            }
        };
        reader.hide(None, |redaction| seen.iter_mut().for_each(|line| redaction.seen(line)));
        let mut text: String = seen.iter().map(|line| json(line) + "\n").collect();
        text.push_str(&serde_json::json!({ "next": next }).to_string());
        text.push('\n');
        Ok(text)
    }

    fn passing(&self, row: &Row, now: Timestamp, lines: impl FnOnce() -> Vec<Seen>) -> Vec<Seen> {
        if !self.filter.passes_beside_time(row) {
            return Vec::new();
        }
        lines().into_iter().filter(|line| passes(&self.filter, line, now)).collect()
    }
}

fn filter_of(query: &str) -> Result<Filter, Refused> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let rest: Vec<_> = pairs.filter(|(name, _)| name != "at" && name != "after").collect();
    let rest = form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
    Filter::of_query(&rest).map_err(Refused::Usage)
}

/// What came since line `after`, and first a line that says what to ask for next time. Without `after` nothing but
/// that line.
pub(super) fn live(reader: &Reader<'_>, recent: &Recent, query: &str) -> Result<String, Refused> {
    let now = reader.clock.now();
    let filter = filter_of(query)?;
    let after = parameter(query, "after").parse::<u64>().ok();
    let (next, mut lines) = recent.since(after);
    reader.hide(None, |redaction| lines.iter_mut().for_each(|line| redaction.seen(line)));
    let mut text = serde_json::json!({ "next": next }).to_string() + "\n";
    for line in lines.iter().filter(|line| passes(&filter, line, now) && mentions(&filter, line)) {
        text.push_str(&json(line));
        text.push('\n');
    }
    Ok(text)
}

/// A line is judged by its own time and by what it says, not by where its envelope stands now.
fn passes(filter: &Filter, line: &Seen, now: Timestamp) -> bool {
    let age = now.since(Timestamp(line.at_ms)).as_secs();
    let word = match line.what.as_str() {
        "accepted" => "queued",
        "unknown" => "deferred",
        "rejected" => "dead",
        what => what,
    };
    (filter.states.is_empty() || filter.states.iter().any(|state| state == word))
        && filter.since_seconds.is_none_or(|seconds| age <= seconds)
        && filter.until_seconds.is_none_or(|seconds| age >= seconds)
}

fn mentions(filter: &Filter, line: &Seen) -> bool {
    let row = Row {
        id: line.id.unwrap_or_default(),
        source: line.source.clone(),
        conversation: line.conversation.clone(),
        event: line.event.clone(),
        last_error: Some(line.reason.clone()),
        ..Row::default()
    };
    filter.passes_beside_time(&row)
}

fn settled_lines(id: Id, settled: &Settled, row: &Row) -> Vec<Seen> {
    let base = Seen {
        id: Some(id),
        source: settled.source.clone(),
        conversation: row.conversation.clone(),
        event: row.event.clone(),
        ..Seen::default()
    };
    let mut lines = vec![base.clone().at(settled.received_at).what("accepted")];
    lines.extend(settled.tries.iter().map(|one| attempt(&base, one, settled.ticket)));
    if settled.dropped {
        lines.push(base.at(settled.settled_at).what("dropped"));
    } else if settled.tries.is_empty() {
        lines.push(Seen { ticket: settled.ticket, ..base.at(settled.settled_at).what("delivered") });
    }
    lines
}

fn waiting_lines(id: Id, entry: &Entry, row: &Row) -> Vec<Seen> {
    let base = Seen {
        id: Some(id),
        source: entry.source.clone(),
        conversation: row.conversation.clone(),
        event: row.event.clone(),
        ..Seen::default()
    };
    let mut lines = vec![base.clone().at(entry.received_at).what("accepted")];
    lines.extend(entry.tries.iter().map(|one| attempt(&base, one, entry.ticket)));
    let told = entry.tries.last().is_some_and(|last| last.reason == entry.reason);
    if entry.state == State::Dead && !told {
        let at = entry.tries.last().map_or(entry.received_at, |last| last.at.plus(last.took));
        lines.push(Seen { reason: entry.reason.clone(), ..base.at(at).what("dead") });
    }
    lines
}

fn attempt(base: &Seen, one: &Try, ticket: Option<u64>) -> Seen {
    let delivered = one.ended.word() == "delivered";
    Seen {
        attempt: Some(one.number),
        took_seconds: Some(one.took).filter(|took| *took > Duration::ZERO).map(|took| took.as_secs_f64()),
        ticket: ticket.filter(|_| delivered),
        reason: one.reason.clone(),
        ..base.clone().at(one.at).what(one.ended.word())
    }
}
