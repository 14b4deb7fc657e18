//! What the daemon counts, and the one snapshot that every view of it shows.
//!
//! [`tally`] counts by source and minute, [`history`] keeps the minutes, [`meters`] counts for the metrics, and
//! [`snapshot()`] asks all rooms how they stand. [`prometheus`] writes that as metrics; [`listener`] is the tiny_http
//! behind which the status page answers. [`refused`] remembers the last requests that were turned away, [`recent`]
//! the last events and attempts, also of what was filtered or here before.
//!
//! **Invariant:** reads the other rooms, changes none of them. No label and no number carries a
//! conversation, a requester or an id.

pub mod history;
pub mod listener;
pub mod meters;
pub mod period;
pub mod prometheus;
pub mod recent;
pub mod refused;
pub mod snapshot;
pub mod tally;

pub use history::{Series, Span};
pub use period::{Count, Gauges, Period};
pub use recent::{Recent, Seen};
pub use snapshot::{Snapshot, snapshot};
pub use tally::Tally;
