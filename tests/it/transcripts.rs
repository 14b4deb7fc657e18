//! What the verbs say, word for word, as text and as JSON: `tests/cli/*.txt`, one session each.
//!
//! The daemon is the real one; its clock stands, so that ages, due times and durations are the same every time. What
//! differs from run to run all the same has a name in its place: `DIR`, `PORT`, `PID`, `VERSION`,
//! `MARKER`, `FREE`, `BYTES`.
//! `UPDATE_GOLDEN=1` writes the files anew.

use crate::harness::events::message;
use crate::harness::{Daemon, Verb, World, sandbox};
use deskspool::sandbox::Sandbox;
use std::fmt::Write;
use std::path::Path;

/// 2025-11-21T08:01:13Z.
pub const MORNING: u64 = 1_763_712_073;
const MINUTE: u64 = 60;

/// A session: what was typed and what came.
pub struct Session<'a> {
    name: &'static str,
    world: &'a World,
    text: String,
}

impl<'a> Session<'a> {
    pub fn new(name: &'static str, world: &'a World) -> Session<'a> {
        Session { name, world, text: String::new() }
    }

    /// Goes on in another world.
    pub fn at(&mut self, world: &'a World) -> &mut Self {
        self.world = world;
        self
    }

    /// What happens between the verbs, for the reader.
    pub fn note(&mut self, what: &str) -> &mut Self {
        let _ = writeln!(self.text, "# {what}\n");
        self
    }

    /// Types a line.
    pub fn run(&mut self, line: &str) -> &mut Self {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        self.run_words(line, &arguments)
    }

    /// The same when a word has blanks.
    pub fn run_words(&mut self, line: &str, arguments: &[&str]) -> &mut Self {
        self.said(line, &self.world.run(arguments))
    }

    /// What was typed otherwise, and what came.
    pub fn said(&mut self, line: &str, said: &Verb) -> &mut Self {
        let _ = writeln!(self.text, "$ deskspool {line}");
        for (sign, text) in [("", &said.out), ("! ", &said.err)] {
            named(text, &self.world.path("")).lines().for_each(|line| {
                let line = if sign.is_empty() { line } else { without_time(line) };
                let _ = writeln!(self.text, "{}", format!("{sign}{line}").trim_end());
            });
        }
        if said.code != 0 {
            let _ = writeln!(self.text, "exit {}", said.code);
        }
        self.text.push('\n');
        self
    }

    /// Compares with the file, or writes it.
    pub fn end(&mut self) {
        let path = format!("tests/cli/{}.txt", self.name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &self.text).expect("the golden can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = golden.lines().zip(self.text.lines()).find(|(wanted, said)| wanted != said);
        assert!(
            golden == self.text,
            "{path} (UPDATE_GOLDEN=1 writes it anew), first difference:\n{differs:#?}\nall:\n{}",
            self.text
        );
    }
}

/// With names for what differs from run to run.
fn named(text: &str, directory: &Path) -> String {
    let directory = directory.display().to_string();
    let text =
        text.replace(directory.trim_end_matches('/'), "DIR").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let text = replaced(&text, "127.0.0.1:", "PORT", |c| c.is_ascii_digit());
    let text = replaced(&text, "\"pid\":", "PID", |c| c.is_ascii_digit());
    let text = replaced(&text, "(pid ", "PID", |c| c.is_ascii_digit());
    let text = replaced(&text, "in use by pid ", "PID (NAME)", |c| c != '\n');
    // How much is on disk depends on which records went there together.
    let text = replaced(&text, "_seconds\":null,\"bytes\":", "BYTES", |c| c.is_ascii_digit());
    let text = replaced(&text, ", ds-", "MARKER", |c| c.is_ascii_alphanumeric());
    let text = replaced(&text, "\"ds-", "MARKER", |c| c.is_ascii_alphanumeric());
    let text = replaced(&text, "\"spool\":\"", "IDENTITY", |c| c.is_ascii_hexdigit());
    let text = replaced(&text, " writable, ", "FREE", |c| c.is_ascii_digit());
    replaced(&text, " will be made, ", "FREE", |c| c.is_ascii_digit())
}

/// A line of a daemon's log, which begins with a time that does not stand.
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_at_checked("2026-11-21T08:00:00Z ".len()).unwrap_or(("", line));
    let is_time = time.ends_with("Z ") && time.starts_with(|c: char| c.is_ascii_digit());
    if is_time { rest } else { line }
}

/// Puts `name` in place of the signs behind every `before`.
fn replaced(text: &str, before: &str, name: &str, is_part: fn(char) -> bool) -> String {
    let mut pieces = text.split(before);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        let rest = piece.trim_start_matches(is_part);
        let name = if rest.len() == piece.len() { "" } else { name };
        all + before + name + rest
    })
}

/// A world with two sources: one that works, one whose subject nobody filled in.
fn world(desk: &Sandbox) -> World {
    let mut world = World::new(desk);
    world.chat();
    world.source(
        "broken",
        "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket = { subject = \"{{ event.nothing }}\" }",
    );
    world.set("delivery", "workers", "1");
    world.set("delivery", "backoff", "{ first = \"30s\", factor = 2.0, max = \"15m\", jitter = 0.0 }");
    world.set("status_page", "listen", "\"127.0.0.1:0\"");
    world
}

/// The daemon, with a clock that stands.
pub fn at(world: &World, seconds: u64) -> Daemon {
    world.write();
    let seconds = seconds.to_string();
    Daemon::start(world.command(&["serve", "--clock", &seconds, "--clock-stands"]))
}

fn wait(world: &World, daemon: &Daemon, states: &str, count: usize) {
    daemon.eventually(states, || (world.queue(states).len() == count).then_some(()));
}

#[test]
fn before_anything_came() {
    let desk = sandbox();
    let world = world(&desk);
    let daemon = at(&world, MORNING);
    let mut session = Session::new("empty", &world);
    session.run("status").run("queue").run("queue --json").run("queue --state dead").run("refused");
    session.run("refused --json").run("show 1").run("retry 1").run("retry --all").run("drop --all --yes");
    session.run("hold --all").run("release --all").run("resume intake").run("forget ana@example.com --yes");
    session.run("salvage").run("reload").end();
    daemon.stop();
}

#[test]
fn a_day_with_a_dead_letter_and_an_outage() {
    let desk = sandbox();
    let world = world(&desk);
    let daemon = at(&world, MORNING);
    let mut session = Session::new("day", &world);
    daemon.chat(&message("ana", 0));
    wait(&world, &daemon, "delivered", 1);
    daemon.chat(&message("ana", 0));
    daemon.post("/in/broken", "chat-secret", &message("luz", 0));
    wait(&world, &daemon, "dead", 1);
    daemon.post("/in/chat", "wrong", "{}");
    session.note("one is delivered, came twice, one is dead, one was turned away");
    session.run("status").run("status --json").run("status --quiet").run("queue").run("queue --json");
    session
        .run("queue --state dead")
        .run("queue --state delivered --json")
        .run("refused")
        .run("refused chat --json");
    session.run("show 1").run("show 2").run("show 2 --json").run("show 2 --body").run("show 2 --ticket");
    session.run("retry 2");
    wait(&world, &daemon, "dead", 1);
    session.run("retry 2 99 --json").run("retry").run("retry 2 --all");
    wait(&world, &daemon, "dead", 1);
    daemon.stop();

    desk.set_down(true).expect("it can be taken down");
    let daemon = at(&world, MORNING + 11 * MINUTE);
    daemon.chat(&message("ana", 1));
    wait(&world, &daemon, "deferred", 1);
    daemon.chat(&message("eva", 0));
    wait(&world, &daemon, "queued", 1);
    session.note("eleven minutes later, after a restart: Freshdesk is down, one attempt was made");
    session.run("status").run("queue").run("queue --match eva --json").run("show 3").run("show 4 --ticket");
    session.run("hold 4 --reason asking --for 2h").run("queue --state held").run("release 4 --json");
    session
        .run("pause delivery --reason moving --for 30m")
        .run("pause chat")
        .run("status")
        .run("resume delivery");
    session.run("resume chat").run("drop 2").run("drop 2 --yes").run("drop --source chat --since 1h");
    session.run("forget ana@example.com --dry-run").run("forget ana@example.com");
    session
        .run("forget ana@example.com --yes")
        .run("show 3")
        .run("queue --state dropped --json")
        .run("queue --state lost")
        .run("queue --since yesterday")
        .end();
    daemon.stop();
}

#[test]
fn what_happened_and_a_move_to_another_host() {
    let desk = sandbox();
    let world = world(&desk);
    let daemon = at(&world, MORNING);
    let mut session = Session::new("moved", &world);
    session.run("log").run("log --json");
    daemon.chat(&message("ana", 0));
    wait(&world, &daemon, "delivered", 1);
    daemon.post("/in/broken", "chat-secret", &message("luz", 0));
    wait(&world, &daemon, "dead", 1);
    session.note("one is delivered, one is dead");
    session.run("log").run("log --json").run("log --source broken").run("log --since tomorrow");
    session.run("export --state dead").run("export --state lost");
    let exported = world.path("exported.jsonl");
    std::fs::write(&exported, world.run(&["export"]).out).expect("the directory is ours");
    let exported = exported.display().to_string();
    session.run_words("import DIR/exported.jsonl", &["import", &exported]);
    session.run_words("import DIR/exported.jsonl --json", &["import", &exported, "--json"]);
    session
        .run("import DIR/nothing.jsonl")
        .run("drain")
        .run("drain --json")
        .run("status")
        .run("resume intake")
        .end();
    daemon.stop();
}

#[test]
fn without_a_daemon() {
    let desk = sandbox();
    let mut world = world(&desk);
    world.write();
    let event = world.path("event.json").display().to_string();
    std::fs::write(&event, message("ana", 0)).expect("the directory is ours");
    let mut session = Session::new("alone", &world);
    session.run("reload").run("retry --all").run("pause intake").run("drop 1 --yes");
    session.run("check --offline").run("check --offline --json").run("check --offline --quiet").run("check");
    session.run("config delivery").run("config source.chat.ticket --origin").run("config delivery --json");
    session.run("config nothing").run("preset list").run("preset show nosuch");
    session.run_words("try chat DIR/event.json", &["try", "chat", &event]);
    session.run_words("try chat DIR/event.json --json", &["try", "chat", &event, "--json"]);
    session.run_words("try nosuch DIR/event.json", &["try", "nosuch", &event]);
    session.run("salvage").run("nosuch").run("--color blue status");
    session.run("completions tcsh").run("init").end();

    world.set("freshdesk", "api_kay", "\"x\"").write();
    let mut session = Session::new("mistake", &world);
    session.run("check --offline").run("check --offline --json").run("serve").end();
}

/// Each verb has its own; the words of the options are those of the manual page.
#[test]
fn help_of_every_verb() {
    let desk = sandbox();
    let world = World::new(&desk);
    let mut session = Session::new("help", &world);
    let help = world.run(&["--help"]).out;
    let verbs =
        help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    session.run("--help");
    for verb in verbs.lines().filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help")
    {
        session.run(&format!("{verb} --help"));
    }
    session.end();
}
