//! What ties the daemon to systemd: sockets it passes, readiness, the status line, the watchdog, log priorities.
//!
//! Everything here does nothing when systemd did not start us.

mod repeats;
pub mod sockets;

use crate::clock::{Clock, SystemClock};
use crate::status::Snapshot;
use log::{Level, LevelFilter, Log, Metadata, Record};
use repeats::Repeats;
use sd_notify::NotifyState;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Target of records that are worth a notice (5), between warning and info.
const NOTICE_TARGET: &str = "deskspool::notice";
/// Libraries whose trace lines carry URLs and bodies of customers.
const TALKATIVE: [&str; 4] = ["ureq", "ureq_proto", "rustls", "sled"];

/// Tells systemd something. A failure is not worth stopping for: systemd's own timeouts will show it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("systemd not notified error={error}");
    }
}

/// The daemon is up.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon still waits for something before it is ready.
pub fn starting_takes(longer: Duration) {
    let microseconds = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Status("waiting for room on the disk"),
        NotifyState::ExtendTimeoutUsec(microseconds),
    ]);
}

/// The daemon reads its configuration again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("systemd not notified error={error}"),
    }
}

/// The daemon is going down.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The threads that matter are alive.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Shows one line in `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// How often systemd wants to hear that we are alive, if it does.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Whether anybody listens to what we tell.
pub fn is_notified() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The status line of a snapshot.
pub fn status_line(snapshot: &Snapshot) -> String {
    let spool = &snapshot.spool;
    let waiting = spool.queued + spool.in_flight + spool.deferred;
    if let Some(reason) = &snapshot.intake.refusing {
        let held = waiting + spool.held + spool.dead;
        let count = if reason == "spool full" { format!(" ({held})") } else { String::new() };
        return format!("{reason}{count}, platforms get 503 and keep their events; {waiting} waiting");
    }
    if let (Some(reason), Some(since)) = (&snapshot.freshdesk.reason, snapshot.freshdesk.trouble_seconds) {
        let next = crate::clock::spell(snapshot.freshdesk.next_probe_seconds.unwrap_or_default());
        let since = crate::clock::spell(since);
        return format!(
            "Freshdesk {} for {since} ({reason}); receiving normally, {waiting} waiting, next try in {next}",
            snapshot.freshdesk.state
        );
    }
    let oldest = spool.oldest_waiting_seconds.map(crate::clock::spell);
    let oldest = oldest.map(|oldest| format!(" (oldest {oldest})")).unwrap_or_default();
    let success = match snapshot.freshdesk.last_success_seconds {
        Some(seconds) => format!("freshdesk ok {} ago", crate::clock::spell(seconds)),
        None => "freshdesk not asked yet".to_owned(),
    };
    format!(
        "receiving {}/h, delivering {}/h; {waiting} waiting{oldest}, {} dead; {success}",
        snapshot.intake.per_hour, snapshot.delivery.per_hour, spool.dead
    )
}

/// Logs go to stderr: with `<n>` priorities under systemd, with time and level elsewhere.
/// `DESKSPOOL_LOG` sets what is logged, in `env_logger`'s words (`debug`, `deskspool::gate=debug`).
pub fn start_logging() {
    let for_journal =
        std::env::var_os("JOURNAL_STREAM").is_some() || std::env::var_os("INVOCATION_ID").is_some();
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info);
    if let Ok(filter) = std::env::var("DESKSPOOL_LOG") {
        builder.parse_filters(&filter);
    }
    for library in TALKATIVE {
        builder.filter_module(library, LevelFilter::Warn);
    }
    builder.format(move |out, record| write_record(out, record, for_journal));
    let inner = builder.build();
    let level = inner.filter();
    let logger = Logger { inner, repeats: Mutex::default(), clock: SystemClock::new(), for_journal };
    // A second start, as in tests, keeps the first.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes what is not too much of the same. Its `flush` writes the summaries that are due.
struct Logger {
    inner: env_logger::Logger,
    repeats: Mutex<Repeats>,
    clock: Arc<SystemClock>,
    for_journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        // One line per event and attempt is what the log is for; what needs attention may repeat.
        let may_repeat = record.level() <= Level::Warn;
        let is_admitted = !may_repeat || {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.admits(self.clock.monotonic(), priority_of(record), &record.args().to_string())
        };
        if is_admitted {
            self.inner.log(record);
        }
        self.flush();
    }

    fn flush(&self) {
        let due = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).due(self.clock.monotonic());
        for (priority, text) in due {
            // Nobody is left to be told that stderr is gone.
            let _ = write_line(&mut io::stderr(), priority, &text, self.for_journal);
        }
    }
}

fn write_record(out: &mut impl Write, record: &Record<'_>, for_journal: bool) -> io::Result<()> {
    let is_library = TALKATIVE.iter().any(|library| record.target().starts_with(library));
    if is_library && record.level() == Level::Trace {
        return Ok(());
    }
    write_line(out, priority_of(record), &record.args().to_string(), for_journal)
}

/// The journal's number for how much it matters.
fn priority_of(record: &Record<'_>) -> usize {
    match (record.target(), record.level()) {
        (NOTICE_TARGET, _) => 5,
        (_, Level::Error) => 3,
        (_, Level::Warn) => 4,
        (_, Level::Info) => 6,
        (_, Level::Debug | Level::Trace) => 7,
    }
}

fn write_line(out: &mut impl Write, priority: usize, text: &str, for_journal: bool) -> io::Result<()> {
    // One record is one line, whatever a reason brings along.
    let text = text.replace(['\n', '\r'], " ");
    if for_journal {
        return writeln!(out, "<{priority}>{text}");
    }
    let word = ["", "", "", "error", "warn", "notice", "info", "debug"][priority];
    writeln!(out, "{} {word:<6} {text}", out_time())
}

/// Log lines outside the journal carry their own time.
fn out_time() -> crate::clock::Timestamp {
    SystemClock::new().now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(target: &str, level: Level, text: &str) -> String {
        let mut out = Vec::new();
        write_record(
            &mut out,
            &Record::builder().target(target).level(level).args(format_args!("{text}")).build(),
            true,
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_carry_the_journals_priorities_on_one_line() {
        assert_eq!(
            written("deskspool::intake", Level::Info, "event accepted id=1"),
            "<6>event accepted id=1\n"
        );
        assert_eq!(written(NOTICE_TARGET, Level::Warn, "attempt deferred"), "<5>attempt deferred\n");
        assert_eq!(written("deskspool", Level::Error, "two\nlines"), "<3>two lines\n");
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.intake.per_hour = 41;
        snapshot.delivery.per_hour = 38;
        (snapshot.spool.queued, snapshot.spool.deferred, snapshot.spool.dead) = (2, 4, 5);
        snapshot.spool.oldest_waiting_seconds = Some(660);
        snapshot.freshdesk.state = "reachable".to_owned();
        snapshot.freshdesk.last_success_seconds = Some(12);
        snapshot
    }

    #[test]
    fn the_status_line_says_how_it_stands() {
        let check = |change: fn(&mut Snapshot), expect: &str| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            assert_eq!(status_line(&snapshot), expect);
        };
        check(
            |_| (),
            "receiving 41/h, delivering 38/h; 6 waiting (oldest 11m), 5 dead; freshdesk ok 12s ago",
        );
        check(
            |snapshot| {
                let freshdesk = &mut snapshot.freshdesk;
                freshdesk.state = "unreachable".to_owned();
                freshdesk.reason = Some("timeout".to_owned());
                (freshdesk.trouble_seconds, freshdesk.next_probe_seconds) = (Some(840), Some(60));
            },
            "Freshdesk unreachable for 14m (timeout); receiving normally, 6 waiting, next try in 1m",
        );
        check(
            |snapshot| snapshot.intake.refusing = Some("spool full".to_owned()),
            "spool full (11), platforms get 503 and keep their events; 6 waiting",
        );
    }

    #[test]
    fn libraries_that_talk_of_customers_are_not_traced() {
        assert_eq!(written("ureq::run", Level::Trace, "GET https://…?email=ana"), "");
    }
}
