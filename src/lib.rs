//! deskspool.
pub mod clock;
pub mod decode;
pub mod freshdesk;
pub mod source;
pub mod verify;
