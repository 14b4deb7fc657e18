//! A configuration is applied as a whole or not at all; what waits goes by the new one.

use crate::harness::events::{delivered, message};
use crate::harness::{PATIENCE, World, sandbox};

const CHAT: &str = "preset = \"generic@1\"\nsecret = \"chat-secret\"";

#[test]
fn what_waits_is_mapped_by_the_new_configuration() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    desk.set_down(true).unwrap();
    daemon.chat(&message("ana", 0));
    daemon.wait_for("attempt deferred");
    world
        .source("chat", &format!("{CHAT}\nticket = {{ subject = \"Mended: {{{{ event.name }}}}\" }}"))
        .write();
    let reloaded = world.run(&["reload"]);
    assert_eq!((reloaded.code, reloaded.out.as_str()), (0, "reloaded: source.chat.ticket.subject changed\n"));
    desk.set_down(false).unwrap();
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(desk.tickets()[0].subject, "Mended: Customer ana");
    daemon.stop();
}

#[test]
fn with_one_mistake_nothing_of_it_is_applied() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    world.source("news", "preset = \"generic@1\"\nsecret = \"news-secret\"");
    world.source("chat", &format!("{CHAT}\nticket = {{ subject = \"{{{{ event.name }}\" }}"));
    world.set("server", "body_max", "\"10B\"").write();
    let refused = world.run(&["reload"]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    assert!(
        refused.err.contains("not applied; still running the configuration loaded at "),
        "{}",
        refused.err
    );
    assert_eq!(daemon.post("/in/news", "news-secret", &message("n", 0)).status, 404);
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(delivered(&desk.tickets(), "ana"), [0]);
    let status = world.run(&["status"]);
    assert!(status.code == 1 && status.out.contains("the one before still runs"), "{}", status.out);
    daemon.stop();
}

#[test]
fn envelopes_of_a_source_that_is_gone_are_held_until_it_is_back() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().source("other", "preset = \"generic@1\"\nsecret = \"chat-secret\"");
    // So long that only a reload can touch what is deferred.
    world.set("delivery", "backoff", "{ first = \"1h\", factor = 1.0, max = \"1h\", jitter = 0.0 }");
    let daemon = world.start();
    desk.set_down(true).unwrap();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("ana", 1));
    daemon.wait_for("attempt deferred");
    world.remove("source.chat").write();
    let reloaded = world.run(&["reload"]);
    assert_eq!((reloaded.code, reloaded.out.as_str()), (0, "reloaded: source.chat removed\n"));
    let held =
        daemon.eventually("both are held", || Some(world.queue("held")).filter(|held| held.len() == 2));
    assert_eq!(held[0]["last_error"].as_str(), Some("source.chat is not configured"));
    assert_eq!(daemon.post("/in/chat", "chat-secret", &message("ana", 2)).status, 404);
    assert_eq!(world.run(&["status"]).code, 1);
    daemon.stop();
    let daemon = world.start();
    assert_eq!(world.queue("held").len(), 2, "a restart does not change it");
    desk.set_down(false).unwrap();
    world.chat().write();
    let reloaded = world.run(&["reload"]);
    assert_eq!((reloaded.code, reloaded.out.as_str()), (0, "reloaded: source.chat added\n"));
    daemon.eventually("both are delivered", || (delivered(&desk.tickets(), "ana").len() == 2).then_some(()));
    assert_eq!(delivered(&desk.tickets(), "ana"), [0, 1]);
    daemon.stop();
}
