//! A compiled source.
pub mod table;
