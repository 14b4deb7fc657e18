//! `deskspool queue`: what is waiting, and what was given up.

use super::render::{Screen, numbers, one_line, seconds, table, words};
use super::{FINE, FilterArgs, Global, Outcome};
use crate::control::view::Row;
use crate::status::Snapshot;

/// Widest customer text in a row.
const CUSTOMER_CHARS_MAX: usize = 24;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  deskspool queue
  deskspool queue --state dead --since 2d
  deskspool queue --json | jq -r 'select(.attempts > 3) | .id'

Without a daemon it is read from the spool, which needs root or the user deskspool.
--json, one per line: {\"id\":N,\"state\":…,\"source\":…,\"conversation\":…,\"requester\":…,\"event\":…,\"received_at\":…,
  \"age_seconds\":N,\"attempts\":N,\"due_at\":…,\"due_seconds\":N,\"waits_for\":N,\"last_error\":…,\"ticket\":N}
Exit codes: 0 fine, 2 usage, 3 neither daemon nor spool can be read.";

/// Asks and prints.
pub fn run(global: &Global, args: &FilterArgs, screen: &mut Screen) -> Outcome {
    let filter = args.filter()?;
    let mut answerer = global.answerer();
    let answer = answerer.get(&format!("/queue?{}", args.query()))?;
    if global.json {
        screen.print(&answer)?;
        return Ok(FINE);
    }
    let rows = answer.lines().map(serde_json::from_str).collect::<Result<Vec<Row>, _>>()?;
    let everything = filter.is_empty();
    let shown: Vec<&Row> = rows.iter().filter(|row| !everything || row.state != "dead").collect();
    if everything && shown.is_empty() {
        let snapshot: Snapshot = serde_json::from_str(&answerer.get("/status")?)?;
        screen.line(&empty(&snapshot))?;
    } else if shown.is_empty() {
        screen.line("nothing matches")?;
    } else {
        screen.print(&listing(&shown))?;
    }
    if global.quiet || !everything {
        return Ok(FINE);
    }
    let oldest = shown.iter().map(|row| row.age_seconds).max();
    let dead = rows.len() - shown.len();
    let mut sums = Vec::new();
    sums.extend(oldest.map(|oldest| format!("{} waiting, oldest {}.", shown.len(), seconds(oldest))));
    if dead > 0 {
        sums.push(format!("{dead} dead not shown: deskspool queue --state dead"));
    }
    if !sums.is_empty() {
        screen.line(&sums.join(" "))?;
    }
    Ok(FINE)
}

fn empty(snapshot: &Snapshot) -> String {
    match (snapshot.freshdesk.last_success_seconds, snapshot.intake.last_event_seconds) {
        (Some(age), _) => format!("The spool is empty. Last delivery {} ago.", seconds(age)),
        (None, Some(age)) => format!("The spool is empty. Last event {} ago.", seconds(age)),
        (None, None) => "The spool is empty. No events yet: point a platform at /in/<source>.".to_owned(),
    }
}

fn listing(rows: &[&Row]) -> String {
    let columns = [
        words("ID"),
        words("STATE"),
        words("SOURCE"),
        words("CONVERSATION"),
        words("REQUESTER"),
        words("AGE"),
        numbers("TRIES"),
        words("NEXT TRY"),
        words("LAST ERROR"),
    ];
    let rows = rows.iter().map(|row| {
        vec![
            row.id.to_string(),
            row.state.clone(),
            row.source.clone(),
            one_line(&row.conversation, CUSTOMER_CHARS_MAX),
            one_line(row.requester.as_deref().unwrap_or_default(), CUSTOMER_CHARS_MAX),
            seconds(row.age_seconds),
            row.attempts.to_string(),
            next_try(row),
            row.last_error.clone().unwrap_or_default(),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

fn next_try(row: &Row) -> String {
    match (&row.waits_for, row.due_seconds, row.ticket) {
        (Some(id), _, _) => format!("after {id}"),
        (None, Some(0), _) => "now".to_owned(),
        (None, Some(seconds_left), _) => format!("in {}", seconds(seconds_left)),
        (None, None, Some(ticket)) if row.state == "delivered" => format!("ticket {ticket}"),
        (None, None, _) if row.state == "in-flight" => "now".to_owned(),
        _ => String::new(),
    }
}
