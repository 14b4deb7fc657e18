//! `deskspool probe-queue DIRECTORY`: not for people. The daemon runs it before it opens its queue, because a
//! damaged one can make the process that opens it panic or hang.

use clap::Args;
use std::path::PathBuf;

/// What the daemon calls it.
pub const PROBE_VERB: &str = "probe-queue";

/// Which queue.
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// A generation of the queue
    directory: PathBuf,
    /// Read all of it, too
    #[arg(long)]
    walk: bool,
}

/// Its exit code is the answer.
pub fn run(args: &ProbeArgs) -> u8 {
    crate::spool::try_queue(&args.directory, args.walk)
}
