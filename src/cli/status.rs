//! `deskspool status`: one screen. Exit 0 when nothing needs you.

use super::render::{Screen, Tone, numbers, seconds, table, words};
use super::{FINE, Global, NOT_FINE, Outcome};
use crate::status::Snapshot;

/// Longest reason that stands beside what is to be done about it.
const WHY_COLUMN_MAX: usize = 90;
/// Longest reason.
const WHY_CHARS_MAX: usize = 400;

/// Asks and prints.
pub fn run(global: &Global, screen: &mut Screen) -> Outcome {
    let answer = global.daemon().get("/status")?;
    let snapshot: Snapshot = serde_json::from_str(&answer)?;
    if global.json {
        screen.line(&answer)?;
    } else if !global.quiet {
        screen.print(&render(&snapshot, screen))?;
    }
    Ok(if snapshot.needs_you.is_empty() { FINE } else { NOT_FINE })
}

/// The screen.
pub fn render(snapshot: &Snapshot, screen: &Screen) -> String {
    let mut text = format!(
        "deskspool {}   up {}   config from {} ago\n\n",
        snapshot.version,
        seconds(snapshot.up_seconds),
        seconds(snapshot.config_age_seconds)
    );
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
        Some(reason) if reason.starts_with("paused") => screen.tone(Tone::Doubtful, &format!("{reason:<12}")),
        Some(reason) => screen.tone(Tone::Bad, &format!("{:<12}", format!("503: {reason}"))),
        None => screen.tone(Tone::Good, "receiving   "),
    };
    let delivery_word = match (delivery.paused_seconds, freshdesk.trouble_seconds) {
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
