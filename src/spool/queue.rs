//! The queue: small rows that say where every envelope stands, and what is remembered of settled ones.
//!
//! | table | key | value |
//! |---|---|---|
//! | `envelopes` | id | [`Entry`] of an envelope that is not settled |
//! | `dedupe` | front of an identity | when it is forgotten |
//! | `conversations` | conversation hash | ticket, when it was last used in ms |
//! | `history` | id | [`Settled`] |
//! | `counters` | ring, number of a period | what happened in it, for `status` |
//!
//! Three layers: the [`Index`] in memory says who is next; the [`Overlay`] in memory holds what was told lately;
//! the [`Packed`] tables on disk hold the rest. Keys are big-endian, so that their order is numeric order.
//!
//! **Invariants:** telling the queue something cannot fail: it is in memory, and the journal has it. Reading can,
//! while the tables are away; what was asked is asked again later, and nothing is forgotten meanwhile. The
//! tables change only in [`Queue::step`], one at a time. Nothing here is the only copy of an undelivered event.

mod walk;

pub use walk::Walked;

use super::codec::{Decoder, Encoder};
use super::envelope::{Entry, Hash, Id};
use super::generations::{self, Building};
use super::ground::Ground;
use super::index::Index;
use super::overlay::{Merged, Overlay, Rows};
use super::packed::{Packed, Pair, Raw};
use super::row::{self, Settled, checked, number, sealed};
use super::tables::{Answer, QueueError, Table, Tables};
use crate::clock::Timestamp;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Rows that are read at a time.
pub const PAGE: usize = 256;
/// Memory the overlay may take before it is brought to the tables.
const STEP_BYTES: usize = 1 << 20;
/// Past this, who brings new envelopes brings the overlay to the tables himself, and so waits for the disk.
const STRAIN_BYTES: usize = 4 * STEP_BYTES;
/// Past this, nothing new is taken.
const BURST_BYTES: usize = 16 * STEP_BYTES;
/// The tables are rewritten when they take so many times what lives in them. Freshly written they take twice as much,
/// because sled fills its segments by half.
const RENEW_FACTOR: u64 = 3;
/// Free space without which the tables are not touched: sled refuses everything after a write that failed.
const STEP_ROOM_BYTES: u64 = 3 << 20;

/// Settled envelopes that are remembered, whatever `keep_delivered` says: history must not outgrow the rest.
pub const HISTORY_ROWS_MAX: u64 = 50_000;

/// The layers.
pub struct Queue {
    /// `queue/` in the spool.
    home: PathBuf,
    ground: Ground,
    index: Mutex<Index>,
    overlay: Mutex<Overlay>,
    /// None while they are away: a write failed, and they could not be opened again yet.
    tables: RwLock<Option<Arc<Packed>>>,
    /// Held by whoever writes to the tables.
    writing: Mutex<Writing>,
    /// Makes every step fail, as on a full disk.
    #[cfg(test)]
    pub fails: std::sync::atomic::AtomicBool,
}

/// What only the one who writes to the tables needs.
struct Writing {
    generation: u64,
    building: Option<Building>,
    /// Bytes that were written since the tables were renewed.
    told: u64,
    /// Their file failed to sync: the kernel may have thrown away what was written, and would call the next sync fine.
    /// Nothing may rely on them before they are renewed in another file.
    is_unsure: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is noticed by the thread that panicked, and breaks the spool down.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Opens or creates the queue in `home`.
    pub fn open(home: &Path, ground: Ground) -> Answer<Queue> {
        let (generation, tables) = generations::open(home, &ground.disk)?;
        let tables = Packed::open(tables)?;
        let writing = Writing { generation, building: None, told: u64::MAX / 2, is_unsure: false };
        Ok(Queue {
            home: home.to_path_buf(),
            ground,
            index: Mutex::default(),
            overlay: Mutex::default(),
            tables: RwLock::new(Some(Arc::new(tables))),
            writing: Mutex::new(writing),
            #[cfg(test)]
            fails: std::sync::atomic::AtomicBool::new(false),
        })
    }

    fn tables(&self) -> Answer<Arc<Packed>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.clone().ok_or(QueueError::Away)
    }

    fn set_tables(&self, tables: Option<Packed>) -> Option<Arc<Packed>> {
        let mut place = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, tables.map(Arc::new))
    }

    // Reading and telling, of any table.

    fn get(&self, table: Table, key: &[u8]) -> Answer<Option<Vec<u8>>> {
        if let Some(value) = lock(&self.overlay).get(table, key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        self.tables()?.get(table, key)
    }

    fn put(&self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        lock(&self.overlay).put(table, key, value);
    }

    /// Up to `most` rows from `from` on.
    fn rows(&self, table: Table, from: Bound<&[u8]>, most: usize) -> Answer<Vec<Pair>> {
        self.rows_below(&lock(&self.overlay), table, from, most)
    }

    fn rows_below(
        &self,
        overlay: &Overlay,
        table: Table,
        from: Bound<&[u8]>,
        most: usize,
    ) -> Answer<Vec<Pair>> {
        let tables = self.tables()?;
        let failed = RefCell::new(None);
        let mut next = from.map(<[u8]>::to_vec);
        let below = paged(&failed, most, |most| {
            let page = tables.page(table, next.as_ref().map(Vec::as_slice), most)?;
            next = page.last().map_or(Bound::Unbounded, |(key, _)| Bound::Excluded(key.clone()));
            Ok(page)
        });
        let above = overlay.rows(table, from).map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        let merged = Merged { first: above.peekable(), second: below.peekable() };
        let rows = merged.filter_map(|(key, value)| Some((key, value?))).take(most).collect();
        failed.into_inner().map_or(Ok(rows), Err)
    }

    /// The row with the highest key.
    fn last(&self, table: Table) -> Answer<Option<Pair>> {
        let overlay = lock(&self.overlay);
        let above = overlay.rows_back(table).find_map(|(key, value)| Some((key.to_vec(), value?.to_vec())));
        let (tables, mut before) = (self.tables()?, None);
        loop {
            let page = tables.page_before(table, before.as_deref(), PAGE)?;
            let Some((first, _)) = page.last().cloned() else { return Ok(above) };
            for (key, value) in page {
                if above.as_ref().is_some_and(|(above, _)| *above >= key) {
                    return Ok(above);
                }
                if overlay.get(table, &key).is_none() {
                    return Ok(Some((key, value)));
                }
            }
            before = Some(first);
        }
    }

    // Envelopes that are not settled.

    pub fn entry(&self, id: Id) -> Answer<Option<Entry>> {
        let value = self.get(Table::Envelopes, &id.to_be_bytes())?;
        value.map(|value| Ok(row::entry_of(&value)?)).transpose()
    }

    pub fn put_entry(&self, id: Id, entry: &Entry) {
        self.put(Table::Envelopes, &id.to_be_bytes(), Some(row::entry(entry)));
    }

    /// The same for a number that was never used before.
    pub fn put_new_entry(&self, id: Id, entry: &Entry) {
        lock(&self.overlay).put_new(Table::Envelopes, &id.to_be_bytes(), row::entry(entry));
    }

    pub fn remove_entry(&self, id: Id) {
        self.put(Table::Envelopes, &id.to_be_bytes(), None);
    }

    /// Up to [`PAGE`] entries from `from` on, in order of arrival. A damaged value ends with its error.
    pub fn entries(&self, from: Id) -> Answer<Vec<(Id, Entry)>> {
        let rows = self.rows(Table::Envelopes, Bound::Included(&from.to_be_bytes()), PAGE)?;
        rows.iter().map(|(key, value)| Ok((number(key)?, row::entry_of(value)?))).collect()
    }

    /// Like `entries`, with a damaged value as none.
    pub fn standings(&self, from: Id) -> Answer<Vec<(Id, Option<Entry>)>> {
        let rows = self.rows(Table::Envelopes, Bound::Included(&from.to_be_bytes()), PAGE)?;
        rows.iter().map(|(key, value)| Ok((number(key)?, row::entry_of(value).ok()))).collect()
    }

    /// One more than the highest number that any table knows.
    pub fn next_id(&self) -> Answer<Id> {
        let mut next = 0;
        for table in [Table::Envelopes, Table::History] {
            if let Some((key, _)) = self.last(table)? {
                next = next.max(number(&key)? + 1);
            }
        }
        Ok(next)
    }

    // Who is next.

    /// Gives an envelope its place in its conversation. Whether it is the first there.
    pub fn insert_order(&self, conversation: Hash, id: Id) -> bool {
        lock(&self.index).insert_order(conversation, id)
    }

    pub fn remove_order(&self, conversation: Hash, id: Id) {
        lock(&self.index).remove_order(conversation, id);
    }

    #[cfg(test)]
    pub fn has_order(&self, conversation: Hash, id: Id) -> bool {
        lock(&self.index).has_order(conversation, id)
    }

    /// The first of the conversation after `after`, in order of arrival.
    pub fn next_in(&self, conversation: Hash, after: Option<Id>) -> Option<Id> {
        lock(&self.index).next_in(conversation, after)
    }

    /// Up to `most` of the conversation behind `after`. One of another conversation may be among them.
    pub fn conversation_ids(&self, conversation: Hash, after: Id, most: usize) -> Vec<Id> {
        let index = lock(&self.index);
        let next = |id: &Id| index.next_in(conversation, Some(*id));
        std::iter::successors(next(&after), next).take(most).collect()
    }

    pub fn insert_due(&self, due: Timestamp, id: Id) {
        lock(&self.index).insert_due(due, id);
    }

    pub fn remove_due(&self, due: Timestamp, id: Id) {
        lock(&self.index).remove_due(due, id);
    }

    /// Up to [`PAGE`] of what is due in `range` after `after`, earliest first.
    pub fn due_in(&self, range: &Range<Timestamp>, after: Option<(Timestamp, Id)>) -> Vec<(Timestamp, Id)> {
        lock(&self.index).due_in(range, after, PAGE)
    }

    // Identities.

    /// Whether this identity is known and has not expired. A damaged value counts as absent.
    pub fn is_duplicate(&self, dedupe: Hash, now: Timestamp) -> Answer<bool> {
        let value = self.get(Table::Dedupe, &dedupe[..row::IDENTITY_BYTES])?;
        Ok(value.and_then(|value| row::expiry_of(&value).ok()).is_some_and(|expires| now < expires))
    }

    pub fn remember(&self, dedupe: Hash, expires: Timestamp) {
        self.put(Table::Dedupe, &dedupe[..row::IDENTITY_BYTES], Some(row::expiry(expires).to_vec()));
    }

    /// Forgets the oldest identities, as far as they have expired. One that came again since stands elsewhere.
    pub fn forget_expired(&self, now: Timestamp) -> Answer<()> {
        let writing = &mut lock(&self.writing);
        let has_expired = |value: &[u8]| row::expiry_of(value).is_ok_and(|expires| expires <= now);
        let dropped = self.tables()?.drop_front(Table::Dedupe, has_expired)?;
        self.tell_building(writing, &dropped);
        Ok(())
    }

    // Conversations.

    pub fn ticket_of(&self, conversation: Hash) -> Answer<Option<(u64, Timestamp)>> {
        let Some(value) = self.get(Table::Conversations, &conversation)? else { return Ok(None) };
        let mut decoder = Decoder::new(&value);
        Ok(Some((decoder.u64()?, Timestamp(decoder.u64()?))))
    }

    pub fn set_ticket(&self, conversation: Hash, ticket: u64, used_at: Timestamp) {
        let mut encoder = Encoder::default();
        encoder.u64(ticket).u64(used_at.0);
        self.put(Table::Conversations, &conversation, Some(encoder.finish()));
    }

    // History.

    pub fn settled(&self, id: Id) -> Answer<Option<Settled>> {
        let value = self.get(Table::History, &id.to_be_bytes())?;
        value.map(|value| Ok(Settled::decode(&value)?)).transpose()
    }

    /// The one that is [`HISTORY_ROWS_MAX`] numbers behind it is forgotten.
    pub fn put_settled(&self, id: Id, settled: &Settled) {
        let mut overlay = lock(&self.overlay);
        overlay.put(Table::History, &id.to_be_bytes(), Some(settled.encode()));
        if let Some(old) = id.checked_sub(HISTORY_ROWS_MAX) {
            overlay.put(Table::History, &old.to_be_bytes(), None);
        }
    }

    pub fn remove_settled(&self, id: Id) {
        self.put(Table::History, &id.to_be_bytes(), None);
    }

    /// The last settled envelope.
    pub fn last_settled(&self) -> Answer<Option<(Id, Settled)>> {
        let Some((key, value)) = self.last(Table::History)? else { return Ok(None) };
        Ok(Some((number(&key)?, Settled::decode(&value)?)))
    }

    /// Up to [`PAGE`] rows of history from `from` on; damaged ones are passed over.
    pub fn history(&self, from: Id) -> Answer<Vec<(Id, Settled)>> {
        let mut history = Vec::new();
        for (key, value) in self.rows(Table::History, Bound::Included(&from.to_be_bytes()), PAGE)? {
            if let Ok(settled) = Settled::decode(&value) {
                history.push((number(&key)?, settled));
            }
        }
        Ok(history)
    }

    /// Up to `most` (at most [`PAGE`]) rows of history before `before`, latest first; damaged ones are passed over.
    pub fn history_before(&self, before: Id, most: usize) -> Answer<Vec<(Id, Settled)>> {
        let before = before.to_be_bytes();
        let overlay = lock(&self.overlay);
        let tables = self.tables()?;
        let failed = RefCell::new(None);
        let mut first = before.to_vec();
        let below = paged(&failed, most.min(PAGE), |most| {
            let page = tables.page_before(Table::History, Some(&first), most)?;
            first = page.last().map_or(Vec::new(), |(key, _)| key.clone());
            Ok(page)
        });
        let below = below.map(|(key, value)| (Reverse(key), value));
        let above = overlay.rows_back(Table::History).skip_while(|(key, _)| *key >= &before[..]);
        let above = above.map(|(key, value)| (Reverse(key.to_vec()), value.map(<[u8]>::to_vec)));
        let merged = Merged { first: above.peekable(), second: below.peekable() };
        let mut history = Vec::new();
        for (Reverse(key), value) in
            merged.filter_map(|(key, value)| Some((key, value?))).take(most.min(PAGE))
        {
            if let Ok(settled) = Settled::decode(&value) {
                history.push((number(&key)?, settled));
            }
        }
        failed.into_inner().map_or(Ok(history), Err)
    }

    /// Removes rows of history that were settled before `before`, at most [`PAGE`] a call. Whether there may be more.
    pub fn trim_history(&self, before: Timestamp) -> Answer<bool> {
        let rows = self.rows(Table::History, Bound::Unbounded, PAGE)?;
        let is_young = |value: &[u8]| Settled::decode(value).is_ok_and(|one| one.settled_at >= before);
        let old = rows.iter().take_while(|(_, value)| !is_young(value));
        let count = old.map(|(key, _)| self.put(Table::History, key, None)).count();
        Ok(count == PAGE)
    }

    // Numbers.

    /// Writes one period of a ring of the status history.
    pub fn put_period(&self, ring: u8, number: u64, row: &[u8]) {
        self.put(Table::Counters, &row::period_key(ring, number), Some(sealed(row)));
    }

    /// Up to [`PAGE`] periods of a ring from `from` on; damaged ones are passed over.
    pub fn periods(&self, ring: u8, from: u64) -> Answer<Vec<(u64, Vec<u8>)>> {
        let start = row::period_key(ring, from);
        let mut periods = Vec::new();
        for (key, value) in self.rows(Table::Counters, Bound::Included(&start), PAGE)? {
            if key.first() != Some(&ring) {
                break;
            }
            if let Ok(payload) = checked(&value) {
                periods.push((number(&key[1..])?, payload.to_vec()));
            }
        }
        Ok(periods)
    }

    /// Removes the periods of a ring in `range`, at most [`PAGE`] a call.
    pub fn trim_periods(&self, ring: u8, range: Range<u64>) -> Answer<()> {
        let end = row::period_key(ring, range.end);
        let start = row::period_key(ring, range.start);
        for (key, _) in self.rows(Table::Counters, Bound::Included(&start), PAGE)? {
            if key.as_slice() < end.as_slice() {
                self.put(Table::Counters, &key, None);
            }
        }
        Ok(())
    }

    // From memory to the disk.

    /// Whether there is enough in memory for a step.
    pub fn wants_step(&self) -> bool {
        lock(&self.overlay).bytes() >= STEP_BYTES
    }

    /// Whether so much is in memory that whoever adds to it should wait for the disk.
    pub fn is_strained(&self) -> bool {
        lock(&self.overlay).bytes() >= STRAIN_BYTES
    }

    /// Whether so much is in memory that nothing may be added: the tables are away, or far too slow.
    pub fn is_bursting(&self) -> bool {
        lock(&self.overlay).bytes() >= BURST_BYTES
    }

    /// Whether a write failed and the tables could not be opened again yet.
    pub fn is_away(&self) -> bool {
        self.tables().is_err()
    }

    /// Brings what is in memory to the tables. A crash of ours, or a write that fails later, loses nothing of it.
    pub fn step(&self) -> Answer<()> {
        self.step_with(&mut lock(&self.writing))
    }

    /// The same, and everything so far is durable.
    pub fn flush(&self) -> Answer<()> {
        let writing = &mut lock(&self.writing);
        if writing.is_unsure {
            return Err(QueueError::Unsure);
        }
        self.step_with(writing)?;
        // The first may have been one that had failed before.
        self.step_with(writing)?;
        let synced = self.tables()?.tables().sync();
        synced.inspect_err(|_| {
            writing.is_unsure = true;
            drop(self.set_tables(None));
        })
    }

    fn step_with(&self, writing: &mut Writing) -> Answer<()> {
        let Some(rows) = lock(&self.overlay).leave() else { return Ok(()) };
        let tables = self.tables()?;
        self.has_room(&tables)?;
        let raw = self.write(&tables, &rows).inspect_err(|_| {
            // It refuses everything from here on; what it holds is on disk up to the step before.
            drop(self.set_tables(None));
        })?;
        self.tell_building(writing, &raw);
        lock(&self.overlay).arrived();
        Ok(())
    }

    /// What the tables were told is told to those that are being built.
    fn tell_building(&self, writing: &mut Writing, raw: &Raw) {
        let bytes = |(_, key, value): &(Table, Vec<u8>, Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len)
        };
        writing.told = writing.told.saturating_add(raw.iter().map(bytes).sum::<usize>() as u64);
        let built = writing.building.as_ref().map_or(Ok(()), |building| building.write(raw));
        if let Err(error) = built {
            log::warn!("new generation of the queue given up error={:?}", error.to_string());
            writing.building = None;
        }
    }

    fn write(&self, tables: &Packed, rows: &Rows) -> Answer<Raw> {
        #[cfg(test)]
        if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        tables.write(rows)
    }

    /// sled is not asked to write where it would fail, because it refuses everything afterwards.
    fn has_room(&self, tables: &Packed) -> Answer<()> {
        let free = super::disk::free_bytes(tables.directory());
        if free.is_ok_and(|free| free < STEP_ROOM_BYTES) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    /// Opens the tables again after a failed write. What they do not have is in memory still.
    pub fn come_back(&self) -> Answer<()> {
        let writing = &mut lock(&self.writing);
        if !self.is_away() {
            return Ok(());
        }
        #[cfg(test)]
        if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        writing.building = None;
        let directory = generations::directory(&self.home, writing.generation);
        if super::disk::free_bytes(&directory).is_ok_and(|free| free < STEP_ROOM_BYTES) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        self.set_tables(Some(Packed::open(Tables::open(&directory, &self.ground.disk)?)?));
        Ok(())
    }

    /// Begins a new generation when the tables are mostly garbage. Whether one is being built.
    pub fn renew_if_worth_it(&self) -> Answer<bool> {
        let mut writing = lock(&self.writing);
        if writing.building.is_some() {
            return Ok(true);
        }
        let tables = self.tables()?;
        let (bytes, live) = (tables.tables().bytes_on_disk(), tables.live_bytes());
        let is_worth_it = bytes >= self.ground.renew_bytes_min
            && bytes >= live.saturating_mul(RENEW_FACTOR)
            && writing.told >= live;
        if !is_worth_it && !writing.is_unsure {
            return Ok(false);
        }
        log::info!("queue is rewritten bytes={bytes} live={live}");
        self.build(&mut writing, &tables)?;
        Ok(true)
    }

    fn build(&self, writing: &mut Writing, tables: &Packed) -> Answer<()> {
        self.has_room(tables)?;
        let (number, since) = (writing.generation + 1, tables.next_blocks());
        writing.building = Some(Building::begin(&self.home, number, &self.ground.disk, since)?);
        Ok(())
    }

    /// Begins a new generation whether it pays or not, unless one is being built.
    pub fn begin_renewal(&self) -> Answer<()> {
        let mut writing = lock(&self.writing);
        if writing.building.is_some() {
            return Ok(());
        }
        let tables = self.tables()?;
        self.build(&mut writing, &tables)
    }

    /// Copies a page into the generation that is being built; whether it has become the queue.
    pub fn renew_step(&self) -> Answer<bool> {
        let writing = &mut lock(&self.writing);
        let tables = self.tables()?;
        self.has_room(&tables)?;
        let Some(building) = &mut writing.building else { return Ok(true) };
        if !building.copy_page(&tables)? {
            return Ok(false);
        }
        // What came meanwhile; afterwards both say the same.
        self.step_with(writing)?;
        let Some(building) = writing.building.take() else { return Ok(true) };
        let (generation, fresh) = building.finish(&self.home)?;
        writing.told = 0;
        writing.is_unsure = false;
        let old = self.set_tables(Some(Packed::renewed(fresh, &tables)));
        writing.generation = generation;
        drop((old, tables));
        generations::remove_others(&self.home, generation, self.ground.disk.as_ref());
        Ok(true)
    }

    /// Gives up a generation that cannot be built now.
    pub fn stop_renewing(&self) {
        lock(&self.writing).building = None;
    }

    /// Closes the tables; the queue can be asked nothing afterwards. Where they are.
    pub fn close(&self) -> PathBuf {
        let writing = &mut lock(&self.writing);
        writing.building = None;
        drop(self.set_tables(None));
        generations::directory(&self.home, writing.generation)
    }
}

/// Rows as they come, page by page, until there are none or asking fails.
fn paged<'a>(
    failed: &'a RefCell<Option<QueueError>>,
    most: usize,
    mut ask: impl FnMut(usize) -> Answer<Vec<Pair>> + 'a,
) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + 'a {
    let next_page = move || match ask(most.clamp(1, PAGE)) {
        Ok(page) => Some(page).filter(|page| !page.is_empty()),
        Err(error) => {
            *failed.borrow_mut() = Some(error);
            None
        }
    };
    std::iter::from_fn(next_page).flatten().map(|(key, value)| (key, Some(value)))
}
