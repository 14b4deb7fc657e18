//! The status page's plain answers: health, readiness, the snapshot, metrics.

use crate::harness::{PATIENCE, World, events::message, sandbox};

fn paged(world: &mut World) -> &mut World {
    world.chat().set("status_page", "listen", "\"127.0.0.1:0\"")
}

#[test]
fn health_readiness_and_the_snapshot() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = paged(&mut world).start();
    for path in ["/healthz", "/readyz"] {
        let answer = daemon.page(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
    }
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    let snapshot: serde_json::Value = serde_json::from_str(&daemon.page("/status.json").body).unwrap();
    assert_eq!(snapshot["sources"][0]["name"], "chat");
    assert_eq!(snapshot["sources"][0]["accepted"], 1);
    assert_eq!(daemon.page("/nowhere").status, 404);
    daemon.stop();
}

#[test]
fn a_full_spool_is_alive_but_not_ready_and_freshdesk_being_down_is_neither() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    let daemon = paged(&mut world).set("spool", "envelopes_max", "1").start();
    daemon.chat(&message("ana", 0));
    let ready = daemon.page("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "spool full\n"));
    assert_eq!(daemon.page("/healthz").status, 200);
    daemon.stop();
}

#[test]
fn metrics_count_what_happened() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = paged(&mut world).start();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("ana", 0));
    assert_eq!(daemon.post("/in/chat", "wrong", "{}").status, 401);
    assert_eq!(daemon.post("/in/nobody", "x", "{}").status, 404);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    let text = daemon.eventually("the delivery is counted", || {
        let text = daemon.page("/metrics").body;
        text.contains("deskspool_attempts_total{source=\"chat\",outcome=\"delivered\"} 1").then_some(text)
    });
    for line in [
        "deskspool_events_total{source=\"chat\",result=\"accepted\"} 1",
        "deskspool_events_total{source=\"chat\",result=\"duplicate\"} 1",
        "deskspool_events_total{source=\"chat\",result=\"refused\"} 1",
        "deskspool_refused_total{source=\"chat\",reason=\"secret\"} 1",
        "deskspool_refused_total{source=\"\",reason=\"unknown_source\"} 1",
        "deskspool_delivered_total{source=\"chat\",action=\"create\"} 1",
        "deskspool_event_to_ticket_seconds_count{source=\"chat\"} 1",
        "deskspool_freshdesk_responses_total{code=\"201\"} 1",
        "deskspool_spool_write_duration_seconds_count 2",
        "deskspool_config_last_reload_successful 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    daemon.stop();
}

#[test]
fn a_page_whose_address_is_taken_stops_nothing() {
    let desk = sandbox();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("\"{}\"", taken.local_addr().unwrap());
    let mut world = World::new(&desk);
    let daemon = world.chat().set("status_page", "listen", &address).start();
    assert_eq!(daemon.page, None);
    assert!(daemon.wait_for("no status page").contains("is in use"), "it says why");
    daemon.chat(&message("ana", 0));
    daemon.stop();
}
