//! `deskspool serve`: the daemon in the foreground, until SIGTERM or SIGINT. SIGHUP reads the
//! configuration again.

use super::probe::PROBE_VERB;
use super::{FINE, Global, NOT_FINE, Outcome};
use crate::clock::{SystemClock, Timestamp};
use crate::config::Surroundings;
use crate::daemon::{self, Daemon, Loaded, Places, StartError};
use crate::spool::{Probe, Recovery};
use crate::systemd::{self, sockets::Sockets};
use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How often the line in `systemctl status` is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often a start on a full disk is tried.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long the watchdog waits for intake to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Tests only: the time it is when the daemon starts, in seconds since 1970; it goes on from there
    #[arg(long, hide = true, value_name = "SECONDS")]
    clock: Option<u64>,
}

/// Runs the daemon.
pub fn run(global: &Global, args: &ServeArgs) -> Outcome {
    systemd::start_logging();
    let loaded = daemon::load(&global.config, &Surroundings::of_process());
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => {
            eprint!("{}", daemon::lines(&findings));
            return Ok(NOT_FINE);
        }
    };
    for warning in &loaded.warnings {
        log::warn!("{}: {}", warning.key, warning.what);
    }
    let places =
        places(global, &loaded.config.spool.dir, systemd::sockets::passed().map_err(anyhow::Error::from)?);
    // Before any thread is started, so that none of them gets a signal that was meant for us.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals cannot be received")?;
    let clock = SystemClock::set_to(args.clock.map(|seconds| Timestamp(seconds.saturating_mul(1000))));
    let started = start(loaded, (global, &clock), &places, &mut signals)?;
    let Some((daemon, recovery)) = started else { return Ok(FINE) };
    log_recovery(&recovery);
    log_addresses(&daemon, &places);
    let (still_up, down) = channel();
    let teller = tell_systemd(&daemon, down).context("no thread to be had")?;
    systemd::ready();
    for signal in signals.forever() {
        if signal == SIGHUP {
            systemd::reloading();
            // Why it was not applied is in the log already.
            let _ = daemon.reload();
            systemd::ready();
            continue;
        }
        log::info!("stopping signal={signal}");
        break;
    }
    systemd::stopping();
    drop(still_up);
    if let Some(teller) = teller {
        // It panicked only if it has said so.
        let _ = teller.join();
    }
    daemon.stop();
    drop(daemon);
    log::info!("stopped");
    Ok(FINE)
}

/// Starts the daemon; on a full disk, as soon as there is room. None when a signal said to stop before that.
fn start(
    mut loaded: Loaded,
    (global, clock): (&Global, &Arc<SystemClock>),
    places: &Places,
    signals: &mut Signals,
) -> anyhow::Result<Option<(Arc<Daemon>, Recovery)>> {
    loop {
        match Daemon::start(loaded, places, clock.clone(), broken_for_good) {
            Err(StartError::Spool(error)) if error.is_full() => {
                log::error!(
                    "not started error={:?} next=\"free some space; tried every second\"",
                    error.to_string()
                );
            }
            started => return Ok(Some(started?)),
        }
        let (_never, room) = channel::<()>();
        let _ = room.recv_timeout(TRY_EVERY);
        systemd::starting_takes(TRY_EVERY * 30);
        if signals.pending().any(|signal| signal != SIGHUP) {
            return Ok(None);
        }
        loaded = match daemon::load(&global.config, &Surroundings::of_process()) {
            Ok(loaded) => loaded,
            Err(findings) => anyhow::bail!("{}", daemon::lines(&findings)),
        };
    }
}

/// tiny_http accepts no more, or the spool cannot be written: only a new process helps, and the spool does not mind.
fn broken_for_good(why: &str) {
    log::error!("broken for good error={why:?} next=\"systemd restarts deskspool\"");
    std::process::exit(1);
}

/// Under systemd the sockets are in the runtime directory, else in the spool.
fn places(global: &Global, spool: &Path, passed: Sockets) -> Places {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    // The spool makes its own directory, for nobody else to read; systemd made the other.
    let base = runtime.unwrap_or_else(|| spool.to_path_buf());
    let control = global.socket.clone().unwrap_or_else(|| base.join("control.sock"));
    let probe = Probe::of_this_executable(PROBE_VERB);
    if let Err(error) = &probe {
        log::warn!("queue is not probed error={:?}", error.to_string());
    }
    Places { control, private: base.join("gate"), probe: probe.ok(), passed }
}

fn log_addresses(daemon: &Daemon, places: &Places) {
    let list = |all: Vec<std::net::SocketAddr>| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        if all.is_empty() { "off".to_owned() } else { all.join(",") }
    };
    let (listen, page) = (list(daemon.addresses()), list(daemon.page_addresses()));
    for (key, address, passed) in [
        ("server.listen", &listen, &places.passed.server),
        ("status_page.listen", &page, &places.passed.status_page),
    ] {
        if !passed.is_empty() {
            log::info!("systemd listens address={address} effect=\"{key} is ignored\"");
        }
    }
    log::info!(
        "deskspool {} is up pid={} listen={listen} page={page} control={:?}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        places.control
    );
}

fn log_recovery(recovery: &Recovery) {
    if let Some(aside) = &recovery.queue_set_aside {
        log::error!("queue was unreadable and is rebuilt kept={aside}");
    }
    for id in &recovery.lost {
        log::error!("envelope dead id={id} reason=\"its record is damaged, its text is lost\"");
    }
    for (segment, range) in &recovery.damaged {
        log::error!("journal damaged segment={segment} bytes={}..{}", range.start, range.end);
    }
    log::info!(
        "spool open waiting={} mended={} removed={} torn_bytes={}",
        recovery.waiting,
        recovery.mended,
        recovery.removed,
        recovery.torn_bytes
    );
}

/// Keeps systemd informed from a thread of its own, if it wants to be.
fn tell_systemd(
    daemon: &Arc<Daemon>,
    down: Receiver<()>,
) -> std::io::Result<Option<std::thread::JoinHandle<()>>> {
    if !systemd::is_notified() {
        return Ok(None);
    }
    let daemon = daemon.clone();
    let every = systemd::watchdog().map_or(STATUS_EVERY, |watchdog| STATUS_EVERY.min(watchdog / 2));
    let thread = std::thread::Builder::new().name("systemd".to_owned());
    let life = move || {
        while down.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if daemon.answers(ANSWER_WITHIN) {
                systemd::alive();
            }
            if let Ok(snapshot) = daemon.snapshot() {
                systemd::status(&systemd::status_line(&snapshot));
            }
        }
    };
    thread.spawn(life).map(Some)
}
