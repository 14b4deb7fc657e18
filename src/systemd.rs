//! What ties the daemon to systemd: sockets it passes, readiness, the status line, the watchdog, log priorities.
//!
//! Everything here does nothing when systemd did not start us.

mod lines;
mod repeats;
pub mod sockets;

use crate::clock::{Clock, SystemClock};
use crate::status::Snapshot;
use lines::Form;
use log::{Level, LevelFilter, Log, Metadata, Record};
use repeats::Repeats;
use sd_notify::NotifyState;
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
    if let Some(paused) = snapshot.intake.refusing.as_ref().filter(|reason| reason.starts_with("paused")) {
        return format!("intake {paused}; platforms get 503 and keep their events; {waiting} waiting");
    }
    if let Some(reason) = &snapshot.intake.refusing {
        let held = waiting + spool.held + spool.dead;
        let count = if reason == "spool full" { format!(" ({held})") } else { String::new() };
        return format!("{reason}{count}, platforms get 503 and keep their events; {waiting} waiting");
    }
    if let Some(paused) = &snapshot.delivery.paused {
        let per_hour = snapshot.intake.per_hour;
        return format!("delivery {paused}; receiving {per_hour}/h, {waiting} waiting");
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

/// Logs go to the journal with fields when it is stderr (see `lines`), else to stderr.
///
/// `DESKSPOOL_LOG` sets what is logged: a list, separated by commas, of a level (`error`, `warn`, `info`, `debug`,
/// `trace`), of levels of parts (`deskspool::gate=debug`), and of the word `json`.
pub fn start_logging() {
    let wanted = std::env::var("DESKSPOOL_LOG").unwrap_or_default();
    let (form, filters): (Vec<&str>, Vec<&str>) = wanted.split(',').partition(|word| word.trim() == "json");
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info);
    builder.parse_filters(&filters.join(","));
    for library in TALKATIVE {
        builder.filter_module(library, LevelFilter::Warn);
    }
    let filter = builder.build();
    let level = filter.filter();
    let form = Form::of_stderr(!form.is_empty());
    let logger = Logger { filter, repeats: Mutex::default(), clock: SystemClock::new(), form };
    // A second start, as in tests, keeps the first.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes what is not too much of the same. Its `flush` writes the summaries that are due.
struct Logger {
    filter: env_logger::Logger,
    repeats: Mutex<Repeats>,
    clock: Arc<SystemClock>,
    form: Form,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) || is_customers(record.target(), record.level()) {
            return;
        }
        let (priority, text) = (priority_of(record.target(), record.level()), record.args().to_string());
        // One line per event and attempt is what the log is for; what needs attention may repeat.
        let is_admitted = record.level() > Level::Warn || {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.admits(self.clock.monotonic(), priority, &text)
        };
        if is_admitted {
            self.form.write(priority, &text, self.clock.now());
        }
        self.flush();
    }

    fn flush(&self) {
        let due = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).due(self.clock.monotonic());
        for (priority, text) in due {
            self.form.write(priority, &text, self.clock.now());
        }
    }
}

/// Libraries trace what customers wrote.
fn is_customers(target: &str, level: Level) -> bool {
    level == Level::Trace && TALKATIVE.iter().any(|library| target.starts_with(library))
}

/// The journal's number for how much it matters.
fn priority_of(target: &str, level: Level) -> usize {
    match (target, level) {
        (NOTICE_TARGET, _) => 5,
        (_, Level::Error) => 3,
        (_, Level::Warn) => 4,
        (_, Level::Info) => 6,
        (_, Level::Debug | Level::Trace) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_the_journals_priorities() {
        let check =
            |target, level, expect| assert_eq!(priority_of(target, level), expect, "{target} {level}");
        check("deskspool::intake", Level::Info, 6);
        check(NOTICE_TARGET, Level::Warn, 5);
        check("deskspool", Level::Error, 3);
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
        check(
            |snapshot| snapshot.intake.refusing = Some("paused by ana: migrating, resumes in 2h".to_owned()),
            "intake paused by ana: migrating, resumes in 2h; platforms get 503 and keep their events; 6 waiting",
        );
        check(
            |snapshot| snapshot.delivery.paused = Some("paused: new account".to_owned()),
            "delivery paused: new account; receiving 41/h, 6 waiting",
        );
    }

    #[test]
    fn libraries_that_talk_of_customers_are_not_traced() {
        assert!(is_customers("ureq::run", Level::Trace));
        assert!(!is_customers("ureq::run", Level::Warn) && !is_customers("deskspool::gate", Level::Trace));
    }
}
