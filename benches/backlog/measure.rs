//! What is measured: latencies without keeping each, memory, bytes written, disk in use.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Buckets to each doubling.
const STEPS: usize = 8;
const BUCKETS: usize = 40 * STEPS;

/// How often which latency was met, to a tenth.
pub struct Latencies {
    buckets: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { buckets: vec![0; BUCKETS] }
    }
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        let micros = (took.as_micros() as f64).max(1.0);
        let bucket = (micros.log2() * STEPS as f64) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    fn millis_at(&self, share: f64) -> f64 {
        let wanted = (self.buckets.iter().sum::<u64>() as f64 * share).ceil().max(1.0) as u64;
        let mut met = 0;
        let bucket = self.buckets.iter().position(|count| {
            met += count;
            met >= wanted
        });
        bucket.map_or(f64::NAN, |bucket| 2_f64.powf((bucket + 1) as f64 / STEPS as f64) / 1000.0)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.buckets.iter().sum::<u64>();
        let (half, most, all) = (self.millis_at(0.5), self.millis_at(0.99), self.millis_at(1.0));
        write!(out, "p50 {half:.1} ms p99 {most:.1} ms most {all:.1} ms ({count})")
    }
}

/// Bytes this process caused to be written to disk.
pub fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Memory that is resident.
pub fn resident_mib() -> f64 {
    field("/proc/self/status", "VmRSS:") as f64 / 1024.0
}

fn field(path: &str, word: &str) -> u64 {
    let text = fs::read_to_string(path).expect("a file of the kernel's");
    let line = text.lines().find_map(|line| line.strip_prefix(word)).expect("a line of the kernel's");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of the kernel's")
}

/// MiB that a directory takes on disk, as `du` counts.
pub fn disk_mib(directory: &Path) -> f64 {
    fn blocks(path: &Path) -> u64 {
        // What goes while it is counted takes nothing.
        let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let below: u64 = if metadata.is_dir() { entries.map(|entry| blocks(&entry.path())).sum() } else { 0 };
        metadata.blocks() + below
    }
    (blocks(directory) * 512) as f64 / f64::from(1 << 20)
}

/// How busy the machine is.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
