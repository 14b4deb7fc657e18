//! What the daemon counts, and the one snapshot that every view of it shows.
//!
//! `refused` remembers the last requests that were turned away.
//!
//! **Invariant:** reads the other rooms, changes none of them. No label and no number carries a
//! conversation, a requester or an id.

pub mod refused;
pub mod snapshot;
pub mod tally;

pub use snapshot::{Snapshot, snapshot};
pub use tally::{Count, Tally};
