//! `deskspool drain`: intake is paused, and what waits is delivered, before a host is moved.

use super::aside::pause_target;
use super::progress::{INTERRUPTED, Interrupts, Progress, Step};
use super::render::{Screen, seconds};
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::clock::{Clock, SystemClock};
use crate::config::units::parse_duration;
use crate::control::client::Daemon;
use crate::control::view::Aside;
use crate::status::Snapshot;
use clap::Args;
use serde_json::json;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Shown by `status` while intake is paused.
const REASON: &str = "draining";

/// `deskspool drain`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DrainArgs {
    /// Give up waiting after so long: 90s, 15m, 2h [default: wait until it is empty]
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  deskspool drain                              pause intake, wait until everything is delivered
  deskspool drain --timeout 10m && systemctl stop deskspool
  deskspool resume intake                      go on as before

Held and dead envelopes are not waited for. However it ends, intake stays paused, also across a
restart, until it is resumed: platforms get 503 and keep their events meanwhile.
--json: {\"progress\":\"draining\",\"done\":N,\"total\":N,\"per_minute\":N,\"seconds_left\":N} each second,
then {\"empty\":BOOL,\"left\":N,\"held\":N,\"dead\":N,\"intake\":\"paused\"}
Exit codes: 0 empty, 1 not empty when the time was over, 3 daemon not reachable, 130 interrupted.";

/// How the wait ended.
enum Ended {
    Empty,
    TimeOver,
    Interrupted,
}

/// Pauses, waits, tells.
pub fn run(global: &Global, args: &DrainArgs, screen: &mut Screen) -> Outcome {
    let timeout = args.timeout.as_deref().map(|text| {
        let wrong =
            || Failure::Usage(format!("--timeout {text}: expected a duration such as 90s, 15m or 2h"));
        parse_duration(text).ok_or_else(wrong)
    });
    let timeout = timeout.transpose()?;
    let daemon = global.daemon();
    let mut interrupts = Interrupts::catch()?;
    pause(global, &daemon)?;
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let mut progress = Progress::new(global, false);
    let mut snapshot = look(&daemon)?;
    if let Some(said) = snapshot.delivery.paused.as_ref().filter(|_| !global.quiet) {
        eprintln!("delivery is {said}: nothing leaves until  deskspool resume delivery");
    }
    let mut most = 0;
    let ended = loop {
        let left = waiting(&snapshot);
        most = most.max(left);
        if left == 0 {
            break Ended::Empty;
        }
        progress.show(Step { doing: "draining", done: most - left, total: Some(most) })?;
        if timeout.is_some_and(|timeout| clock.monotonic().saturating_sub(started) >= timeout) {
            break Ended::TimeOver;
        }
        if interrupts.wait(LOOK_EVERY) {
            break Ended::Interrupted;
        }
        snapshot = look(&daemon)?;
    };
    progress.clear();
    tell(global, (&ended, &snapshot, timeout), screen)?;
    Ok(match ended {
        Ended::Empty => FINE,
        Ended::TimeOver => NOT_FINE,
        Ended::Interrupted => INTERRUPTED,
    })
}

/// One that ends by itself would end the draining, too: it is replaced.
fn pause(global: &Global, daemon: &Daemon) -> Result<(), Failure> {
    let snapshot = look(daemon)?;
    let lasts = |said: &str| said.starts_with("paused") && !said.contains(", resumes in ");
    let text = match snapshot.intake.refusing.as_deref() {
        Some(said) if lasts(said) => format!("intake is {said} already"),
        _ => {
            let aside = Aside { what: "intake".to_owned(), reason: REASON.to_owned(), ..Aside::default() };
            let answer = daemon.post(&pause_target(), &serde_json::to_string(&aside)?)?;
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            answer["text"].as_str().unwrap_or_default().to_owned()
        }
    };
    if !global.quiet && !global.json {
        eprintln!("{text}");
    }
    Ok(())
}

fn look(daemon: &Daemon) -> Result<Snapshot, Failure> {
    Ok(serde_json::from_str(&daemon.get("/status")?)?)
}

fn waiting(snapshot: &Snapshot) -> u64 {
    let spool = &snapshot.spool;
    spool.queued + spool.deferred + spool.in_flight
}

fn tell(
    global: &Global,
    (ended, snapshot, timeout): (&Ended, &Snapshot, Option<Duration>),
    screen: &mut Screen,
) -> Result<(), Failure> {
    let (left, spool) = (waiting(snapshot), &snapshot.spool);
    if global.json {
        let is_empty = matches!(ended, Ended::Empty);
        let object = json!({ "empty": is_empty, "left": left, "held": spool.held, "dead": spool.dead, "intake": "paused" });
        return Ok(screen.line(&object.to_string())?);
    }
    if global.quiet {
        return Ok(());
    }
    let what = match ended {
        Ended::Empty => "empty: everything that waited is delivered".to_owned(),
        Ended::TimeOver => {
            let after = seconds(timeout.unwrap_or_default().as_secs());
            format!("not empty after {after}: {left} left (deskspool queue), and delivery goes on")
        }
        Ended::Interrupted => format!("interrupted: {left} left, and delivery goes on"),
    };
    screen.line(&what)?;
    if spool.held + spool.dead > 0 {
        let (held, dead) = (spool.held, spool.dead);
        screen.line(&format!("{held} held and {dead} dead stay: deskspool queue --state held,dead"))?;
    }
    screen.line("intake stays paused, platforms keep their events: deskspool resume intake")?;
    Ok(())
}
