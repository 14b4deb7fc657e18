//! deskspool.
pub mod backoff;
pub mod clock;
pub mod freshdesk;
pub mod source;
pub mod spool;
