//! The verbs, as an admin types them (interface.md §4.2), against a running daemon and without one.

use crate::harness::events::message;
use crate::harness::{Daemon, PATIENCE, Verb, World, sandbox};
use deskspool::sandbox::Sandbox;
use std::os::unix::fs::PermissionsExt;

/// A world in which source `chat` delivers and source `broken` dies at Freshdesk's form.
fn world_with_dead_letters(desk: &Sandbox, dead: usize) -> (World, Daemon) {
    let mut world = World::new(desk);
    let lines = "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket = { type = \"Nothing we have\" }";
    world.chat().source("broken", lines);
    let daemon = world.start();
    for number in 0..dead {
        let answer = daemon.post("/in/broken", "chat-secret", &message(&format!("b{number}"), 0));
        assert_eq!(answer.status, 200);
    }
    daemon.eventually("the dead letters", || (world.queue("dead").len() == dead).then_some(()));
    (world, daemon)
}

/// The words of the first line that begins with `first`.
fn words(text: &str, first: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(first));
    let line = line.unwrap_or_else(|| panic!("no line for {first} in\n{text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

fn code_and_out(verb: &Verb) -> (i32, &str) {
    (verb.code, verb.out.as_str())
}

#[test]
fn status_is_one_screen_and_says_whether_it_needs_you() {
    let desk = sandbox();
    let (world, daemon) = world_with_dead_letters(&desk, 0);
    let quiet = world.run(&["status"]);
    assert_eq!(quiet.code, 0, "{quiet:?}");
    assert!(quiet.out.starts_with("deskspool 0.1.0   up "), "{}", quiet.out);
    assert!(quiet.out.ends_with("\nnothing needs you\n"), "{}", quiet.out);
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(daemon.post("/in/broken", "chat-secret", &message("b", 0)).status, 200);
    daemon.eventually("the dead letter", || (world.queue("dead").len() == 1).then_some(()));
    let status = daemon.eventually("the delivery is counted", || {
        Some(world.run(&["status"])).filter(|status| words(&status.out, "chat")[3] == "1")
    });
    assert_eq!(status.code, 1, "{status:?}");
    for (room, word) in [("intake", "receiving"), ("delivery", "running"), ("freshdesk", "reachable")] {
        assert_eq!(words(&status.out, room)[1], word, "{}", status.out);
    }
    let sums = words(&status.out, "queued").join(" ");
    assert!(sums.starts_with("queued 0 in-flight 0 deferred 0 held 0 dead 1"), "{sums}");
    let head =
        ["SOURCE", "LAST", "24H", "IN", "DELIVERED", "FILTERED", "DUPLICATE", "REFUSED", "WAITING", "DEAD"];
    assert_eq!(words(&status.out, "SOURCE"), head);
    assert_eq!(words(&status.out, "chat")[2..], ["1", "1", "0", "0", "0", "0", "0"]);
    assert_eq!(words(&status.out, "broken")[2..], ["1", "0", "0", "0", "0", "0", "1"]);
    let need = status.out.lines().last().unwrap();
    assert!(need.starts_with("  1 dead ") && need.ends_with("deskspool queue --state dead"), "{need}");
    assert!(need.contains("broken: freshdesk 400: type is invalid (ticket.type)"), "{need}");
    let json: serde_json::Value = serde_json::from_str(&world.run(&["status", "--json"]).out).unwrap();
    assert_eq!((&json["spool"]["dead"], &json["needs_you"][0]["count"]), (&1.into(), &1.into()), "{json}");
    daemon.stop();
}

#[test]
fn queue_lists_filters_and_says_when_there_is_nothing() {
    let desk = sandbox();
    let (world, daemon) = world_with_dead_letters(&desk, 2);
    let nothing = world.run(&["queue"]);
    assert_eq!(nothing.code, 0);
    assert!(nothing.out.starts_with("The spool is empty. Last event "), "{}", nothing.out);
    desk.set_down(true).unwrap();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("ana", 1));
    daemon.wait_for("attempt deferred");
    let queue = daemon.eventually("both wait", || {
        let queue = world.run(&["queue"]);
        (queue.out.contains("after 3") && words(&queue.out, "3")[1] == "deferred").then_some(queue)
    });
    let head = [
        "ID",
        "STATE",
        "SOURCE",
        "CONVERSATION",
        "REQUESTER",
        "AGE",
        "TRIES",
        "NEXT",
        "TRY",
        "LAST",
        "ERROR",
    ];
    assert_eq!(words(&queue.out, "ID"), head);
    assert_eq!(words(&queue.out, "3")[..6], ["3", "deferred", "chat", "ana", "Customer", "ana"]);
    assert_eq!(words(&queue.out, "4")[..4], ["4", "queued", "chat", "ana"]);
    let last = queue.out.lines().last().unwrap();
    assert!(
        last.starts_with("2 waiting, oldest ")
            && last.ends_with("2 dead not shown: deskspool queue --state dead")
    );
    let check = |arguments: &[&str], ids: &[u64]| {
        let verb = world.run(&[&["queue", "--json"], arguments].concat());
        let rows = verb.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        assert_eq!(rows.map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>(), ids, "{arguments:?}");
    };
    check(&[], &[1, 2, 3, 4]);
    check(&["--state", "dead"], &[1, 2]);
    check(&["--source", "chat"], &[3, 4]);
    check(&["--source", "chat", "--state", "dead,held"], &[]);
    check(&["--conversation", "b1"], &[2]);
    check(&["--match", "B0-0"], &[1]);
    check(&["--since", "1h"], &[1, 2, 3, 4]);
    check(&["--until", "1h"], &[]);
    assert_eq!(code_and_out(&world.run(&["queue", "--source", "nobody"])), (0, "nothing matches\n"));
    let usage = world.run(&["queue", "--state", "lost"]);
    assert_eq!((usage.code, usage.out.as_str()), (2, ""));
    assert!(usage.err.starts_with("error: --state lost: allowed are queued, "), "{}", usage.err);
    assert_eq!(world.run(&["mailq"]).out.lines().next(), queue.out.lines().next());
    daemon.stop();
}

#[test]
fn show_tells_an_envelopes_story() {
    let desk = sandbox();
    let (world, daemon) = world_with_dead_letters(&desk, 1);
    let show = world.run(&["show", "1"]);
    assert_eq!(show.code, 0, "{show:?}");
    assert!(show.out.starts_with("1  dead  broken  conversation b0\n"), "{}", show.out);
    assert_eq!(words(&show.out, "event")[1], "b0-0,");
    assert_eq!(words(&show.out, "will")[..4], ["will", "do", "create", "ticket"]);
    let attempts = show.out.split("  attempts\n").nth(1).expect("it was attempted");
    let first: Vec<&str> = attempts.lines().next().unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[3], first[4]), ("1", "rejected", "freshdesk"), "{attempts}");
    assert!(words(&show.out, "why").join(" ").contains("type is invalid"), "{}", show.out);
    let body = world.run(&["show", "1", "--body"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body.out).unwrap()["event_id"], "b0-0");
    let ticket = world.run(&["show", "1", "--ticket"]);
    assert!(ticket.out.contains("Nothing we have"), "{}", ticket.out);
    let unknown = world.run(&["show", "99"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(unknown.err.starts_with("error: there is no envelope 99\n"), "{}", unknown.err);
    daemon.stop();
}

#[test]
fn drop_names_what_it_drops_and_refuses_in_a_script_without_yes() {
    let desk = sandbox();
    let (world, daemon) = world_with_dead_letters(&desk, 3);
    let asked = world.run(&["drop", "--state", "dead"]);
    assert_eq!((asked.code, asked.out.as_str()), (2, ""), "{asked:?}");
    assert!(asked.err.contains("drop 3 envelopes (broken 3)? They stay in history."), "{}", asked.err);
    assert!(asked.err.contains("--yes"), "{}", asked.err);
    assert_eq!(world.queue("dead").len(), 3, "nothing happened");
    assert_eq!(code_and_out(&world.run(&["drop", "2", "--yes"])), (0, "1 dropped: broken 1\n"));
    let unknown = world.run(&["drop", "2", "77", "--yes"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown.err.contains("error: 77 waits for nothing: it is settled, or there never was one"),
        "{}",
        unknown.err
    );
    assert_eq!(world.run(&["drop", "--yes"]).code, 2, "without ids or filters");
    assert_eq!(code_and_out(&world.run(&["drop", "--state", "dead", "--yes"])), (0, "2 dropped: broken 2\n"));
    assert_eq!((world.queue("dead").len(), world.queue("dropped").len()), (0, 3));
    assert_eq!(world.run(&["status"]).code, 0);
    daemon.stop();
}

#[test]
fn reload_tells_what_changed_and_keeps_the_old_on_error() {
    let desk = sandbox();
    let (mut world, daemon) = world_with_dead_letters(&desk, 0);
    assert_eq!(code_and_out(&world.run(&["reload"])), (0, "reloaded: nothing changed\n"));
    world.source("news", "preset = \"generic@1\"\nsecret = \"news-secret\"").remove("source.broken");
    world.set("server", "listen", "\"127.0.0.1:1\"").write();
    let reloaded = world.run(&["reload"]);
    assert_eq!(reloaded.code, 0, "{reloaded:?}");
    assert!(reloaded.out.contains("source.news added"), "{}", reloaded.out);
    assert!(reloaded.out.contains("source.broken removed"), "{}", reloaded.out);
    assert!(
        reloaded.out.contains("needs a restart: server.listen (127.0.0.1:0 → 127.0.0.1:1)"),
        "{}",
        reloaded.out
    );
    assert_eq!(daemon.post("/in/news", "news-secret", &message("n", 0)).status, 200);
    assert_eq!(daemon.post("/in/broken", "chat-secret", &message("b", 0)).status, 404);
    world.set("delivery", "workrs", "3").write();
    let refused = world.run(&["reload"]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    assert!(refused.err.contains("unknown key in [delivery], did you mean workers?"), "{}", refused.err);
    assert!(
        refused.err.contains("not applied; still running the configuration loaded at "),
        "{}",
        refused.err
    );
    daemon.chat(&message("ana", 0));
    assert_eq!(daemon.post("/in/news", "news-secret", &message("n", 1)).status, 200);
    daemon.stop();
}

#[test]
fn without_a_daemon_verbs_say_what_to_do() {
    let desk = sandbox();
    let world = World::new(&desk);
    world.write();
    let verbs: [&[&str]; 5] =
        [&["status"], &["queue"], &["retry", "--all"], &["drop", "1", "--yes"], &["reload"]];
    for arguments in verbs {
        let verb = world.run(arguments);
        let expect = format!(
            "error: deskspool is not running (no answer on {})\n   = systemctl status deskspool; journalctl -u deskspool -n 50\n",
            world.socket().display()
        );
        assert_eq!((verb.code, verb.out.as_str(), verb.err), (3, "", expect), "{arguments:?}");
    }
}

#[test]
fn the_control_socket_is_for_owner_and_group() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let mode = std::fs::metadata(world.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660, "{mode:o}");
    daemon.stop();
    assert!(!world.socket().exists(), "it goes with the daemon");
}

#[test]
fn check_asks_freshdesk_unless_told_not_to() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().write();
    let good = world.run(&["check"]);
    assert_eq!(good.code, 0, "{good:?}");
    let answers = format!("  ok    freshdesk: {} answers, key belongs to ", desk.address());
    assert!(good.out.contains(&answers), "{}", good.out);
    desk.set_key("another-key");
    let wrong = world.run(&["check"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    let says = format!(
        "  error freshdesk: {} says 401, the API key is wrong or belongs to a deactivated agent\n",
        desk.address()
    );
    assert!(wrong.out.contains(&says), "{}", wrong.out);
    let key = "= key: Profile settings > View API key. Envelopes wait, nothing is lost.\n";
    assert!(wrong.out.contains(key), "{}", wrong.out);
    let calls = desk.requests().len();
    let offline = world.run(&["check", "--offline"]);
    assert_eq!((offline.code, offline.out.contains("freshdesk:")), (0, false), "{offline:?}");
    assert_eq!(desk.requests().len(), calls);
    world.set("delivery", "workrs", "3").write();
    let bad = world.run(&["check", "--offline"]);
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.out.contains("did you mean workers?"), "{}", bad.out);
}
