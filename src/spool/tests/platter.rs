//! The model of a disk: what was done to a directory, in order, and what a power cut may leave of it.
//!
//! Only what was synced is sure: a file's bytes and length after a sync of the file, names after a sync of their
//! directory. Of the rest each 4 KiB page, each length and each name may be there or not, on its own. That is harsher
//! than ext4, whose journal keeps names in order; what survives here survives there.

use crate::backoff::Dice;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

pub const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// A file or directory, whatever its name is.
pub type Node = usize;

/// One thing that was done.
#[derive(Debug)]
pub enum Op {
    /// A file was created, empty.
    File { directory: Node, name: OsString, node: Node },
    /// A directory was created.
    Directory { directory: Node, name: OsString, node: Node },
    /// Bytes were written.
    Write { node: Node, offset: usize, bytes: Vec<u8> },
    /// A file was cut or stretched.
    Length { node: Node, length: usize },
    /// A file's sync is done.
    Sync { node: Node },
    /// A name was taken away and given to something else.
    Rename { from: (Node, OsString), to: (Node, OsString), node: Node },
    /// A name was taken away.
    Remove { directory: Node, name: OsString },
    /// A directory's sync is done.
    SyncDirectory { node: Node },
}

/// What a cut leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Everything, as after a kill.
    Everything,
    /// Each page, length and name by chance.
    Some,
    /// Everything before the last write, and that up to a sector's border.
    TornAtSector,
    /// The same, up to a page's border.
    TornAtPage,
}

impl Left {
    pub const ALL: [Left; 5] =
        [Left::Nothing, Left::Everything, Left::Some, Left::TornAtSector, Left::TornAtPage];
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum Name {
    Set(OsString, Node),
    Unset(OsString),
    /// Within one directory a rename is one step.
    Move(OsString, OsString, Node),
}

#[derive(Clone, Debug)]
enum Content {
    File { synced: Vec<u8>, since: Vec<Change> },
    Directory { synced: BTreeMap<OsString, Node>, since: Vec<Name> },
}

/// The disk as of some moment.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    contents: BTreeMap<Node, Content>,
    last_written: Option<Node>,
}

impl Platter {
    /// A file that is there from the beginning, and synced.
    pub fn begin_with_file(&mut self, node: Node, bytes: Vec<u8>) {
        self.contents.insert(node, Content::File { synced: bytes, since: Vec::new() });
    }

    /// A directory that is there from the beginning, and synced.
    pub fn begin_with_directory(&mut self, node: Node, names: BTreeMap<OsString, Node>) {
        self.contents.insert(node, Content::Directory { synced: names, since: Vec::new() });
    }

    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::File { directory, name, node } => {
                self.begin_with_file(*node, Vec::new());
                self.name(*directory, Name::Set(name.clone(), *node));
            }
            Op::Directory { directory, name, node } => {
                self.begin_with_directory(*node, BTreeMap::new());
                self.name(*directory, Name::Set(name.clone(), *node));
            }
            Op::Write { node, offset, bytes } => {
                self.last_written = Some(*node);
                self.change(*node, Change::Write { offset: *offset, bytes: bytes.clone() });
            }
            Op::Length { node, length } => self.change(*node, Change::Length(*length)),
            Op::Rename { from, to, node } if from.0 == to.0 => {
                self.name(from.0, Name::Move(from.1.clone(), to.1.clone(), *node));
            }
            Op::Rename { from, to, node } => {
                self.name(to.0, Name::Set(to.1.clone(), *node));
                self.name(from.0, Name::Unset(from.1.clone()));
            }
            Op::Remove { directory, name } => self.name(*directory, Name::Unset(name.clone())),
            Op::Sync { node } => {
                let Some(Content::File { synced, since }) = self.contents.get_mut(node) else { return };
                for change in since.drain(..) {
                    change.apply_to(synced);
                }
            }
            Op::SyncDirectory { node } => {
                let Some(Content::Directory { synced, since }) = self.contents.get_mut(node) else { return };
                for name in since.drain(..) {
                    name.apply_to(synced);
                }
            }
        }
    }

    fn change(&mut self, node: Node, change: Change) {
        if let Some(Content::File { since, .. }) = self.contents.get_mut(&node) {
            since.push(change);
        }
    }

    fn name(&mut self, directory: Node, name: Name) {
        if let Some(Content::Directory { since, .. }) = self.contents.get_mut(&directory) {
            since.push(name);
        }
    }

    /// Writes what a cut now leaves of `node` into the directory `to`, which is there and empty.
    pub fn leave(&self, node: Node, to: &Path, left: Left, dice: &mut Dice) {
        let Some(Content::Directory { synced, since }) = self.contents.get(&node) else { return };
        let mut names = synced.clone();
        for name in since {
            let is_kept = match left {
                Left::Nothing => false,
                Left::Some => dice.next_u64() % 3 != 0,
                Left::Everything | Left::TornAtSector | Left::TornAtPage => true,
            };
            if is_kept {
                name.apply_to(&mut names);
            }
        }
        for (name, child) in names {
            let path = to.join(name);
            match &self.contents[&child] {
                Content::Directory { .. } => {
                    fs::create_dir(&path).expect("an empty place");
                    self.leave(child, &path, left, dice);
                }
                Content::File { synced, since } => {
                    let is_last = self.last_written == Some(child);
                    fs::write(&path, bytes_left(synced, since, (left, is_last), dice))
                        .expect("a place to write");
                }
            }
        }
    }
}

impl Change {
    fn apply_to(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Change::Length(length) => file.resize(*length, 0),
        }
    }
}

impl Name {
    fn apply_to(&self, names: &mut BTreeMap<OsString, Node>) {
        match self {
            Name::Set(name, node) => drop(names.insert(name.clone(), *node)),
            Name::Unset(name) => drop(names.remove(name)),
            Name::Move(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

fn bytes_left(synced: &[u8], since: &[Change], (left, is_last): (Left, bool), dice: &mut Dice) -> Vec<u8> {
    let mut file = synced.to_vec();
    let torn_at = match left {
        Left::Nothing => return file,
        Left::Some => return pages_left(synced, since, dice),
        Left::TornAtSector if is_last => SECTOR_BYTES,
        Left::TornAtPage if is_last => PAGE_BYTES,
        Left::Everything | Left::TornAtSector | Left::TornAtPage => usize::MAX,
    };
    for (index, change) in since.iter().enumerate() {
        match change {
            Change::Write { offset, bytes } if index + 1 == since.len() && torn_at != usize::MAX => {
                // A border strictly inside the write, when there is one.
                let borders = (offset / torn_at + 1..(offset + bytes.len()).div_ceil(torn_at)).count() as u64;
                let nth = usize::try_from(dice.next_u64() % (borders + 1)).expect("small");
                let end = ((offset / torn_at + nth) * torn_at).clamp(*offset, offset + bytes.len());
                Change::Write { offset: *offset, bytes: bytes[..end - offset].to_vec() }.apply_to(&mut file);
            }
            _ => change.apply_to(&mut file),
        }
    }
    file
}

/// Each page as it was after some number of the changes, and some length the file has had.
fn pages_left(synced: &[u8], since: &[Change], dice: &mut Dice) -> Vec<u8> {
    let mut file = synced.to_vec();
    let mut lengths = vec![file.len()];
    let mut longest = file.len();
    for change in since {
        let length = match change {
            Change::Write { offset, bytes } => (offset + bytes.len()).max(lengths[lengths.len() - 1]),
            Change::Length(length) => *length,
        };
        lengths.push(length);
        longest = longest.max(length);
    }
    file.resize(longest, 0);
    let until: Vec<usize> = (0..longest.div_ceil(PAGE_BYTES)).map(|_| pick(since.len(), dice)).collect();
    for (index, change) in since.iter().enumerate() {
        let (start, bytes) = match change {
            Change::Write { offset, bytes } => (*offset, bytes.as_slice()),
            Change::Length(length) => {
                for (page, until) in until.iter().enumerate().skip(length.div_ceil(PAGE_BYTES)) {
                    if index < *until {
                        file[page * PAGE_BYTES..longest.min((page + 1) * PAGE_BYTES)].fill(0);
                    }
                }
                continue;
            }
        };
        let end = start + bytes.len();
        let pages = start / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
        for (page, until) in pages.clone().zip(&until[pages]) {
            let (from, to) = (start.max(page * PAGE_BYTES), end.min((page + 1) * PAGE_BYTES));
            if index < *until && from < to {
                file[from..to].copy_from_slice(&bytes[from - start..to - start]);
            }
        }
    }
    file.truncate(lengths[pick(since.len(), dice)]);
    file
}

/// None, all, or some of `count`.
fn pick(count: usize, dice: &mut Dice) -> usize {
    match dice.next_u64() % 3 {
        0 => 0,
        1 => count,
        _ => usize::try_from(dice.next_u64() % (count as u64 + 1)).expect("at most count"),
    }
}

#[test]
fn what_was_synced_is_left_and_what_was_not_may_be() {
    let mut platter = Platter::default();
    platter.begin_with_directory(0, BTreeMap::new());
    let name = OsString::from("file");
    for op in [
        Op::File { directory: 0, name: name.clone(), node: 1 },
        Op::Write { node: 1, offset: 0, bytes: vec![1; 9000] },
        Op::Sync { node: 1 },
        Op::SyncDirectory { node: 0 },
        Op::Write { node: 1, offset: 4096, bytes: vec![2; 8192] },
    ] {
        platter.apply(&op);
    }
    let mut dice = Dice::seeded(7);
    let mut seen = std::collections::BTreeSet::new();
    for left in Left::ALL.into_iter().cycle().take(100) {
        let directory = tempfile::tempdir().unwrap();
        platter.leave(0, directory.path(), left, &mut dice);
        let bytes = fs::read(directory.path().join("file")).unwrap();
        assert_eq!(bytes[..4096], [1; 4096]);
        assert!(bytes.len() == 9000 || bytes.len() > 9000 && bytes.len() <= 12_288, "{}", bytes.len());
        seen.insert((bytes.len(), bytes.get(4096).copied(), bytes.get(8192).copied()));
    }
    for possible in [(9000, Some(1), Some(1)), (12_288, Some(2), Some(2)), (12_288, Some(1), Some(2))] {
        assert!(seen.contains(&possible), "{possible:?} is not among {seen:?}");
    }
}
