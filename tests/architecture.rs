//! The architecture, enforced by reading the sources: who may name whom, who asks for the time, how long a file
//! may be. What is allowed stands in the tables below, each exception with its reason; the crate's documentation
//! (`src/lib.rs`) says what the rooms are for.
//!
//! The last tests show that each rule can fail.

mod reading;

use reading::Source;
use std::collections::BTreeSet;

/// The rooms and which rooms each may name, `room::part` when it may only name that part. A room may only name
/// rooms above it, so nothing can go round in a circle.
const ROOMS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("html", &[]),
    ("backoff", &[]),
    ("verify", &["clock"]),
    ("decode", &[]),
    ("gate", &[]),
    ("capture", &["clock"]),
    ("pauses", &["clock"]),
    ("freshdesk", &["clock"]),
    ("spool", &["clock"]),
    // A plan is a list of writes; what they look like belongs to the one who sends them.
    ("source", &["clock", "freshdesk::write", "verify"]),
    // A certificate is judged by those who will show it.
    ("config", &["clock", "gate::tls", "source", "verify"]),
    ("dispatch", &["backoff", "clock", "freshdesk", "source", "spool"]),
    // The gate that stands before the status page.
    ("status", &["clock", "dispatch", "freshdesk::outcome", "gate", "pauses", "spool"]),
    ("intake", &["capture", "clock", "decode", "gate", "pauses", "source", "spool", "status", "verify"]),
    // It goes intake's own way, so that what is tried is what happens.
    ("trial", &["clock", "decode", "freshdesk", "intake", "source", "verify"]),
    // `2h` in a filter is what `2h` is in the configuration.
    ("control", &["capture", "clock", "config::units", "dispatch", "freshdesk", "pauses", "spool", "status"]),
    ("alert", &["clock", "status"]),
    (
        "page",
        &[
            "clock",
            "config",
            "control",
            "dispatch",
            "freshdesk::word",
            "html",
            "pauses",
            // The preset's text stands beside the mapping that is tried.
            "source",
            "spool",
            "status",
            "trial",
        ],
    ),
    ("sandbox", &["clock", "html"]),
    ("systemd", &["clock", "status"]),
    (
        "daemon",
        &[
            "alert",
            "backoff",
            "clock",
            "config",
            "control",
            "dispatch",
            "freshdesk",
            "gate",
            // What an alert's ticket says.
            "html",
            "intake",
            "page",
            "pauses",
            "source",
            "spool",
            "status",
            // The sockets that were passed.
            "systemd",
        ],
    ),
    (
        "cli",
        &[
            "capture",
            "clock",
            "config",
            "control",
            "daemon",
            "freshdesk",
            "gate",
            "sandbox",
            // Presets are printed from where they are compiled in.
            "source",
            "spool",
            "status",
            "systemd",
            "trial",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// Crates that only some files may name.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["src/spool/tables.rs"]),
    // The control socket speaks HTTP too.
    ("ureq", &["src/freshdesk/", "src/control/client.rs"]),
    ("tiny_http", &["src/intake.rs", "src/intake/", "src/control.rs", "src/status/"]),
    ("rustls", &["src/freshdesk/", "src/gate/"]),
    ("httparse", &["src/gate/", "src/sandbox/wire.rs"]),
    ("minijinja", &["src/source/"]),
    ("clap", &["src/cli/"]),
    ("anyhow", &["src/cli/"]),
    ("signal_hook", &["src/cli/"]),
    ("env_logger", &["src/systemd.rs"]),
    ("sd_listen_fds", &["src/systemd/"]),
    ("sd_notify", &["src/systemd.rs", "src/systemd/"]),
];

/// Who may ask the operating system for the time, or sleep.
const TIME: &[(&str, &str, &str)] = &[
    ("src/clock.rs", "SystemTime::now", "it is the clock"),
    ("src/clock.rs", "thread::sleep", "it is the clock"),
    ("src/gate/answer.rs", "Instant::now", "tests: a deadline of tiny_http's answer"),
    ("src/gate/connection.rs", "Instant::now", "the deadline of an answer on a client's socket"),
    ("src/gate/mod.rs", "Instant::now", "the deadline of a drain, which waits for sockets"),
    ("src/gate/pool.rs", "Instant::now", "deadlines and idle times of sockets to tiny_http"),
    ("src/gate/request/mod.rs", "Instant::now", "deadlines of head, body and lingering on a client's socket"),
    ("src/gate/stream.rs", "Instant::now", "what is left of a deadline is the socket's timeout"),
    ("src/gate/table.rs", "Instant::now", "since when a socket is unfinished, for eviction"),
    ("src/gate/throttle.rs", "Instant::now", "how often failing sockets are warned of"),
];

/// Lines of a file, without those that only tests compile.
const LINES_MAX: usize = 600;

#[test]
fn rooms_name_only_rooms_they_may() {
    none(rooms(&reading::all(), ROOMS));
}

#[test]
fn what_rooms_may_name_they_do_name() {
    none(unused(&reading::all(), ROOMS));
}

#[test]
fn crates_are_named_in_their_rooms_only() {
    none(crates(&reading::all(), CRATES));
}

#[test]
fn only_the_clock_asks_for_the_time() {
    none(time(&reading::all(), TIME));
}

#[test]
fn threads_have_names_and_stand_in_the_documentation() {
    none(threads(&reading::all()));
}

#[test]
fn files_are_short_begin_with_what_they_are_and_leave_nothing_undone() {
    none(files(&reading::all()));
}

#[test]
fn the_documentation_knows_every_room() {
    let sources = reading::all();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").expect("the crate has a root");
    let modules = lib.product.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut count = 0;
    for module in modules {
        count += 1;
        assert!(lib.text.contains(&format!("//! | [`{module}`]")), "the table of rooms lacks {module}");
        assert!(ROOMS.iter().any(|(room, _)| *room == module), "ROOMS lacks {module}");
    }
    assert_eq!(count + 2, ROOMS.len(), "ROOMS has rooms that are gone");
}

fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn rooms(sources: &[Source], rooms: &[(&str, &[&str])]) -> Vec<String> {
    let place = |name: &str| rooms.iter().position(|(room, _)| *room == name);
    let mut violations = Vec::new();
    for (index, (room, named)) in rooms.iter().enumerate() {
        let is_above = |other: &&&str| place(head(other)).is_some_and(|at| at < index);
        violations.extend(
            named
                .iter()
                .filter(|other| !is_above(other))
                .map(|other| format!("{room}: {other} is not above it")),
        );
    }
    for source in sources.iter().filter(|source| source.path.starts_with("src/")) {
        let room = source.room();
        let Some(index) = place(room) else {
            violations.push(format!("{}: {room} is no room of the table", source.path));
            continue;
        };
        for (line, other) in named_rooms(&source.product) {
            let may = rooms[index].1.iter().any(|allowed| covers(allowed, &other)) || head(&other) == room;
            if !may {
                violations.push(format!("{}:{line}: {room} may not name {other}", source.path));
            }
        }
        if climbs(&source.product) >= source.depth()
            && source.depth() > 0
            && !source.product.trim().is_empty()
        {
            violations.push(format!("{}: `super` leaves the room; say `crate::`", source.path));
        }
    }
    violations
}

/// Permissions that nobody needs any more.
fn unused(sources: &[Source], rooms: &[(&str, &[&str])]) -> Vec<String> {
    let used: BTreeSet<(String, String)> = sources
        .iter()
        .flat_map(|source| {
            let room = source.room().to_owned();
            named_rooms(&source.product).into_iter().map(move |(_, other)| (room.clone(), other))
        })
        .collect();
    let is_used =
        |room: &str, allowed: &str| used.iter().any(|(by, other)| by == room && covers(allowed, other));
    let mut violations = Vec::new();
    for (room, named) in rooms {
        let idle = named.iter().filter(|allowed| !is_used(room, allowed));
        violations.extend(idle.map(|allowed| format!("ROOMS: {room} does not name {allowed}")));
    }
    violations
}

fn head(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// Whether `allowed` (`config` or `config::units`) lets in `path` (`config::units`, or `config` as a whole).
fn covers(allowed: &str, path: &str) -> bool {
    path == allowed || path.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"))
}

/// `room` or `room::part` of everything the code takes from the crate's root, with its line.
fn named_rooms(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(is_name) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list_heads(list).into_iter().map(|name| (line, name))),
            None => found.push((line, two_steps(rest))),
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first two steps of a path, of which the second only when it is a module.
fn two_steps(path: &str) -> String {
    let mut steps =
        path.trim_start().split("::").map(|step| step.split(|c| !is_name(c)).next().unwrap_or_default());
    let first = steps.next().unwrap_or_default();
    match steps.next().filter(|_| path[first.len()..].starts_with("::")) {
        Some(second) if second.starts_with(|c: char| c.is_lowercase()) => format!("{first}::{second}"),
        _ => first.to_owned(),
    }
}

/// The paths in `{a::b, c::{d, e}, …}`, after the opening brace.
fn list_heads(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        let ends = depth == 0 && matches!(c, ',' | '}');
        if ends && !list[start..at].trim().is_empty() {
            heads.push(two_steps(list[start..at].trim_start()));
        }
        match c {
            '}' if depth == 0 => return heads,
            ',' if depth == 0 => start = at + 1,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

/// The longest `super::super::…`.
fn climbs(code: &str) -> usize {
    (1..).take_while(|steps| code.contains(&"super::".repeat(*steps))).count()
}

fn crates(sources: &[Source], crates: &[(&str, &[&str])]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        for (name, places) in crates {
            let is_at_home = places.iter().any(|place| {
                source.path == *place || (place.ends_with('/') && source.path.starts_with(place))
            });
            if let Some(line) = names_crate(&source.product, name).filter(|_| !is_at_home) {
                violations.push(format!(
                    "{}:{line}: {name} is named outside {}",
                    source.path,
                    places.join(", ")
                ));
            }
        }
    }
    violations
}

/// The first line that takes something from a crate: `sled::`, `use sled;`, `use {sled, …}`.
fn names_crate(code: &str, name: &str) -> Option<usize> {
    let is_path = |at: usize| {
        let (before, after) = (&code[..at], code[at + name.len()..].trim_start());
        let is_step = before.trim_end().strip_suffix("::").is_some_and(|before| before.ends_with(is_name));
        let is_whole = !before.ends_with(is_name) && !code[at + name.len()..].starts_with(is_name);
        let is_used = before.trim_end().ends_with("use") && after.starts_with([';', 'a']);
        is_whole && !is_step && (after.starts_with("::") || is_used)
    };
    let at = code.match_indices(name).map(|(at, _)| at).find(|at| is_path(*at))?;
    Some(code[..at].matches('\n').count() + 1)
}

fn time(sources: &[Source], allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        for call in ["SystemTime::now", "Instant::now", "thread::sleep"] {
            // A test may have a deadline, so that it fails instead of hanging; it may not sleep.
            let code = if call == "thread::sleep" { &source.code } else { &source.product };
            let is_allowed = allowed.iter().any(|(path, what, _)| *path == source.path && *what == call);
            if let Some(at) = code.find(call).filter(|_| !is_allowed) {
                let line = code[..at].matches('\n').count() + 1;
                violations.push(format!("{}:{line}: {call}; time comes from clock::Clock", source.path));
            }
        }
    }
    for (path, call, _) in allowed {
        let is_used = sources.iter().any(|source| source.path == *path && source.code.contains(call));
        if !is_used {
            violations.push(format!("TIME: {path} does not call {call}"));
        }
    }
    violations
}

fn threads(sources: &[Source]) -> Vec<String> {
    let documentation =
        sources.iter().find(|source| source.path == "src/lib.rs").map(|source| source.text.as_str());
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "sandbox") {
        if source.product.contains("thread::spawn(") {
            violations.push(format!("{}: a thread without a name", source.path));
        }
        let is_known = documentation.is_some_and(|text| text.contains(&format!("`{}`", &source.path[4..])));
        if source.product.contains("thread::Builder") && !is_known {
            violations.push(format!("{}: its thread is not in the table of src/lib.rs", source.path));
        }
    }
    violations
}

fn files(sources: &[Source]) -> Vec<String> {
    let undone = [concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut violations = Vec::new();
    for source in sources {
        let path = &source.path;
        if !source.text.starts_with("//! ") {
            violations.push(format!("{path}: does not begin with `//!`, what it is"));
        }
        let lines = source.product_lines();
        if lines > LINES_MAX && !source.product.is_empty() {
            violations.push(format!("{path}: {lines} lines without tests, {LINES_MAX} at most"));
        }
        for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            if source.code.contains(word) {
                violations.push(format!("{path}: {word}"));
            }
        }
        for line in let_chains(&source.code) {
            violations.push(format!(
                "{path}:{line}: a chain with `let`, which Cargo.toml's rust-version cannot read"
            ));
        }
        for word in undone.iter().filter(|word| source.text.contains(*word)) {
            violations.push(format!("{path}: {word}"));
        }
    }
    violations
}

/// The lines where `if` or `while` joins a `let` with `&&`: newer compilers, clippy among them, say nothing.
fn let_chains(code: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for (at, word) in ["if ", "while "].iter().flat_map(|word| code.match_indices(word)) {
        let (mut condition, mut depth) = (String::new(), 0);
        for c in code[at + word.len()..].chars() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' | ';' if depth == 0 => break,
                _ if depth == 0 => condition.push(c),
                _ => {}
            }
            if depth < 0 {
                break;
            }
        }
        if condition.split_whitespace().any(|word| word == "let") && condition.contains("&&") {
            lines.push(code[..at].matches('\n').count() + 1);
        }
    }
    lines
}

/// What `check` has against one file with this text.
fn against(check: impl Fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    let mut sources = vec![Source::new(path, text)];
    reading::without_test_files(&mut sources);
    check(&sources)
}

#[test]
fn a_room_that_names_another_is_found() {
    let table: &[(&str, &[&str])] = &[("clock", &[]), ("config", &[]), ("gate", &["clock", "config::units"])];
    let check = |text: &str, expect: &[&str]| {
        assert_eq!(against(|sources| rooms(sources, table), "src/gate/listen.rs", text), expect, "{text}");
    };
    check("use crate::clock::Clock;\nuse crate::gate::x;\nuse super::Limits;\n", &[]);
    check("use crate::config::units::size;\n", &[]);
    check("use crate::config::Config;\n", &["src/gate/listen.rs:1: gate may not name config"]);
    check("\nfn f() { crate::spool::open() }\n", &["src/gate/listen.rs:2: gate may not name spool::open"]);
    check(
        "use crate::{clock::{Clock, Timestamp}, config, verify::Secret};\n",
        &["src/gate/listen.rs:1: gate may not name config", "src/gate/listen.rs:1: gate may not name verify"],
    );
    check(
        "use super::super::config::Config;\n",
        &["src/gate/listen.rs: `super` leaves the room; say `crate::`"],
    );
    check(
        "// crate::spool\nconst A: &str = \"crate::spool\";\n#[cfg(test)]\nmod tests { use crate::spool::Spool; }\n",
        &[],
    );
    let circle: &[(&str, &[&str])] = &[("gate", &["clock"]), ("clock", &["gate"])];
    assert_eq!(rooms(&[], circle), ["gate: clock is not above it"]);
    assert_eq!(
        against(|sources| rooms(sources, table), "src/new.rs", ""),
        ["src/new.rs: new is no room of the table"]
    );
    let idle = against(|sources| unused(sources, table), "src/gate/mod.rs", "use crate::clock::Clock;\n");
    assert_eq!(idle, ["ROOMS: gate does not name config::units"]);
}

#[test]
fn a_crate_outside_its_room_is_found() {
    let check = |path: &str, text: &str, expect: usize| {
        let found = against(|sources| crates(sources, CRATES), path, text);
        assert_eq!(found.len(), expect, "{path}: {text}: {found:?}");
    };
    check("src/spool/tables.rs", "use sled::Db;\n", 0);
    check("src/spool/life.rs", "use sled::Db;\n", 1);
    check("src/cli/show.rs", "fn f() -> ureq::Error { todo() }\n", 1);
    check("src/cli/show.rs", "use tiny_http as http;\n", 1);
    check("src/cli/show.rs", "let sled = 1; // sled::open\nlet text = r#\"sled::\"#; our::sled::x();\n", 0);
    check("src/gate/mod.rs", "#[cfg(test)]\nmod tests {\n    use tiny_http::Server;\n}\n", 0);
    check("src/gate/mod.rs", "#[cfg(test)]\nmod tests;\nuse tiny_http::Server;\n", 1);
}

#[test]
fn somebody_elses_clock_is_found() {
    let check = |path: &str, text: &str, expect: &[&str]| {
        assert_eq!(against(|sources| time(sources, &[]), path, text), expect, "{text}");
    };
    check(
        "src/spool/mod.rs",
        "let now =\n    std::time::Instant::now();\n",
        &["src/spool/mod.rs:2: Instant::now; time comes from clock::Clock"],
    );
    check("src/spool/mod.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }\n", &[]);
    check(
        "tests/x.rs",
        "std::thread::sleep(SECOND);\n",
        &["tests/x.rs:1: thread::sleep; time comes from clock::Clock"],
    );
    let stale = time(&[], &[("src/clock.rs", "Instant::now", "why")]);
    assert_eq!(stale, ["TIME: src/clock.rs does not call Instant::now"]);
}

#[test]
fn nameless_threads_and_untidy_files_are_found() {
    let nameless = "fn f() { std::thread::spawn(g); }\n";
    assert_eq!(against(threads, "src/spool/mod.rs", nameless), ["src/spool/mod.rs: a thread without a name"]);
    let unknown = "fn f() { std::thread::Builder::new(); }\n";
    assert_eq!(against(threads, "src/spool/mod.rs", unknown).len(), 1);
    assert_eq!(against(files, "src/a.rs", "//! What.\n"), Vec::<String>::new());
    assert_eq!(against(files, "src/a.rs", "use b;\n").len(), 1);
    assert_eq!(against(files, "src/a.rs", "//! What.\nfn f() { todo!() }\n"), ["src/a.rs: todo!"]);
    assert_eq!(against(files, "tests/a.rs", "//! What.\n#[ignore]\nfn f() {}\n"), ["tests/a.rs: #[ignore"]);
    for chain in
        ["if let Some(a) = b\n && a {}", "while c() && let d = e {}", "else if a && (b) && let c = d {}"]
    {
        assert_eq!(let_chains(&format!("\n{chain}")), [2], "{chain}");
    }
    for fine in ["if a && b {} let c = d;", "if let Some(a) = b.filter(|a| c && d) {}", "a if b && c => {}"] {
        assert_eq!(let_chains(fine), [0; 0], "{fine}");
    }
    let (lines, tests) = ("fn f() {}\n".repeat(600), "fn t() {}\n".repeat(600));
    let long = |lines: &str| format!("//! What.\n{lines}#[cfg(test)]\nmod tests {{\n{tests}}}\n");
    assert_eq!(against(files, "src/a.rs", &long(&lines)), ["src/a.rs: 601 lines without tests, 600 at most"]);
    assert_eq!(against(files, "src/a.rs", &long(&lines[10..])), Vec::<String>::new());
}

#[test]
fn literals_and_tests_are_told_from_code() {
    let text = "let a = \"x\\\"// no\"; let b = 'c'; let d = '\\''; fn e<'f>() {} /* g\n */ let h = br#\"i\"#; // j\n";
    let source = Source::new("src/a.rs", text);
    let words: Vec<&str> = source.code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let b = ; let d = ; fn e<'f>() {} let h = b ;");
    assert_eq!(source.code.lines().count(), text.lines().count());
}
