//! A disk that fails when it is told to, and that can write down what is done to it.

use super::super::ground::{Disk, RealDisk};
use super::platter::{Node, Op, PAGE_BYTES, Platter};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The real disk, with faults.
#[derive(Default)]
pub struct TestDisk {
    sync_fails: AtomicBool,
    is_full: AtomicBool,
    /// Nothing is to survive a power cut: syncs only cost time.
    never_syncs: bool,
    recorder: Option<Mutex<Recorder>>,
}

impl TestDisk {
    /// For a directory that is thrown away.
    pub fn without_syncs() -> TestDisk {
        TestDisk { never_syncs: true, ..TestDisk::default() }
    }

    /// Writes down what is done below `root`; what is there now counts as synced.
    pub fn recording(root: &Path) -> TestDisk {
        TestDisk { never_syncs: true, recorder: Some(Mutex::new(Recorder::new(root))), ..TestDisk::default() }
    }

    /// The next sync of a file fails, after its bytes were written.
    pub fn fail_next_sync(&self) {
        self.sync_fails.store(true, Ordering::SeqCst);
    }

    /// Whatever needs space fails, or works again.
    pub fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    /// How many things were written down so far; sled's writes up to now among them.
    pub fn position(&self) -> usize {
        let mut recorder = self.recorder().expect("the disk records");
        recorder.look_at_foreign();
        recorder.ops.len()
    }

    /// What was there at first, what the root is, and what was done since.
    pub fn take_recording(&self) -> (Platter, Vec<Op>) {
        let mut recorder = self.recorder().expect("the disk records");
        recorder.look_at_foreign();
        (recorder.first.clone(), std::mem::take(&mut recorder.ops))
    }

    fn recorder(&self) -> Option<MutexGuard<'_, Recorder>> {
        Some(self.recorder.as_ref()?.lock().expect("no test panics while it records"))
    }

    fn need_space(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Does it and writes it down, with nothing in between.
    fn done<T>(
        &self,
        what: impl FnOnce() -> io::Result<T>,
        note: impl FnOnce(&mut Recorder, &T),
    ) -> io::Result<T> {
        let mut recorder = self.recorder();
        if let Some(recorder) = &mut recorder {
            recorder.look_at_foreign();
        }
        let done = what()?;
        if let Some(recorder) = &mut recorder {
            note(recorder, &done);
        }
        Ok(done)
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.need_space()?;
        self.done(|| RealDisk.create(path), |recorder, _| recorder.create(path))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = self.need_space() {
            // Some of it still went in.
            let some = &bytes[..bytes.len() / 2];
            self.done(
                || RealDisk.write_at(file, some, offset),
                |recorder, ()| recorder.wrote(file, some, offset),
            )?;
            return Err(full);
        }
        self.done(
            || RealDisk.write_at(file, bytes, offset),
            |recorder, ()| recorder.wrote(file, bytes, offset),
        )
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync_fails.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("told to fail"));
        }
        let sync = || if self.never_syncs { Ok(()) } else { RealDisk.sync(file) };
        self.done(sync, |recorder, ()| recorder.synced(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.done(|| RealDisk.rename(from, to), |recorder, ()| recorder.renamed(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.done(|| RealDisk.remove(path), |recorder, ()| recorder.removed(path))
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.done(|| RealDisk.remove_tree(path), |recorder, ()| recorder.removed(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.need_space()?;
        self.done(|| RealDisk.create_directory(path), |recorder, ()| recorder.create(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let sync = || if self.never_syncs { Ok(()) } else { RealDisk.sync_directory(path) };
        self.done(sync, |recorder, ()| recorder.directory_synced(path))
    }
}

/// Everything below a directory, and what was done to it.
struct Recorder {
    root: PathBuf,
    first: Platter,
    ops: Vec<Op>,
    names: HashMap<Node, BTreeMap<OsString, Node>>,
    files: HashMap<u64, Node>,
    /// What others than the spool write, sled above all, as it was last seen.
    foreign: HashMap<Node, Vec<u8>>,
    next: Node,
}

/// The root's number.
pub const ROOT: Node = 0;

impl Recorder {
    fn new(root: &Path) -> Recorder {
        let mut recorder = Recorder {
            root: root.to_path_buf(),
            first: Platter::default(),
            ops: Vec::new(),
            names: HashMap::from([(ROOT, BTreeMap::new())]),
            files: HashMap::new(),
            foreign: HashMap::new(),
            next: ROOT + 1,
        };
        recorder.begin(ROOT, root);
        recorder
    }

    fn begin(&mut self, node: Node, path: &Path) {
        for entry in fs::read_dir(path).expect("a readable directory") {
            let entry = entry.expect("a readable directory");
            let child = self.number();
            self.names.entry(node).or_default().insert(entry.file_name(), child);
            if entry.path().is_dir() {
                self.names.insert(child, BTreeMap::new());
                self.begin(child, &entry.path());
            } else {
                let bytes = fs::read(entry.path()).expect("a readable file");
                self.files.insert(entry.metadata().expect("a file").ino(), child);
                self.foreign.insert(child, bytes.clone());
                self.first.begin_with_file(child, bytes);
            }
        }
        self.first.begin_with_directory(node, self.names[&node].clone());
    }

    fn number(&mut self) -> Node {
        self.next += 1;
        self.next - 1
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let inside = path.strip_prefix(&self.root).ok()?;
        inside.iter().try_fold(ROOT, |node, name| self.names.get(&node)?.get(name).copied())
    }

    /// The directory and the name in it.
    fn split(&self, path: &Path) -> Option<(Node, OsString)> {
        Some((self.node(path.parent()?)?, path.file_name()?.to_owned()))
    }

    fn create(&mut self, path: &Path) {
        // What is created outside of the root is of no interest.
        let _ = self.created(path);
    }

    fn created(&mut self, path: &Path) -> Option<Node> {
        let (directory, name) = self.split(path)?;
        let node = self.number();
        self.names.entry(directory).or_default().insert(name.clone(), node);
        let op = if path.is_dir() {
            self.names.insert(node, BTreeMap::new());
            Op::Directory { directory, name, node }
        } else {
            self.files.insert(fs::metadata(path).ok()?.ino(), node);
            Op::File { directory, name, node }
        };
        self.ops.push(op);
        Some(node)
    }

    fn wrote(&mut self, file: &File, bytes: &[u8], offset: u64) {
        let node = self.file(file);
        let offset = usize::try_from(offset).expect("files of tests are small");
        self.ops.push(Op::Write { node, offset, bytes: bytes.to_vec() });
        self.foreign.remove(&node);
    }

    fn synced(&mut self, file: &File) {
        let node = self.file(file);
        self.ops.push(Op::Sync { node });
    }

    fn file(&self, file: &File) -> Node {
        self.files[&file.metadata().expect("an open file").ino()]
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        let (Some(from), Some(to)) = (self.split(from), self.split(to)) else { return };
        let node = self.names.get_mut(&from.0).and_then(|names| names.remove(&from.1)).expect("it was there");
        self.names.entry(to.0).or_default().insert(to.1.clone(), node);
        self.ops.push(Op::Rename { from, to, node });
    }

    fn removed(&mut self, path: &Path) {
        let Some((directory, name)) = self.split(path) else { return };
        self.names.entry(directory).or_default().remove(&name);
        self.ops.push(Op::Remove { directory, name });
    }

    fn directory_synced(&mut self, path: &Path) {
        if let Some(node) = self.node(path) {
            self.ops.push(Op::SyncDirectory { node });
        }
    }

    /// Compares what others write with how it was last seen: sled's writes, page by page, never synced unless
    /// the spool does it.
    fn look_at_foreign(&mut self) {
        let mut directories = vec![(self.root.clone(), ROOT)];
        while let Some((path, node)) = directories.pop() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            let found: BTreeMap<OsString, PathBuf> =
                entries.flatten().map(|entry| (entry.file_name(), entry.path())).collect();
            let gone: Vec<OsString> =
                self.names[&node].keys().filter(|name| !found.contains_key(*name)).cloned().collect();
            for name in gone {
                self.removed(&path.join(name));
            }
            for (name, path) in found {
                let Some(known) = self.known(node, &name, &path) else { continue };
                if path.is_dir() {
                    directories.push((path, known));
                    continue;
                }
                let Some(seen) = self.foreign.get(&known) else { continue };
                let Some(bytes) = fs::read(&path).ok().filter(|bytes| bytes != seen) else { continue };
                self.compare(known, bytes);
            }
        }
    }

    /// The number of what stands under that name; something new is written down as created.
    fn known(&mut self, directory: Node, name: &OsString, path: &Path) -> Option<Node> {
        let number = fs::metadata(path).ok()?.ino();
        if let Some(known) = self.names[&directory].get(name) {
            let is_same = path.is_dir() || self.files.get(&number) == Some(known);
            if is_same {
                return Some(*known);
            }
            self.removed(path);
        }
        let node = self.created(path)?;
        if !path.is_dir() {
            self.foreign.insert(node, Vec::new());
        }
        Some(node)
    }

    fn compare(&mut self, node: Node, bytes: Vec<u8>) {
        let seen = self.foreign.remove(&node).unwrap_or_default();
        if bytes.len() < seen.len() {
            self.ops.push(Op::Length { node, length: bytes.len() });
        }
        for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
            let offset = index * PAGE_BYTES;
            let before = &seen[seen.len().min(offset)..seen.len().min(offset + page.len())];
            if before != page {
                self.ops.push(Op::Write { node, offset, bytes: page.to_vec() });
            }
        }
        self.foreign.insert(node, bytes);
    }
}
