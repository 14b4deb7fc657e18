//! `deskspool status`: one screen. Exit 0 when nothing needs you.

use super::progress::{INTERRUPTED, Interrupts, columns, cut};
use super::render::{Screen, Tone, numbers, seconds, table, words};
use super::{FINE, Failure, Global, NOT_FINE, NOT_REACHABLE, Outcome};
use crate::control::client::AskError;
use crate::status::Snapshot;
use clap::Args;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Longest reason that stands beside what is to be done about it.
const WHY_COLUMN_MAX: usize = 90;
/// Longest reason.
const WHY_CHARS_MAX: usize = 400;

/// How often the screen is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// The other screen, and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with a cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// `deskspool status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Draw it again each second, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  deskspool status
  deskspool status --watch
  deskspool status --json | jq .needs_you      with --watch one object per second

Without a daemon it is told from the spool, which needs root or the user deskspool.
--json: {\"version\":…,\"pid\":N,\"up_seconds\":N,\"config_age_seconds\":N,
  \"intake\":{\"refusing\":…,\"per_hour\":N,\"last_event_seconds\":N},
  \"delivery\":{\"per_hour\":N,\"median_seconds\":N,\"paused_seconds\":N,\"paused\":…},
  \"freshdesk\":{\"account\":…,\"state\":…,\"reason\":…,\"trouble_seconds\":N,\"next_probe_seconds\":N,
    \"last_success_seconds\":N,\"calls_left\":N,\"calls_total\":N},
  \"spool\":{\"queued\":N,\"in_flight\":N,\"deferred\":N,\"held\":N,\"dead\":N,\"oldest_waiting_seconds\":N,\"bytes\":N,
    \"envelopes_max\":N,\"bytes_max\":N},
  \"sources\":[{\"name\":…,\"last_event_seconds\":N,\"accepted\":N,\"delivered\":N,\"filtered\":N,\"duplicate\":N,
    \"refused\":N,\"waiting\":N,\"dead\":N}],
  \"needs_you\":[{\"count\":N,\"what\":…,\"why\":…,\"next\":…}], \"read_from\":… when no daemon runs}
Exit codes: 0 nothing needs you, 1 something does, 3 the daemon is not running, 130 interrupted.";

/// Asks and prints, once or again and again.
pub fn run(global: &Global, args: &StatusArgs, screen: &mut Screen) -> Outcome {
    if args.watch { watch(global, screen) } else { once(global, screen) }
}

/// Gives the terminal back as it was, however it ends.
struct OtherScreen(bool);

impl OtherScreen {
    fn enter(screen: &mut Screen) -> io::Result<OtherScreen> {
        let is_terminal = io::stdout().is_terminal();
        if is_terminal {
            screen.print(ENTER)?;
        }
        Ok(OtherScreen(is_terminal))
    }
}

impl Drop for OtherScreen {
    fn drop(&mut self) {
        if self.0 {
            // A terminal that is gone needs nothing.
            let _ = Screen::new("never").print(LEAVE);
        }
    }
}

fn watch(global: &Global, screen: &mut Screen) -> Outcome {
    let daemon = global.daemon();
    let mut interrupts = Interrupts::catch()?;
    let other = OtherScreen::enter(screen)?;
    loop {
        // One that is restarted comes back; one that we may not ask will not let us.
        let text = match daemon.get("/status") {
            Ok(answer) if global.json => answer + "\n",
            Ok(answer) => render(&serde_json::from_str(&answer)?, screen),
            Err(AskError::Refused { reason, .. }) => format!("{reason}\n"),
            Err(error @ AskError::Denied(_)) => return Err(Failure::Ask(error)),
            Err(error) if global.json => serde_json::json!({ "error": error.to_string() }).to_string() + "\n",
            Err(error) => format!("{error}\nasking each second until it is; Ctrl-C ends\n"),
        };
        screen.print(&if other.0 && !global.json { frame(&text, columns(), rows()) } else { text })?;
        if interrupts.wait(DRAW_EVERY) {
            return Ok(INTERRUPTED);
        }
    }
}

fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(24)
}

/// The text from the top left corner on, over what was there, without scrolling.
fn frame(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_long = lines.len() > rows;
    let shown = lines.iter().take(if is_long { rows - 1 } else { rows });
    let mut frame: Vec<String> = shown.map(|line| cut(line, columns) + "\x1b[0m\x1b[K").collect();
    if is_long {
        frame.push(
            cut(&format!("… {} more lines: deskspool status", lines.len() + 1 - rows), columns) + "\x1b[K",
        );
    }
    format!("\x1b[H{}\x1b[J", frame.join("\r\n"))
}

fn once(global: &Global, screen: &mut Screen) -> Outcome {
    let mut answerer = global.answerer();
    let answer = answerer.get("/status")?;
    let snapshot: Snapshot = serde_json::from_str(&answer)?;
    if global.json {
        screen.line(&answer)?;
    } else if !global.quiet {
        screen.print(&render(&snapshot, screen))?;
    }
    if answerer.is_at_rest() {
        return Ok(NOT_REACHABLE);
    }
    Ok(if snapshot.needs_you.is_empty() { FINE } else { NOT_FINE })
}

/// The screen.
pub fn render(snapshot: &Snapshot, screen: &Screen) -> String {
    let (up, configured) = (seconds(snapshot.up_seconds), seconds(snapshot.config_age_seconds));
    let how = match &snapshot.read_from {
        Some(directory) => format!("not running; read from {directory}"),
        None => format!("up {up}   config from {configured} ago"),
    };
    let mut text = format!("deskspool {}   {how}\n\n", snapshot.version);
    text.push_str(&rooms(snapshot, screen));
    let spool = &snapshot.spool;
    let oldest = spool.oldest_waiting_seconds.map(|age| format!("       oldest waiting {}", seconds(age)));
    text.push_str(&format!(
        "\n  queued {}   in-flight {}   deferred {}   held {}   dead {}{}\n\n",
        spool.queued,
        spool.in_flight,
        spool.deferred,
        spool.held,
        spool.dead,
        oldest.unwrap_or_default()
    ));
    text.push_str(&sources(snapshot));
    text.push_str(&needs(snapshot, screen));
    text
}

fn rooms(snapshot: &Snapshot, screen: &Screen) -> String {
    let (intake, delivery, freshdesk) = (&snapshot.intake, &snapshot.delivery, &snapshot.freshdesk);
    let intake_word = match &intake.refusing {
        Some(_) if snapshot.read_from.is_some() => screen.tone(Tone::Bad, "stopped     "),
        Some(reason) if reason.starts_with("paused") => screen.tone(Tone::Doubtful, &format!("{reason:<12}")),
        Some(reason) => screen.tone(Tone::Bad, &format!("{:<12}", format!("503: {reason}"))),
        None => screen.tone(Tone::Good, "receiving   "),
    };
    let delivery_word = match (delivery.paused_seconds, freshdesk.trouble_seconds) {
        _ if snapshot.read_from.is_some() => screen.tone(Tone::Bad, "stopped     "),
        _ if delivery.paused.is_some() => {
            let said = delivery.paused.as_deref().unwrap_or_default();
            screen.tone(Tone::Doubtful, &format!("{said:<12}"))
        }
        (0, None) => screen.tone(Tone::Good, "running     "),
        (0, Some(_)) => screen.tone(Tone::Bad, "waiting     "),
        (paused, _) => screen.tone(Tone::Doubtful, &format!("{:<12}", format!("paused {}", seconds(paused)))),
    };
    let freshdesk_word = match freshdesk.state.as_str() {
        "reachable" => screen.tone(Tone::Good, "reachable   "),
        "not asked yet" => screen.tone(Tone::Dim, "not asked yet"),
        other => screen.tone(Tone::Bad, &format!("{other:<12}")),
    };
    let last_event = match intake.last_event_seconds {
        Some(age) => format!("last event {} ago", seconds(age)),
        None => "no event yet".to_owned(),
    };
    let median = delivery
        .median_seconds
        .map(|median| format!("{median:.1}s from event to ticket (median, last hour)"));
    let mut facts = Vec::new();
    facts.extend(freshdesk.last_success_seconds.map(|age| format!("last success {} ago", seconds(age))));
    if let (Some(left), Some(total)) = (freshdesk.calls_left, freshdesk.calls_total) {
        facts.push(format!("{left} of {total} calls left this minute"));
    }
    if let (Some(reason), Some(since)) = (&freshdesk.reason, freshdesk.trouble_seconds) {
        let next = seconds(freshdesk.next_probe_seconds.unwrap_or_default());
        facts.push(format!("for {}: {reason}, next try in {next}", seconds(since)));
    }
    let passed = intake.passed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let by = if passed.is_empty() { String::new() } else { format!(", systemd listens on {passed} for it") };
    let mut text = format!("  intake     {intake_word} {:>4}/h     {last_event}{by}\n", intake.per_hour);
    let line =
        format!("  delivery   {delivery_word} {:>4}/h     {}", delivery.per_hour, median.unwrap_or_default());
    text.push_str(line.trim_end());
    text.push('\n');
    let line = format!("  freshdesk  {freshdesk_word} {:<10} {}", freshdesk.account, facts.join(", "));
    text.push_str(line.trim_end());
    text.push('\n');
    text
}

fn sources(snapshot: &Snapshot) -> String {
    if snapshot.sources.is_empty() {
        return "no source is configured: add [source.sendpulse] to the configuration\n".to_owned();
    }
    let columns = [
        words("SOURCE"),
        words("LAST"),
        numbers("24H IN"),
        numbers("DELIVERED"),
        numbers("FILTERED"),
        numbers("DUPLICATE"),
        numbers("REFUSED"),
        numbers("WAITING"),
        numbers("DEAD"),
    ];
    let rows = snapshot.sources.iter().map(|source| {
        let last = source.last_event_seconds.map_or_else(|| "never".to_owned(), seconds);
        let counts = [
            source.accepted,
            source.delivered,
            source.filtered,
            source.duplicate,
            source.refused,
            source.waiting,
            source.dead,
        ];
        [source.name.clone(), last].into_iter().chain(counts.map(|count| count.to_string())).collect()
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

fn needs(snapshot: &Snapshot, screen: &Screen) -> String {
    if snapshot.needs_you.is_empty() {
        return format!("\n{}\n", screen.tone(Tone::Good, "nothing needs you"));
    }
    let mut text = format!("\n{}\n", screen.tone(Tone::Bad, "needs you"));
    let whys: Vec<String> =
        snapshot.needs_you.iter().map(|need| super::render::one_line(&need.why, WHY_CHARS_MAX)).collect();
    let fits = whys.iter().map(|why| why.chars().count()).filter(|width| *width <= WHY_COLUMN_MAX);
    let width = fits.max().unwrap_or_default();
    for (need, why) in snapshot.needs_you.iter().zip(&whys) {
        let what = format!("{} {}", need.count, need.what);
        // A long reason is not cut: what is to be done stands below it then.
        let gap = match width.checked_sub(why.chars().count()) {
            Some(pad) => " ".repeat(pad + 3),
            None => format!("\n  {:<11}   ", ""),
        };
        text.push_str(&format!("  {what:<11} {why}{gap}{}\n", need.next));
    }
    text
}
