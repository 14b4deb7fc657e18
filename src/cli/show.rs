//! `deskspool show ID`: one envelope, its attempts, what it would write.

use super::render::{Screen, bytes, one_line, seconds};
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::control::client::AskError;
use crate::control::view::{EnvelopeView, TryView};
use clap::Args;
use std::fmt::Write;

/// `deskspool show`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// Number of the envelope
    id: u64,
    /// Print its event: customer text
    #[arg(long)]
    body: bool,
    /// Print what would be written in Freshdesk, in full: customer text
    #[arg(long)]
    ticket: bool,
}

const EXAMPLES: &str = "\
Examples:
  deskspool show 10432
  deskspool show 10432 --ticket                what would be written now (customer text)
  deskspool show 10432 --json | jq .tries

Without a daemon it is read from the spool, which needs root or the user deskspool.
--json: the members of a line of  queue --json, and {\"kind\":…,\"peer\":…,\"bytes\":N,
  \"tries\":[{\"number\":N,\"at\":…,\"took_seconds\":N,\"ended\":…,\"reason\":…}],\"will_do\":[…],
  \"writes\":[…],\"body\":…,\"origin\":{\"spool\":…,\"id\":N}}
Exit codes: 0 fine, 1 no such envelope, 2 usage, 3 neither daemon nor spool can be read.";

/// Asks and prints.
pub fn run(global: &Global, args: &ShowArgs, screen: &mut Screen) -> Outcome {
    let answer = match global.answerer().get(&format!("/envelope/{}", args.id)) {
        Ok(answer) => answer,
        Err(Failure::Ask(AskError::Refused { status: 404, .. })) => {
            eprintln!("error: there is no envelope {}", args.id);
            eprintln!("   = deskspool queue; settled ones are remembered for spool.keep_delivered");
            return Ok(NOT_FINE);
        }
        Err(failure) => return Err(failure),
    };
    let view: EnvelopeView = serde_json::from_str(&answer)?;
    if global.json {
        screen.line(&answer)?;
    } else if args.body {
        match &view.body {
            Some(body) => screen.line(body)?,
            None => return no_longer_here(args.id),
        }
    } else if args.ticket && view.body.is_none() {
        return no_longer_here(args.id);
    } else if args.ticket {
        for write in &view.writes {
            screen.line(&serde_json::to_string_pretty(write)?)?;
        }
        if view.writes.is_empty() {
            screen.line(view.will_do.first().map_or("nothing is to be written", String::as_str))?;
        }
    } else {
        screen.print(&render(&view))?;
    }
    Ok(FINE)
}

fn no_longer_here(id: u64) -> Outcome {
    eprintln!("error: the event of {id} was removed after it was settled");
    Ok(NOT_FINE)
}

/// The page.
pub fn render(view: &EnvelopeView) -> String {
    let row = &view.row;
    let mut text = format!(
        "{}  {}  {}  conversation {}\n",
        row.id,
        row.state,
        row.source,
        one_line(&row.conversation, 60)
    );
    let mut facts = vec![one_line(&row.event, 60), format!("received {}", row.received_at)];
    facts.extend(view.peer.as_ref().map(|peer| format!("from {peer}")));
    facts.extend(view.bytes.map(bytes));
    line(&mut text, "event", &facts.join(", "));
    if let Some(requester) = &row.requester {
        line(&mut text, "requester", &one_line(requester, 60));
    }
    for (number, will_do) in view.will_do.iter().enumerate() {
        line(&mut text, if number == 0 { "will do" } else { "then" }, &one_line(will_do, 110));
    }
    if view.will_do.is_empty() && view.body.is_some() {
        line(&mut text, "will do", "nothing: the source ignores it");
    }
    if let Some(ticket) = row.ticket {
        line(&mut text, "ticket", &ticket.to_string());
    }
    if let Some(origin) = &view.origin {
        line(&mut text, "origin", &format!("imported; {} in spool {}", origin.id, &origin.spool));
    }
    if !view.tries.is_empty() {
        text.push_str("  attempts\n");
        view.tries.iter().for_each(|one| attempt(&mut text, one));
    }
    match (&row.waits_for, row.due_seconds) {
        (Some(id), _) => line(&mut text, "next try", &format!("after {id}")),
        (None, Some(0)) => line(&mut text, "next try", "now"),
        (None, Some(left)) => {
            let due = row.due_at.as_deref().unwrap_or_default();
            line(&mut text, "next try", &format!("{due} (in {})", seconds(left)));
        }
        (None, None) => {}
    }
    if row.state == "dead" || row.state == "held" {
        line(&mut text, "why", row.last_error.as_deref().unwrap_or_default());
        let _ = writeln!(
            text,
            "deskspool show {0} --body | --ticket     deskspool retry {0}     deskspool drop {0}",
            row.id
        );
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {name:<11}  {value}");
}

fn attempt(text: &mut String, one: &TryView) {
    let time = one.at.get(11..19).unwrap_or(&one.at);
    let entry =
        format!("    {:<2} {time}  {:>6.2}s  {:<9}  {}", one.number, one.took_seconds, one.ended, one.reason);
    text.push_str(entry.trim_end());
    text.push('\n');
}
