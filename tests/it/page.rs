//! The status page's plain answers: health, readiness, the snapshot, metrics.

use crate::harness::{PATIENCE, World, events::message, http, sandbox};

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

/// The words of a customer, and who it was.
const PRIVATE: [&str; 3] = ["Lucía", "lucia@example.com", "no me llegó"];

fn private_event() -> String {
    let (name, email, text) = (PRIVATE[0], PRIVATE[1], PRIVATE[2]);
    format!(
        "{{\"event_id\":\"e1\",\"conversation_id\":\"c1\",\"name\":\"{name}\",\"email\":\"{email}\",\"text\":\"{text} <script>\"}}"
    )
}

/// A daemon whose Freshdesk is down, with one event that waits.
fn waiting(world: &mut World) -> crate::harness::Daemon {
    let daemon = world.start();
    daemon.chat(&private_event());
    daemon.wait_for("attempt deferred id=1");
    daemon
}

#[test]
fn the_page_shows_numbers_and_the_past_and_no_customer() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    super::page_seed::seed(&world.path("spool"), &["chat", "botpress"]);
    let daemon = waiting(paged(&mut world));
    for path in
        ["/", "/?span=1h", "/?span=7d", "/?span=30d", "/list", "/list?state=&source=chat", "/envelope/1"]
    {
        let answer = daemon.page(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .is_some_and(|policy| policy.contains("default-src 'none'"))
        );
        for word in PRIVATE {
            assert!(!answer.body.contains(word), "{path} shows {word}");
        }
        assert!(!answer.body.contains("style="), "{path} has a style the policy forbids");
    }
    let guessed = daemon.page("/list?match=lucia").body;
    assert!(guessed.contains("Nothing like that"), "a customer can be guessed");
    let overview = daemon.page("/").body;
    for part in [
        "Freshdesk unreachable",
        "id=why-not",
        "503 Service Unavailable",
        "aria-label=\"botpress: ",
        "/envelope/1",
    ] {
        assert!(overview.contains(part), "{part} is not in the overview");
    }
    assert_eq!(daemon.page("/envelope/99").status, 404);
    assert_eq!(daemon.page("/envelope/x").status, 404);
    assert_eq!(daemon.page("/list?colour=red").status, 400);
    daemon.stop();
}

#[test]
fn a_page_that_is_read_only_changes_and_reveals_nothing() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    let daemon = waiting(paged(&mut world));
    assert_eq!(daemon.page("/envelope/1?show=1").status, 401);
    let answer = http::post(daemon.page.unwrap(), "/act", &[], b"do=drop&id=1&token=").unwrap();
    assert_eq!(answer.status, 403);
    assert!(!daemon.page("/envelope/1").body.contains("<form"), "there is a button");
    daemon.stop();
}

#[test]
fn actions_need_the_password_and_a_token_of_our_own_page() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    paged(&mut world).set("status_page", "actions", "true").set("status_page", "password", "\"open sesame\"");
    let daemon = waiting(&mut world);
    let page = daemon.page.unwrap();
    // admin:open sesame
    let admin = ("Authorization", "Basic YWRtaW46b3BlbiBzZXNhbWU=");
    let body = daemon.page("/envelope/1").body;
    let token = body.split("name=token value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let act = |headers: &[(&str, &str)], token: &str, verb: &str| {
        let form = format!("token={token}&do={verb}&id=1");
        http::post(page, "/act", headers, form.as_bytes()).unwrap().status
    };
    assert_eq!(act(&[], token, "drop"), 401, "no password");
    assert_eq!(act(&[("Authorization", "Basic YWRtaW46c2VzYW1l")], token, "drop"), 401, "a wrong one");
    assert_eq!(act(&[admin], "", "drop"), 403, "no token");
    assert_eq!(act(&[admin], &"0".repeat(32), "drop"), 403, "a wrong one");
    assert_eq!(act(&[admin, ("Origin", "http://evil.example")], token, "drop"), 403, "another page");
    assert_eq!(act(&[admin], token, "burn"), 400);
    assert_eq!(world.queue("queued,deferred").len(), 1, "it is still there");
    let target = "/envelope/1?show=1";
    assert_eq!(daemon.page(target).status, 401);
    let shown =
        http::send(page, &http::request("GET", target, &[admin, ("Connection", "close")], &[])).unwrap();
    assert_eq!(shown.status, 200);
    assert!(
        shown.body.contains("no me llegó &lt;script&gt;") && !shown.body.contains("<script>"),
        "{}",
        shown.body
    );
    assert_eq!(act(&[admin], token, "retry"), 303);
    // While it is being attempted it cannot be dropped.
    let dropped = (0..1000).map(|_| act(&[admin], token, "drop")).find(|status| *status != 409);
    assert_eq!(dropped, Some(303));
    assert_eq!(world.queue("dropped").len(), 1);
    assert_eq!(act(&[admin], token, "drop"), 404, "it is gone");
    daemon.stop();
}

#[test]
fn actions_without_a_password_are_refused_by_the_configuration() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    paged(&mut world).set("status_page", "actions", "true").write();
    let verb = world.run(&["serve"]);
    assert_eq!(verb.code, 1);
    assert!(verb.err.contains("actions need a password"), "{}", verb.err);
}
