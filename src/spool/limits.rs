//! How much the spool may hold, and for how long.

use std::time::Duration;

/// What the spool may hold; past it, intake answers 503.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Envelopes that are not settled, dead ones included.
    pub envelopes_max: u64,
    /// Bytes of the journal on disk.
    pub bytes_max: u64,
    /// Bytes that must stay free on the file system.
    pub disk_free_min: u64,
    /// How long settled envelopes are remembered.
    pub keep_delivered: Duration,
    /// How long dead ones stay, from their last attempt on.
    pub keep_dead: Duration,
    /// The longest that anything is deferred: a due time further away was put down by a clock that was ahead.
    pub wait_max: Duration,
    /// Whether envelopes behind a dead one of their conversation are delivered.
    pub pass_dead: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            envelopes_max: 100_000,
            bytes_max: 2 << 30,
            disk_free_min: 512 << 20,
            keep_delivered: Duration::from_secs(7 * 86_400),
            keep_dead: Duration::from_secs(90 * 86_400),
            wait_max: Duration::from_secs(2 * 86_400),
            pass_dead: true,
        }
    }
}
