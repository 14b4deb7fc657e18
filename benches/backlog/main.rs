//! The spool with a long backlog: what it writes, what memory it takes, how long opening takes, how much disk is
//! left in use when the backlog has gone. The library alone, without HTTP and without Freshdesk.
//!
//! ```text
//! cargo bench --bench backlog                                 500,000 events of 2 KiB: some minutes, 1.4 GB
//! cargo bench --bench backlog -- --events 50000               a glance
//! DESKSPOOL_BENCH_DIR=/mnt/disk cargo bench --bench backlog   on another disk (default: target/tmp)
//! ```
//!
//! Every phase is a process of its own, so that its memory is its own. `fill` ends like a crash, the open after
//! it ends cleanly. Bytes written are those the kernel counts for the process, whole pages, the queue included; what
//! an event costs that waits for long is what `fill` and `drain` say, together. Four events make a conversation.
//! Nothing is asserted: disks and neighbours are noisy; memory, bytes and disk use are repeatable all the same.
//!
//! Where the numbers come from: the journal writes an event once, some 1.2 × its body with what frames it and what
//! is said of its delivery, rounded up to pages at every sync. The queue adds some hundred bytes, because its rows are
//! packed into blocks; as rows of sled's they were 1.3 times the body.

mod measure;

use deskspool::clock::SystemClock;
use deskspool::spool::{Change, Envelope, Leased, Limits, Ran, Spool, hash_of};
use measure::{Latencies, disk_mib, resident_mib, written_bytes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes of an event's body.
const BODY_BYTES: usize = 2048;
/// Events of one conversation.
const CONVERSATION: u64 = 4;
/// Requests that wait for their answer at the same time.
const IN_FLIGHT: usize = 64;
/// Threads that deliver.
const WORKERS: usize = 16;
/// Events of the phase in which they are delivered as they come.
const STEADY_EVENTS: u64 = 20_000;
/// How long the disk may take to become small again.
const SHRINK: Duration = Duration::from_secs(60);
const DISK_GOAL_MIB: f64 = 64.0;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--phase", phase, directory, events] => run_phase(phase, Path::new(directory), count(events)),
        [] => all_phases(500_000),
        ["--events", events] => all_phases(count(events)),
        _ => usage(),
    }
}

fn count(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| usage())
}

fn usage<T>() -> T {
    eprintln!("usage: backlog [--events N]");
    std::process::exit(2);
}

fn all_phases(events: u64) {
    let directory = std::env::var_os("DESKSPOOL_BENCH_DIR");
    let directory = directory.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("backlog-").tempdir_in(&directory);
    let scratch = scratch.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    println!(
        "{events} events of {BODY_BYTES} bytes, {CONVERSATION} to a conversation, load {}",
        measure::load()
    );
    let spool = scratch.path().join("spool");
    for phase in ["fill", "open-after-kill", "open-after-stop", "renew", "drain"] {
        run(phase, &spool, events);
    }
    run("steady", &scratch.path().join("steady"), STEADY_EVENTS.min(events));
}

fn run(phase: &str, directory: &Path, events: u64) {
    let program = std::env::current_exe().expect("this executable");
    let mut command = Command::new(program);
    command.args(["--phase", phase]).arg(directory).arg(events.to_string());
    let status = command.status().expect("this executable runs");
    // A phase that ends like a crash is killed by its own signal.
    assert!(status.success() || phase == "fill", "{phase}: {status}");
}

fn run_phase(phase: &str, directory: &Path, events: u64) {
    match phase {
        "fill" => fill(directory, events),
        "open-after-kill" | "open-after-stop" => open_and_list(phase, directory),
        "renew" => renew(directory, events),
        "drain" => drain(directory, events),
        "steady" => steady(directory, events),
        _ => usage(),
    }
}

fn open(directory: &Path) -> (Spool, String) {
    let limits = Limits {
        envelopes_max: 10_000_000,
        bytes_max: 1 << 40,
        disk_free_min: 64 << 20,
        ..Limits::default()
    };
    let started = Instant::now();
    let (spool, recovery) = Spool::open(directory, limits, SystemClock::new()).expect("the spool opens");
    let took = started.elapsed().as_secs_f64();
    let how = if recovery.was_clean { "queue believed" } else { "journal walked" };
    let told = format!("{took:.2} s, {} waiting, {} mended, {how}", recovery.waiting, recovery.mended);
    (spool, told)
}

fn event(number: u64) -> Envelope {
    let text = format!("{{\"event\":{number},\"text\":\"");
    let mut body = text.into_bytes();
    body.resize(BODY_BYTES - 2, b'x');
    body.extend_from_slice(b"\"}");
    let event_id = format!("5f0c7a9e-0000-4000-8000-{number:012}");
    Envelope {
        id: 0,
        received_at: deskspool::clock::Clock::now(&*SystemClock::new()),
        source: "sendpulse".to_owned(),
        kind: "incoming_message".to_owned(),
        dedupe: hash_of(&[b"sendpulse", event_id.as_bytes()]),
        event_id,
        dedupe_window: Duration::from_secs(7 * 86_400),
        conversation: format!("5f0c7a9e{:012}", number / CONVERSATION),
        peer: "203.0.113.7".to_owned(),
        context: b"{}".to_vec(),
        body,
        born_dead: None,
        origin: None,
    }
}

/// Puts events, some at a time, and waits until all are answered.
fn put_all(spool: &Spool, numbers: std::ops::Range<u64>) -> Latencies {
    let waiting = Arc::new((Mutex::new((0_usize, Latencies::default())), Condvar::new()));
    for number in numbers {
        let (state, changed) = &*waiting;
        let state = state.lock().expect("nobody panics");
        let mut state =
            changed.wait_while(state, |(waiting, _)| *waiting >= IN_FLIGHT).expect("nobody panics");
        state.0 += 1;
        drop(state);
        let (began, told) = (Instant::now(), waiting.clone());
        spool.put(vec![event(number)], move |answer| {
            answer.expect("there is room");
            let mut state = told.0.lock().expect("nobody panics");
            state.0 -= 1;
            state.1.add(began.elapsed());
            told.1.notify_all();
        });
    }
    let (state, changed) = &*waiting;
    let state = state.lock().expect("nobody panics");
    let mut state = changed.wait_while(state, |(waiting, _)| *waiting > 0).expect("nobody panics");
    std::mem::take(&mut state.1)
}

fn fill(directory: &Path, events: u64) {
    let (spool, _) = open(directory);
    let (before, started) = (written_bytes(), Instant::now());
    let latencies = put_all(&spool, 0..events);
    let took = started.elapsed().as_secs_f64();
    let per_event = (written_bytes() - before) as f64 / events as f64;
    println!(
        "fill              {:.0} puts/s, put {latencies}, {per_event:.0} bytes written per event ({:.2} × body)",
        events as f64 / took,
        per_event / BODY_BYTES as f64
    );
    println!("                  {:.1} MiB resident, {:.0} MiB on disk", resident_mib(), disk_mib(directory));
    // No destructor runs.
    std::process::abort();
}

fn open_and_list(phase: &str, directory: &Path) {
    let (spool, told) = open(directory);
    let opened_mib = resident_mib();
    let (started, mut from, mut seen) = (Instant::now(), 0, 0);
    loop {
        let page = spool.entries(from).expect("the queue can be read");
        let Some((last, ..)) = page.last() else { break };
        (from, seen) = (last + 1, seen + page.len());
    }
    println!(
        "{phase:<17} {told}; {opened_mib:.1} MiB resident; {seen} listed in {:.2} s, then {:.1} MiB",
        started.elapsed().as_secs_f64(),
        resident_mib()
    );
    let started = Instant::now();
    drop(spool);
    println!("                  stopped in {:.2} s", started.elapsed().as_secs_f64());
}

/// Delivers what is due until there is nothing, or `stop` says so.
fn deliver(spool: &Spool, delivered: &AtomicU64, is_over: &AtomicBool) {
    let mut seen = 0;
    loop {
        match spool.lease_due().expect("the queue can be read") {
            Leased::One(lease) => {
                let at = lease.envelope.received_at;
                if spool.begin(lease.envelope.id, at, lease.ticket).is_err() {
                    spool.give_back(lease.envelope.id);
                    continue;
                }
                let conversation = lease.envelope.conversation_hash();
                let ran = Ran { at, took: Duration::from_millis(200) };
                let change = Change::Delivered { ticket: Some(lease.envelope.id), conversation, ran };
                spool.settle(lease.envelope.id, change).expect("the spool works");
                delivered.fetch_add(1, Ordering::Relaxed);
            }
            _ if is_over.load(Ordering::Relaxed) => return,
            _ => seen = spool.wait_for_work(seen, Duration::from_millis(100)),
        }
    }
}

/// The queue is copied into a new generation, although it does not pay, with a put every few milliseconds beside it.
fn renew(directory: &Path, events: u64) {
    let (spool, _) = open(directory);
    let (is_over, mut latencies) = (AtomicBool::new(false), Latencies::default());
    let (_never, pause) = std::sync::mpsc::channel::<()>();
    let started = Instant::now();
    let took = std::thread::scope(|scope| {
        let renewal = scope.spawn(|| {
            let renewed = spool.renew_queue();
            is_over.store(true, Ordering::Relaxed);
            renewed.expect("the queue works");
            started.elapsed()
        });
        // Numbers that no other phase uses.
        for number in 10 * events.. {
            let began = Instant::now();
            spool.put_and_wait(vec![event(number)]).expect("there is room");
            latencies.add(began.elapsed());
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let _ = pause.recv_timeout(Duration::from_millis(3));
        }
        renewal.join().expect("it ended well")
    });
    println!("renew             a new generation in {:.1} s, put beside it {latencies}", took.as_secs_f64());
}

/// A put every few milliseconds while the backlog goes.
fn drain(directory: &Path, events: u64) {
    let (spool, told) = open(directory);
    println!("drain             opened in {told}");
    let (delivered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut latencies = Latencies::default();
    let (before, started) = (written_bytes(), Instant::now());
    let (_never, pause) = std::sync::mpsc::channel::<()>();
    let mut put = events;
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| deliver(&spool, &delivered, &is_over));
        }
        while spool.counts().iter().map(|(.., count)| count).sum::<u64>() > 0 {
            let began = Instant::now();
            spool.put_and_wait(vec![event(put)]).expect("there is room");
            put += 1;
            latencies.add(began.elapsed());
            let _ = pause.recv_timeout(Duration::from_millis(3));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (took, count) = (started.elapsed().as_secs_f64(), delivered.load(Ordering::Relaxed));
    let per_event = (written_bytes() - before) as f64 / count as f64;
    println!(
        "                  {count} delivered in {took:.1} s, {per_event:.0} bytes written per event ({:.2} × body); {:.1} MiB resident",
        per_event / BODY_BYTES as f64,
        resident_mib()
    );
    println!("                  put beside it {latencies}");
    let (emptied, at_once) = (Instant::now(), disk_mib(directory));
    while disk_mib(directory) > DISK_GOAL_MIB && emptied.elapsed() < SHRINK {
        spool.put_and_wait(vec![event(put)]).expect("there is room");
        put += 1;
        let _ = pause.recv_timeout(Duration::from_millis(100));
    }
    println!(
        "                  {at_once:.0} MiB on disk at once, {:.0} MiB after {:.1} s",
        disk_mib(directory),
        emptied.elapsed().as_secs_f64()
    );
}

/// Events that are delivered as they come.
fn steady(directory: &Path, events: u64) {
    let (spool, _) = open(directory);
    let (delivered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (before, started) = (written_bytes(), Instant::now());
    let latencies = std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| deliver(&spool, &delivered, &is_over));
        }
        let latencies = put_all(&spool, 0..events);
        is_over.store(true, Ordering::Relaxed);
        latencies
    });
    let took = started.elapsed().as_secs_f64();
    let per_event = (written_bytes() - before) as f64 / events as f64;
    println!(
        "steady            {:.0} delivered/s, put {latencies}, {per_event:.0} bytes written per delivered event ({:.2} × body)",
        delivered.load(Ordering::Relaxed) as f64 / took,
        per_event / BODY_BYTES as f64
    );
}
