//! What the kernel knows: of this machine, and of a process.

use std::fs;
use std::path::Path;
use std::process::Child;

/// Clock ticks per second in `/proc/PID/stat`; Linux has had no other number for decades.
const TICKS: f64 = 100.0;

/// One line about processors and the file system of `directory`.
pub fn about(directory: &Path) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holds = mounts.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let (device, point, kind) = (words.first()?, words.get(1)?, words.get(2)?);
        directory.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
    });
    let system =
        holds.max_by_key(|(length, _)| *length).map_or("an unknown file system".to_owned(), |(_, is)| is);
    let warning = if system.starts_with("tmpfs") { "  (memory: the syncs cost nothing)" } else { "" };
    format!("{processors} processors, load {load} at the start; {system}{warning}")
}

/// A binary's size, and whether it is stripped.
pub fn binary(path: &Path) -> String {
    let bytes = fs::read(path).expect("the binary that was just run");
    let has_symbols = bytes.windows(8).any(|eight| eight == b".symtab\0");
    let stripped = if has_symbols { "not stripped" } else { "stripped" };
    format!("{:.2} MiB, {stripped}", bytes.len() as f64 / f64::from(1 << 20))
}

/// Memory that is resident.
pub fn resident_mib(process: &Child) -> f64 {
    number(process, "status", "VmRSS:") as f64 / 1024.0
}

/// Bytes it caused to be written to disk.
pub fn written_bytes(process: &Child) -> u64 {
    number(process, "io", "write_bytes:")
}

/// Times any of its threads gave up a processor because there was nothing to do.
pub fn context_switches(process: &Child) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).expect("a child of ours");
    tasks
        .flatten()
        .map(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
        })
        .sum()
}

/// Processor time, its own and the kernel's for it.
pub fn cpu_seconds(process: &Child) -> f64 {
    let stat = file(process, "stat");
    let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = numbers.skip(11).take(2).map(|word| word.parse::<u64>().unwrap_or(0)).sum();
    ticks as f64 / TICKS
}

fn number(process: &Child, name: &str, word: &str) -> u64 {
    field(&file(process, name), word).unwrap_or_else(|| panic!("{word} in /proc/PID/{name}"))
}

fn field(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn file(process: &Child, name: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{name}", process.id())).expect("a child of ours")
}
