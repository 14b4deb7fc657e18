//! `deskspool retry`, `drop` and `reload`: the verbs that change something, carried out by the daemon.

use super::render::Screen;
use super::{FINE, Failure, FilterArgs, Global, NOT_FINE, Outcome};
use crate::control::client::{AskError, Daemon};
use crate::control::view::{Done, Selection};
use clap::Args;
use std::io::{self, IsTerminal};

/// `deskspool retry`.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Numbers of envelopes
    ids: Vec<u64>,
    /// All that are not settled, or all that pass the filters
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// `deskspool drop`.
#[derive(Args, Clone, Debug)]
pub struct DropArgs {
    #[command(flatten)]
    which: ChangeArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl ChangeArgs {
    /// The ids or the filter.
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        let filter = self.filter.filter()?;
        match (self.ids.is_empty(), self.all || !filter.is_empty()) {
            (true, false) => Err(Failure::Usage(
                "name envelopes, or --all, or filters (deskspool queue shows what there is)".to_owned(),
            )),
            (false, true) => Err(Failure::Usage("either ids or filters, not both".to_owned())),
            _ => Ok(Selection { ids: self.ids.clone(), filter }),
        }
    }
}

/// Makes envelopes due now.
pub fn retry(global: &Global, args: &ChangeArgs, screen: &mut Screen) -> Outcome {
    let selection = args.selection()?;
    let done = apply(&global.daemon(), "/retry", &selection)?;
    let sentence = match done.touched {
        0 => "no envelope is due because of this".to_owned(),
        1 => "1 envelope is due now. Watch: deskspool queue".to_owned(),
        count => format!(
            "{count} envelopes are due now, paced by freshdesk.rate_per_minute. Watch: deskspool status"
        ),
    };
    report(global, &done, &sentence, screen)
}

/// Gives up on envelopes; they stay in history.
pub fn drop_envelopes(global: &Global, args: &DropArgs, screen: &mut Screen) -> Outcome {
    let selection = args.which.selection()?;
    let daemon = global.daemon();
    if !args.yes && !may_drop(&daemon, &selection)? {
        return Ok(NOT_FINE);
    }
    let done = apply(&daemon, "/drop", &selection)?;
    report(global, &done, &format!("{} dropped: {}", done.touched, by_source(&done)), screen)
}

/// Asks on a terminal; refuses in a script. Nothing is asked about nothing.
fn may_drop(daemon: &Daemon, selection: &Selection) -> Result<bool, Failure> {
    let count = apply(daemon, "/count", selection)?;
    let (what, stay) = match count.touched {
        0 => return Ok(true),
        1 => ("1 envelope".to_owned(), "It stays"),
        many => (format!("{many} envelopes"), "They stay"),
    };
    let question = format!("drop {what} ({})? {stay} in history.", by_source(&count));
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} Add --yes to do it without being asked")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn by_source(done: &Done) -> String {
    let parts: Vec<String> =
        done.by_source.iter().map(|(source, count)| format!("{source} {count}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn apply(daemon: &Daemon, verb: &str, selection: &Selection) -> Result<Done, Failure> {
    let body = serde_json::to_string(selection)?;
    Ok(serde_json::from_str(&daemon.post(verb, &body)?)?)
}

pub(super) fn report(global: &Global, done: &Done, sentence: &str, screen: &mut Screen) -> Outcome {
    if global.json {
        screen.line(&serde_json::to_string(done)?)?;
    } else if !global.quiet {
        screen.line(sentence)?;
    }
    for id in &done.in_flight {
        eprintln!("error: {id} is being sent right now");
    }
    for id in &done.unknown {
        eprintln!(
            "error: {id} waits for nothing: it is settled, or there never was one (deskspool show {id})"
        );
    }
    for id in &done.unsuited {
        eprintln!("error: {id} is left as it is (deskspool show {id})");
    }
    let all = done.in_flight.is_empty() && done.unknown.is_empty() && done.unsuited.is_empty();
    Ok(if all { FINE } else { NOT_FINE })
}

/// Has the daemon read its configuration again.
pub fn reload(global: &Global, screen: &mut Screen) -> Outcome {
    let answer = match global.daemon().post("/reload", "") {
        Ok(answer) => answer,
        Err(AskError::Refused { status: 409, reason }) => {
            eprintln!("{reason}");
            return Ok(NOT_FINE);
        }
        Err(error) => return Err(Failure::Ask(error)),
    };
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    if global.json {
        screen.line(&answer.to_string())?;
    } else if !global.quiet {
        screen.line(answer["text"].as_str().unwrap_or_default())?;
    }
    Ok(FINE)
}
