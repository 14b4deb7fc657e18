//! Long work: a bar on a terminal, a line every ten seconds otherwise, objects with `--json`; and what interrupts it.
//!
//! Progress is talk and goes to stderr; only `--json` objects go to stdout, where that carries no data.

use super::render::seconds;
use super::{Failure, Global};
use crate::clock::{Clock, SystemClock};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Interrupted by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

const BAR_EVERY: Duration = Duration::from_millis(250);
const JSON_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The rate is that of so long.
const RATE_OVER: Duration = Duration::from_secs(60);
const BAR_CELLS: usize = 24;
/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Ctrl-C, and SIGTERM, as something to wait for.
pub struct Interrupts {
    pipe: UnixStream,
}

impl Interrupts {
    /// From now on they do not end the process.
    pub fn catch() -> Result<Interrupts, Failure> {
        let (pipe, write) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Interrupts { pipe })
    }

    /// Waits so long, or until interrupted; whether that happened.
    pub fn wait(&mut self, time: Duration) -> bool {
        // A timeout of zero would be none.
        let set = self.pipe.set_read_timeout(Some(time.max(Duration::from_millis(1))));
        set.is_ok() && matches!(self.pipe.read(&mut [0]), Ok(count) if count > 0)
    }
}

/// How many columns the terminal behind stderr or stdout has.
pub fn columns() -> usize {
    let size =
        rustix::termios::tcgetwinsize(io::stdout()).or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// Text cut to so many columns. Escapes take none.
pub fn cut(text: &str, columns: usize) -> String {
    let (mut cut, mut width, mut is_escape) = (String::new(), 0, false);
    for c in text.chars() {
        match (is_escape, c) {
            (_, '\x1b') => is_escape = true,
            (true, 'm') => is_escape = false,
            (true, _) => {}
            _ if width == columns => continue,
            _ => width += 1,
        }
        cut.push(c);
    }
    cut
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Bar,
    Lines,
    JsonOut,
    JsonErr,
    Silent,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is going on: `draining`.
    pub doing: &'a str,
    /// How many are done.
    pub done: u64,
    /// Of how many, if that is known.
    pub total: Option<u64>,
}

/// One piece of long work.
pub struct Progress {
    how: How,
    clock: Arc<SystemClock>,
    shown_at: Option<Duration>,
    samples: VecDeque<(Duration, u64)>,
    is_drawn: bool,
}

impl Progress {
    /// For a verb whose stdout carries data, or not.
    pub fn new(global: &Global, stdout_is_data: bool) -> Progress {
        let how = match (global.json, global.quiet) {
            (_, true) => How::Silent,
            (true, _) if stdout_is_data => How::JsonErr,
            (true, _) => How::JsonOut,
            _ if io::stderr().is_terminal() => How::Bar,
            _ => How::Lines,
        };
        let clock = SystemClock::new();
        // What is over in a moment needs no line.
        let shown_at = Some(clock.monotonic()).filter(|_| how != How::Bar);
        Progress { how, clock, shown_at, samples: VecDeque::new(), is_drawn: false }
    }

    /// Tells, unless it has just told.
    pub fn show(&mut self, step: Step<'_>) -> io::Result<()> {
        let now = self.clock.monotonic();
        self.sample(now, step.done);
        let every = match self.how {
            How::Bar => BAR_EVERY,
            How::Lines => LINE_EVERY,
            How::JsonOut | How::JsonErr => JSON_EVERY,
            How::Silent => return Ok(()),
        };
        if self.shown_at.is_some_and(|at| now.saturating_sub(at) < every) {
            return Ok(());
        }
        self.shown_at = Some(now);
        let rate = self.per_minute();
        match self.how {
            How::Bar => {
                self.is_drawn = true;
                let line = cut(&line(step, rate, true), columns().saturating_sub(1));
                write!(io::stderr(), "\r{line}\x1b[K")
            }
            How::Lines => writeln!(io::stderr(), "{}", line(step, rate, false)),
            How::JsonOut => writeln!(io::stdout(), "{}", object(step, rate)),
            How::JsonErr => writeln!(io::stderr(), "{}", object(step, rate)),
            How::Silent => Ok(()),
        }
    }

    /// Takes the bar away, so that something else can be said.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            // A terminal that went away needs no clearing.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn sample(&mut self, now: Duration, done: u64) {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= BAR_EVERY) {
            self.samples.push_back((now, done));
        }
        while self.samples.len() > 2
            && self.samples.front().is_some_and(|(at, _)| now.saturating_sub(*at) > RATE_OVER)
        {
            self.samples.pop_front();
        }
    }

    fn per_minute(&self) -> Option<u64> {
        let (first, last) = self.samples.front().zip(self.samples.back())?;
        let seconds = last.0.saturating_sub(first.0).as_secs_f64();
        let done = last.1.saturating_sub(first.1);
        (seconds >= 1.0 && done > 0).then(|| (done as f64 * 60.0 / seconds).round() as u64)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn seconds_left(step: Step<'_>, rate: Option<u64>) -> Option<u64> {
    let left = step.total?.saturating_sub(step.done);
    Some(left * 60 / rate.filter(|rate| *rate > 0)?)
}

/// `draining  ███████████████░░░░░░░░░  213 left of 640   48/min   about 4m30s`
fn line(step: Step<'_>, rate: Option<u64>, with_bar: bool) -> String {
    let mut line = format!("{}  ", step.doing);
    match step.total {
        Some(total) => {
            if with_bar {
                let cells = (step.done.min(total) * BAR_CELLS as u64).checked_div(total);
                let full = cells.map_or(BAR_CELLS, |cells| cells as usize);
                line.push_str(&format!("{}{}  ", "█".repeat(full), "░".repeat(BAR_CELLS - full)));
            }
            line.push_str(&format!("{} left of {total}", total.saturating_sub(step.done)));
        }
        None => line.push_str(&step.done.to_string()),
    }
    line.push_str(&rate.map(|rate| format!("   {rate}/min")).unwrap_or_default());
    let left = seconds_left(step, rate).filter(|left| *left > 0);
    line + &left.map(|left| format!("   about {}", seconds(left))).unwrap_or_default()
}

fn object(step: Step<'_>, rate: Option<u64>) -> serde_json::Value {
    json!({
        "progress": step.doing,
        "done": step.done,
        "total": step.total,
        "per_minute": rate,
        "seconds_left": seconds_left(step, rate),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_left_how_fast_and_how_long() {
        let step = Step { doing: "draining", done: 427, total: Some(640) };
        assert_eq!(line(step, Some(48), false), "draining  213 left of 640   48/min   about 4m26s");
        let bar = "████████████████░░░░░░░░";
        assert_eq!(line(step, None, true), format!("draining  {bar}  213 left of 640"));
        let unknown = Step { doing: "reading", done: 12, total: None };
        assert_eq!(line(unknown, None, true), "reading  12");
        let none = Step { doing: "draining", done: 0, total: Some(0) };
        assert!(line(none, None, true).contains(&"█".repeat(BAR_CELLS)));
    }

    #[test]
    fn escapes_take_no_columns() {
        assert_eq!(cut("ab\x1b[32mcd\x1b[0mef", 3), "ab\x1b[32mc\x1b[0m");
        assert_eq!(cut("añb", 2), "añ");
    }
}
