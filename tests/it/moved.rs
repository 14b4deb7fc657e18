//! From one host to another: drained, or exported and imported; interrupted, repeated, in doubt: one effect.

use crate::harness::daemon::Daemon;
use crate::harness::events::{delivered, message};
use crate::harness::log::Log;
use crate::harness::{PATIENCE, USER, Verb, World, sandbox};
use deskspool::sandbox::{Effect, Fault, Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

fn chat(desk: &Sandbox) -> World {
    let mut world = World::new(desk);
    world.chat();
    world
}

fn export(world: &World, arguments: &[&str]) -> String {
    let verb = world.run(&[&["export", "-q"], arguments].concat());
    assert_eq!(verb.code, 0, "{verb:?}");
    verb.out
}

/// Imports a file and says how many were new and how many were known.
fn import(world: &World, text: &str) -> (u64, u64) {
    let file = world.path("moved.jsonl");
    fs::write(&file, text).expect("the directory is ours");
    let verb = world.run(&["import", "--json", file.to_str().expect("it is text")]);
    assert_eq!(verb.code, 0, "{verb:?}");
    let last = verb.out.lines().last().expect("it says something");
    let last: Value = serde_json::from_str(last).expect("an object");
    let count = |name: &str| last[name].as_u64().expect("a number");
    (count("imported"), count("known"))
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("it is there");
}

fn empty(daemon: &Daemon, world: &World) {
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
}

#[test]
fn what_is_moved_stays_as_it_was_and_is_delivered_once_whatever_is_repeated() {
    let desk = sandbox();
    let old = chat(&desk);
    let daemon = old.start();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("eva", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "no tickets");
    empty(&daemon, &old);
    // One more is done by Freshdesk, and nobody knows.
    desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").times(1));
    daemon.chat(&message("leo", 0));
    daemon.wait_for("attempt unknown");
    assert_eq!(old.run(&["pause", "delivery"]).code, 0);
    for number in 1..4 {
        daemon.chat(&message("ana", number));
    }
    daemon.chat(&message("mia", 0));
    daemon.eventually("all wait", || (old.queue("queued,deferred").len() == 5).then_some(()));
    assert_eq!(old.run(&["hold", "--conversation", "mia", "--for", "2h"]).code, 0);
    daemon.kill();
    let moved = export(&old, &[]);

    let new = chat(&desk);
    let daemon = new.start();
    // Cut off in the middle, and the daemon killed: what came of it is whole.
    let half: Vec<&str> = moved.lines().take(5).collect();
    let cut = new.path("cut.jsonl");
    fs::write(&cut, half.join("\n") + "\n{\"type\":\"envel").unwrap();
    let verb = new.run(&["import", cut.to_str().unwrap()]);
    assert_eq!(verb.code, 1, "{verb:?}");
    assert!(verb.err.contains("cut.jsonl was cut off after "), "{}", verb.err);
    daemon.kill();
    let daemon = new.start();
    let (first, known) = import(&new, &moved);
    assert_eq!((first + known, first > 0), (5, true));
    assert_eq!(import(&new, &moved), (0, 5));
    empty(&daemon, &new);
    let held = new.queue("held");
    assert_eq!((held.len(), held[0]["conversation"].as_str()), (1, Some("mia")), "{held:?}");
    let shown = new.run(&["show", &held[0]["id"].to_string()]);
    assert!(shown.out.contains("origin       imported; 7 in spool "), "{}", shown.out);
    assert_eq!(new.run(&["release", "--all"]).code, 0);
    empty(&daemon, &new);
    assert_eq!(import(&new, &moved), (0, 5), "delivered ones are known, too");
    daemon.kill();
    let daemon = new.start();
    assert_eq!(import(&new, &moved), (0, 5), "after a kill, too");
    // The platform sends again what the old host took and delivered.
    daemon.chat(&message("eva", 0));
    empty(&daemon, &new);
    let tickets = desk.tickets();
    assert_eq!(tickets.len(), 4, "{tickets:#?}");
    assert_eq!(delivered(&tickets, "ana"), [0, 1, 2, 3]);
    for conversation in ["eva", "leo", "mia"] {
        assert_eq!(delivered(&tickets, conversation), [0], "{conversation}");
    }
    daemon.stop();
}

#[test]
fn an_importer_that_is_killed_and_dead_letters_with_filters() {
    let desk = sandbox();
    let mut old = chat(&desk);
    let lines = "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket = { type = \"Nothing we have\" }";
    old.source("broken", lines);
    let daemon = old.start();
    for number in 0..2 {
        let answer = daemon.post("/in/broken", "chat-secret", &message(&format!("b{number}"), 0));
        assert_eq!(answer.status, 200);
    }
    daemon.eventually("the dead letters", || (old.queue("dead").len() == 2).then_some(()));
    let running = old.run(&["export"]);
    assert_eq!((running.code, running.err.as_str()), (0, ""), "nothing of it is delivered any more");
    desk.set_down(true).unwrap();
    daemon.chat(&message("ana", 0));
    let running = old.run(&["export"]);
    assert!(running.err.starts_with("warning: this host goes on delivering"), "{}", running.err);
    let dead = export(&old, &["--state", "dead", "--match", "b1"]);
    daemon.stop();
    desk.set_down(false).unwrap();

    let mut new = chat(&desk);
    new.source("broken", lines);
    let daemon = new.start();
    let mut child = spawn(new.command(&["import", "-"]));
    let mut feed = child.stdin.take().unwrap();
    // More than one request's lines, so that the first is sent before the end.
    let settled = "{\"type\":\"unreadable\",\"id\":1,\"source\":\"x\",\"reason\":\"x\"}\n".repeat(1000);
    let (head, rest) = dead.split_once('\n').unwrap();
    feed.write_all(format!("{head}\n{}\n{settled}", rest.lines().next().unwrap()).as_bytes()).unwrap();
    feed.flush().unwrap();
    daemon.wait_for("imported envelopes=1 known=0");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(import(&new, &dead), (0, 1));
    let letters = new.queue("dead");
    assert_eq!((letters.len(), letters[0]["event"].as_str()), (1, Some("b1-0")), "{letters:?}");
    let reason = letters[0]["last_error"].as_str().unwrap();
    assert!(reason.contains("type is invalid"), "{reason}");
    let nonsense = new.path("nonsense");
    fs::write(&nonsense, "{\"type\":\"head\",\"format\":1,\"version\":\"\",\"spool\":\"\",\"exported_at\":\"\",\"waiting\":0}\nhello\n").unwrap();
    let refused = new.run(&["import", nonsense.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("line 2: not a line of an export"), "{}", refused.err);
    daemon.stop();
}

#[test]
fn a_drain_pauses_intake_and_says_how_it_ended() {
    let desk = sandbox();
    let world = chat(&desk);
    let daemon = world.start();
    desk.set_down(true).unwrap();
    daemon.chat(&message("ana", 0));
    let over = world.run(&["drain", "--timeout", "1s"]);
    assert_eq!(over.code, 1, "{over:?}");
    assert!(over.err.starts_with("intake paused, platforms get 503 and keep their events\n"), "{}", over.err);
    assert_eq!(
        over.out,
        "not empty after 1s: 1 left (deskspool queue), and delivery goes on\nintake stays paused, platforms keep their events: deskspool resume intake\n"
    );
    assert_eq!(daemon.post("/in/chat", "chat-secret", &message("ana", 1)).status, 503);
    let mut child = spawn(world.command(&["drain"]));
    let said = Log::of(child.stderr.take().unwrap());
    said.wait_for(&format!("intake is paused by {USER}: draining already"), 0, PATIENCE).expect("it says so");
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(out.starts_with("interrupted: 1 left, and delivery goes on\nintake stays paused"), "{out}");
    desk.set_down(false).unwrap();
    let done = world.run(&["drain", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let last: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["empty"], &last["left"], &last["intake"]), (&true.into(), &0.into(), &"paused".into()));
    assert_eq!(delivered(&desk.tickets(), "ana"), [0]);
    assert_eq!(world.run(&["resume", "intake"]).code, 0);
    daemon.chat(&message("ana", 2));
    assert_eq!(world.run(&["drain", "--timeout", "soon"]).code, 2);
    daemon.stop();
}

#[test]
fn the_log_tells_the_past_in_order_and_follows() {
    let desk = sandbox();
    let world = chat(&desk);
    let daemon = world.start();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("eva", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "no tickets");
    empty(&daemon, &world);
    let lines = |verb: &Verb| -> Vec<(String, u64)> {
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["what"].as_str().unwrap().to_owned(), line["id"].as_u64().unwrap())
        };
        verb.out.lines().map(line).collect()
    };
    let check = |arguments: &[&str], expect: &[(&str, u64)]| {
        let mut told = lines(&world.run(&[&["log", "--json"], arguments].concat()));
        told.sort_by_key(|(_, id)| *id);
        let told: Vec<(&str, u64)> = told.iter().map(|(what, id)| (what.as_str(), *id)).collect();
        assert_eq!(told, expect, "{arguments:?}");
    };
    check(&[], &[("accepted", 1), ("delivered", 1), ("accepted", 2), ("delivered", 2)]);
    check(&["--conversation", "eva"], &[("accepted", 2), ("delivered", 2)]);
    check(&["--state", "delivered", "--since", "1h", "ana-0"], &[("delivered", 1)]);
    check(&["--source", "nobody"], &[]);
    let last = world.run(&["log", "-n", "1"]);
    assert_eq!(
        (last.out.lines().count(), last.err.as_str()),
        (1, "3 earlier lines are left out: -n 0 shows all\n")
    );
    let mut child = spawn(world.command(&["log", "-f", "--state", "delivered,dead"]));
    let out = Log::of(child.stdout.take().unwrap());
    out.wait_for("delivered  chat", 0, PATIENCE).expect("the past");
    daemon.chat(&message("leo", 0));
    let line = out.wait_for("      3  delivered  chat        ticket 3, ", 0, PATIENCE);
    assert!(line.is_some(), "{:?}", out.all());
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(out.all().len(), 3, "each once, and nothing else: {:?}", out.all());
    daemon.stop();
}

#[test]
fn status_is_drawn_again_until_it_is_interrupted() {
    let desk = sandbox();
    let world = chat(&desk);
    let daemon = world.start();
    let mut child = spawn(world.command(&["status", "--watch", "--json"]));
    let out = Log::of(child.stdout.take().unwrap());
    out.wait_for("{", 1, PATIENCE).expect("a second one");
    daemon.stop();
    out.wait_for("{\"error\":\"deskspool is not running", 0, PATIENCE).expect("it says so");
    let daemon = world.start();
    let lines = out.all().len();
    out.wait_for("{\"version\"", lines, PATIENCE).expect("it comes back");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    daemon.stop();
}
