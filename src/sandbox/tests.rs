//! Real HTTP against started sandboxes.

mod budget;
mod client;
mod contacts;
mod control;
mod faulty;
mod lists;
mod notes;
mod pages;
mod protocol;
mod tickets;

use super::{Options, Sandbox};
use crate::clock::{ManualClock, Timestamp};
use client::Client;
use std::sync::Arc;

/// A Saturday morning.
const NOW: Timestamp = Timestamp(1_795_248_073_000);

/// A sandbox whose clock only the test moves.
fn start(options: Options) -> (Sandbox, Client, Arc<ManualClock>) {
    let clock = ManualClock::at(NOW);
    let desk = Sandbox::start(Options { clock: clock.clone(), ..options }).unwrap();
    let client = Client::of(&desk);
    (desk, client, clock)
}
