//! What the journal says: the first of two walks over it, which tells which envelopes are settled and what
//! happened to the others; the second is `mend`'s. Memory grows with what was attempted and not settled, not
//! with the backlog. Attempts without an outcome stay *unknown*: their
//! envelopes are queued again, and the next attempt looks before it sends.
//!
//! The bytes behind the last readable record of a segment are a torn write, never answered, when the next
//! segment goes on with the very next sequence number or begins with a void; otherwise they are damage.

use super::OpenError;
use super::envelope::{Change, Entry, Envelope, Id, Place, State};
use super::idset::IdSet;
use super::journal::Files;
use super::record::Record;
use super::recover::Recovery;
use super::segment::{self, Met, SEGMENT_HEADER_LENGTH, SegmentHeader};
use super::tables::QueueError;
use crate::clock::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

pub enum ReadError {
    Io(io::Error),
    Queue(QueueError),
    Newer(u32),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

impl From<QueueError> for ReadError {
    fn from(error: QueueError) -> Self {
        ReadError::Queue(error)
    }
}

impl ReadError {
    pub fn into_open_error(self, directory: &Path) -> OpenError {
        match self {
            ReadError::Io(error) => OpenError::Directory { directory: directory.to_path_buf(), error },
            ReadError::Queue(error) => OpenError::Queue(error),
            ReadError::Newer(found) => OpenError::Newer { found },
        }
    }

    /// Whether the queue is to blame, and a fresh one helps.
    pub fn is_corruption(&self) -> bool {
        match self {
            ReadError::Queue(error) => error.is_corruption(),
            ReadError::Io(_) | ReadError::Newer(_) => false,
        }
    }
}

/// What the first walk over the journal learns.
pub struct Replay<'a> {
    pub(super) files: &'a Files,
    pub(super) segments: Vec<u64>,
    /// Settled, or voided.
    pub(super) gone: IdSet,
    /// Never answered with success: the platform's retry must be taken.
    pub(super) voided: IdSet,
    /// Envelopes something happened to; only what changes set is meaningful until their put is met again.
    changed: BTreeMap<Id, Entry>,
    pub next_id: Id,
    pub next_sequence: u64,
    pub(super) tickets: HashMap<super::Hash, (u64, Timestamp)>,
    /// Puts of a request whose last record has not been met yet.
    open_request: Vec<Id>,
    /// Where the segment being read ends in bytes that make no sense.
    tail: Option<(u64, Range<u64>)>,
    /// Tails that look like torn writes. An entry that the queue has there was synced: then it is damage.
    pub(super) torn: Vec<(u64, Range<u64>)>,
    /// Where the numbers go on, until the first record of the segment being read is met. Its own number tells
    /// whether any are missing: the head of a segment is written when its first group is numbered already.
    expected: Option<u64>,
}

impl<'a> Replay<'a> {
    /// Walks over all segments, oldest first.
    pub fn read(
        files: &'a Files,
        segments: &[u64],
        recovery: &mut Recovery,
    ) -> Result<Replay<'a>, ReadError> {
        let mut replay = Replay {
            files,
            segments: segments.to_vec(),
            gone: IdSet::default(),
            voided: IdSet::default(),
            changed: BTreeMap::new(),
            next_id: 0,
            next_sequence: 0,
            tickets: HashMap::new(),
            open_request: Vec::new(),
            tail: None,
            torn: Vec::new(),
            expected: None,
        };
        for number in segments {
            replay.segment(*number, recovery)?;
        }
        replay.tail_was_torn(recovery);
        Ok(replay)
    }

    fn segment(&mut self, number: u64, recovery: &mut Recovery) -> Result<(), ReadError> {
        let file = self.files.open(number)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        (&*file).take(SEGMENT_HEADER_LENGTH).read_to_end(&mut head)?;
        self.expected = Some(self.next_sequence);
        match SegmentHeader::decode(&head).map_err(ReadError::Newer)? {
            Some(header) => {
                self.next_id = self.next_id.max(header.next_id);
                self.next_sequence = self.next_sequence.max(header.next_sequence);
            }
            None if length <= SEGMENT_HEADER_LENGTH => recovery.torn_bytes += length,
            None => recovery.damaged.push((number, 0..SEGMENT_HEADER_LENGTH)),
        }
        let mut newer = None;
        segment::walk(&file, self.files.identity(), |met| match met {
            Met::Record { record, numbering, .. } => {
                self.explain_tail(&record, numbering.sequence, recovery);
                self.next_sequence = self.next_sequence.max(numbering.sequence + 1);
                self.follow_request(&record, numbering.index, numbering.last_index);
                self.learn(*record);
            }
            Met::Damaged { range, at_end: true } => self.tail = Some((number, range)),
            Met::Damaged { range, at_end: false } => recovery.damaged.push((number, range)),
            Met::Newer(version) => newer = Some(version),
        })?;
        newer.map_or(Ok(()), |version| Err(ReadError::Newer(u32::from(version))))
    }

    /// What ends the segment before makes no sense. A write that failed and was told so begins the next segment
    /// with a void; without one, where numbers are missing so are records, and they were perhaps answered.
    fn explain_tail(&mut self, first: &Record, sequence: u64, recovery: &mut Recovery) {
        let Some(expected) = self.expected.take() else { return };
        if sequence <= expected || matches!(first, Record::Void { .. }) {
            self.tail_was_torn(recovery);
        } else if expected > 0 {
            recovery.damaged.extend(self.tail.take());
            self.open_request.clear();
        }
    }

    /// The last write before was never answered, and neither were the puts of its request that are whole.
    fn tail_was_torn(&mut self, recovery: &mut Recovery) {
        if let Some((segment, range)) = self.tail.take() {
            recovery.torn_bytes += range.end - range.start;
            self.torn.push((segment, range));
        }
        for id in self.open_request.drain(..) {
            self.voided.insert(id);
            self.gone.insert(id);
        }
    }

    fn follow_request(&mut self, record: &Record, index: u16, last_index: u16) {
        let Record::Put(envelope) = record else { return self.open_request.clear() };
        if index == 0 {
            self.open_request.clear();
        }
        self.open_request.push(envelope.id);
        if index == last_index {
            self.open_request.clear();
        }
    }

    fn learn(&mut self, record: Record) {
        match record {
            Record::Put(envelope) => self.next_id = self.next_id.max(envelope.id + 1),
            Record::Void { first, last } => {
                self.gone.insert_run(first, last);
                self.voided.insert_run(first, last);
                self.next_id = self.next_id.max(last + 1);
            }
            Record::Standing(id, entry) => drop(self.changed.insert(id, entry)),
            Record::Change(id, change) => self.learn_change(id, &change),
        }
    }

    fn learn_change(&mut self, id: Id, change: &Change) {
        if let Change::Delivered { ticket: Some(ticket), conversation, ran } = change {
            self.tickets.insert(*conversation, (*ticket, ran.at));
        }
        if change.settles() {
            self.gone.insert(id);
            self.changed.remove(&id);
        } else if !self.gone.contains(id) {
            self.changed.entry(id).or_insert_with(blank).apply(change);
        }
    }

    /// How the envelope stands: its put, and what happened to it since.
    pub(super) fn entry(&self, envelope: &Envelope, place: Place) -> Entry {
        let fresh = Entry::of(envelope, place);
        let Some(changed) = self.changed.get(&envelope.id).cloned() else { return fresh };
        // A record without text stands for a damaged one, and no longer knows its conversation.
        let has_conversation = changed.conversation != super::Hash::default();
        Entry {
            place,
            conversation: if has_conversation { changed.conversation } else { fresh.conversation },
            source: fresh.source,
            received_at: fresh.received_at,
            due: if changed.state == State::Deferred { changed.due } else { fresh.due },
            ..changed
        }
    }
}

/// An entry that waits for its put to be met.
fn blank() -> Entry {
    Entry {
        place: Place { segment: 0, offset: 0, length: 0 },
        state: State::Queued,
        conversation: super::Hash::default(),
        source: String::new(),
        received_at: Timestamp(0),
        due: Timestamp(0),
        attempts: 0,
        step: 0,
        ticket: None,
        opened: false,
        doubt: None,
        reason: String::new(),
        tries: Vec::new(),
    }
}
