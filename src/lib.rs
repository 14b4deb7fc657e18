//! deskspool.
pub mod clock;
pub mod config;
pub mod freshdesk;
pub mod source;
