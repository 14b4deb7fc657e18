//! deskspool.
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod decode;
pub mod dispatch;
pub mod freshdesk;
pub mod gate;
pub mod intake;
pub mod sandbox;
pub mod source;
pub mod spool;
pub mod status;
pub mod systemd;
pub mod verify;
