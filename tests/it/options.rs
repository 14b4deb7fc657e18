//! The options of every verb, the variables beside them, and a reader that leaves.

use crate::harness::{BINARY, World, sandbox};
use std::process::{Command, Output, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The binary with nothing but these variables of ours.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    for name in ["DESKSPOOL_CONFIG", "DESKSPOOL_SOCKET", "DESKSPOOL_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

#[test]
fn variables_stand_for_options_and_options_win() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let config = world.config().display().to_string();
    let socket = world.socket().display().to_string();
    let variables = [("DESKSPOOL_CONFIG", config.as_str()), ("DESKSPOOL_SOCKET", socket.as_str())];
    assert_eq!(run(&["status"], &variables).status.code(), Some(0));
    let shown = run(&["config", "source.chat.preset", "--json"], &variables);
    assert!(text(&shown.stdout).contains("generic@1"), "{shown:?}");
    let nobody = run(&["status", "--socket", "/nonexistent/control.sock"], &variables);
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    let expect = "error: deskspool is not running (no answer on /nonexistent/control.sock)\n   \
        = systemctl status deskspool; journalctl -u deskspool -n 50\n   = but spool ";
    let told = text(&nobody.stderr);
    assert!(told.starts_with(expect), "{told}");
    assert!(told.ends_with("does it listen on another socket? --socket PATH\n"), "{told}");
    // Without a socket said, the one in the spool of the configuration is found.
    let found = run(&["queue", "--config", &config], &[]);
    assert_eq!(found.status.code(), Some(3), "the socket of this daemon is elsewhere: {found:?}");
    daemon.stop();
}

#[test]
fn colour_is_for_terminals_unless_somebody_insists() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let socket = world.socket().display().to_string();
    let has_colour = |when: &[&str], variables: &[(&str, &str)]| {
        let shown = run(&[&["status", "--socket", &socket], when].concat(), variables);
        assert_eq!(shown.status.code(), Some(0), "{shown:?}");
        text(&shown.stdout).contains("\x1b[")
    };
    assert!(!has_colour(&[], &[]), "a pipe");
    assert!(!has_colour(&["--color", "never"], &[]));
    assert!(has_colour(&["--color", "always"], &[]));
    assert!(
        has_colour(&["--color", "always"], &[("NO_COLOR", "1")]),
        "the option is nearer than the variable"
    );
    let quiet = run(&["status", "--quiet", "--socket", &socket], &[]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout).as_str()), (Some(0), ""));
    let json = run(&["--json", "status", "--socket", &socket], &[]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok(), "{json:?}");
    daemon.stop();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in
        [&["man", "deskspool.toml.5"][..], &["preset", "show", "sendpulse"], &["--help"], &["demo", "--once"]]
    {
        let mut child = Command::new(BINARY)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn wrong_words_are_2_and_say_what_is_allowed() {
    let check = |arguments: &[&str], expect: &str| {
        let said = run(arguments, &[]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(text(&said.stderr).contains(expect), "{said:?}");
        assert!(said.stdout.is_empty(), "{said:?}");
    };
    check(&["nosuch"], "unrecognized subcommand 'nosuch'");
    check(&["statsu"], "similar subcommand exists: 'status'");
    check(&["--color", "blue", "status"], "[possible values: auto, always, never]");
    check(&["completions", "tcsh"], "[possible values: bash, zsh, fish]");
    check(&["show", "abc"], "invalid value 'abc'");
}
