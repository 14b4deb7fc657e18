//! The queue: sled trees of small records that say where every envelope stands.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `envelopes` | id | [`Entry`] of an envelope that is not settled |
//! | `order` | conversation hash, id | nothing; the first that is not passed over is the head |
//! | `due` | due time in ms, id | nothing; heads that wait for an attempt |
//! | `dedupe` | hash | when it expires in ms, id |
//! | `conversations` | conversation hash | ticket, when it was last used in ms |
//! | `history` | id | [`Settled`] |
//! | `counters` | ring, number of a period | what happened in it, for `status` |
//! | `meta` | name | format |
//!
//! Keys are big-endian, so that sled's order is numeric order. Every value starts with the CRC-32 of the
//! rest: sled can return wrong bytes, and must not be believed. Nothing here is the only copy of an
//! undelivered event; whatever is doubtful is rebuilt from the journal.
//!
//! **Invariant:** no iterator lives longer than one page of [`PAGE`] rows, because an open sled iterator
//! pulls all it passes into memory.

use super::codec::{Decoder, Encoder, Malformed};
use super::envelope::{Entry, Hash, Id, Try, decode_tries, encode_tries};
use super::ground::Disk;
use crate::clock::Timestamp;
use sled::{Batch, Db, IVec, Tree};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Rows that are read at a time.
pub const PAGE: usize = 256;
const CACHE_BYTES: u64 = 2 * 1024 * 1024;
const LOCK_LOOKS_MAX: u32 = 200;
const LOCK_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// The queue could not be read or written.
#[derive(Debug, Error)]
pub enum QueueError {
    /// sled's own words.
    #[error("queue: {0}")]
    Sled(#[from] sled::Error),
    /// A value whose checksum or shape is wrong.
    #[error("queue: a value is damaged")]
    Malformed(#[from] Malformed),
    /// A file operation beside sled.
    #[error("queue: {0}")]
    Io(#[from] std::io::Error),
    /// An earlier write failed; only a restart mends it, from the journal.
    #[error("queue: broken, a restart rebuilds it from the journal")]
    Broken,
}

impl QueueError {
    /// Whether the queue's own bytes are to blame, so that a fresh one helps; a full disk is not.
    pub fn is_corruption(&self) -> bool {
        match self {
            QueueError::Sled(sled::Error::Io(_)) | QueueError::Io(_) => false,
            QueueError::Sled(_) | QueueError::Malformed(_) | QueueError::Broken => true,
        }
    }
}

/// An envelope that left the spool, as `show` and the status page remember it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Name of the source.
    pub source: String,
    /// Its event's kind.
    pub kind: String,
    /// Its event's id.
    pub event_id: String,
    /// Its conversation.
    pub conversation: String,
    /// When its request came in.
    pub received_at: Timestamp,
    /// When it left.
    pub settled_at: Timestamp,
    /// The ticket it went to; none when the plan was empty or an admin dropped it.
    pub ticket: Option<u64>,
    /// An admin gave it up.
    pub dropped: bool,
    /// Its last attempts.
    pub tries: Vec<Try>,
}

impl Settled {
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for text in [&self.source, &self.kind, &self.event_id, &self.conversation] {
            encoder.text(text);
        }
        encoder.u64(self.received_at.0).u64(self.settled_at.0).option_u64(self.ticket);
        encoder.u8(u8::from(self.dropped));
        encode_tries(&self.tries, &mut encoder);
        encoder.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Settled, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let settled = Settled {
            source: decoder.text()?,
            kind: decoder.text()?,
            event_id: decoder.text()?,
            conversation: decoder.text()?,
            received_at: Timestamp(decoder.u64()?),
            settled_at: Timestamp(decoder.u64()?),
            ticket: decoder.option_u64()?,
            dropped: decoder.u8()? == 1,
            tries: decode_tries(&mut decoder)?,
        };
        decoder.end()?;
        Ok(settled)
    }
}

/// The sled trees.
pub struct Queue {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    db: Db,
    envelopes: Tree,
    order: Tree,
    due: Tree,
    dedupe: Tree,
    conversations: Tree,
    history: Tree,
    counters: Tree,
    /// Makes every write of an entry fail, as sled does after a full disk.
    #[cfg(test)]
    pub fails: std::sync::atomic::AtomicBool,
}

type Answer<T> = Result<T, QueueError>;

impl Queue {
    /// Opens or creates the queue in `directory`.
    pub fn open(directory: &Path, disk: Arc<dyn Disk>) -> Answer<Queue> {
        let fresh = !directory.exists();
        let config = sled::Config::new()
            .path(directory)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        let db = open_unlocked(&config)?;
        let queue = Queue {
            directory: directory.to_path_buf(),
            disk,
            envelopes: db.open_tree("envelopes")?,
            order: db.open_tree("order")?,
            due: db.open_tree("due")?,
            dedupe: db.open_tree("dedupe")?,
            conversations: db.open_tree("conversations")?,
            history: db.open_tree("history")?,
            counters: db.open_tree("counters")?,
            #[cfg(test)]
            fails: std::sync::atomic::AtomicBool::new(false),
            db,
        };
        if fresh {
            queue.sync_creation()?;
        }
        Ok(queue)
    }

    /// sled creates its files without syncing them; a power cut in the first seconds would leave a
    /// database that never opens again.
    fn sync_creation(&self) -> Answer<()> {
        self.flush()?;
        for name in ["conf", "db"] {
            self.disk.sync(&File::open(self.directory.join(name))?)?;
        }
        for directory in [self.directory.join("blobs"), self.directory.clone()] {
            self.disk.sync_directory(&directory)?;
        }
        if let Some(parent) = self.directory.parent() {
            self.disk.sync_directory(parent)?;
        }
        Ok(())
    }

    /// Makes everything so far durable. `Db::flush` alone is no barrier on Linux: it never calls fsync.
    pub fn flush(&self) -> Answer<()> {
        self.db.flush()?;
        self.disk.sync(&File::open(self.directory.join("db"))?)?;
        Ok(())
    }

    pub fn entry(&self, id: Id) -> Answer<Option<Entry>> {
        self.envelopes.get(id.to_be_bytes())?.map(|value| Ok(Entry::decode(checked(&value)?)?)).transpose()
    }

    #[cfg(test)]
    fn fail_if_told(&self) -> Answer<()> {
        let fails = self.fails.load(std::sync::atomic::Ordering::SeqCst);
        if fails { Err(QueueError::Io(std::io::Error::other("told to fail"))) } else { Ok(()) }
    }

    pub fn put_entry(&self, id: Id, entry: &Entry) -> Answer<()> {
        #[cfg(test)]
        self.fail_if_told()?;
        self.envelopes.insert(id.to_be_bytes(), sealed(entry.encode()))?;
        Ok(())
    }

    pub fn remove_entry(&self, id: Id) -> Answer<()> {
        self.envelopes.remove(id.to_be_bytes())?;
        Ok(())
    }

    /// Up to [`PAGE`] entries from `from` on, in order of arrival. A damaged value ends with its error.
    pub fn entries(&self, from: Id) -> Answer<Vec<(Id, Entry)>> {
        let page = self.envelopes.range(from.to_be_bytes()..).take(PAGE);
        page.map(|row| {
            let (key, value) = row?;
            Ok((number(&key)?, Entry::decode(checked(&value)?)?))
        })
        .collect()
    }

    /// Up to [`PAGE`] ids of envelopes from `from` on; their values are not looked at.
    pub fn ids(&self, from: Id) -> Answer<Vec<Id>> {
        self.envelopes.range(from.to_be_bytes()..).take(PAGE).map(|row| Ok(number(&row?.0)?)).collect()
    }

    /// One more than the highest number that any tree knows.
    pub fn next_id(&self) -> Answer<Id> {
        let mut next = 0;
        for tree in [&self.envelopes, &self.history] {
            if let Some((key, _)) = tree.last()? {
                next = next.max(number(&key)? + 1);
            }
        }
        Ok(next)
    }

    pub fn insert_order(&self, conversation: Hash, id: Id) -> Answer<()> {
        self.order.insert(order_key(conversation, id), &[])?;
        Ok(())
    }

    pub fn remove_order(&self, conversation: Hash, id: Id) -> Answer<()> {
        self.order.remove(order_key(conversation, id))?;
        Ok(())
    }

    pub fn has_order(&self, conversation: Hash, id: Id) -> Answer<bool> {
        Ok(self.order.contains_key(order_key(conversation, id))?)
    }

    /// Up to `most` (at most [`PAGE`]) ids of the conversation after `after`, in order of arrival.
    pub fn conversation_ids(&self, conversation: Hash, after: Option<Id>, most: usize) -> Answer<Vec<Id>> {
        let start = order_key(conversation, after.map_or(0, |id| id + 1));
        let end = order_key(conversation, Id::MAX);
        self.order.range(start..=end).take(most.min(PAGE)).map(|row| Ok(number(&row?.0[16..])?)).collect()
    }

    pub fn insert_due(&self, due: Timestamp, id: Id) -> Answer<()> {
        self.due.insert(pair(due.0, id), &[])?;
        Ok(())
    }

    pub fn remove_due(&self, due: Timestamp, id: Id) -> Answer<()> {
        #[cfg(test)]
        self.fail_if_told()?;
        self.due.remove(pair(due.0, id))?;
        Ok(())
    }

    /// Up to [`PAGE`] of what is due in `range`, earliest first.
    pub fn due_in(&self, range: std::ops::Range<Timestamp>) -> Answer<Vec<(Timestamp, Id)>> {
        let rows = self.due.range(pair(range.start.0, 0)..pair(range.end.0, 0)).take(PAGE);
        rows.map(|row| {
            let (key, _) = row?;
            Ok((Timestamp(number(&key[..8])?), number(&key[8..])?))
        })
        .collect()
    }

    /// The envelope that has this identity, unless it has expired. A damaged value counts as absent.
    pub fn duplicate_of(&self, dedupe: Hash, now: Timestamp) -> Answer<Option<Id>> {
        let Some(value) = self.dedupe.get(dedupe)? else { return Ok(None) };
        let Ok((expires, id)) = expiry(&value) else { return Ok(None) };
        Ok(Some(id).filter(|_| now < expires))
    }

    pub fn remember(&self, dedupe: Hash, expires: Timestamp, id: Id) -> Answer<()> {
        let mut encoder = Encoder::default();
        encoder.u64(expires.0).u64(id);
        self.dedupe.insert(dedupe, sealed(encoder.finish()))?;
        Ok(())
    }

    /// Forgets expired identities among the next [`PAGE`] after `after`; where to go on, `None` at the end.
    pub fn forget_expired(&self, after: Hash, now: Timestamp) -> Answer<Option<Hash>> {
        let mut expired = Batch::default();
        let mut last = None;
        let rows = self.dedupe.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        for row in rows.take(PAGE) {
            let (key, value) = row?;
            if expiry(&value).is_ok_and(|(expires, _)| expires <= now) {
                expired.remove(key.clone());
            }
            last = Hash::try_from(&key[..]).ok();
        }
        self.dedupe.apply_batch(expired)?;
        Ok(last)
    }

    pub fn ticket_of(&self, conversation: Hash) -> Answer<Option<(u64, Timestamp)>> {
        let Some(value) = self.conversations.get(conversation)? else { return Ok(None) };
        let mut decoder = Decoder::new(checked(&value)?);
        Ok(Some((decoder.u64()?, Timestamp(decoder.u64()?))))
    }

    pub fn set_ticket(&self, conversation: Hash, ticket: u64, used_at: Timestamp) -> Answer<()> {
        let mut encoder = Encoder::default();
        encoder.u64(ticket).u64(used_at.0);
        self.conversations.insert(conversation, sealed(encoder.finish()))?;
        Ok(())
    }

    pub fn settled(&self, id: Id) -> Answer<Option<Settled>> {
        self.history.get(id.to_be_bytes())?.map(|value| Ok(Settled::decode(checked(&value)?)?)).transpose()
    }

    pub fn put_settled(&self, id: Id, settled: &Settled) -> Answer<()> {
        self.history.insert(id.to_be_bytes(), sealed(settled.encode()))?;
        Ok(())
    }

    /// The last settled envelope.
    pub fn last_settled(&self) -> Answer<Option<(Id, Settled)>> {
        let Some((key, value)) = self.history.last()? else { return Ok(None) };
        Ok(Some((number(&key)?, Settled::decode(checked(&value)?)?)))
    }

    /// Up to [`PAGE`] rows of history from `from` on; damaged ones are passed over.
    pub fn history(&self, from: Id) -> Answer<Vec<(Id, Settled)>> {
        let mut rows = Vec::new();
        for row in self.history.range(from.to_be_bytes()..).take(PAGE) {
            let (key, value) = row?;
            if let Ok(settled) = checked(&value).and_then(Settled::decode) {
                rows.push((number(&key)?, settled));
            }
        }
        Ok(rows)
    }

    /// Up to `most` (at most [`PAGE`]) rows of history before `before`, latest first; damaged ones are passed over.
    pub fn history_before(&self, before: Id, most: usize) -> Answer<Vec<(Id, Settled)>> {
        let mut rows = Vec::new();
        for row in self.history.range(..before.to_be_bytes()).rev().take(most.min(PAGE)) {
            let (key, value) = row?;
            if let Ok(settled) = checked(&value).and_then(Settled::decode) {
                rows.push((number(&key)?, settled));
            }
        }
        Ok(rows)
    }

    /// Removes rows of history that were settled before `before`; at most [`PAGE`] a call. Whether there may be more.
    pub fn trim_history(&self, before: Timestamp) -> Answer<bool> {
        let mut old = Batch::default();
        let mut count = 0;
        for row in self.history.iter().take(PAGE) {
            let (key, value) = row?;
            if checked(&value).and_then(Settled::decode).is_ok_and(|settled| settled.settled_at >= before) {
                break;
            }
            old.remove(key);
            count += 1;
        }
        self.history.apply_batch(old)?;
        Ok(count == PAGE)
    }

    /// Writes one period of a ring of the status history.
    pub fn put_period(&self, ring: u8, number: u64, row: Vec<u8>) -> Answer<()> {
        self.counters.insert(period_key(ring, number), sealed(row))?;
        Ok(())
    }

    /// Up to [`PAGE`] periods of a ring from `from` on; damaged ones are passed over.
    pub fn periods(&self, ring: u8, from: u64) -> Answer<Vec<(u64, Vec<u8>)>> {
        let mut periods = Vec::new();
        for row in self.counters.range(period_key(ring, from)..=period_key(ring, u64::MAX)).take(PAGE) {
            let (key, value) = row?;
            if let Ok(payload) = checked(&value) {
                periods.push((number(&key[1..])?, payload.to_vec()));
            }
        }
        Ok(periods)
    }

    /// Removes the periods of a ring in `range`, at most [`PAGE`] a call.
    pub fn trim_periods(&self, ring: u8, range: std::ops::Range<u64>) -> Answer<()> {
        let mut old = Batch::default();
        let keys = period_key(ring, range.start)..period_key(ring, range.end);
        for row in self.counters.range(keys).take(PAGE) {
            old.remove(row?.0);
        }
        Ok(self.counters.apply_batch(old)?)
    }
}

/// Threads of a queue that was just closed in this process may hold sled's own lock for a moment longer. Other
/// processes are kept out by the spool's lock, so the wait is never for them.
fn open_unlocked(config: &sled::Config) -> sled::Result<Db> {
    let (never, nothing) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
    for _ in 0..LOCK_LOOKS_MAX {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {}
            opened => return opened,
        }
        let guard = never.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(nothing.wait_timeout(guard, LOCK_LOOK_INTERVAL));
    }
    config.open()
}

fn sealed(payload: Vec<u8>) -> Vec<u8> {
    let mut value = crc32fast::hash(&payload).to_le_bytes().to_vec();
    value.extend_from_slice(&payload);
    value
}

fn checked(value: &IVec) -> Result<&[u8], Malformed> {
    let (checksum, payload) = value.split_at_checked(4).ok_or(Malformed)?;
    if checksum == crc32fast::hash(payload).to_le_bytes() { Ok(payload) } else { Err(Malformed) }
}

fn expiry(value: &IVec) -> Result<(Timestamp, Id), Malformed> {
    let mut decoder = Decoder::new(checked(value)?);
    Ok((Timestamp(decoder.u64()?), decoder.u64()?))
}

fn number(key: &[u8]) -> Result<u64, Malformed> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| Malformed)?))
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

fn order_key(conversation: Hash, id: Id) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&conversation);
    key[16..].copy_from_slice(&id.to_be_bytes());
    key
}

fn period_key(ring: u8, number: u64) -> [u8; 9] {
    let mut key = [ring; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}
