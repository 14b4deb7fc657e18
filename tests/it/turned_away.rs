//! `refused`: the last requests that were turned away, and why; never the secret.

use crate::harness::events::message;
use crate::harness::{World, post, sandbox};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

#[test]
fn refused_lists_why_and_what_would_mend_it() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let hook = "preset = \"generic@1\"\nsecret = \"hook-secret\"\nverify = { scheme = \"header\", header = \"X-Hook\" }";
    let daemon = world.chat().source("hook", hook).start();
    let nothing = world.run(&["refused"]);
    let quiet = "no request was turned away since the daemon was started\n";
    assert_eq!((nothing.code, nothing.out.as_str()), (0, quiet), "{nothing:?}");
    let send = |target: &str, name: &str, value: &str, expect: u16| {
        let body = message("ana", 0);
        let answer = post(daemon.address, target, &[(name, value)], body.as_bytes()).expect("it answers");
        assert_eq!(answer.status, expect, "{target} {name}");
    };
    send("/in/chat", "Authorization", "wrong-and-longer", 401);
    send("/in/hook", "X-Api-Key", "hook-secret", 401);
    send("/in/hook", "X-Hook", "Token hook-secret", 401);
    send("/in/hoook", "X-Hook", "hook-secret", 404);

    let chat = world.run(&["refused", "chat"]);
    let lines: Vec<&str> = chat.out.lines().collect();
    assert_eq!((chat.code, lines.len()), (0, 3), "{chat:?}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["TIME", "UTC", "FROM", "WHY", "DETAIL"]);
    let row = "  127.0.0.1  authorization did not match  got 16 characters, expected 11";
    assert_eq!(&lines[1][8..], row, "{}", chat.out);
    assert!(lines[2].starts_with("1 since ") && lines[2].ends_with('.'), "{}", chat.out);

    let hook = world.run(&["refused", "hook"]);
    let lines: Vec<&str> = hook.out.lines().collect();
    assert!(lines[1].contains("x-hook did not match      got 17 characters, expected 11"), "{}", hook.out);
    assert!(
        lines[2].ends_with("header x-hook is missing  it brought header x-api-key (11 characters)"),
        "{}",
        hook.out
    );
    let hint = "It sends \"Token …\". Then set:  verify.prefix = \"Token \"";
    assert!(lines[3].starts_with("2 since ") && lines[3].ends_with(hint), "{}", hook.out);

    let all = world.run(&["refused"]);
    assert!(all.out.starts_with("requests to no source of ours\n"), "{}", all.out);
    assert!(all.out.contains("no source of that name  \"hoo\"… of 5 characters"), "{}", all.out);
    let json = world.run(&["refused", "--json"]);
    let rows: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sources: Vec<&str> = rows.iter().filter_map(|row| row["source"].as_str()).collect();
    assert_eq!(sources, ["-", "chat", "hook", "hook"]);
    for member in ["at", "from", "why", "detail", "brought"] {
        assert!(rows[1].get(member).is_some(), "{member} is missing in {}", rows[1]);
    }
    for secret in ["hook-secret", "wrong-and-longer"] {
        assert!(!format!("{}{}{}", chat.out, all.out, json.out).contains(secret), "{secret} is told");
    }
    let status = world.run(&["status"]);
    assert!(status.out.contains("deskspool refused hook"), "{}", status.out);
    let unknown = world.run(&["refused", "nobody"]);
    let usage = "error: there is no [source.nobody] (there are: chat, hook)\n";
    assert_eq!((unknown.code, unknown.err.as_str()), (2, usage), "{unknown:?}");
    daemon.stop();
}

/// A `capture` that waits already.
fn capture(world: &World, arguments: &[&str]) -> Child {
    let directory = world.path("captured");
    std::fs::create_dir_all(&directory).expect("the directory is ours");
    let directory = directory.display().to_string();
    let mut command = world.command(&[arguments, &["--directory", &directory]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let said = child.stderr.as_mut().expect("it is piped");
    BufReader::new(said).read_line(&mut line).expect("it says that it waits");
    assert_eq!(line, "Waiting for a POST to /in/chat …  (send one from the platform; Ctrl-C stops)\n");
    child
}

#[test]
fn capture_saves_what_comes_and_suggests_a_mapping() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let child = capture(&world, &["capture", "chat", "--count", "2"]);
    let body = r#"{"message_id":"m1","chat":{"id":"k1"},"customer":{"name":"Eva","phone":"+34600111222"},"text":"precio?"}"#;
    // Its line says that it is about to ask; until it has asked, nothing is captured.
    let out = std::thread::spawn(move || child.wait_with_output().expect("it ends"));
    let mut sent = 0;
    while !out.is_finished() && sent < 2000 {
        let answer = daemon.post(
            "/in/chat?token=in-the-url",
            if sent % 2 == 0 { "Bearer wrong" } else { "chat-secret" },
            body,
        );
        assert!([200, 401].contains(&answer.status));
        sent += 1;
        daemon.log.wait_a_moment();
    }
    let output = out.join().expect("it does not panic");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = world.path("captured/chat-1.http");
    let says =
        format!("got 1 request, {} B, saved to {} (contains customer data)\n", body.len(), first.display());
    assert!(text.starts_with(&says), "{text}");
    assert_eq!(
        text.matches(
            "refused  authorization did not match (got 5 characters, expected 11); its event is not kept\n"
        )
        .count(),
        1,
        "{text}"
    );
    assert!(text.contains("found    message_id \"m1\"   chat.id \"k1\"   customer.name \"Eva\"   customer.phone \"+34600111222\""), "{text}");
    assert!(text.contains("try this in [source.chat]:\n  event_id     = \"{{ event.message_id }}\"\n  conversation = \"{{ event.chat.id }}\"\n"), "{text}");
    let mode = std::fs::metadata(&first).expect("it was saved").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
    let saved = ["chat-1.http", "chat-2.http"]
        .map(|name| std::fs::read_to_string(world.path("captured").join(name)).expect("it was saved"));
    for file in &saved {
        assert!(file.starts_with("POST /in/chat?token=%2810+characters%29 HTTP/1.1\r\n"), "{file}");
        assert!(file.ends_with(body), "{file}");
        for secret in ["chat-secret", "wrong", "in-the-url"] {
            assert!(!file.contains(secret), "{secret} is in {file}");
        }
    }
    assert!(saved.iter().any(|file| file.contains("Authorization: Bearer (5 characters)\r\n")), "{saved:?}");
    // What was captured can be tried, though its secret is hidden.
    let tried = world.run(&["try", "chat", &first.display().to_string()]);
    assert!(
        tried.out.contains("when it was captured: ") && tried.out.contains("POST /api/v2/tickets"),
        "{tried:?}"
    );
    daemon.stop();
}

#[test]
fn capture_of_an_unknown_source_says_so() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let unknown = world.run(&["capture", "nobody", "-q"]);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (1, "error: there is no [source.nobody]\n"),
        "{unknown:?}"
    );
    daemon.stop();
    let gone = world.run(&["capture", "chat", "-q"]);
    assert_eq!(gone.code, 3, "{gone:?}");
}
