//! deskspool.
pub mod backoff;
pub mod clock;
pub mod dispatch;
pub mod freshdesk;
pub mod source;
pub mod spool;
