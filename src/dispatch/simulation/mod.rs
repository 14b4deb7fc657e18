//! Months of delivery in seconds: the real dispatcher over the real spool, a scripted Freshdesk, a clock that only
//! the test moves, and dice that decide everything: when events come, what goes wrong, when the process is killed.
//!
//! One thread drives it all. While a call is under way the rest of the world goes on: other workers take their
//! steps inside it, so that attempts overlap as they do on threads, but in an order that the seed decides.
//! A kill copies the spool's directory as a power cut may leave it (nothing that was promised missing, of what was
//! not promised a random part), lets the old process run on against the old directory without effect, and opens the
//! copy.
//!
//! What is judged is in [`judge`]. A failing seed replays exactly: `SIM_SEED=<seed>` runs that world alone;
//! `SIM_WORLDS=<n>` runs more of them than usual.

mod desk;
mod judge;
mod world;

use crate::backoff::Dice;
use std::time::Duration;
use world::{Settings, World};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs `worlds` worlds of `hours` each, or the one that is asked for.
fn run(name: &str, worlds: u64, settings: impl Fn(&mut Dice) -> Settings) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_WORLDS").unwrap_or(worlds)).collect(),
    };
    for seed in seeds {
        let told = World::run(seed, settings(&mut Dice::seeded(seed)));
        println!("{name}: seed {seed}: {told}");
    }
}

fn between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    low + dice.next_u64() % (high - low + 1)
}

fn usual(dice: &mut Dice) -> Settings {
    Settings {
        hours: 1000,
        workers: between(dice, 1, 5) as usize,
        rate_per_minute: between(dice, 8, 60) as u32,
        conversations: between(dice, 3, 30),
        hours_between_bursts: 3.0,
        fault_chance: 0.03,
        storms: false,
        kill_chance: 0.01,
        too_late_chance: 0.0,
        jumps: false,
    }
}

#[test]
fn ordinary_months_with_kills_lose_nothing_and_double_nothing() {
    run("ordinary", 2, usual);
}

#[test]
fn outages_of_every_kind_lose_nothing_double_nothing_and_end_without_a_storm() {
    run("stormy", 5, |dice| Settings { storms: true, fault_chance: 0.1, ..usual(dice) });
}

#[test]
fn what_freshdesk_does_long_after_it_was_given_up_is_the_only_thing_that_doubles() {
    run("too late", 1, |dice| Settings { too_late_chance: 0.2, fault_chance: 0.2, ..usual(dice) });
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_doubles_nothing() {
    run("jumps", 2, |dice| Settings { jumps: true, storms: true, fault_chance: 0.1, ..usual(dice) });
}

#[test]
fn the_same_seed_is_the_same_world() {
    let settings = || {
        let usual = usual(&mut Dice::seeded(7));
        Settings { hours: 300, storms: true, jumps: true, fault_chance: 0.2, kill_chance: 0.03, ..usual }
    };
    assert_eq!(World::run(7, settings()).history, World::run(7, settings()).history);
    assert_ne!(World::run(7, settings()).history, World::run(8, settings()).history);
}
