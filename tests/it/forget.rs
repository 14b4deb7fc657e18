//! `deskspool forget`: what is held about one person leaves the disk, everybody else's events are delivered as ever.

use crate::harness::events::{delivered, message};
use crate::harness::{Daemon, PATIENCE, World, sandbox};
use serde_json::Value;
use std::path::Path;

/// Files under `directory` that contain these bytes.
fn files_with(directory: &Path, wanted: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the spool is there") {
        let path = entry.expect("it is listed").path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let is_there = bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes());
            found.extend(is_there.then(|| path.display().to_string()));
        }
    }
    found
}

fn states(world: &World, daemon: &Daemon, state: &str, count: usize) {
    daemon.eventually(state, || (world.queue(state).len() == count).then_some(()));
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).expect("one object")
}

#[test]
fn one_person_goes_and_all_others_arrive() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    daemon.chat(&message("quilla", 0));
    daemon.chat(&message("eva", 0));
    states(&world, &daemon, "delivered", 2);
    desk.set_down(true).expect("it can be taken down");
    for number in 1..4 {
        daemon.chat(&message("quilla", number));
        daemon.chat(&message("eva", number));
    }
    states(&world, &daemon, "queued,deferred", 6);
    assert!(!files_with(&world.path("spool"), "quilla@example.com").is_empty(), "it is held");

    let would = world.run(&["forget", "QUILLA@example.com", "--dry-run", "--json"]);
    assert_eq!(would.code, 0, "{would:?}");
    let would = object(&would.out);
    assert_eq!((would["texts"].as_u64(), would["receipt"].as_str()), (Some(4), Some("")), "{would}");
    assert_eq!(would["history"], serde_json::json!([1]));
    let asked = world.run(&["forget", "quilla@example.com"]);
    assert_eq!(asked.code, 2);
    assert!(asked.err.contains("add --yes to forget it without being asked"), "{asked:?}");
    assert_eq!(world.queue("queued,deferred,in-flight").len(), 6, "nothing has changed");

    let done = daemon.eventually("nothing of hers is in flight", || {
        let done = world.run(&["forget", "Customer quilla", "--yes"]);
        (done.code == 0).then_some(done)
    });
    assert!(done.out.starts_with("forgotten, ") && done.out.contains("  receipt    sha256:"), "{done:?}");
    assert!(!done.out.contains("quilla") && !done.err.contains("quilla"), "{done:?}");
    for wanted in ["quilla@example.com", "Customer quilla", "token-quilla", "quilla"] {
        assert_eq!(files_with(&world.path("spool"), wanted), Vec::<String>::new(), "{wanted}");
    }
    assert!(!daemon.wait_for("requester forgotten").contains("quilla"));
    let dropped = world.queue("dropped");
    assert_eq!(dropped.len(), 3, "what waited is told as dropped: {dropped:?}");
    assert!(dropped.iter().all(|row| row["conversation"] == "" && row["event"] == ""), "{dropped:?}");
    let shown = world.run(&["show", &dropped[0]["id"].to_string()]);
    assert!(shown.out.contains("forgotten"), "{shown:?}");

    let again = world.run(&["forget", "quilla@example.com", "--yes"]);
    assert_eq!((again.code, again.out.starts_with("nothing is held")), (1, true), "{again:?}");
    // Killed, so that the journal is read at the next start.
    daemon.kill();

    let daemon = world.start();
    desk.set_down(false).expect("it comes back");
    daemon.eventually("all of eva's arrive", || (delivered(&desk.tickets(), "eva").len() == 4).then_some(()));
    assert_eq!(delivered(&desk.tickets(), "eva"), [0, 1, 2, 3], "each once, in order");
    assert_eq!(delivered(&desk.tickets(), "quilla"), [0], "only what Freshdesk had before");
    // Sent again, it is known by its hash.
    daemon.chat(&message("quilla", 2));
    daemon.chat(&message("eva", 4));
    daemon.eventually("the last one", || (delivered(&desk.tickets(), "eva").len() == 5).then_some(()));
    assert_eq!(delivered(&desk.tickets(), "quilla"), [0]);
    daemon.stop();
}

#[test]
fn dead_letters_go_whether_a_mapping_finds_somebody_or_not() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.source(
        "chat",
        "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket = { subject = \"{{ event.nothing }}\" }",
    );
    let daemon = world.start();
    daemon.chat(&message("quilla", 0));
    daemon.chat(&message("eva", 0));
    daemon.post("/in/chat", "chat-secret", "this is no JSON, says Quilla@example.com");
    states(&world, &daemon, "dead", 3);
    let done = world.run(&["forget", "quilla@example.com", "--yes", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = object(&done.out);
    assert_eq!((&done["dead"], &done["is_gone"]), (&serde_json::json!([1, 3]), &true.into()), "{done}");
    assert_eq!(files_with(&world.path("spool"), "uilla@example.com"), Vec::<String>::new());
    assert_eq!(world.queue("dead").len(), 1);
    assert_eq!(world.run(&["forget", " "]).code, 1);
    daemon.stop();
}

#[test]
fn what_is_private_is_not_shown_but_delivered() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.set("privacy", "redact", "[\"name\", \"email\", \"text\"]");
    let daemon = world.chat().start();
    desk.set_down(true).expect("it can be taken down");
    daemon.chat(&message("quilla", 0));
    states(&world, &daemon, "queued,deferred", 1);
    for arguments in [&["queue"][..], &["show", "1"], &["show", "1", "--body"], &["show", "1", "--ticket"]] {
        let shown = world.run(arguments);
        assert_eq!(shown.code, 0, "{shown:?}");
        for private in ["Customer quilla", "quilla@example.com", "token-quilla"] {
            assert!(!shown.out.contains(private), "{arguments:?}: {}", shown.out);
        }
        assert!(shown.out.contains("[hidden]"), "{arguments:?}: {}", shown.out);
    }
    assert_eq!(world.run(&["queue", "--match", "customer"]).out, "nothing matches\n", "nor found");
    let body = object(&world.run(&["show", "1", "--body"]).out);
    assert_eq!((&body["text"], &body["conversation_id"]), (&"[hidden]".into(), &"quilla".into()), "{body}");
    world.set("privacy", "redact", "[]").write();
    let reloaded = world.run(&["reload"]);
    assert_eq!(reloaded.out, "reloaded: privacy.redact changed\n", "{reloaded:?}");
    assert!(world.run(&["show", "1"]).out.contains("Customer quilla"));
    desk.set_down(false).expect("it comes back");
    daemon.eventually("it arrives whole", || (delivered(&desk.tickets(), "quilla") == [0]).then_some(()));
    daemon.stop();
}

#[test]
fn the_log_shows_no_number_that_is_to_be_hidden() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.set("privacy", "redact", "[\"phone\"]");
    let lines = "preset = \"generic@1\"\nsecret = \"chat-secret\"\nconversation = \"{{ event.phone }}\"";
    let daemon = world.source("chat", lines).start();
    let from =
        |number: u64| format!("{{\"text\":\"Hi\",\"phone\":\"+5730011122{number}\",\"name\":\"Ana\"}}");
    daemon.chat(&from(33));
    states(&world, &daemon, "delivered", 1);
    let mut command = world.command(&["log", "-f"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let log = crate::harness::log::Log::of(child.stdout.take().expect("it is piped"));
    log.wait_for("delivered", 0, PATIENCE).expect("the past");
    daemon.chat(&from(44));
    states(&world, &daemon, "delivered", 2);
    log.wait_for("ticket 2", 0, PATIENCE).expect("what came since");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let text = log.all().join("\n") + &world.run(&["log", "--json"]).out;
    assert!(text.contains("       2  accepted   chat        event sha256:"), "{text}");
    assert!(text.contains("conversation [hidden]") && !text.contains("30011122"), "{text}");
    // It goes to another host whole.
    assert!(world.run(&["export", "--state", "delivered"]).out.contains("+573001112233"));
    daemon.stop();
}
