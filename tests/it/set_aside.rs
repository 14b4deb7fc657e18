//! `hold`, `release`, `pause`, `resume`: what an admin sets aside for a while, and what comes back.

use crate::harness::events::message;
use crate::harness::{Daemon, PATIENCE, USER, World, sandbox};
use serde_json::Value;

fn said(world: &World, arguments: &[&str]) -> String {
    let verb = world.run(arguments);
    assert_eq!((verb.code, verb.err.as_str()), (0, ""), "{arguments:?}: {verb:?}");
    verb.out
}

/// Waits until so many envelopes are in a state.
fn wait(world: &World, daemon: &Daemon, state: &str, count: usize) {
    daemon.eventually(state, || (world.queue(state).len() == count).then_some(()));
}

#[test]
fn held_envelopes_wait_until_they_are_released() {
    let mut desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    desk.set_down(true).expect("it can be taken down");
    ["ana", "eva", "luz"].iter().for_each(|who| daemon.chat(&message(who, 0)));
    wait(&world, &daemon, "queued,deferred", 3);
    let held = "1 held. Let them go: deskspool release --all\n";
    daemon.eventually("it is not in flight", || {
        (world.run(&["hold", "1", "--reason", "asking"]).out == held).then_some(())
    });
    let row = &world.queue("held")[0];
    assert_eq!((&row["id"], &row["last_error"]), (&1.into(), &"asking".into()), "{row}");
    let again = world.run(&["hold", "1", "99"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(
        again.err.contains("error: 1 is left as it is") && again.err.contains("error: 99 waits for nothing")
    );
    let alone = world.run(&["release", "2"]);
    assert_eq!((alone.code, alone.out.as_str()), (1, "nothing is released because of this\n"), "{alone:?}");
    desk.set_down(false).expect("it comes back");
    wait(&world, &daemon, "delivered", 2);
    assert_eq!(world.queue("held").len(), 1, "it stays");
    assert_eq!(said(&world, &["release", "--all"]), "1 released, due now. Watch: deskspool queue\n");
    wait(&world, &daemon, "delivered", 3);
    assert_eq!(world.run(&["hold"]).code, 2);
    let wrong = world.run(&["hold", "--all", "--for", "soon"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""), "{wrong:?}");
    daemon.stop();
    desk.stop();
}

#[test]
fn a_hold_for_a_time_ends_by_itself() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    said(&world, &["pause", "delivery"]);
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("eva", 0));
    assert_eq!(
        said(&world, &["hold", "--all", "--for", "1s"]),
        "2 held for 1s. Let them go: deskspool release --all\n"
    );
    said(&world, &["resume", "delivery"]);
    daemon.wait_for("holds are over released=2");
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "no tickets");
    daemon.stop();
}

#[test]
fn a_paused_intake_sends_platforms_away_and_survives_a_restart() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let out = said(&world, &["pause", "intake", "--reason", "migrating", "--for", "2h"]);
    assert!(out.starts_with("intake paused until 2"), "{out}");
    assert!(out.ends_with("Z, platforms get 503 and keep their events\n"), "{out}");
    assert_eq!(daemon.post("/in/chat", "chat-secret", &message("ana", 0)).status, 503);
    daemon.stop();
    let daemon = world.start();
    assert_eq!(daemon.post("/in/chat", "chat-secret", &message("ana", 0)).status, 503);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    let by = format!("by {USER}: migrating, resumes in 1h");
    assert!(status.out.contains(&format!("  intake     paused {by}")), "{}", status.out);
    let need = status.out.lines().last().unwrap_or_default();
    assert!(need.starts_with(&format!("  1 paused    intake {by}")), "{}", status.out);
    assert!(need.ends_with("deskspool resume intake"), "{}", status.out);
    assert_eq!(said(&world, &["resume", "intake"]), "intake resumed\n");
    let again = world.run(&["resume", "intake"]);
    assert_eq!((again.code, again.err.as_str()), (1, "error: intake is not paused\n"), "{again:?}");
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(world.run(&["status"]).code, 0);
    daemon.stop();
}

#[test]
fn a_paused_source_is_held_and_the_others_go_on() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().source("news", "preset = \"generic@1\"\nsecret = \"chat-secret\"").start();
    assert_eq!(said(&world, &["pause", "news"]), "news paused, events of news are taken and held\n");
    assert_eq!(daemon.post("/in/news", "chat-secret", &message("eva", 0)).status, 200);
    daemon.chat(&message("ana", 0));
    wait(&world, &daemon, "held", 1);
    assert_eq!(world.queue("held")[0]["last_error"], "source.news is paused");
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    let json: Value = serde_json::from_str(&said(&world, &["resume", "news", "--json"])).expect("JSON");
    assert_eq!(json["text"], "news resumed, 1 released");
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "no ticket");
    let unknown = world.run(&["pause", "nobody"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    let error =
        "error: there is no [source.nobody]; what can be paused: intake, delivery, or the name of a source\n";
    assert_eq!(unknown.err, error);
    daemon.stop();
}

#[test]
fn a_paused_delivery_takes_events_and_asks_nothing() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    assert_eq!(said(&world, &["pause", "delivery"]), "delivery paused, events are taken and wait\n");
    let calls = desk.requests().len();
    daemon.chat(&message("ana", 0));
    wait(&world, &daemon, "queued", 1);
    assert!(world.run(&["status"]).out.contains("  delivery   paused"));
    assert_eq!(desk.requests().len(), calls);
    assert_eq!(said(&world, &["resume", "delivery"]), "delivery resumed\n");
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}
