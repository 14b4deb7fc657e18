//! Bytes of a spool's files are changed at random: only what was hit is missing, and it is told.

use super::super::record::Record;
use super::super::segment::{self, Met};
use super::super::*;
use super::cuts::{cases, scratch, seed, watched};
use super::disk::TestDisk;
use super::lives::{Plan, World, limits};
use crate::backoff::Dice;
use crate::clock::ManualClock;
use std::fs::{self, File};
use std::ops::Range;

const TRIALS: usize = 500;
const BYTES_MAX: u64 = 16;

const PLAN: Plan = Plan {
    name: "damage",
    body_bytes: 400,
    segment_bytes: 8 << 10,
    garbage_min: u64::MAX,
    renew_bytes_min: u64::MAX,
    steps: 60,
    failing_syncs: 0,
    delivered: 50,
    reopened: 3,
};

/// What one record is about, and where it lies.
struct Written {
    segment: u64,
    range: Range<u64>,
    id: Id,
    is_put: bool,
}

/// A spool that was closed, and what its journal says.
struct Base {
    world: World,
    root: tempfile::TempDir,
    files: Vec<PathBuf>,
    written: Vec<Written>,
}

impl Base {
    fn new(seed: u64) -> Base {
        let root = scratch();
        let world = World::lived(PLAN, root.path(), seed);
        let directory = world.directory_below(root.path());
        let journal = directory.join("journal");
        let identity = fs::read(directory.join("identity")).unwrap().try_into().expect("sixteen bytes");
        let mut written = Vec::new();
        for segment in journal::segment_numbers(&journal).unwrap() {
            let file = File::open(journal.join(journal::segment_name(segment))).unwrap();
            segment::walk(&file, &identity, |met| {
                let Met::Record { record, range, .. } = met else { panic!("{met:?} in a sound spool") };
                let (id, is_put) = match *record {
                    Record::Put(envelope) => (envelope.id, true),
                    Record::Change(id, _) | Record::Standing(id, _) => (id, false),
                    Record::Void { .. } => return,
                };
                written.push(Written { segment, range, id, is_put });
            })
            .unwrap();
        }
        let mut files = Vec::new();
        collect(&directory, &mut files);
        files.sort();
        Base { world, root, files, written }
    }

    /// The same spool elsewhere, with some bytes changed; which file, and where.
    fn damaged(&self, to: &Path, dice: &mut Dice) -> (PathBuf, Vec<u64>) {
        let mut below = |end: u64| dice.next_u64() % end.max(1);
        // Journal and queue are hit alike, however many files they have.
        let wanted = ["journal", "queue", ""][usize::try_from(below(3)).expect("small")];
        let directory = self.world.directory_below(self.root.path());
        let inside: Vec<&PathBuf> =
            self.files.iter().filter(|path| path.starts_with(directory.join(wanted))).collect();
        let victim = inside[usize::try_from(below(inside.len() as u64)).expect("small")];
        for path in &self.files {
            let copy = to.join(path.strip_prefix(self.root.path()).expect("it is below"));
            fs::create_dir_all(copy.parent().expect("it has one")).unwrap();
            fs::copy(path, copy).unwrap();
        }
        // An unclean stop leaves no mark: the journal is walked.
        if below(2) == 0 && !victim.ends_with("clean") {
            fs::remove_file(self.world.directory_below(to).join("clean")).unwrap();
        }
        let copy = to.join(victim.strip_prefix(self.root.path()).expect("it is below"));
        let mut bytes = fs::read(&copy).unwrap();
        let mut changed = Vec::new();
        let (count, scattered) = (1 + below(BYTES_MAX), below(2) == 0);
        let length = bytes.len() as u64;
        let start = below(length);
        for nth in 0..count.min(length) {
            let at = if scattered { below(length) } else { (start + nth).min(length - 1) };
            bytes[usize::try_from(at).expect("small")] ^= u8::try_from(1 + below(255)).expect("a byte");
            changed.push(at);
        }
        fs::write(&copy, bytes).unwrap();
        (victim.clone(), changed)
    }

    /// The envelopes whose put is hit, and those something else is hit of.
    fn hit(&self, victim: &Path, changed: &[u64]) -> (HashSet<Id>, HashSet<Id>) {
        let (mut puts, mut others) = (HashSet::new(), HashSet::new());
        let name = victim.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hit = self.written.iter().filter(|one| {
            journal::segment_name(one.segment) == name && changed.iter().any(|at| one.range.contains(at))
        });
        for one in hit {
            if one.is_put {
                puts.insert(one.id)
            } else {
                others.insert(one.id)
            };
        }
        (puts, others)
    }

    fn trial(&self, seed: u64) -> Result<(), String> {
        let (root, mut dice) = (scratch(), Dice::seeded(seed));
        let (victim, changed) = self.damaged(root.path(), &mut dice);
        let what = format!("{} at {changed:?}", victim.display());
        let (puts, others) = self.hit(&victim, &changed);
        self.look(root.path(), &puts, &others).map_err(|wrong| format!("{what}: {wrong}"))
    }

    fn look(&self, root: &Path, puts: &HashSet<Id>, others: &HashSet<Id>) -> Result<(), String> {
        let claims = self.world.claims(usize::MAX);
        let ground = PLAN.ground(Arc::new(TestDisk::without_syncs()));
        let clock = ManualClock::at(claims.later());
        let opened = Spool::open_on(ground, &self.world.directory_below(root), limits(), clock);
        let (spool, recovery) = opened.map_err(|error| format!("does not open: {error}"))?;
        let is_hit = !puts.is_empty() || !others.is_empty();
        if is_hit && !recovery.was_clean {
            let is_told = !recovery.damaged.is_empty() || recovery.torn_bytes > 0;
            is_told.then_some(()).ok_or("the damage is not told")?;
        }
        let mut from = 0;
        let mut seen = HashMap::new();
        loop {
            let page = spool.entries(from).map_err(|error| error.to_string())?;
            let Some((last, ..)) = page.last() else { break };
            from = last + 1;
            seen.extend(page.into_iter().map(|(id, entry, _)| (id, entry)));
        }
        for (id, expected) in claims.waiting() {
            let entry = seen.remove(&id).ok_or(format!("{id} is silently gone"))?;
            let is_whole = match spool.envelope(&entry) {
                Ok(held) => claims.is_as_put(&held),
                Err(error) if journal::is_damage(&error) => false,
                Err(error) => return Err(format!("{id}: {error}")),
            };
            match (is_whole, puts.contains(&id)) {
                (false, false) => return Err(format!("{id} is gone, though it was not hit")),
                (false, true) if !recovery.was_clean => {
                    let is_told = recovery.lost.contains(&id) && entry.reason.contains("damaged in segment");
                    is_told.then_some(()).ok_or(format!("{id} is lost, and not told: {entry:?}"))?;
                }
                (true, _)
                    if !others.contains(&id) && !puts.contains(&id) && !claims.stands(&entry, &expected) =>
                {
                    return Err(format!("{id} stands wrong: {entry:?}, expected {expected:?}"));
                }
                _ => {}
            }
        }
        let strangers: Vec<_> = seen.keys().filter(|id| !puts.contains(id)).collect();
        if !strangers.is_empty() {
            return Err(format!("{strangers:?} came back"));
        }
        while let Leased::One(lease) = spool.lease_due().map_err(|error| error.to_string())? {
            if !claims.is_as_put(&lease.envelope) {
                return Err(format!("{} would be delivered with wrong bytes", lease.envelope.id));
            }
            let conversation = lease.envelope.conversation_hash();
            let change = Change::Delivered { ticket: None, conversation, ran: super::RAN };
            spool.settle(lease.envelope.id, change).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

#[test]
fn changed_bytes_cost_only_the_records_they_hit_and_are_told() {
    let seed = seed();
    let mut dice = Dice::seeded(seed);
    let base = Arc::new(Base::new(seed));
    let trials = cases(TRIALS);
    for trial in 0..trials {
        let (base, trial_seed) = (base.clone(), dice.next_u64());
        if let Err(wrong) = watched(move || base.trial(trial_seed)) {
            panic!("SEED={seed}, trial {trial}: {wrong}");
        }
    }
    println!("{trials} trials over {} files", base.files.len());
}
