//! deskspool.
fn main() {}
