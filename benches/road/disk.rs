//! What the disk allows: the bodies of the posts appended to a file and synced, without any HTTP.

use super::load::{BODY_BYTES, Pass, Post};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// One writer, one `fdatasync` for every event.
pub fn sync_per_event(directory: &Path, seconds: f64) -> Pass {
    let file = fresh(directory);
    let mut post = a_post();
    let (started, took) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut latencies = Vec::new();
    while started.elapsed() < took {
        let (number, began) = (latencies.len() as u64, Instant::now());
        append(&file, number * BODY_BYTES as u64, post.body(number));
        latencies.push(began.elapsed().as_nanos() as u64);
    }
    Pass::new(started.elapsed(), latencies, 0)
}

/// What the writers of a group share.
#[derive(Default)]
struct Groups {
    waiting: Vec<u8>,
    /// Number of the group that is being filled.
    open: u64,
    /// Groups that are on disk: all below this number.
    durable: u64,
    is_over: bool,
}

/// Many writers that wait together, one `fdatasync` for all that came while the last one ran.
pub fn sync_per_group(directory: &Path, writers: usize, seconds: f64) -> Pass {
    let file = fresh(directory);
    let (groups, filled, synced) = (Mutex::new(Groups::default()), Condvar::new(), Condvar::new());
    let (started, took) = (Instant::now(), Duration::from_secs_f64(seconds));
    let write = |writer: usize| {
        let (mut post, mut latencies) = (a_post(), Vec::new());
        while started.elapsed() < took {
            let began = Instant::now();
            let body = post.body((writer * 1_000_000 + latencies.len()) as u64);
            let mut groups = groups.lock().expect("nobody panics");
            groups.waiting.extend_from_slice(body);
            let mine = groups.open;
            filled.notify_one();
            drop(synced.wait_while(groups, |groups| groups.durable <= mine).expect("nobody panics"));
            latencies.push(began.elapsed().as_nanos() as u64);
        }
        latencies
    };
    let commit = || {
        let mut offset = 0;
        loop {
            let waiting = groups.lock().expect("nobody panics");
            let idle = |groups: &mut Groups| groups.waiting.is_empty() && !groups.is_over;
            let mut waiting = filled.wait_while(waiting, idle).expect("nobody panics");
            if waiting.waiting.is_empty() {
                return;
            }
            let group = std::mem::take(&mut waiting.waiting);
            waiting.open += 1;
            drop(waiting);
            append(&file, offset, &group);
            offset += group.len() as u64;
            groups.lock().expect("nobody panics").durable += 1;
            synced.notify_all();
        }
    };
    let latencies = thread::scope(|scope| {
        let committer = scope.spawn(commit);
        let write = &write;
        let writers: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        let latencies: Vec<u64> =
            writers.into_iter().flat_map(|writer| writer.join().expect("nobody panics")).collect();
        groups.lock().expect("nobody panics").is_over = true;
        filled.notify_one();
        committer.join().expect("nobody panics");
        latencies
    });
    Pass::new(started.elapsed(), latencies, 0)
}

fn append(file: &File, offset: u64, bytes: &[u8]) {
    file.write_all_at(bytes, offset).and_then(|()| file.sync_data()).expect("the disk takes it");
}

fn a_post() -> Post {
    Post::new(SocketAddr::from(([127, 0, 0, 1], 1)))
}

/// A file that is gone when it is closed.
fn fresh(directory: &Path) -> File {
    tempfile::tempfile_in(directory).expect("a file in the directory of the bench")
}
