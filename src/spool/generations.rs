//! Generations of the queue: sled's file never shrinks, so what lives in it is copied into a fresh one.
//!
//! ```text
//! queue/current      the number of the generation that counts, and its checksum
//! queue/<n>/         its database
//! queue/<n>/built    its copy is complete and synced
//! ```
//!
//! The copy goes page by page while the queue works on; what is told meanwhile goes to both. When it is
//! complete and synced it gets its `built`, then `current` is replaced by renaming, then the old one is removed.
//! A crash before the renaming leaves the old generation, after it the new one, and what is left over of the
//! other goes at the next start. A `current` that cannot be read is as good as one that names the newest
//! generation with a `built`: the old one is the newest until the new one is complete.

use super::disk::create_directory;
use super::ground::Disk;
use super::packed::{Packed, Raw};
use super::row::number;
use super::tables::{Answer, Table, Tables};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a generation is.
pub fn directory(home: &Path, generation: u64) -> PathBuf {
    home.join(generation.to_string())
}

/// The generation that counts; none when there is no queue yet.
pub fn current(home: &Path) -> io::Result<Option<u64>> {
    if let Some(named) = pointed_to(home).filter(|named| directory(home, *named).is_dir()) {
        return Ok(Some(named));
    }
    let built = all(home)?.into_iter().filter(|number| directory(home, *number).join("built").exists());
    Ok(built.max())
}

fn pointed_to(home: &Path) -> Option<u64> {
    let text = fs::read_to_string(home.join("current")).ok()?;
    let (number, checksum) = text.trim_end().split_once(' ')?;
    let is_sound = format!("{:08x}", crc32fast::hash(number.as_bytes())) == checksum;
    number.parse().ok().filter(|_| is_sound)
}

fn all(home: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    match fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
            }
        }
    }
    Ok(numbers)
}

/// Opens the generation that counts, or creates the first one.
pub fn open(home: &Path, disk: &Arc<dyn Disk>) -> Answer<(u64, Tables)> {
    if let Some(number) = current(home)? {
        remove_others(home, number, disk.as_ref());
        return Ok((number, Tables::open(&directory(home, number), disk)?));
    }
    create_directory(disk.as_ref(), home)?;
    // What is here was never complete; its number is not used again.
    let number = all(home)?.into_iter().max().unwrap_or(0) + 1;
    remove_others(home, number, disk.as_ref());
    let building = Building::begin(home, number, disk, Default::default())?;
    building.finish(home)
}

/// Removes every generation but this one. What cannot be removed now is at the next start.
pub fn remove_others(home: &Path, number: u64, disk: &dyn Disk) {
    for other in all(home).unwrap_or_default().into_iter().filter(|other| *other != number) {
        if let Err(error) = disk.remove_tree(&directory(home, other)) {
            log::warn!("old queue not removed generation={other} error={:?}", error.to_string());
        }
    }
}

/// A generation that does not count yet.
pub struct Building {
    number: u64,
    tables: Option<Tables>,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    table: usize,
    after: Option<Vec<u8>>,
    /// By table, the first block that was written since: it came here as well, with the removals that count here.
    since: [u64; Table::ALL.len()],
}

impl Building {
    /// Begins an empty one, into which what stands in blocks before `since` will be copied.
    pub fn begin(
        home: &Path,
        number: u64,
        disk: &Arc<dyn Disk>,
        since: [u64; Table::ALL.len()],
    ) -> Answer<Building> {
        let directory = directory(home, number);
        if directory.exists() {
            disk.remove_tree(&directory)?;
        }
        let tables = Some(Tables::open(&directory, disk)?);
        Ok(Building { number, tables, directory, disk: disk.clone(), table: 0, after: None, since })
    }

    fn tables(&self) -> &Tables {
        self.tables.as_ref().expect("it is taken only when it is finished")
    }

    /// Copies the next page of what holds in `old`; whether there is nothing more to copy.
    pub fn copy_page(&mut self, old: &Packed) -> Answer<bool> {
        let Some(table) = Table::ALL.get(self.table).copied() else { return Ok(true) };
        let mut copies = old.copies(table, self.after.as_deref())?;
        if table.is_packed() {
            let since = self.since[self.table];
            copies.retain(|(key, _)| number(key).is_ok_and(|number| number < since));
        }
        self.after = copies.last().map(|(key, _)| key.clone());
        if self.after.is_none() {
            self.table += 1;
        }
        let kept = copies.into_iter().filter_map(|(key, value)| Some((table, key, Some(value?))));
        self.tables().write(&kept.collect())?;
        Ok(false)
    }

    /// What the old tables were told, too.
    pub fn write(&self, raw: &Raw) -> Answer<()> {
        self.tables().write(raw)
    }

    /// Makes it durable and the one that counts.
    pub fn finish(mut self, home: &Path) -> Answer<(u64, Tables)> {
        self.tables().sync()?;
        let disk = self.disk.clone();
        disk.sync(&disk.create(&self.directory.join("built"))?)?;
        disk.sync_directory(&self.directory)?;
        disk.sync_directory(home)?;
        point_to(home, self.number, disk.as_ref())?;
        // From here on it counts: not even a failing disk may make us remove it.
        let tables = self.tables.take().expect("it is taken here only");
        if let Err(error) = disk.sync_directory(home) {
            log::warn!("switch of the queue not synced error={:?}", error.to_string());
        }
        Ok((self.number, tables))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.tables.take().is_some() {
            // Given up; the next start removes what cannot be removed now.
            let _ = self.disk.remove_tree(&self.directory);
        }
    }
}

fn point_to(home: &Path, number: u64, disk: &dyn Disk) -> io::Result<()> {
    let next = home.join("current.new");
    if next.exists() {
        disk.remove(&next)?;
    }
    let number = number.to_string();
    let line = format!("{number} {:08x}\n", crc32fast::hash(number.as_bytes()));
    let file = disk.create(&next)?;
    disk.write_at(&file, line.as_bytes(), 0)?;
    disk.sync(&file)?;
    disk.rename(&next, &home.join("current"))
}
