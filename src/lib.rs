//! deskspool.
pub mod backoff;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod freshdesk;
pub mod gate;
pub mod source;
pub mod spool;
