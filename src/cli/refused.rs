//! `deskspool refused [SOURCE]`: the last requests that were turned away, and what would mend it.

use super::render::{Screen, table, words};
use super::{FINE, Failure, Global, Outcome};
use crate::status::Snapshot;
use crate::status::refused::{NO_SOURCE, Refused, RefusedView};
use clap::Args;

/// `deskspool refused`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RefusedArgs {
    /// Of this source only; - for requests to no source of ours
    source: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  deskspool refused                            of all sources
  deskspool refused empower                    of one, with what would probably mend it
  deskspool refused --json                     {\"source\":…,\"at\":…,\"from\":…,\"why\":…,\"detail\":…,\"brought\":[…]} per line

The daemon remembers the last 100 of each source until it ends; lengths and names, never a secret.
Their events are not kept: the platform was told 401, and may send them again.";

/// Asks and prints.
pub fn run(global: &Global, args: &RefusedArgs, screen: &mut Screen) -> Outcome {
    let daemon = global.daemon();
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(source) = &args.source {
        query.append_pair("source", source);
    }
    let answer = daemon.get(&format!("/refused?{}", query.finish()))?;
    let views = answer.lines().map(serde_json::from_str).collect::<Result<Vec<RefusedView>, _>>()?;
    if let Some(name) = args.source.as_ref().filter(|name| views.is_empty() && *name != NO_SOURCE) {
        let snapshot: Snapshot = serde_json::from_str(&daemon.get("/status")?)?;
        let names: Vec<&str> = snapshot.sources.iter().map(|source| source.name.as_str()).collect();
        if !names.contains(&name.as_str()) {
            let known = names.join(", ");
            return Err(Failure::Usage(format!("there is no [source.{name}] (there are: {known})")));
        }
    }
    if global.json {
        print_json(&views, screen)?;
    } else if views.is_empty() {
        screen.line("no request was turned away since the daemon was started")?;
    } else {
        let blocks: Vec<String> = views.iter().map(|view| render(view, views.len() > 1)).collect();
        screen.print(&blocks.join("\n"))?;
    }
    Ok(FINE)
}

fn print_json(views: &[RefusedView], screen: &mut Screen) -> Result<(), Failure> {
    for view in views {
        for refused in &view.last {
            let mut row = serde_json::to_value(refused)?;
            row["source"] = view.source.clone().into();
            screen.line(&row.to_string())?;
        }
    }
    Ok(())
}

fn render(view: &RefusedView, has_title: bool) -> String {
    let title = match (has_title, view.source.as_str()) {
        (false, _) => String::new(),
        (true, NO_SOURCE) => "requests to no source of ours\n".to_owned(),
        (true, source) => format!("source {source}\n"),
    };
    // The time of day tells enough while all are of one day.
    let day = view.last.first().and_then(|last| last.at.get(..10)).unwrap_or_default();
    let one_day = view.since.starts_with(day) && view.last.iter().all(|refused| refused.at.starts_with(day));
    let time = |at: &str| match (one_day, at.get(..10), at.get(11..19)) {
        (true, _, Some(time)) => time.to_owned(),
        (false, Some(day), Some(time)) => format!("{day} {time}"),
        _ => at.to_owned(),
    };
    let row = |refused: &Refused| {
        vec![time(&refused.at), refused.from.clone(), refused.why.clone(), detail(refused)]
    };
    let columns = [words("TIME UTC"), words("FROM"), words("WHY"), words("DETAIL")];
    let rows: Vec<Vec<String>> = view.last.iter().map(row).collect();
    let hint = view.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
    format!("{title}{}{} since {}.{hint}\n", table(&columns, &rows), view.count, time(&view.since))
}

/// What verification said, else what came instead of what was wanted.
fn detail(refused: &Refused) -> String {
    if !refused.detail.is_empty() {
        return refused.detail.clone();
    }
    let brought = refused.brought.iter().map(|brought| {
        let prefix =
            if brought.prefix.is_empty() { String::new() } else { format!("\"{}…\", ", brought.prefix) };
        format!("{} ({prefix}{} characters)", brought.place, brought.characters)
    });
    let brought: Vec<String> = brought.collect();
    if brought.is_empty() { String::new() } else { format!("it brought {}", brought.join(", ")) }
}
