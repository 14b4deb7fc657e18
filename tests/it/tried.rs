//! `try` and `preset`: what admins read before anything is delivered. Neither needs a daemon.

use crate::harness::{BINARY, World, sandbox};
use std::io::Write;
use std::process::Stdio;

/// A world with SendPulse and any JSON, whose configuration is written and whose daemon is not started.
fn world() -> World {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world
        .source(
            "sendpulse",
            "preset = \"sendpulse@1\"\nsecret = \"spool-token\"\nkeep_if = \"event.title != 'bot_block'\"",
        )
        .source(
            "chat",
            "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket.type = \"{{ event.category }}\"",
        )
        .write();
    world
}

fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, text).expect("the directory is ours");
    path.display().to_string()
}

const MESSAGES: &str = concat!(
    "POST /in/sendpulse?token=spool-token HTTP/1.1\r\nHost: hooks.example\r\n",
    "Content-Type: application/json\r\n\r\n",
    r#"[{"title":"incoming_message","service":"telegram","bot":{"id":"b1"},"date":1763712000,"#,
    r#""contact":{"id":"c42","name":"Ana Ruiz","last_message":"¿Dónde está mi pedido?"},"#,
    r#""info":{"message":{"id":"m1","channel_data":{"message":{"text":"¿Dónde está mi pedido?"}}}}},"#,
    r#"{"title":"incoming_message","service":"telegram","bot":{"id":"b1"},"date":1763712060,"#,
    r#""contact":{"id":"c42","name":"Ana Ruiz","last_message":"¿Hola?"},"#,
    r#""info":{"message":{"id":"m2","channel_data":{"message":{"text":"¿Hola?"}}}}},"#,
    r#"{"title":"bot_block","service":"telegram","bot":{"id":"b1"},"date":1763712090,"#,
    r#""contact":{"id":"c42","name":"Ana Ruiz"}}]"#
);

#[test]
fn try_shows_event_by_event_what_would_be_asked_of_freshdesk() {
    let world = world();
    let tried = world.run(&["try", "sendpulse", &file(&world, "messages.http", MESSAGES)]);
    assert_eq!((tried.code, tried.err.as_str()), (0, ""), "{tried:?}");
    let lines: Vec<&str> = tried.out.lines().map(str::trim_end).collect();
    let has = |line: &str| assert!(lines.contains(&line), "{line:?} is not a line of\n{}", tried.out);
    let request = format!("request   {:<62} ok", "verify: query parameter token matches");
    assert_eq!(lines[0], request, "{}", tried.out);
    has(&format!("event 1   {:<62} true", "keep_if  event.title != 'bot_block'"));
    has("          kind incoming_message   id b1:c42:m1   conversation b1:c42");
    has("          POST /api/v2/tickets");
    has("            requester     Ana Ruiz, unique_external_id sendpulse:c42");
    // The second message of a conversation is added to the ticket that the first one opens.
    has("          POST /api/v2/tickets/{ticket of event 1}/notes");
    has(&format!(
        "event 3   {:<62} false: event.title is \"bot_block\"",
        "keep_if  event.title != 'bot_block'"
    ));
    has("          filtered: keep_if is false");
    assert_eq!(lines.last(), Some(&"nothing was stored or sent"));
    assert!(!tried.out.contains("spool-token"), "{}", tried.out);
}

#[test]
fn try_says_what_rendered_empty_and_why_an_event_would_be_dead() {
    let world = world();
    let good = file(&world, "good.json", r#"{"name":"Ana","email":"ana@example.com","message":"hola"}"#);
    let tried = world.run(&["try", "chat", &good]);
    assert_eq!(tried.code, 0, "{tried:?}");
    assert!(tried.out.contains("verify: a body alone has no headers and no URL"), "{}", tried.out);
    assert!(tried.out.contains("rendered empty: ticket.type (no event.category)"), "{}", tried.out);
    assert!(tried.out.contains("no rule matched: a ticket, or a note where there is one"), "{}", tried.out);
    let note = world.run(&["try", "chat", &good, "--ticket", "8812"]);
    assert!(note.out.contains("POST /api/v2/tickets/8812/notes"), "{}", note.out);
    for (body, why) in [
        (r#"{"message":"hola"}"#, "dead: mapping: no requester: none of email, phone, external_id found"),
        ("{\"message\":", "dead: not JSON: "),
    ] {
        let tried = world.run(&["try", "chat", &file(&world, "bad.json", body)]);
        assert_eq!(tried.code, 1, "{tried:?}");
        assert!(tried.out.contains(why), "{why} is not in {}", tried.out);
    }
}

#[test]
fn try_refuses_what_intake_would_refuse() {
    let world = world();
    let request = "POST /in/chat HTTP/1.1\nAuthorization: not-the-secret\n\n{\"message\":\"hola\"}";
    let tried = world.run(&["try", "chat", &file(&world, "wrong.http", request)]);
    let line = "request   verify: authorization did not match (got 14 characters, expected 11) refused";
    assert_eq!((tried.code, tried.out.lines().next()), (1, Some(line)), "{tried:?}");
    let json = world.run(&["try", "chat", &file(&world, "wrong.http", request), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("one object");
    assert_eq!((&json["verify"]["result"], &json["events"]), (&"refused".into(), &serde_json::json!([])));
    let nobody = world.run(&["try", "nobody", "x.json"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.err.starts_with("error: x.json: "), "{}", nobody.err);
    let nobody = world.run(&["try", "nobody", &file(&world, "x.json", "{}")]);
    assert_eq!(nobody.code, 2, "{nobody:?}");
    assert_eq!(nobody.err, "error: there is no [source.nobody] (there are: chat, sendpulse)\n");
}

#[test]
fn try_reads_standard_input_and_prints_json() {
    let world = world();
    let mut command = world.command(&["try", "chat", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let body = br#"{"name":"Ana","phone":"+573001112233","message":"hola"}"#;
    child.stdin.take().expect("it is piped").write_all(body).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let trial: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    let event = &trial["events"][0];
    assert_eq!(event["result"], "delivered", "{trial}");
    assert_eq!(event["asked"][0]["name"], "rule[1] of the preset", "{trial}");
    assert_eq!((&event["asked"][0]["holds"], &event["rule"]), (&false.into(), &serde_json::Value::Null));
    let call = &event["calls"][0];
    assert_eq!((&call["method"], &call["path"]), (&"POST".into(), &"/api/v2/tickets".into()));
    assert_eq!((&call["body"]["phone"], &call["body"]["name"]), (&"+573001112233".into(), &"Ana".into()));
    assert_eq!(event["empty"][0]["key"], "ticket.type");
}

#[test]
fn presets_are_listed_and_printed_as_they_are_compiled() {
    let world = world();
    let list = world.run(&["preset", "list"]);
    assert_eq!(list.code, 0, "{list:?}");
    let head = list.out.lines().next().unwrap_or_default();
    assert_eq!(head.split("  ").filter(|word| !word.trim().is_empty()).count(), 3, "{head}");
    let sendpulse = list.out.lines().find(|line| line.starts_with("sendpulse@1 ")).expect("it is listed");
    assert!(sendpulse.contains("documented") && sendpulse.contains("SendPulse"), "{sendpulse}");
    assert!(!list.out.contains('…'), "summaries are not cut:\n{}", list.out);
    let objects = world.run(&["preset", "list", "--json"]);
    for line in objects.out.lines() {
        let preset: serde_json::Value = serde_json::from_str(line).expect("one object per line");
        let name = preset["name"].as_str().expect("presets have names");
        let certainty = preset["certainty"].as_str().unwrap_or_default();
        assert!(["documented", "seen", "draft"].contains(&certainty), "{line}");
        let shown = world.run(&["preset", "show", name]);
        assert_eq!(shown.code, 0, "{shown:?}");
        let table = toml::from_str::<toml::Table>(&shown.out).expect("what is shown can be used");
        let guide = table["guide"].as_str().expect("it says what to click, and what becomes of what");
        assert!(guide.contains("/in/"), "{name}: which URL to paste");
    }
    assert_eq!(
        world.run(&["preset", "show", "sendpulse"]).out,
        world.run(&["preset", "show", "sendpulse@1"]).out
    );
    let unknown = world.run(&["preset", "show", "sendpuls"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(
        unknown.err.starts_with("error: there is no preset \"sendpuls\"\n   = presets: alertmanager@1, ")
    );
}

#[test]
fn help_has_examples() {
    for verb in
        ["try", "preset", "refused", "capture", "check", "config", "hold", "release", "pause", "resume"]
    {
        let help = std::process::Command::new(BINARY).args([verb, "--help"]).output().expect("it runs");
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(text.contains("Examples:\n  deskspool "), "{text}");
    }
}

#[test]
fn config_shows_what_is_effective_and_where_it_was_written() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let lines = "preset = \"sendpulse@1\"\nsecret = \"spool-token\"\nticket.status = \"resolved\"";
    world.source("sendpulse", lines).set("ticket", "priority", "\"low\"").write();
    let file = world.config().display().to_string();
    let text = std::fs::read_to_string(world.config()).unwrap();
    let at = |line: &str| 1 + text.lines().position(|other| other == line).expect("it was written");
    let config = |arguments: &[&str]| {
        let verb = world.run(&[&["config"], arguments].concat());
        assert_eq!(verb.code, 0, "{verb:?}");
        verb.out.replace(&file, "deskspool.toml")
    };
    let ticket = config(&["source.sendpulse.ticket", "--origin"]);
    let line =
        |begin: &str| ticket.lines().find(|line| line.starts_with(begin)).unwrap_or_default().to_owned();
    assert!(
        line("source.sendpulse.ticket.status = \"resolved\"")
            .ends_with(&format!("   deskspool.toml:{}", at("ticket.status = \"resolved\""))),
        "{ticket}"
    );
    assert!(
        line("source.sendpulse.ticket.priority = \"low\"")
            .ends_with(&format!("   deskspool.toml:{}", at("priority = \"low\""))),
        "{ticket}"
    );
    let all = config(&[]);
    assert!(all.contains("source.sendpulse.verify.scheme = \"query\"\n"), "{all}");
    assert!(all.contains("source.sendpulse.secret = \"hidden\"\n"), "{all}");
    assert!(!all.contains("spool-token") && !all.contains("sandbox-key"), "{all}");
    let json = config(&["source.sendpulse.verify", "--json"]);
    let first: serde_json::Value =
        serde_json::from_str(json.lines().next().unwrap_or_default()).expect("JSON");
    assert_eq!(first["origin"], "preset sendpulse@1", "{json}");
    let nothing = world.run(&["config", "delivery.wrkers"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (1, ""));
    assert!(nothing.err.starts_with("error: delivery.wrkers is not set\n"), "{}", nothing.err);
}
