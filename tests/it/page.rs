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
    let expected = [
        "deskspool_attempts_total{source=\"chat\",outcome=\"delivered\"} 1",
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
    ];
    // What is counted of one delivery is counted one after the other.
    daemon.eventually("all is counted", || {
        let text = daemon.page("/metrics").body;
        expected.iter().all(|line| text.lines().any(|other| other == *line)).then_some(())
    });
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

/// admin:open sesame
const ADMIN: (&str, &str) = ("Authorization", "Basic YWRtaW46b3BlbiBzZXNhbWU=");

fn with_actions(world: &mut World) -> &mut World {
    paged(world).set("status_page", "actions", "true").set("status_page", "password", "\"open sesame\"")
}

/// A page as the admin gets it.
fn seen(daemon: &crate::harness::Daemon, target: &str) -> String {
    let request = http::request("GET", target, &[ADMIN, ("Connection", "close")], &[]);
    let answer = http::send(daemon.page.expect("the page is on"), &request).expect("the page answers");
    assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    answer.body
}

fn token_of(body: &str) -> String {
    let rest = body.split("name=token value=\"").nth(1).expect("there is a form");
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn posted(daemon: &crate::harness::Daemon, path: &str, fields: &[(&str, &str)]) -> http::Answer {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    http::post(daemon.page.expect("the page is on"), path, &[ADMIN], form.as_bytes())
        .expect("the page answers")
}

#[test]
fn a_mapping_is_tried_on_real_events_and_what_it_prints_can_be_pasted() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    with_actions(&mut world).source("chat", "preset = \"generic@1\"\nsecret = { env = \"CHAT\" }");
    let daemon = world.start_with(&[("CHAT", "chat-secret")], None);
    let empty = seen(&daemon, "/preview/chat");
    assert!(empty.contains("Nothing to try the mapping on yet"), "{empty}");
    daemon.chat(&private_event());
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(daemon.page("/preview/chat").status, 401, "it needs the password");
    assert_eq!(daemon.page("/preview/nobody").status, 404);
    let first = seen(&daemon, "/preview/chat");
    assert!(first.contains("secret = { env = &quot;CHAT&quot; }") && first.contains("New ticket"), "{first}");
    for word in PRIVATE {
        assert!(!first.contains(word), "{word} is shown before it is asked for");
    }
    let token = token_of(&first);
    let text = "[source.chat]\r\npreset = \"generic@1\"\r\nsecret = { env = \"CHAT\" }\r\n\
        ticket.subject = \"Neu: {{ event.text }}\"\r\n";
    let fields = [("token", token.as_str()), ("pick", "r1"), ("text", text), ("shows", "1")];
    let answer = posted(&daemon, "/preview/chat", &fields);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("<h3>Neu: no me llegó &lt;script&gt;</h3>"), "{}", answer.body);
    assert!(!answer.body.contains("<script>"), "markup of a customer");
    assert_eq!(posted(&daemon, "/preview/chat", &fields[1..]).status, 403, "no token");
    let wrong = text.replace("subject", "subjekt");
    let wrong = [("token", token.as_str()), ("pick", "r1"), ("text", wrong.as_str())];
    let body = posted(&daemon, "/preview/chat", &wrong).body;
    assert!(
        body.contains("mapping:4:8")
            && body.contains("^^^^^^^ unknown key in [source.chat.ticket], did you mean subject?"),
        "{body}"
    );
    // Nothing was saved or sent; what was printed is a configuration.
    assert_eq!(desk.tickets().len(), 1);
    assert!(!std::fs::read_to_string(world.config()).unwrap().contains("Neu"));
    let paste =
        answer.body.split("<div id=paste>").nth(1).and_then(|rest| rest.split("<pre tabindex=0>").nth(1));
    let paste = paste.and_then(|rest| rest.split("</pre>").next()).expect("something to paste");
    let paste = paste.replace("&quot;", "\"").replace("&amp;", "&");
    world.remove("source.chat").write();
    let file = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), format!("{file}\n{paste}")).unwrap();
    let mut check = world.command(&["check", "--offline"]);
    check.env("CHAT", "chat-secret");
    let verb = crate::harness::Verb::of(check);
    assert_eq!(verb.code, 0, "{paste}\n{verb:?}");
    daemon.stop();
}

#[test]
fn a_preview_shows_nobody_what_is_to_be_hidden() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.set("privacy", "redact", "[\"email\", \"phone\", \"address\"]");
    let daemon = with_actions(&mut world).start();
    let form = "text=Where+is+it%3F&email=ana%40example.com&phone=%2B573001112233&address=Calle+9";
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", "chat-secret")];
    let answer = crate::harness::post(daemon.address, "/in/chat", &headers, form.as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
    daemon.chat(
        "{\"text\":\"Write to eva@example.com\",\"email\":\"eva@example.com\",\"address\":\"Calle 9\"}",
    );
    let token = token_of(&seen(&daemon, "/preview/chat"));
    let text = "[source.chat]\npreset = \"generic@1\"\nsecret = \"s\"\n\
        keep_if = \"event.email != 'x' and event.text\"\n";
    for pick in ["r1", "r2"] {
        let fields = [("token", token.as_str()), ("pick", pick), ("text", text), ("shows", "1")];
        let body = posted(&daemon, "/preview/chat", &fields).body;
        assert!(body.contains("becomes this") && body.contains("[hidden]"), "{body}");
        for word in ["example.com", "573001112233", "Calle"] {
            assert!(!body.contains(word), "{pick} shows {word}: {body}");
        }
        assert!(body.contains("Where is it?") || body.contains("Write to [hidden]"), "{body}");
    }
    daemon.stop();
}

#[test]
fn a_mapping_is_tried_on_what_lies_in_the_spool_and_on_what_is_pasted() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    let daemon = waiting(with_actions(&mut world));
    let body = seen(&daemon, "/preview/chat?pick=e1");
    assert!(body.contains("envelope 1, "), "{body}");
    let token = token_of(&body);
    let text = "[source.chat]\npreset = \"generic@1\"\nsecret = \"s\"\nkeep_if = \"event.text == 'x'\"\n";
    let answer = posted(&daemon, "/preview/chat", &[("token", &token), ("pick", "e1"), ("text", text)]);
    assert!(answer.body.contains("filtered: nothing is written"), "{}", answer.body);
    let own = "{\"text\":\"x\",\"email\":\"a@example.com\"}";
    let fields = [("token", token.as_str()), ("pick", "own"), ("text", text), ("own", own), ("shows", "1")];
    let answer = posted(&daemon, "/preview/chat", &fields);
    assert!(answer.body.contains("becomes this") && answer.body.contains("a@example.com"), "{}", answer.body);
    let fields = [fields.as_slice(), &[("has_ticket", "1")]].concat();
    let answer = posted(&daemon, "/preview/chat", &fields);
    assert!(
        answer.body.contains("<b>Private note</b> <code>POST /api/v2/tickets/1/notes</code>"),
        "{}",
        answer.body
    );
    let long = format!("{text}#{}", "x".repeat(65 << 10));
    let answer = posted(&daemon, "/preview/chat", &[("token", &token), ("pick", "e1"), ("text", &long)]);
    assert!(answer.body.contains("longer than 64 KiB"), "{}", answer.body);
    let flood = format!("[{}]", vec!["{\"text\":\"x\",\"email\":\"a@example.com\"}"; 900].join(","));
    let answer = posted(
        &daemon,
        "/preview/chat",
        &[("token", &token), ("pick", "own"), ("text", text), ("own", &flood)],
    );
    assert_eq!(answer.body.matches("becomes this").count(), 5, "the first few of many");
    daemon.stop();
    let mut world = World::new(&desk);
    let daemon = paged(&mut world).start();
    let body = daemon.page("/preview/chat").body;
    assert!(body.contains("Switched off") && body.contains("deskspool try chat FILE"), "{body}");
    daemon.stop();
}

#[test]
fn verbs_are_for_all_that_a_list_shows_and_nothing_that_came_later() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    let daemon = waiting(with_actions(&mut world));
    daemon.chat(&message("ana", 1));
    // An event is in the lists a moment after its answer, and what is being attempted is in none that can be held.
    let confirm = daemon.eventually("both can be held", || {
        let body = daemon.page("/act?do=hold&source=chat&state=").body;
        body.contains("name=upto value=2>").then_some(body)
    });
    let token = token_of(&confirm);
    let upto = confirm.split("name=upto value=").nth(1).and_then(|rest| rest.split('>').next()).unwrap();
    daemon.chat(&message("luis", 1));
    let act = |fields: &[(&str, &str)]| {
        let answer = posted(&daemon, "/act", &[&[("token", token.as_str())], fields].concat());
        (answer.status, answer.body)
    };
    // What is being attempted is left out, and held the next time.
    let held = daemon.eventually("both are held", || {
        let (status, body) = act(&[
            ("do", "hold"),
            ("filter", "source=chat"),
            ("upto", upto),
            ("reason", " new  bot "),
            ("for", "2h"),
        ]);
        assert_eq!(status, 200, "{body}");
        let held = world.queue("held");
        (held.len() == 2).then_some(held)
    });
    assert_eq!((held[0]["id"].as_u64(), held[1]["id"].as_u64()), (Some(1), Some(2)));
    assert!(held[0]["last_error"].as_str().unwrap().starts_with("new bot, until "), "{held:?}");
    assert_eq!(act(&[("do", "release"), ("id", "3")]).0, 409, "it is not held");
    assert_eq!(act(&[("do", "release"), ("id", "2")]).0, 303);
    assert_eq!(act(&[("do", "hold"), ("id", "1"), ("for", "soon")]).0, 400);
    // A customer's name chooses nothing, because no list shows it.
    assert!(act(&[("do", "drop"), ("filter", "match=luc%C3%ADa")]).1.contains("<b>0</b>"));
    assert!(act(&[("do", "drop"), ("filter", "state=held")]).1.contains("<b>1</b>"));
    assert_eq!(world.queue("dropped").len(), 1);
    assert_eq!(act(&[("do", "pause"), ("what", "intake"), ("reason", "migrating")]).0, 303);
    assert_eq!(daemon.page("/readyz").status, 503);
    assert!(daemon.page("/").body.contains("intake by the status page: migrating; platforms get 503"));
    assert_eq!(act(&[("do", "resume"), ("what", "intake")]).0, 303);
    assert_eq!(daemon.page("/readyz").status, 200);
    assert_eq!(act(&[("do", "resume"), ("what", "intake")]).0, 400);
    assert_eq!(act(&[("do", "pause"), ("what", "nobody")]).0, 400);
    assert_eq!(daemon.page("/act?do=burn").status, 400);
    daemon.stop();
}

#[test]
fn what_was_passed_over_is_listed() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    paged(&mut world).source(
        "chat",
        "preset = \"generic@1\"\nsecret = \"chat-secret\"\nkeep_if = \"event.text != 'ping'\"",
    );
    let daemon = world.start();
    daemon.chat(&message("ana", 0));
    daemon.chat(&message("ana", 0));
    daemon.chat("{\"event_id\":\"p1\",\"text\":\"ping\"}");
    let all = daemon.page("/passed?source=chat").body;
    assert_eq!(all.matches("<tr><td").count(), 2, "{all}");
    let filtered = daemon.page("/passed?what=filtered").body;
    assert!(filtered.contains("keep_if is false") && filtered.contains("p1"), "{filtered}");
    assert_eq!(filtered.matches("<tr><td").count(), 1);
    let here_before = daemon.page("/passed?what=duplicate").body;
    assert!(here_before.contains("was here before"), "{here_before}");
    assert!(daemon.page("/passed?source=nobody").body.contains("Nothing like that"));
    assert!(daemon.page("/").body.contains("/passed?what=filtered"));
    daemon.stop();
}
