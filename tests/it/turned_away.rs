//! `refused`: the last requests that were turned away, and why; never the secret.

use crate::harness::events::message;
use crate::harness::{World, post, sandbox};
use serde_json::Value;

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
