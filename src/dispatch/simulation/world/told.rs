//! What a world was like, for people.

use std::fmt;
use std::time::Duration;

/// What a world was like.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub hours: u64,
    pub events: u64,
    pub calls: u64,
    pub kills: u64,
    pub restarts: u64,
    pub jumps: u64,
    pub outages: u64,
    pub dead: u64,
    pub doubles_excused: u64,
    /// A hash of all that happened, in order.
    pub history: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hours, {} events, {} calls, {} kills, {} restarts, {} outages, {} clock jumps, {} dead, \
             {} undecidable doubles, history {:016x}",
            self.hours,
            self.events,
            self.calls,
            self.kills,
            self.restarts,
            self.outages,
            self.jumps,
            self.dead,
            self.doubles_excused,
            self.history
        )
    }
}

impl Told {
    pub fn note(&mut self, at: Duration, what: &str) {
        for byte in at.as_millis().to_le_bytes().iter().chain(what.as_bytes()) {
            // FNV-1a.
            self.history = (self.history ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
