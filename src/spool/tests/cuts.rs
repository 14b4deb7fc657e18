//! Power cuts: lives of a spool are recorded, the disk is rebuilt as a cut at any point may leave it, and opened.

use super::disk::{ROOT, TestDisk};
use super::lives::{Plan, World};
use super::platter::{Left, Op, Platter};
use crate::backoff::Dice;
use crate::clock::Clock;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tempfile::TempDir;

/// A state that takes longer than this to open hangs.
const HANG: Duration = Duration::from_secs(120);

const SMALL: Plan = Plan {
    name: "small bodies",
    body_bytes: 300,
    segment_bytes: 6 << 10,
    garbage_min: 8 << 10,
    renew_bytes_min: u64::MAX,
    steps: 90,
    failing_syncs: 0,
    delivered: 70,
    reopened: 2,
};

const PLANS: &[(Plan, usize)] = &[
    (SMALL, 80),
    (Plan { name: "stragglers", delivered: 40, garbage_min: 1 << 10, segment_bytes: 3 << 10, ..SMALL }, 70),
    (Plan { name: "generations", renew_bytes_min: 1, ..SMALL }, 60),
    (Plan { name: "failing syncs", failing_syncs: 25, ..SMALL }, 60),
    (
        Plan {
            name: "24 KiB",
            body_bytes: 24 << 10,
            segment_bytes: 96 << 10,
            garbage_min: 48 << 10,
            ..SMALL
        },
        70,
    ),
    (
        Plan {
            name: "200 KiB",
            body_bytes: 200 << 10,
            segment_bytes: 512 << 10,
            garbage_min: 256 << 10,
            steps: 40,
            ..SMALL
        },
        40,
    ),
    (Plan { name: "first creation", steps: 3, ..SMALL }, 60),
];

/// In memory where there is such a place: what is thrown away needs no disk.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

/// Chosen by chance, or by who wants to see a failure again.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Dice::random().next_u64());
    println!("repeat with SEED={seed}");
    seed
}

/// So many of what is chosen by chance; CASES_PERCENT makes them fewer, for processors that are only emulated.
pub fn cases(all: usize) -> usize {
    let percent = std::env::var("CASES_PERCENT").ok().map(|percent| percent.parse().expect("a number"));
    (all * percent.unwrap_or(100)).div_ceil(100)
}

/// Runs it in a thread of its own, so that a panic and a hang are told like everything else.
pub fn watched(what: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    let (tell, told) = sync_channel(1);
    let thread = std::thread::Builder::new().name("watched".into()).spawn(move || drop(tell.send(what())));
    let thread = thread.expect("there is room for a thread");
    match told.recv_timeout(HANG) {
        Ok(result) => thread.join().map_or(Err("panics".into()), |()| result),
        Err(RecvTimeoutError::Timeout) => Err("hangs".into()),
        Err(RecvTimeoutError::Disconnected) => Err("panics".into()),
    }
}

/// Where to cut: half at the steps that change what is sure, half anywhere.
fn cuts(ops: &[Op], count: usize, dice: &mut Dice) -> Vec<usize> {
    let steps: Vec<usize> =
        (0..ops.len()).filter(|at| !matches!(ops[*at], Op::Write { .. } | Op::Length { .. })).collect();
    let mut any = |end: usize| usize::try_from(dice.next_u64() % end as u64).expect("small");
    let mut cuts: Vec<usize> = (0..count)
        .map(|nth| if nth % 2 == 0 { steps[any(steps.len())] + any(2) } else { any(ops.len() + 1) })
        .collect();
    cuts.sort_unstable();
    cuts
}

/// One state of a disk, and how it was made.
struct State {
    world: Arc<World>,
    platter: Platter,
    cut: usize,
    left: Left,
    seed: u64,
    drains: bool,
}

impl State {
    fn check(self) -> Result<(), String> {
        let root = scratch();
        let mut dice = Dice::seeded(self.seed);
        self.platter.leave(ROOT, root.path(), self.left, &mut dice);
        self.world.claims(self.cut).check(root.path(), Arc::new(TestDisk::without_syncs()), self.drains)
    }

    /// The power is cut again while the spool is being opened.
    fn check_cut_twice(self) -> Result<(), String> {
        let (first, second) = (scratch(), scratch());
        let mut dice = Dice::seeded(self.seed);
        self.platter.leave(ROOT, first.path(), self.left, &mut dice);
        let disk = Arc::new(TestDisk::recording(first.path()));
        let claims = self.world.claims(self.cut);
        drop(claims.opened(first.path(), disk.clone())?);
        let (mut platter, ops) = disk.take_recording();
        let cut = usize::try_from(dice.next_u64() % (ops.len() as u64 + 1)).expect("small");
        ops[..cut].iter().for_each(|op| platter.apply(op));
        platter.leave(ROOT, second.path(), Left::Some, &mut dice);
        claims.check(second.path(), Arc::new(TestDisk::without_syncs()), self.drains)
    }
}

/// The states of one life; how many there were.
fn states(plan: Plan, count: usize, seed: u64) -> usize {
    let root = scratch();
    let world = Arc::new(World::lived(plan, root.path(), seed));
    let (mut platter, ops) = world.disk().take_recording();
    let mut dice = Dice::seeded(seed);
    let (mut done, mut checked) = (0, 0);
    for cut in cuts(&ops, count, &mut dice) {
        ops[done..cut].iter().for_each(|op| platter.apply(op));
        done = cut;
        for left in Left::ALL {
            let state = State {
                world: world.clone(),
                platter: platter.clone(),
                cut,
                left,
                seed: dice.next_u64(),
                drains: checked % 4 == 0,
            };
            let is_twice = checked % 7 == 3;
            let result = watched(move || if is_twice { state.check_cut_twice() } else { state.check() });
            if let Err(wrong) = result {
                let near: Vec<&Op> = ops[cut.saturating_sub(3)..cut].iter().collect();
                let near = format!("{near:?}");
                panic!(
                    "{} (SEED={seed}), cut at {cut} of {}, {left:?} left, twice {is_twice}: {wrong}\nafter {}",
                    plan.name,
                    ops.len(),
                    &near[..near.len().min(300)],
                );
            }
            checked += 1;
        }
    }
    checked
}

#[test]
fn a_power_cut_at_any_point_takes_nothing_that_was_answered() {
    let seed = seed();
    let clock = crate::clock::SystemClock::new();
    let mut total = 0;
    for (plan, count) in PLANS {
        let began = clock.monotonic();
        let checked = states(*plan, cases(*count), seed);
        println!("{}: {checked} states in {:.1?}", plan.name, clock.monotonic().saturating_sub(began));
        total += checked;
    }
    println!("{total} states");
    assert!(total >= cases(2000), "{total} states are too few");
}
