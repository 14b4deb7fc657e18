//! deskspool.
pub mod clock;
pub mod freshdesk;
pub mod sandbox;
pub mod source;
