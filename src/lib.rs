//! deskspool.
pub mod clock;
pub mod freshdesk;
pub mod gate;
pub mod source;
