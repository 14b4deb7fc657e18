//! Opening a spool: the journal is read, the queue is compared with it and mended.
//!
//! The journal is walked twice. The first time tells which envelopes are settled and what happened to the
//! others; the second compares each put that is left with its entry in the queue. Memory grows with what
//! was attempted and not settled, not with the backlog. Attempts without an outcome stay *unknown*: their
//! envelopes are queued again, and the next attempt looks before it sends.

use super::envelope::{Change, Entry, Envelope, Id, Place, State};
use super::idset::IdSet;
use super::journal::{Files, segment_numbers, sync_directory};
use super::queue::{Queue, QueueError};
use super::record::Record;
use super::segment::{self, Met, SEGMENT_HEADER_LENGTH, SegmentHeader};
use super::{Core, Group, Limits, OpenError, Share, Shared, disk};
use crate::clock::{Clock, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, RwLock};

/// What opening found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Envelopes that are not settled.
    pub waiting: u64,
    /// Entries the queue lacked or had wrong.
    pub mended: u64,
    /// Entries the queue had that the journal does not know.
    pub removed: u64,
    /// Where the journal is damaged: segment and bytes. A torn tail of the last write is not damage.
    pub damaged: Vec<(u64, std::ops::Range<u64>)>,
    /// Bytes of unfinished writes at the ends of segments; they were never answered.
    pub torn_bytes: u64,
    /// The old queue did not open and was set aside under this name.
    pub queue_set_aside: Option<String>,
}

/// Everything but the threads; also the number of the next segment.
pub fn open(
    directory: &Path,
    limits: Limits,
    clock: Arc<dyn Clock>,
) -> Result<(Shared, u64, Recovery), OpenError> {
    let wrong = |error: io::Error| OpenError::Directory { directory: directory.to_path_buf(), error };
    let journal = directory.join("journal");
    disk::create_directory(directory).map_err(wrong)?;
    let lock = disk::lock(directory)?;
    disk::create_directory(&journal).map_err(wrong)?;
    let segments = segment_numbers(&journal).map_err(wrong)?;
    let identity = disk::identity(directory, &journal, &segments).map_err(wrong)?;
    let files = Arc::new(Files::new(journal, identity));
    let mut recovery = Recovery::default();
    let queue = open_queue(&directory.join("queue"), &mut recovery)?;
    let mut replay = Replay::of(&files);
    for number in &segments {
        replay.read(*number, &mut recovery).map_err(|error| error.into_open_error(directory))?;
    }
    let mended = replay.mend(&segments, &queue, &mut recovery);
    let (segments_live, counts) = mended.map_err(|error| error.into_open_error(directory))?;
    let next_segment = segments.last().map_or(1, |last| last + 1);
    recovery.waiting = counts.values().sum();
    let core = Core {
        group: Group::default(),
        next_id: replay.next_id.max(queue.next_id()?).max(1),
        next_sequence: replay.next_sequence.max(1),
        arriving: HashMap::new(),
        flights: HashMap::new(),
        flying_conversations: HashSet::new(),
        segments: segments_live,
        counts,
        free: None,
        work: 1,
        closed: false,
        stopping: false,
        failed: false,
    };
    let shared = Shared {
        directory: directory.to_path_buf(),
        files,
        queue,
        clock,
        limits: RwLock::new(limits),
        core: Mutex::new(core),
        commit_wake: Condvar::new(),
        work_wake: Condvar::new(),
        upkeep_wake: Condvar::new(),
        _lock: lock,
    };
    shared.place_all_heads()?;
    Ok((shared, next_segment, recovery))
}

/// Opens the queue; one that errs or panics is set aside, and a fresh one takes its place.
fn open_queue(path: &Path, recovery: &mut Recovery) -> Result<Queue, OpenError> {
    let opened = std::panic::catch_unwind(|| Queue::open(path));
    let why = match opened {
        Ok(Ok(queue)) => return Ok(queue),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "sled panicked".to_owned(),
    };
    let directory = path.parent().unwrap_or(path);
    let aside = (1..).map(|n| format!("queue.damaged.{n}")).find(|name| !directory.join(name).exists());
    let aside = aside.expect("there are more numbers than directories");
    log::error!("queue does not open error={why:?} effect=\"rebuilt from the journal\" kept={aside}");
    let moved = fs::rename(path, directory.join(&aside)).and_then(|()| sync_directory(directory));
    moved.map_err(|error| OpenError::Directory { directory: directory.to_path_buf(), error })?;
    recovery.queue_set_aside = Some(aside);
    Ok(Queue::open(path)?)
}

enum ReadError {
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
    fn into_open_error(self, directory: &Path) -> OpenError {
        match self {
            ReadError::Io(error) => OpenError::Directory { directory: directory.to_path_buf(), error },
            ReadError::Queue(error) => OpenError::Queue(error),
            ReadError::Newer(found) => OpenError::Newer { found },
        }
    }
}

/// What the first walk over the journal learns.
struct Replay<'a> {
    files: &'a Files,
    /// Settled, or voided.
    gone: IdSet,
    /// Never answered with success: the platform's retry must be taken.
    voided: IdSet,
    /// Envelopes something happened to; only what changes set is meaningful until their put is met again.
    changed: BTreeMap<Id, Entry>,
    next_id: Id,
    next_sequence: u64,
    tickets: HashMap<super::Hash, (u64, Timestamp)>,
    /// Puts of a request whose last record has not been met yet.
    open_request: Vec<Id>,
}

impl Replay<'_> {
    fn of(files: &Files) -> Replay<'_> {
        Replay {
            files,
            gone: IdSet::default(),
            voided: IdSet::default(),
            changed: BTreeMap::new(),
            next_id: 0,
            next_sequence: 0,
            tickets: HashMap::new(),
            open_request: Vec::new(),
        }
    }

    fn read(&mut self, number: u64, recovery: &mut Recovery) -> Result<(), ReadError> {
        let file = self.files.open(number)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        (&*file).take(SEGMENT_HEADER_LENGTH).read_to_end(&mut head)?;
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
                self.next_sequence = self.next_sequence.max(numbering.sequence + 1);
                self.follow_request(&record, numbering.index, numbering.last_index);
                self.learn(*record);
            }
            Met::Damaged { range, at_end: true } => recovery.torn_bytes += range.end - range.start,
            Met::Damaged { range, at_end: false } => recovery.damaged.push((number, range)),
            Met::Newer(version) => newer = Some(version),
        })?;
        // A request whose last put is missing at the end was never answered: none of it is delivered.
        for id in self.open_request.drain(..) {
            self.voided.insert(id);
            self.gone.insert(id);
        }
        newer.map_or(Ok(()), |version| Err(ReadError::Newer(u32::from(version))))
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
            Record::Change(id, change) => {
                if let Change::Delivered { ticket: Some(ticket), conversation, ran } = &change {
                    self.tickets.insert(*conversation, (*ticket, ran.at));
                }
                if change.settles() {
                    self.gone.insert(id);
                    self.changed.remove(&id);
                } else if !self.gone.contains(id) {
                    self.changed.entry(id).or_insert_with(blank).apply(&change);
                }
            }
        }
    }

    /// Brings the queue in line with the journal; what is left, by segment and by source and state.
    fn mend(&mut self, segments: &[u64], queue: &Queue, recovery: &mut Recovery) -> Result<Left, ReadError> {
        let mut live = IdSet::default();
        let mut shares: BTreeMap<u64, Share> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        // Copied stragglers stand twice; from the newest segment to the oldest, the copy is met first.
        for number in segments.iter().rev() {
            let file = self.files.open(*number)?;
            let share = shares.entry(*number).or_default();
            share.bytes = file.metadata()?.len();
            let mut failed = None;
            segment::walk(&file, self.files.identity(), |met| {
                let Met::Record { record, range, .. } = met else { return };
                let Record::Put(envelope) = *record else { return };
                let length = u32::try_from(range.end - range.start).expect("a record's length is a u32");
                let place = Place { segment: *number, offset: range.start, length };
                if failed.is_some() || self.voided.contains(envelope.id) {
                    return;
                }
                if let Err(error) = remember(queue, &envelope) {
                    failed = Some(error);
                } else if !self.gone.contains(envelope.id) && !live.contains(envelope.id) {
                    live.insert(envelope.id);
                    share.live += 1;
                    share.live_bytes += u64::from(length);
                    let entry = self.entry(&envelope, place);
                    *counts.entry((entry.source.clone(), entry.state)).or_default() += 1;
                    failed = mend_entry(queue, envelope.id, &entry, recovery).err();
                }
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        recovery.removed = remove_strangers(queue, &live)?;
        for (conversation, (ticket, at)) in self.tickets.drain() {
            if queue.ticket_of(conversation).ok().flatten().is_none_or(|(_, used_at)| used_at < at) {
                queue.set_ticket(conversation, ticket, at)?;
            }
        }
        Ok((shares, counts))
    }

    /// How the envelope stands: its put, and what happened to it since.
    fn entry(&mut self, envelope: &Envelope, place: Place) -> Entry {
        let fresh = Entry::of(envelope, place);
        let Some(changed) = self.changed.remove(&envelope.id) else { return fresh };
        Entry {
            place,
            conversation: fresh.conversation,
            source: fresh.source,
            received_at: fresh.received_at,
            due: if changed.state == State::Deferred { changed.due } else { fresh.due },
            ..changed
        }
    }
}

type Left = (BTreeMap<u64, Share>, BTreeMap<(String, State), u64>);

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
    if queue.duplicate_of(envelope.dedupe, envelope.received_at)?.is_none() {
        let expires = envelope.received_at.plus(envelope.dedupe_window);
        queue.remember(envelope.dedupe, expires, envelope.id)?;
    }
    Ok(())
}

fn mend_entry(queue: &Queue, id: Id, entry: &Entry, recovery: &mut Recovery) -> Result<(), QueueError> {
    let standing = match queue.entry(id) {
        Ok(standing) => standing,
        Err(QueueError::Malformed(_)) => None,
        Err(error) => return Err(error),
    };
    if standing.as_ref() != Some(entry) {
        recovery.mended += 1;
        queue.put_entry(id, entry)?;
    }
    if !queue.has_order(entry.conversation, id)? {
        queue.insert_order(entry.conversation, id)?;
    }
    Ok(())
}

/// Removes entries that the journal does not know as waiting.
fn remove_strangers(queue: &Queue, live: &IdSet) -> Result<u64, QueueError> {
    let mut removed = 0;
    let mut from = 0;
    loop {
        let ids = queue.ids(from)?;
        for id in ids.iter().filter(|id| !live.contains(**id)) {
            queue.remove_entry(*id)?;
            removed += 1;
        }
        match ids.last() {
            Some(last) => from = last + 1,
            None => return Ok(removed),
        }
    }
}

impl Shared {
    /// Every conversation's head has its row in `due`.
    fn place_all_heads(&self) -> Result<(), QueueError> {
        let mut from = 0;
        loop {
            let page = self.queue.entries(from)?;
            for (_, entry) in &page {
                self.place_head(entry.conversation)?;
            }
            match page.last() {
                Some((last, _)) => from = last + 1,
                None => return Ok(()),
            }
        }
    }
}
