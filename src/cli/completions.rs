//! `deskspool completions SHELL`: what makes a shell finish deskspool's words.
//!
//! The scripts are a few lines each: they ask `deskspool complete`, so they know what the binary knows, and the
//! names of sources and the numbers of envelopes that are there right now.

use super::render::Screen;
use super::{FINE, FilterArgs, Global, Outcome};
use crate::config::written_keys;
use crate::control::client::Daemon;
use crate::control::view::{Row, STATES};
use crate::source::presets;
use crate::status::Snapshot;
use clap::{Arg, Args, Command};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Numbers of envelopes that are offered: whoever has more will not find one by leafing.
const IDS_MAX: u64 = 500;

/// `deskspool completions`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

const EXAMPLES: &str = "\
Examples:
  source <(deskspool completions bash)         for this shell; the packages install it for all
  deskspool completions zsh > /usr/local/share/zsh/site-functions/_deskspool
  deskspool completions fish > ~/.config/fish/completions/deskspool.fish

It offers verbs, options, states, presets, and the sources and envelopes of the running daemon.";

/// `deskspool complete`: not for people.
#[derive(Args, Clone, Debug)]
pub struct CompleteArgs {
    /// The words after `deskspool`, the last one unfinished
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs, screen: &mut Screen) -> Outcome {
    let script = match args.shell.as_str() {
        "bash" => include_str!("completions/deskspool.bash"),
        "zsh" => include_str!("completions/deskspool.zsh"),
        _ => include_str!("completions/deskspool.fish"),
    };
    screen.print(script)?;
    Ok(FINE)
}

/// A word that may stand there, and what it means.
type Word = (String, String);

/// Prints what may stand in place of the last word, a line each, with a tab before what it means; nothing where the
/// shell's own files are as good.
pub fn complete(global: &Global, args: &CompleteArgs, root: &Command, screen: &mut Screen) -> Outcome {
    let (unfinished, before) = args.words.split_last().map_or(("", &[][..]), |(last, all)| (last, all));
    for (word, meaning) in offered(&Live::of(global, before), root, before, unfinished) {
        screen.line(&format!("{word}\t{meaning}"))?;
    }
    Ok(FINE)
}

fn offered(live: &Live, root: &Command, before: &[String], unfinished: &str) -> Vec<Word> {
    let place = Place::after(root, before);
    let words = match place.option {
        Some(option) if option.get_id() == "state" => return states(unfinished),
        Some(option) => live.values(option),
        None if unfinished.starts_with('-') => options(&place.path),
        None => match place.positional() {
            Some(positional) => live.values(positional),
            None => verbs(place.command()),
        },
    };
    words.into_iter().filter(|(word, _)| word.starts_with(unfinished)).collect()
}

/// Where in the command line the unfinished word stands.
struct Place<'a> {
    /// The commands so far, `deskspool` first.
    path: Vec<&'a Command>,
    /// The option whose value it is.
    option: Option<&'a Arg>,
    /// Words that are neither options nor values of one, since the last verb.
    positionals: usize,
}

impl<'a> Place<'a> {
    fn after(root: &'a Command, words: &[String]) -> Place<'a> {
        let mut place = Place { path: vec![root], option: None, positionals: 0 };
        for word in words.iter().filter(|word| *word != "=") {
            match word.as_str() {
                _ if place.option.is_some() => place.option = None,
                option if option.starts_with('-') => place.option = place.waiting_option(option),
                word => match place.command().find_subcommand(word) {
                    Some(verb) if place.positionals == 0 => place.path.push(verb),
                    _ => place.positionals += 1,
                },
            }
        }
        place
    }

    fn command(&self) -> &'a Command {
        self.path[self.path.len() - 1]
    }

    /// The option of this name, if its value is the next word.
    fn waiting_option(&self, word: &str) -> Option<&'a Arg> {
        let is_it = |arg: &&Arg| match word.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => word.strip_prefix('-').and_then(|short| short.chars().next()) == arg.get_short(),
        };
        let option = self.path.iter().flat_map(|command| command.get_opts()).find(is_it)?;
        option.get_action().takes_values().then_some(option)
    }

    /// The positional argument that the unfinished word would be; the last one may be many.
    fn positional(&self) -> Option<&'a Arg> {
        let all: Vec<&Arg> = self.command().get_positionals().collect();
        all.get(self.positionals.min(all.len().saturating_sub(1))).copied()
    }
}

fn verbs(command: &Command) -> Vec<Word> {
    let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    visible.map(|verb| (verb.get_name().to_owned(), text(verb.get_about()))).collect()
}

/// Of the verb, then of every verb.
fn options(path: &[&Command]) -> Vec<Word> {
    let all = path.iter().rev().flat_map(|command| command.get_arguments());
    let visible = all.filter(|arg| !arg.is_hide_set());
    let word = |arg: &Arg| Some((format!("--{}", arg.get_long()?), text(arg.get_help())));
    let help = ("--help".to_owned(), "Print help".to_owned());
    visible.filter_map(word).chain([help]).collect()
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(|text| text.to_string().replace(['\n', '\t'], " ")).unwrap_or_default()
}

/// `dead,he` becomes `dead,held`.
fn states(unfinished: &str) -> Vec<Word> {
    let (done, last) = unfinished.rsplit_once(',').map_or(("", unfinished), |(done, last)| (done, last));
    let comma = if done.is_empty() { "" } else { "," };
    let fitting = STATES.iter().filter(|state| state.starts_with(last));
    fitting.map(|state| (format!("{done}{comma}{state}"), String::new())).collect()
}

/// What is there right now. Whoever cannot ask gets what the configuration says, else nothing.
struct Live {
    daemon: Daemon,
    config: PathBuf,
}

impl Live {
    /// Under the `--config` and `--socket` that stand before the unfinished word.
    fn of(global: &Global, words: &[String]) -> Live {
        let said = |option: &str| words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].clone());
        let config = said("--config").map_or_else(|| global.config.clone(), PathBuf::from);
        let socket = said("--socket").map(PathBuf::from).or_else(|| global.socket.clone());
        let global = Global { config: config.clone(), socket, ..global.clone() };
        Live { daemon: global.daemon(), config }
    }

    fn values(&self, arg: &Arg) -> Vec<Word> {
        let plain = |word: String| (word, String::new());
        let possible = arg.get_possible_values();
        if !possible.is_empty() {
            return possible
                .iter()
                .map(|value| (value.get_name().to_owned(), text(value.get_help())))
                .collect();
        }
        match arg.get_id().as_str() {
            "source" => self.sources().into_iter().map(plain).collect(),
            "what" => ["intake", "delivery"]
                .map(str::to_owned)
                .into_iter()
                .chain(self.sources())
                .map(plain)
                .collect(),
            "id" | "ids" => self.envelopes(),
            "name" => {
                presets().iter().map(|preset| (preset.name.to_owned(), preset.summary().to_owned())).collect()
            }
            "key" => self.keys().into_iter().map(plain).collect(),
            _ => Vec::new(),
        }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        serde_json::from_str(&self.daemon.get("/status").ok()?).ok()
    }

    fn sources(&self) -> BTreeSet<String> {
        match self.snapshot() {
            Some(snapshot) => snapshot.sources.into_iter().map(|source| source.name).collect(),
            None => {
                let keys = self.keys().into_iter();
                keys.filter_map(|key| Some(key.strip_prefix("source.")?.split('.').next()?.to_owned()))
                    .collect()
            }
        }
    }

    fn keys(&self) -> Vec<String> {
        written_keys(&self.config).unwrap_or_default().into_iter().map(|one| one.key).collect()
    }

    fn envelopes(&self) -> Vec<Word> {
        let few = |snapshot: &Snapshot| {
            let spool = &snapshot.spool;
            spool.queued + spool.in_flight + spool.deferred + spool.held + spool.dead <= IDS_MAX
        };
        if !self.snapshot().is_some_and(|snapshot| few(&snapshot)) {
            return Vec::new();
        }
        let all = self.daemon.get(&format!("/queue?{}", FilterArgs::default().query())).unwrap_or_default();
        let rows = all.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
        rows.map(|row| (row.id.to_string(), format!("{} {}", row.state, row.source))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered for the last word, with a configuration of one source and no daemon.
    fn offers(line: &str) -> Vec<String> {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = home.path().join("deskspool.toml");
        std::fs::write(&config, "[source.sendpulse]\npreset = \"sendpulse@1\"\n").expect("write it");
        let live = Live { daemon: Daemon::at(&home.path().join("none.sock")), config };
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().expect("a word");
        let root = crate::cli::command();
        offered(&live, &root, before, last).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn verbs_options_and_values() {
        let check = |line: &str, expect: &[&str]| assert_eq!(offers(line), expect, "{line}");
        check("rel", &["reload", "release"]);
        check("preset s", &["show"]);
        check("preset show send", &["sendpulse@1"]);
        check("queue --sta", &["--state"]);
        check("queue --state de", &["deferred", "dead", "delivered"]);
        check("queue --state dead,he", &["dead,held"]);
        check("queue --state = he", &["held"]);
        check("queue --state dead --source s", &["sendpulse"]);
        check("mailq --source s", &["sendpulse"]);
        check("--json pause ", &["intake", "delivery", "sendpulse"]);
        check("capture ", &["sendpulse"]);
        check("config source.", &["source.sendpulse.preset"]);
        check("completions ", &["bash", "zsh", "fish"]);
        check("--color al", &["always"]);
        check("show 1", &[]);
        check("try sendpulse ", &[]);
    }

    #[test]
    fn what_is_not_for_people_is_not_offered() {
        let all = offers("");
        assert!(all.contains(&"status".to_owned()) && !all.contains(&"complete".to_owned()), "{all:?}");
        assert!(!all.contains(&"probe-queue".to_owned()));
        assert!(!offers("serve --").contains(&"--clock".to_owned()));
    }
}
