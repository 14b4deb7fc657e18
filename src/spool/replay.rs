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
use super::record::{Numbering, Record};
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
    /// Of requests whose last records cannot be read. They were never answered, unless the queue knows them: nothing
    /// enters it before it is synced.
    pub(super) half: IdSet,
    /// Envelopes something happened to; only what changes set is meaningful until their put is met again.
    changed: BTreeMap<Id, Entry>,
    pub next_id: Id,
    pub next_sequence: u64,
    pub(super) tickets: HashMap<super::Hash, (u64, Timestamp)>,
    /// Puts of a request whose last record has not been met yet.
    open_request: Vec<Id>,
    /// Sequence numbers of records whose sync failed. They may be readable nevertheless, and not be on disk.
    failed: Vec<Range<u64>>,
    /// Where the segment being read ends in bytes that make no sense.
    tail: Option<(u64, Range<u64>)>,
    /// The same of the segments before a gap.
    before_gap: Vec<(u64, Range<u64>)>,
    /// Tails that look like torn writes. An entry that the queue has there was synced: then it is damage.
    pub(super) torn: Vec<(u64, Range<u64>)>,
    /// Sequence numbers are missing before the segment being read; what its first record is tells why.
    has_gap: bool,
    /// The head of the segment being read is damaged: its first record tells whether numbers are missing.
    headless: bool,
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
            half: IdSet::default(),
            changed: BTreeMap::new(),
            next_id: 0,
            next_sequence: 0,
            tickets: HashMap::new(),
            open_request: Vec::new(),
            failed: Vec::new(),
            tail: None,
            before_gap: Vec::new(),
            torn: Vec::new(),
            has_gap: false,
            headless: false,
        };
        for number in segments {
            let file = files.open(*number)?;
            replay.failed.extend(segment::voided_by(&file, files.identity())?);
        }
        // Everything is walked once more when the queue is mended.
        for (walked, number) in segments.iter().enumerate() {
            files.ground().tell(walked, segments.len() * 2);
            replay.segment(*number, recovery)?;
        }
        recovery.damaged.append(&mut replay.before_gap);
        replay.tail_was_torn(recovery);
        Ok(replay)
    }

    fn segment(&mut self, number: u64, recovery: &mut Recovery) -> Result<(), ReadError> {
        let file = self.files.open(number)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        (&*file).take(SEGMENT_HEADER_LENGTH).read_to_end(&mut head)?;
        self.headless = false;
        match SegmentHeader::decode(&head).map_err(ReadError::Newer)? {
            Some(header) => {
                self.go_on_at(header.first_sequence, recovery);
                self.next_id = self.next_id.max(header.next_id);
                self.next_sequence = self.next_sequence.max(header.first_sequence);
            }
            None if length <= SEGMENT_HEADER_LENGTH => recovery.torn_bytes += length,
            None => {
                self.headless = true;
                recovery.damaged.push((number, 0..SEGMENT_HEADER_LENGTH));
            }
        }
        let mut newer = None;
        segment::walk(&file, self.files.identity(), |met| match met {
            Met::Record { record, numbering, .. } => {
                if std::mem::take(&mut self.headless) {
                    self.go_on_at(numbering.sequence, recovery);
                }
                self.next_sequence = self.next_sequence.max(numbering.sequence + 1);
                self.explain_gap(&record, recovery);
                if self.holds(&record, numbering) {
                    self.follow_request(&record, numbering.index, numbering.last_index);
                    self.learn(*record);
                }
            }
            Met::Damaged { range, at_end: true } => self.tail = Some((number, range)),
            Met::Damaged { range, at_end: false } => recovery.damaged.push((number, range)),
            Met::Newer(version) => newer = Some(version),
        })?;
        newer.map_or(Ok(()), |version| Err(ReadError::Newer(u32::from(version))))
    }

    /// A segment begins with this number: what ends the one before it in bytes that make no sense was a torn
    /// write, if no number is missing in between.
    fn go_on_at(&mut self, first_sequence: u64, recovery: &mut Recovery) {
        // Nothing that was written since has explained the gap before.
        recovery.damaged.append(&mut self.before_gap);
        self.has_gap = self.next_sequence > 0 && first_sequence > self.next_sequence;
        if self.has_gap {
            self.before_gap.extend(self.tail.take());
        } else {
            self.tail_was_torn(recovery);
        }
    }

    /// A write that failed and was told so begins the next segment with a void; without one, records that
    /// were numbered, and perhaps answered, are missing.
    fn explain_gap(&mut self, first: &Record, recovery: &mut Recovery) {
        if !std::mem::take(&mut self.has_gap) {
            return;
        }
        if matches!(first, Record::Void { .. }) {
            let stretches = std::mem::take(&mut self.before_gap);
            self.count_torn(stretches, recovery);
            self.forget_open_request();
        } else {
            recovery.damaged.append(&mut self.before_gap);
            self.open_request.clear();
        }
    }

    /// Whether a record was not written in vain: what says so always holds itself.
    pub(super) fn holds(&self, record: &Record, numbering: Numbering) -> bool {
        matches!(record, Record::Void { .. })
            || !self.failed.iter().any(|range| range.contains(&numbering.sequence))
    }

    /// The last write before was never answered, and neither were the puts of its request that are whole.
    fn tail_was_torn(&mut self, recovery: &mut Recovery) {
        let tail = self.tail.take().into_iter().collect();
        self.count_torn(tail, recovery);
        self.forget_open_request();
    }

    fn count_torn(&mut self, stretches: Vec<(u64, Range<u64>)>, recovery: &mut Recovery) {
        recovery.torn_bytes += stretches.iter().map(|(_, range)| range.end - range.start).sum::<u64>();
        self.torn.extend(stretches);
    }

    fn forget_open_request(&mut self) {
        for id in self.open_request.drain(..) {
            self.half.insert(id);
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
            Record::Void { first, last, .. } => {
                self.gone.insert_run(first, last);
                self.voided.insert_run(first, last);
                self.next_id = self.next_id.max(last + 1);
            }
            Record::Standing(id, entry) => {
                // An imported one's stands before its put, which may be torn: its number is spent all the same.
                self.next_id = self.next_id.max(id + 1);
                self.changed.insert(id, entry);
            }
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
