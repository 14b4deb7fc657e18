//! `deskspool salvage [DIR]`: save what can be read of a damaged spool. Works without the daemon.

use super::probe::PROBE_VERB;
use super::progress::{Progress, Step};
use super::render::{Screen, bytes};
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::clock::SystemClock;
use crate::config::spool_directory;
use crate::spool::{Probe, Salvaged, salvage};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// `deskspool salvage`.
#[derive(Args, Clone, Debug)]
pub struct SalvageArgs {
    /// The spool [default: the one of the configuration]
    directory: Option<PathBuf>,
}

/// Mends and tells.
pub fn run(global: &Global, args: &SalvageArgs, screen: &mut Screen) -> Outcome {
    let directory = args.directory.clone().or_else(|| spool_directory(&global.config));
    let directory =
        directory.ok_or_else(|| Failure::Usage("which spool? deskspool salvage DIR".to_owned()))?;
    // Without the other process sled is opened in this one: nobody waits for it here.
    let probe = Probe::of_this_executable(PROBE_VERB).ok();
    let progress = Mutex::new(Progress::new(global, false));
    let tell = move |done: usize, total: usize| {
        let step = Step { doing: "salvaging", done: done as u64, total: Some(total as u64) };
        // Whoever does not listen any more is no reason to stop.
        let _ = progress.lock().unwrap_or_else(PoisonError::into_inner).show(step);
    };
    let salvaged = salvage(&directory, (probe, Some(Arc::new(tell))), SystemClock::new());
    let salvaged = salvaged.map_err(|error| Failure::Other(error.into()))?;
    if global.json {
        screen.line(&as_json(&salvaged).to_string())?;
    } else {
        screen.print(&render(&salvaged))?;
    }
    Ok(if salvaged.missing.is_empty() && salvaged.stretches.is_empty() { FINE } else { NOT_FINE })
}

fn as_json(salvaged: &Salvaged) -> serde_json::Value {
    let missing = salvaged.missing.iter().map(|(id, reason)| json!({ "id": id, "reason": reason }));
    let damaged = salvaged.stretches.iter().map(|stretch| {
        json!({
            "segment": stretch.segment,
            "from": stretch.range.start,
            "to": stretch.range.end,
            "kept": stretch.kept,
        })
    });
    json!({
        "saved": salvaged.saved,
        "missing": missing.collect::<Vec<_>>(),
        "damaged": damaged.collect::<Vec<_>>(),
        "segments": salvaged.segments,
        "torn_bytes": salvaged.recovery.torn_bytes,
        "queue_kept": salvaged.recovery.queue_set_aside,
    })
}

fn render(salvaged: &Salvaged) -> String {
    let mut text = String::new();
    let mut line = |title: &str, words: String| {
        writeln!(text, "{title:<8}  {words}").expect("a string takes everything");
    };
    let torn = match salvaged.recovery.torn_bytes {
        0 => String::new(),
        torn => format!(", {} of a write that was never answered", bytes(torn)),
    };
    line("journal", format!("{} segments{torn}", salvaged.segments));
    for stretch in &salvaged.stretches {
        let range = &stretch.range;
        let kept = stretch.kept.display();
        line(
            "damaged",
            format!("segment {}, bytes {}..{}, kept in {kept}", stretch.segment, range.start, range.end),
        );
    }
    line(
        "queue",
        match &salvaged.recovery.queue_set_aside {
            Some(aside) => format!("was unreadable and is rebuilt from the journal, kept as {aside}"),
            None => format!("is sound, {} entries mended", salvaged.recovery.mended),
        },
    );
    line("saved", format!("{} envelopes", salvaged.saved));
    for (id, reason) in &salvaged.missing {
        line("missing", format!("{id}  {reason}"));
    }
    if salvaged.missing.is_empty() {
        line("missing", "none".to_owned());
    } else {
        text.push_str("what is kept may hold customer text. next: systemctl start deskspool; deskspool queue --state dead\n");
    }
    text
}
