//! A child's stderr, line by line, as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that a failing test shows.
const TAIL_LINES: usize = 40;

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

/// What a child has said so far.
#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

impl Log {
    /// Reads `stream` to its end on a thread of its own.
    pub fn of(stream: impl Read + Send + 'static) -> Log {
        let log = Log::default();
        let writing = log.clone();
        let read = move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            // A terminal's end is an error, and what came before it counts.
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) || !line.is_empty() {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                writing.change(|lines| lines.lines.push(text));
                line.clear();
            }
            writing.change(|lines| lines.ended = true);
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(read).expect("a thread is to be had");
        log
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lines());
        self.shared.1.notify_all();
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.lines().lines.clone()
    }

    /// The first line, from line `from` on, that contains `text`; none when the child has ended without it or
    /// `deadline` is over.
    pub fn wait_for(&self, text: &str, from: usize, deadline: Duration) -> Option<String> {
        let find = |lines: &Lines| lines.lines.iter().skip(from).find(|line| line.contains(text)).cloned();
        let waiting = |lines: &mut Lines| !lines.ended && find(lines).is_none();
        let waited = self.shared.1.wait_timeout_while(self.lines(), deadline, waiting);
        find(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Waits for the next line, but not long.
    pub fn wait_a_moment(&self) {
        let count = self.lines().lines.len();
        let unchanged = |lines: &mut Lines| !lines.ended && lines.lines.len() == count;
        // Whether anything came is for the caller to see.
        let _ = self.shared.1.wait_timeout_while(self.lines(), Duration::from_millis(50), unchanged);
    }

    /// Waits until the stream has ended; whether it has.
    pub fn wait_for_end(&self, deadline: Duration) -> bool {
        let waited = self.shared.1.wait_timeout_while(self.lines(), deadline, |lines| !lines.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let from = lines.lines.len().saturating_sub(TAIL_LINES);
        lines.lines[from..].join("\n")
    }
}
