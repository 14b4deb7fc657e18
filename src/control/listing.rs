//! A listing, page by page: what has been sent is forgotten, so that half a million rows cost no memory.

use super::reader::Reader;
use super::view::{Filter, Row};
use super::{Refused, json};
use crate::clock::Timestamp;
use crate::spool::{Id, hash_of};
use std::io::{self, Read};

/// Rows that pass a filter: settled ones first, then those that wait, each in order of arrival.
pub(super) struct Listing<'a> {
    reader: Reader<'a>,
    filter: &'a Filter,
    now: Timestamp,
    stage: Stage,
}

/// What is read next.
enum Stage {
    Settled(Id),
    Waiting(Id),
    Over,
}

impl<'a> Listing<'a> {
    pub(super) fn new(reader: Reader<'a>, filter: &'a Filter) -> Listing<'a> {
        let stage = if filter.wants_settled() { Stage::Settled(0) } else { Stage::Waiting(0) };
        Listing { reader, filter, now: reader.clock.now(), stage }
    }

    /// The rows of the next page, perhaps none; `None` at the end.
    pub(super) fn page(&mut self) -> Result<Option<Vec<Row>>, Refused> {
        match self.stage {
            Stage::Settled(from) => {
                let page = self.reader.spool.history(from)?;
                self.stage = page.last().map_or(Stage::Waiting(0), |(last, _)| Stage::Settled(last + 1));
                let rows = page.iter().map(|(id, settled)| Row::settled(*id, settled, self.now));
                Ok(Some(rows.filter(|row| self.filter.passes(row)).collect()))
            }
            Stage::Waiting(from) => {
                let page = self.reader.spool.entries(from)?;
                self.stage = page.last().map_or(Stage::Over, |(last, ..)| Stage::Waiting(last + 1));
                let mut rows = Vec::new();
                for (id, entry, in_flight) in &page {
                    // What the queue alone can tell is asked first: the journal is read only for what may be shown.
                    let key = self.filter.conversation.as_ref();
                    let is_other = key.is_some_and(|key| {
                        entry.conversation != hash_of(&[entry.source.as_bytes(), key.as_bytes()])
                    });
                    if is_other || !self.filter.may_pass(entry, *in_flight, self.now) {
                        continue;
                    }
                    rows.push(self.reader.row(*id, entry, *in_flight)?);
                }
                rows.retain(|row| self.filter.passes(row));
                Ok(Some(rows))
            }
            Stage::Over => Ok(None),
        }
    }
}

/// A listing as lines of JSON, written while it is read.
pub(super) struct Lines<'a> {
    listing: Listing<'a>,
    text: io::Cursor<Vec<u8>>,
}

impl<'a> Lines<'a> {
    /// The first page is read at once, so that an error of the spool is told as one.
    pub(super) fn of(mut listing: Listing<'a>) -> Result<Lines<'a>, Refused> {
        let first = listing.page()?.unwrap_or_default();
        Ok(Lines { listing, text: io::Cursor::new(lines(&first)) })
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            match self.listing.page().map_err(|refused| io::Error::other(refused.to_string()))? {
                Some(rows) => self.text = io::Cursor::new(lines(&rows)),
                None => return Ok(0),
            }
        }
    }
}

pub(super) fn lines(rows: &[Row]) -> Vec<u8> {
    rows.iter().flat_map(|row| (json(row) + "\n").into_bytes()).collect()
}
