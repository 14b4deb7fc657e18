//! The journal's files: the segment being written, reading envelopes back, removing what is settled.
//!
//! **Invariants:** a new segment and its directory are synced before the first record goes in. After any
//! failed write or sync the segment is abandoned: nothing is appended to it and its sync is never tried
//! again, because after a failed sync the kernel may have thrown the pages away and would answer "fine".
//! Segments are removed oldest first only, so that a change never outlives the put it settles.

use super::envelope::{Envelope, Place};
use super::ground::Ground;
use super::record::{Identity, Record};
use super::segment::{SEGMENT_HEADER_LENGTH, SegmentHeader};
use crate::clock::Timestamp;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// `00000042.seg`
pub fn segment_name(number: u64) -> String {
    format!("{number:08}.seg")
}

/// The numbers of all segments in `directory`, in order.
pub fn segment_numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|digits| digits.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What the head of the next segment will say.
#[derive(Clone, Copy)]
pub struct Counters {
    pub next_id: u64,
    pub first_sequence: u64,
    pub now: Timestamp,
    /// Whether the group begins a segment, however short the one before is.
    pub begins_segment: bool,
}

/// Where a group went.
#[derive(Clone, Copy)]
pub struct Written {
    pub segment: u64,
    pub offset: u64,
    pub length: u64,
}

impl Written {
    /// It is the first group of its segment, so the one before is sealed.
    pub fn begins_segment(self) -> bool {
        self.offset == SEGMENT_HEADER_LENGTH
    }

    /// The journal's place of a record whose place in the group is known.
    pub fn place(self, in_group: Place) -> Place {
        Place { segment: self.segment, offset: self.offset + in_group.offset, length: in_group.length }
    }
}

/// The writing end. Owned by the committer thread.
pub struct Writer {
    files: Arc<Files>,
    next_number: u64,
    active: Option<Active>,
    /// Where the last failed group may lie: it may be readable later.
    failed: Option<u64>,
}

struct Active {
    number: u64,
    file: Arc<File>,
    length: u64,
}

impl Writer {
    /// Writes into segments from `next_number` on.
    pub fn new(files: Arc<Files>, next_number: u64) -> Writer {
        Writer { files, next_number, active: None, failed: None }
    }

    /// Appends `bytes` and syncs them. Nothing to append needs no sync.
    pub fn append(&mut self, bytes: &[u8], counters: Counters) -> io::Result<Written> {
        if bytes.is_empty() {
            return Ok(Written {
                segment: self.active.as_ref().map_or(0, |active| active.number),
                offset: 0,
                length: 0,
            });
        }
        let most = if counters.begins_segment { 0 } else { self.files.ground.segment_bytes };
        if self.active.as_ref().is_none_or(|active| active.length >= most) {
            if let Some(sealed) = self.active.take() {
                // They come back when the file goes, at the latest.
                let _ = self.files.ground.disk.give_back_blocks(&sealed.file, sealed.length);
            }
            self.active = Some(self.create(counters)?);
        }
        let active = self.active.as_mut().expect("created above");
        let offset = active.length;
        let disk = &self.files.ground.disk;
        if let Err(error) = disk.write_at(&active.file, bytes, offset).and_then(|()| disk.sync(&active.file))
        {
            // On a full disk nobody shall wait for blocks that are never written.
            if let Ok(metadata) = active.file.metadata() {
                let _ = disk.give_back_blocks(&active.file, metadata.len());
            }
            self.failed = Some(active.number);
            self.active = None;
            return Err(error);
        }
        active.length += bytes.len() as u64;
        Ok(Written { segment: active.number, offset, length: bytes.len() as u64 })
    }

    /// The segment that the last failed group may lie in, told once.
    pub fn take_failed(&mut self) -> Option<u64> {
        self.failed.take()
    }

    fn create(&mut self, counters: Counters) -> io::Result<Active> {
        let number = self.next_number;
        // The number is spent even if creation fails half way: no segment is ever begun twice.
        self.next_number += 1;
        let path = self.files.path(number);
        let disk = &self.files.ground.disk;
        let file = disk.create(&path)?;
        let header = SegmentHeader {
            number,
            identity: self.files.identity,
            next_id: counters.next_id,
            first_sequence: counters.first_sequence,
            created_at: counters.now,
        };
        let synced = disk.write_at(&file, &header.encode(), 0).and_then(|()| disk.sync(&file));
        if let Err(error) = synced.and_then(|()| disk.sync_directory(&self.files.directory)) {
            // Without records it is worth nothing; on a full disk its block is.
            let _ = disk.remove(&path);
            return Err(error);
        }
        // What settles must have room when somebody else has filled the disk. Without it one goes on as well.
        let _ = disk.preallocate(&file, self.files.ground.segment_bytes);
        let file = Arc::new(file);
        self.files.keep_open(number, &file);
        Ok(Active { number, file, length: SEGMENT_HEADER_LENGTH })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(active) = &self.active {
            let _ = self.files.ground.disk.give_back_blocks(&active.file, active.length);
        }
    }
}

/// How many sealed segments are kept open for reading.
const OPEN_SEGMENTS_MAX: usize = 16;

/// The reading end, shared by all rooms of the spool.
pub struct Files {
    directory: PathBuf,
    identity: Identity,
    ground: Ground,
    opened: Mutex<BTreeMap<u64, Arc<File>>>,
}

impl Files {
    pub fn new(directory: PathBuf, identity: Identity, ground: Ground) -> Files {
        Files { directory, identity, ground, opened: Mutex::default() }
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.directory.join(segment_name(number))
    }

    /// Bytes of a segment on disk; none when it is not there.
    pub fn length(&self, number: u64) -> u64 {
        fs::metadata(self.path(number)).map_or(0, |metadata| metadata.len())
    }

    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<File>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn forget_open(&self) {
        self.opened().clear();
    }

    pub fn open(&self, number: u64) -> io::Result<Arc<File>> {
        let opened = self.opened();
        if let Some(file) = opened.get(&number) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(number))?);
        drop(opened);
        self.keep_open(number, &file);
        Ok(file)
    }

    /// The oldest is closed when there are too many: descriptors are for clients.
    fn keep_open(&self, number: u64, file: &Arc<File>) {
        let mut opened = self.opened();
        if opened.len() >= OPEN_SEGMENTS_MAX {
            opened.pop_first();
        }
        opened.insert(number, file.clone());
    }

    /// Reads one envelope back; a checksum that does not match is `InvalidData`, never wrong bytes.
    pub fn read(&self, place: Place) -> io::Result<Envelope> {
        let mut bytes = vec![0; place.length as usize];
        self.open(place.segment)?.read_exact_at(&mut bytes, place.offset)?;
        match Record::decode(&self.identity, &bytes) {
            Ok((Record::Put(envelope), ..)) => Ok(envelope),
            Ok(_) => Err(damage("another record stands where the envelope was")),
            Err(error) => Err(damage(error)),
        }
    }

    /// Removes a segment all of whose records are settled.
    pub fn remove(&self, number: u64) -> io::Result<()> {
        self.opened().remove(&number);
        self.ground.disk.remove(&self.path(number))?;
        self.ground.disk.sync_directory(&self.directory)
    }

    /// Puts a segment with damage aside instead: what could not be read may still be saved by hand.
    pub fn set_aside(&self, number: u64) -> io::Result<()> {
        self.opened().remove(&number);
        let disk = &self.ground.disk;
        let aside = self.directory.with_file_name("damaged");
        super::disk::create_directory(disk.as_ref(), &aside)?;
        disk.rename(&self.path(number), &aside.join(segment_name(number)))?;
        disk.sync_directory(&aside)?;
        disk.sync_directory(&self.directory)
    }

    /// The last segment of an earlier run ends where it ends.
    pub fn give_back_blocks(&self, number: u64) -> io::Result<()> {
        let file = File::options().write(true).open(self.path(number))?;
        let length = file.metadata()?.len();
        self.ground.disk.give_back_blocks(&file, length)
    }

    /// Makes everything that can be read now durable: a crash may have left bytes that were never synced,
    /// and what is believed must not be taken back by a power cut.
    pub fn sync_all(&self, numbers: &[u64]) -> io::Result<()> {
        for number in numbers {
            let path = self.path(*number);
            // Whoever only looks may not be allowed to write.
            let file = File::options().write(true).open(&path).or_else(|_| File::open(&path))?;
            self.ground.disk.sync(&file)?;
        }
        self.ground.disk.sync_directory(&self.directory)
    }
}

fn damage(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether a failed read tells of damage; others may work the next time.
pub fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
