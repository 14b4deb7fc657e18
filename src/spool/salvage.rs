//! Saving what can be read of a damaged spool by hand, without the daemon: `deskspool salvage`.
//!
//! It opens the spool as a start after a crash does: the journal is walked, whatever the last stop was, and a queue
//! that does not open is rebuilt. Beyond that it copies every stretch of bytes that made no sense to `salvaged/`, from
//! the journal and from the segments that were set aside in `damaged/`. Those copies are for people: nothing in
//! them is ever delivered, because nothing vouches for it.

use super::ground::{Ground, Tell};
use super::journal::{segment_name, segment_numbers};
use super::probe::Probe;
use super::record::Identity;
use super::segment::{self, Met};
use super::{Id, Limits, OpenError, Recovery, Spool, State};
use crate::clock::Clock;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the reason of a dead letter begins whose text is lost.
pub const LOST_REASON: &str = "spool: record damaged";

/// Bytes that made no sense, and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Number of the segment.
    pub segment: u64,
    /// Where in it.
    pub range: Range<u64>,
    /// Their copy; may hold customer text.
    pub kept: PathBuf,
}

/// What salvaging came to.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Envelopes that are there with their text.
    pub saved: u64,
    /// Envelopes whose text is lost, and the segment it was in, in words.
    pub missing: Vec<(Id, String)>,
    /// Damage.
    pub stretches: Vec<Stretch>,
    /// Segments of the journal.
    pub segments: usize,
    /// What opening found and mended.
    pub recovery: Recovery,
}

/// Mends the spool in `directory` as far as it can be, and says what is left.
pub fn salvage(
    directory: &Path,
    (probe, tell): (Option<Probe>, Option<Arc<Tell>>),
    clock: Arc<dyn Clock>,
) -> Result<Salvaged, OpenError> {
    let wrong = |error: io::Error| OpenError::Directory { directory: directory.to_path_buf(), error };
    let journal = directory.join("journal");
    if !journal.is_dir() {
        return Err(wrong(io::Error::new(io::ErrorKind::NotFound, "there is no journal in it")));
    }
    // While a daemon has the spool there is no such mark, and opening says who it is.
    match fs::remove_file(directory.join("clean")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    let limits = Limits { disk_free_min: 0, ..Limits::default() };
    let (spool, recovery) =
        Spool::open_on(Ground { probe, tell, ..Ground::default() }, directory, limits, clock)?;
    let mut damage: Vec<(PathBuf, u64, Range<u64>)> = recovery
        .damaged
        .iter()
        .map(|(segment, range)| (journal.join(segment_name(*segment)), *segment, range.clone()))
        .collect();
    damage.extend(set_aside(&directory.join("damaged"), &spool.identity()).map_err(wrong)?);
    let missing = missing(&spool)?;
    let stretches = damage.into_iter().map(|(path, segment, range)| keep(directory, &path, segment, range));
    Ok(Salvaged {
        saved: recovery.waiting.saturating_sub(missing.len() as u64),
        missing,
        stretches: stretches.collect::<Result<_, _>>().map_err(wrong)?,
        segments: segment_numbers(&journal).map_err(wrong)?.len(),
        recovery,
    })
}

fn missing(spool: &Spool) -> Result<Vec<(Id, String)>, OpenError> {
    let (mut missing, mut from) = (Vec::new(), 0);
    loop {
        let page = spool.entries(from)?;
        let Some((last, ..)) = page.last() else { return Ok(missing) };
        from = last + 1;
        let is_lost = |reason: &str| reason.starts_with(LOST_REASON);
        let lost =
            page.into_iter().filter(|(_, entry, _)| entry.state == State::Dead && is_lost(&entry.reason));
        missing.extend(lost.map(|(id, entry, _)| (id, entry.reason)));
    }
}

/// What makes no sense in segments that were set aside because of it.
fn set_aside(directory: &Path, identity: &Identity) -> io::Result<Vec<(PathBuf, u64, Range<u64>)>> {
    let mut damage = Vec::new();
    if !directory.is_dir() {
        return Ok(damage);
    }
    for number in segment_numbers(directory)? {
        let path = directory.join(segment_name(number));
        segment::walk(&File::open(&path)?, identity, |met| {
            if let Met::Damaged { range, .. } = met {
                damage.push((path.clone(), number, range));
            }
        })?;
    }
    Ok(damage)
}

/// Copies a stretch to `salvaged/`, unless an earlier time has.
fn keep(directory: &Path, path: &Path, segment: u64, range: Range<u64>) -> io::Result<Stretch> {
    let ground = Ground::default();
    let home = directory.join("salvaged");
    super::disk::create_directory(ground.disk.as_ref(), &home)?;
    let kept = home.join(format!("{segment:08}-{}.bytes", range.start));
    if !kept.exists() {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        File::open(path)?.read_exact_at(&mut bytes, range.start)?;
        let file = ground.disk.create(&kept)?;
        ground.disk.write_at(&file, &bytes, 0)?;
        ground.disk.sync(&file)?;
        ground.disk.sync_directory(&home)?;
    }
    Ok(Stretch { segment, range, kept })
}
