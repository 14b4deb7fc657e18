//! The mark of a clean stop, `<dir>/clean`: with it, a start need not walk the journal.
//!
//! It says what the disk looked like when nothing was left to be written: the length and the time of the last
//! change of each segment, and a checksum of every file of the queue. It is believed once: it is removed, and
//! its removal synced, before anything else is written. If anything is not as it says, the journal is walked.

use super::Shared;
use super::codec::{Decoder, Encoder, Malformed};
use super::generations;
use super::journal::{Files, segment_numbers};
use super::record::Identity;
use super::segment;
use super::tables::{QueueError, wait_until_closed};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NAME: &str = "clean";
const FORMAT: u32 = 1;
/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 128 * 1024;

/// What a clean stop knows that a start would have to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clean {
    /// The next envelope's number.
    pub next_id: u64,
    /// The next record's.
    pub next_sequence: u64,
}

impl Shared {
    /// The threads have ended: brings the queue to disk and leaves the mark of a clean stop, if it was one.
    pub(super) fn close(&self) -> Result<(), QueueError> {
        if self.scratch.is_some() {
            self.queue.close();
            return Ok(());
        }
        if let Err(error) = self.note_ages() {
            log::debug!("ages of dead letters not noted error={:?}", error.to_string());
        }
        let flushed = self.queue.flush();
        let tables = self.queue.close();
        flushed?;
        let core = self.core();
        // What is in flight has begun perhaps, which only the journal knows; damage is to be told again.
        let is_clean = self.broken.get().is_none()
            && !core.failed
            && core.flights.is_empty()
            && core.arriving.is_empty()
            && core.group.bytes.is_empty()
            && core.damaged.is_empty();
        if is_clean {
            let clean = Clean { next_id: core.next_id, next_sequence: core.next_sequence };
            let segments = segment_numbers(&self.directory.join("journal"))?;
            mark(&self.directory, &tables, (&self.files, &segments), &clean)?;
        }
        Ok(())
    }
}

/// Leaves the mark. The queue's database in `tables` is closed, or about to be.
pub fn mark(
    directory: &Path,
    tables: &Path,
    (files, segments): (&Files, &[u64]),
    clean: &Clean,
) -> io::Result<()> {
    if !wait_until_closed(tables) {
        return Err(io::Error::other("the queue is still open"));
    }
    let mut encoder = Encoder::default();
    encoder.u32(FORMAT).u32(segment::FORMAT).u64(clean.next_id).u64(clean.next_sequence);
    encoder.bytes(&state_of(directory, files, segments)?);
    let payload = encoder.finish();
    let next = directory.join("clean.new");
    let mut bytes = seal(files.identity(), &payload).to_le_bytes().to_vec();
    bytes.extend_from_slice(&payload);
    let disk = &files.ground().disk;
    if next.exists() {
        disk.remove(&next)?;
    }
    let file = disk.create(&next)?;
    disk.write_at(&file, &bytes, 0)?;
    disk.sync(&file)?;
    disk.rename(&next, &directory.join(NAME))?;
    disk.sync_directory(directory)
}

/// Takes the mark away, durably; what it said, if the disk is still as it says.
pub fn take(directory: &Path, files: &Files, segments: &[u64]) -> io::Result<Option<Clean>> {
    let path = directory.join(NAME);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    files.ground().disk.remove(&path)?;
    files.ground().disk.sync_directory(directory)?;
    Ok(said(directory, (files, segments), &bytes))
}

/// What the mark says, if there is one and the disk is still as it says; it stays.
pub fn look(directory: &Path, files: &Files, segments: &[u64]) -> Option<Clean> {
    let bytes = fs::read(directory.join(NAME)).ok()?;
    said(directory, (files, segments), &bytes)
}

fn said(directory: &Path, (files, segments): (&Files, &[u64]), bytes: &[u8]) -> Option<Clean> {
    let (clean, state) = decode(files.identity(), bytes).ok()?;
    let is_as_it_was = state_of(directory, files, segments).is_ok_and(|now| now == state);
    Some(clean).filter(|_| is_as_it_was)
}

fn seal(identity: &Identity, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(identity);
    hasher.update(payload);
    hasher.finalize()
}

fn decode(identity: &Identity, bytes: &[u8]) -> Result<(Clean, Vec<u8>), Malformed> {
    let (checksum, payload) = bytes.split_at_checked(4).ok_or(Malformed)?;
    let mut decoder = Decoder::new(payload);
    let is_sealed = checksum == seal(identity, payload).to_le_bytes();
    if !is_sealed || (decoder.u32()?, decoder.u32()?) != (FORMAT, segment::FORMAT) {
        return Err(Malformed);
    }
    let clean = Clean { next_id: decoder.u64()?, next_sequence: decoder.u64()? };
    let state = decoder.bytes()?.to_vec();
    decoder.end()?;
    Ok((clean, state))
}

/// Everything a start relies on. Of the segments only what the file system knows: each record in them has its
/// own checksum, and is checked when it is read.
fn state_of(directory: &Path, files: &Files, segments: &[u64]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::default();
    for number in segments {
        let metadata = fs::metadata(files.path(*number))?;
        encoder.u64(*number).u64(metadata.len()).u64(metadata.ino());
        encoder.u64(metadata.ctime() as u64).u64(metadata.ctime_nsec() as u64);
    }
    let home = directory.join("queue");
    let generation = generations::current(&home)?.ok_or_else(|| io::Error::other("no queue"))?;
    encoder.u64(generation);
    let mut paths = files_below(&generations::directory(&home, generation))?;
    paths.sort();
    for path in paths {
        let (length, checksum) = checksum_of(&path)?;
        encoder.text(&path.to_string_lossy()).u64(length).u32(checksum);
    }
    Ok(encoder.finish())
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn checksum_of(path: &Path) -> io::Result<(u64, u32)> {
    let (mut file, mut hasher, mut length) = (File::open(path)?, crc32fast::Hasher::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((length, hasher.finalize()));
        }
        hasher.update(&chunk[..read]);
        length += read as u64;
    }
}
