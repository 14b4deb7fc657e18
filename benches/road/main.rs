//! The road under load: posts per second and their latencies, beside what the disk and the HTTP side
//! could do alone.
//!
//! ```text
//! cargo bench --bench road                                 about two minutes
//! cargo bench --bench road -- --rounds 1 --seconds 0.5     a glance
//! cargo bench --bench road -- --binary PATH                another build of the daemon
//! DESKSPOOL_BENCH_DIR=/mnt/disk cargo bench --bench road   on another disk (default: target/tmp)
//! ```
//!
//! In every round, for 1, 16 and 64 connections, one after the other:
//!
//! - **a** `append + fdatasync`: the same bytes, in this process, without HTTP: one sync per event with one
//!   writer, one sync per group with more. It is what the disk allows.
//! - **b** `not stored`: the same gate and tiny_http in a process of their own, answering without storing.
//!   It is what the HTTP side allows.
//! - **c** `deskspool`: the release binary on a fresh spool, Freshdesk unreachable, 2 KiB of JSON per
//!   post, each with its own id, four posts to a conversation, keep-alive, closed loop.
//!
//! The load generator is one thread with one `epoll`, since it has to share the machine's processors.
//! Rounds are interleaved and medians are told with the least and the most, because disks and neighbours
//! are noisy; ratios are taken within a round and only then their median. Nothing is asserted about time.
//! At the end: memory when idle, size of the binary, bytes written to disk and processor time per event.

mod disk;
mod load;
mod machine;
mod servers;

use load::{BODY_BYTES, Pass};
use servers::{Daemon, StandIn};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The argument with which this executable is the server of (b).
const STAND_IN: &str = "--stand-in";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const IDLE: Duration = Duration::from_secs(10);

/// What the command line asks for.
struct Options {
    rounds: usize,
    seconds: f64,
    directory: PathBuf,
    binary: PathBuf,
}

impl Options {
    fn read() -> Options {
        let directory = std::env::var_os("DESKSPOOL_BENCH_DIR");
        let directory = directory.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
        let mut options = Options { rounds: 5, seconds: 1.5, directory, binary: servers::DESKSPOOL.into() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| usage(&word));
            match word.as_str() {
                "--rounds" => options.rounds = value().parse().unwrap_or_else(|_| usage(&word)),
                "--seconds" => options.seconds = value().parse().unwrap_or_else(|_| usage(&word)),
                "--dir" => options.directory = value().into(),
                "--binary" => options.binary = value().into(),
                // cargo's own word.
                "--bench" => {}
                _ => usage(&word),
            }
        }
        options
    }
}

fn usage<T>(word: &str) -> T {
    eprintln!("not understood: {word}\nusage: road [--rounds N] [--seconds S] [--dir PATH] [--binary PATH]");
    std::process::exit(2);
}

/// What one server did in one pass, and what it cost.
struct Measured {
    pass: Pass,
    written_per_event: f64,
    cpu_micros_per_event: f64,
}

/// One round at one number of connections.
struct Round {
    disk: Pass,
    sync_per_event: f64,
    not_stored: Measured,
    stored: Measured,
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let [_, STAND_IN, socket] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return servers::stand_in(Path::new(socket));
    }
    let options = Options::read();
    let scratch = tempfile::Builder::new().prefix("road-").tempdir_in(&options.directory);
    let scratch = scratch.unwrap_or_else(|error| panic!("{}: {error}", options.directory.display()));
    println!("{}", machine::about(scratch.path()));
    println!(
        "{BODY_BYTES} bytes per post, {} rounds of {} s each; median (least–most)\n",
        options.rounds, options.seconds
    );
    let rounds: Vec<Vec<Round>> = (0..options.rounds).map(|_| round(&options, scratch.path())).collect();
    println!(
        "                          posts/s                p50 ms   p99 ms   CPU µs   disk bytes   of (a)   of (b)   of a sync each"
    );
    for (index, connections) in CONNECTIONS.into_iter().enumerate() {
        tell(connections, &rounds.iter().map(|round| &round[index]).collect::<Vec<_>>());
    }
    idle(&options.binary, scratch.path());
}

fn round(options: &Options, scratch: &Path) -> Vec<Round> {
    let seconds = options.seconds;
    let sync_per_event = disk::sync_per_event(scratch, seconds).rate();
    CONNECTIONS
        .into_iter()
        .map(|connections| Round {
            disk: if connections == 1 {
                disk::sync_per_event(scratch, seconds)
            } else {
                disk::sync_per_group(scratch, connections, seconds)
            },
            sync_per_event,
            not_stored: StandIn::start().measure(connections, seconds),
            stored: Daemon::start(&options.binary, scratch).measure(connections, seconds),
        })
        .collect()
}

fn tell(connections: usize, rounds: &[&Round]) {
    println!("{connections} connection{}", if connections == 1 { "" } else { "s" });
    let passes = |of: fn(&Round) -> &Pass| rounds.iter().map(|round| of(round)).collect::<Vec<_>>();
    let measured = |of: fn(&Round) -> &Measured| rounds.iter().map(|round| of(round)).collect::<Vec<_>>();
    let ratio = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(|round| of(round))).text(2);
    println!("  a  append + fdatasync   {}", speed(&passes(|round| &round.disk)));
    println!(
        "  b  not stored           {}{}",
        speed(&passes(|round| &round.not_stored.pass)),
        cost(&measured(|round| &round.not_stored))
    );
    println!(
        "  c  deskspool            {}{}   {}   {}   {}",
        speed(&passes(|round| &round.stored.pass)),
        cost(&measured(|round| &round.stored)),
        ratio(&|round| round.stored.pass.rate() / round.disk.rate()),
        ratio(&|round| round.stored.pass.rate() / round.not_stored.pass.rate()),
        ratio(&|round| round.stored.pass.rate() / round.sync_per_event),
    );
    let refused: u64 =
        rounds.iter().map(|round| round.stored.pass.refused + round.not_stored.pass.refused).sum();
    if refused > 0 {
        println!("     {refused} posts were not answered 200: these numbers mean nothing");
    }
}

fn speed(passes: &[&Pass]) -> String {
    let rate = Spread::of(passes.iter().map(|pass| pass.rate()));
    let at = |share: f64| Spread::of(passes.iter().map(|pass| pass.latency_millis(share))).median;
    format!("{:<22} {:>6.2} {:>8.2}", rate.text(0), at(0.5), at(0.99))
}

fn cost(measured: &[&Measured]) -> String {
    let cpu = Spread::of(measured.iter().map(|one| one.cpu_micros_per_event)).median;
    let disk = Spread::of(measured.iter().map(|one| one.written_per_event)).median;
    format!(" {cpu:>8.0} {disk:>12.0}")
}

/// A median and how far the passes were apart.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Spread {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        Spread { median: at(numbers.len() / 2), least: at(0), most: at(numbers.len().saturating_sub(1)) }
    }

    fn text(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }
}

/// Memory of a daemon that nobody asks anything, and the size of its binary.
fn idle(binary: &Path, scratch: &Path) {
    let daemon = Daemon::start(binary, scratch);
    let at_start = machine::resident_mib(daemon.process());
    let (_never, wait) = std::sync::mpsc::channel::<()>();
    let switches = machine::context_switches(daemon.process());
    let _ = wait.recv_timeout(IDLE);
    let switches = machine::context_switches(daemon.process()) - switches;
    println!(
        "\nidle: {at_start:.1} MiB resident after the start, {:.1} MiB after {} s; {:.1} wake-ups a second",
        machine::resident_mib(daemon.process()),
        IDLE.as_secs(),
        switches as f64 / IDLE.as_secs_f64()
    );
    println!("binary: {}", machine::binary(binary));
}
