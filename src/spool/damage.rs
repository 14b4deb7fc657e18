//! What this process knows of damage, for people: the log says it once, `status` and the metrics as long as it runs.

use super::{Id, Spool};
use std::ops::Range;

/// Damage that was found by opening the spool, or since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Envelopes whose record could not be read, and the segment it was in. Each is a dead letter without its text.
    pub lost: Vec<(Id, u64)>,
    /// Bytes of the journal that made no sense when it was opened: segment and place.
    pub stretches: Vec<(u64, Range<u64>)>,
}

impl Spool {
    /// The damage this process knows of.
    pub fn damage(&self) -> Damage {
        self.shared.core().damage.clone()
    }
}
