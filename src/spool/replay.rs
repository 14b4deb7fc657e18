//! What the journal says, and bringing the queue in line with it.
//!
//! The journal is walked twice. The first time tells which envelopes are settled and what happened to the
//! others; the second compares each put that is left with its entry in the queue. Memory grows with what
//! was attempted and not settled, not with the backlog. Attempts without an outcome stay *unknown*: their
//! envelopes are queued again, and the next attempt looks before it sends.
//!
//! The bytes behind the last readable record of a segment are a torn write, never answered, when the next
//! segment goes on with the very next sequence number or begins with a void; otherwise they are damage.

use super::envelope::{Change, Entry, Envelope, Id, Place, State};
use super::idset::IdSet;
use super::journal::Files;
use super::queue::{Queue, QueueError};
use super::record::{Numbering, Record};
use super::recover::Recovery;
use super::segment::{self, Met, SEGMENT_HEADER_LENGTH, SegmentHeader};
use super::{OpenError, Share};
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
    files: &'a Files,
    segments: Vec<u64>,
    /// Settled, or voided.
    gone: IdSet,
    /// Never answered with success: the platform's retry must be taken.
    voided: IdSet,
    /// Envelopes something happened to; only what changes set is meaningful until their put is met again.
    changed: BTreeMap<Id, Entry>,
    pub next_id: Id,
    pub next_sequence: u64,
    tickets: HashMap<super::Hash, (u64, Timestamp)>,
    /// Puts of a request whose last record has not been met yet.
    open_request: Vec<Id>,
    /// Sequence numbers of records whose sync failed. They may be readable nevertheless, and not be on disk.
    failed: Vec<Range<u64>>,
    /// Where the segment being read ends in bytes that make no sense.
    tail: Option<(u64, Range<u64>)>,
    /// The same of the segments before a gap.
    before_gap: Vec<(u64, Range<u64>)>,
    /// Tails that look like torn writes. An entry that the queue has there was synced: then it is damage.
    torn: Vec<(u64, Range<u64>)>,
    /// Sequence numbers are missing before the segment being read; what its first record is tells why.
    has_gap: bool,
    /// The head of the segment being read is damaged: its first record tells whether numbers are missing.
    headless: bool,
}

/// What is left in the queue.
#[derive(Default)]
pub struct Left {
    pub shares: BTreeMap<u64, Share>,
    pub counts: BTreeMap<(String, State), u64>,
    pub next_id: Id,
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
        for number in segments {
            replay.segment(*number, recovery)?;
        }
        recovery.damaged.append(&mut replay.before_gap);
        replay.tail_was_torn(recovery);
        Ok(replay)
    }

    /// What the journal stands on.
    pub fn ground(&self) -> &super::ground::Ground {
        self.files.ground()
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
    fn holds(&self, record: &Record, numbering: Numbering) -> bool {
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
            Record::Void { first, last, .. } => {
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

    /// Brings the queue in line with the journal; what is left, by segment and by source and state.
    pub fn mend(&self, queue: &Queue, pass_dead: bool, recovery: &mut Recovery) -> Result<Left, ReadError> {
        let mut left = Left { next_id: queue.next_id()?, ..Left::default() };
        let mut live = IdSet::default();
        // Copied stragglers stand twice; from the newest segment to the oldest, the copy is met first.
        for number in self.segments.iter().rev() {
            let file = self.files.open(*number)?;
            left.shares.entry(*number).or_default().bytes = file.metadata()?.len();
            let mut failed = None;
            segment::walk(&file, self.files.identity(), |met| {
                let Met::Record { record, numbering, range } = met else { return };
                let is_void = !self.holds(&record, numbering);
                let Record::Put(envelope) = *record else { return };
                if failed.is_some() || is_void || self.voided.contains(envelope.id) {
                    return;
                }
                failed = remember(queue, &envelope).err();
                if failed.is_none() && !self.gone.contains(envelope.id) && !live.contains(envelope.id) {
                    live.insert(envelope.id);
                    let length = u32::try_from(range.end - range.start).expect("a record's length is a u32");
                    let entry =
                        self.entry(&envelope, Place { segment: *number, offset: range.start, length });
                    left.count(&entry);
                    failed = mend_entry(queue, (envelope.id, &entry), pass_dead, recovery).err();
                }
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        self.judge_strangers(queue, &live, (&mut left, recovery))?;
        for (conversation, (ticket, at)) in &self.tickets {
            if queue.ticket_of(*conversation).ok().flatten().is_none_or(|(_, used_at)| used_at < *at) {
                queue.set_ticket(*conversation, *ticket, *at)?;
            }
        }
        Ok(left)
    }

    /// How the envelope stands: its put, and what happened to it since.
    fn entry(&self, envelope: &Envelope, place: Place) -> Entry {
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

    /// Entries that the journal does not know as waiting: settled ones go; those whose record is damaged stay
    /// as dead letters that say so.
    fn judge_strangers(
        &self,
        queue: &Queue,
        live: &IdSet,
        (left, recovery): (&mut Left, &mut Recovery),
    ) -> Result<(), QueueError> {
        let mut from = 0;
        loop {
            let ids = queue.ids(from)?;
            for id in ids.iter().filter(|id| !live.contains(**id)) {
                let entry = queue.entry(*id).ok().flatten().filter(|_| !self.gone.contains(*id));
                let unreadable =
                    |entry: &Entry| is_in(entry.place, &recovery.damaged) || is_in(entry.place, &self.torn);
                match entry.filter(unreadable) {
                    Some(mut entry) => {
                        entry.state = State::Dead;
                        entry.reason = format!(
                            "spool: record damaged in segment {}, its text is lost",
                            entry.place.segment
                        );
                        queue.put_entry(*id, &entry)?;
                        left.count(&entry);
                        recovery.lost.push(*id);
                    }
                    None => {
                        queue.remove_entry(*id)?;
                        recovery.removed += 1;
                    }
                }
            }
            match ids.last() {
                Some(last) => from = last + 1,
                None => return Ok(()),
            }
        }
    }
}

impl Left {
    fn count(&mut self, entry: &Entry) {
        *self.counts.entry((entry.source.clone(), entry.state)).or_default() += 1;
        let share = self.shares.entry(entry.place.segment).or_default();
        share.live += 1;
        share.live_bytes += u64::from(entry.place.length);
    }
}

fn is_in(place: Place, stretches: &[(u64, Range<u64>)]) -> bool {
    let end = place.offset + u64::from(place.length);
    stretches
        .iter()
        .any(|(segment, range)| *segment == place.segment && range.start < end && place.offset < range.end)
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

/// The platform may send it again: it must still be known, also when the queue was lost.
fn remember(queue: &Queue, envelope: &Envelope) -> Result<(), QueueError> {
    let has_identity = !envelope.dedupe_window.is_zero();
    if has_identity && queue.duplicate_of(envelope.dedupe, envelope.received_at)?.is_none() {
        let expires = envelope.received_at.plus(envelope.dedupe_window);
        queue.remember(envelope.dedupe, expires, envelope.id)?;
    }
    Ok(())
}

fn mend_entry(
    queue: &Queue,
    (id, entry): (Id, &Entry),
    pass_dead: bool,
    recovery: &mut Recovery,
) -> Result<(), QueueError> {
    let standing = match queue.entry(id) {
        Ok(standing) => standing,
        Err(QueueError::Malformed(_)) => None,
        Err(error) => return Err(error),
    };
    if standing.as_ref() != Some(entry) {
        recovery.mended += 1;
        queue.put_entry(id, entry)?;
    }
    let is_passed = entry.state == State::Dead && pass_dead;
    match (is_passed, queue.has_order(entry.conversation, id)?) {
        (false, false) => queue.insert_order(entry.conversation, id),
        (true, true) => queue.remove_order(entry.conversation, id),
        _ => Ok(()),
    }
}
