//! `deskspool forget REQUESTER`: what we hold about one person leaves this machine; the receipt names nobody.

use super::render::Screen;
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::control::view::{Forget, Forgotten};
use clap::Args;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// The whole journal is read, and copied where it must be.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Numbers that are listed; more are counted.
const LISTED_MAX: usize = 12;

/// `deskspool forget`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ForgetArgs {
    /// E-mail address, phone number, external id or name, exactly
    requester: String,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  deskspool forget ana@example.com             says what would go, and asks
  deskspool forget '+57 300 111 2233' --yes    in a script
  deskspool forget 'Ana Ruiz' --dry-run --json

What waits for Freshdesk is dropped: it will not arrive there. Dead letters, history and the texts in the journal go,
and the disk space they took is given back. Hashes of event ids stay until their time is over (7 days), so that an event that
is sent again is not taken for a new one. What Freshdesk has stays there: delete the contact in Freshdesk.
--json: {\"at\":…,\"waiting\":[…],\"dead\":[…],\"in_flight\":[…],\"history\":[…],\"texts\":…,\"is_gone\":…,\"receipt\":…}.
Exit codes: 0 all is gone, 1 nothing was found, or something is being sent and stays: try again.";

/// Asks, tells, does, tells.
pub fn run(global: &Global, args: &ForgetArgs, screen: &mut Screen) -> Outcome {
    let would = ask(global, args, true)?;
    let is_nothing = would.texts == 0 && would.history.is_empty();
    if is_nothing && !global.json {
        screen.line("nothing is held about this requester")?;
        return Ok(NOT_FINE);
    }
    if args.dry_run || is_nothing {
        return tell(global, &would, screen, "would be forgotten");
    }
    if !args.yes {
        eprint!("{}", render(&would));
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage("add --yes to forget it without being asked".to_owned()));
        }
        eprint!("forget all this? It cannot be undone. [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(NOT_FINE);
        }
    }
    let done = ask(global, args, false)?;
    tell(global, &done, screen, "forgotten")
}

fn ask(global: &Global, args: &ForgetArgs, dry_run: bool) -> Result<Forgotten, Failure> {
    let body = serde_json::to_string(&Forget { requester: args.requester.clone(), dry_run })?;
    Ok(serde_json::from_str(&global.daemon().post_patiently("/forget", &body, PATIENCE)?)?)
}

fn tell(global: &Global, forgotten: &Forgotten, screen: &mut Screen, title: &str) -> Outcome {
    if global.json {
        screen.line(&serde_json::to_string(forgotten)?)?;
    } else {
        screen.line(&format!("{title}, {}", forgotten.at))?;
        screen.print(&render(forgotten))?;
    }
    if !forgotten.in_flight.is_empty() {
        eprintln!("error: {} is being sent right now and stays; try again", ids(&forgotten.in_flight));
    } else if !forgotten.receipt.is_empty() && !forgotten.is_gone {
        eprintln!(
            "error: something beside it is being sent; its text leaves the disk as soon as that has ended"
        );
    }
    let is_done = forgotten.receipt.is_empty() || forgotten.is_gone;
    let is_something = forgotten.texts > 0 || !forgotten.history.is_empty();
    Ok(if is_done && is_something && forgotten.in_flight.is_empty() { FINE } else { NOT_FINE })
}

fn render(forgotten: &Forgotten) -> String {
    let mut text = String::new();
    let mut line = |title: &str, words: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {title:<9}  {words}");
    };
    if !forgotten.waiting.is_empty() {
        line(
            "waiting",
            &format!("{}, dropped: not in Freshdesk, and not on the way there", ids(&forgotten.waiting)),
        );
    }
    if !forgotten.dead.is_empty() {
        line("dead", &format!("{}, dropped", ids(&forgotten.dead)));
    }
    if !forgotten.history.is_empty() {
        line("history", &ids(&forgotten.history));
    }
    let events = if forgotten.texts == 1 { "event" } else { "events" };
    line("journal", &format!("the text of {} {events}", forgotten.texts));
    for path in &forgotten.set_aside {
        line(
            "stays",
            &format!("{path}, set aside as damaged: remove it when nothing is to be saved from it"),
        );
    }
    line("stays", "hashes of event ids, for their time; what Freshdesk has: delete the contact there");
    if !forgotten.receipt.is_empty() {
        line("receipt", &forgotten.receipt);
    }
    text
}

/// `10428 10430`, of many the first.
fn ids(ids: &[u64]) -> String {
    let shown: Vec<String> = ids.iter().take(LISTED_MAX).map(u64::to_string).collect();
    let more = ids.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(" "))
}
