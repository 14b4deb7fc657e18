//! The page: what it shows, and that nothing a customer wrote can act in it.

use super::{Options, start};
use serde_json::json;
use std::time::Duration;

#[test]
fn an_empty_desk_says_what_to_do() {
    let (desk, client, _) = start(Options::default());
    let page = client.get("/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("No tickets yet") && page.body.contains(&desk.url()), "{}", page.body);
    assert!(page.body.contains("<meta http-equiv=refresh content=5>"));
}

#[test]
fn a_ticket_is_shown_with_its_conversation() {
    let (_desk, client, clock) = start(Options::default());
    let body = json!({
        "unique_external_id": "sendpulse:c42", "name": "Ana Ruiz", "subject": "Telegram: Ana", "status": 3, "priority": 4,
        "description": "<p>¿Dónde está mi pedido?</p>", "tags": ["deskspool"], "group_id": 51_000_123_456_u64,
        "custom_fields": {"cf_channel": "Telegram"},
    });
    client.post("/api/v2/tickets", &body);
    clock.advance(Duration::from_secs(120));
    client.post("/api/v2/tickets/1/notes", &json!({"body": "first", "private": false}));
    client.post("/api/v2/tickets/1/notes", &json!({"body": "second"}));
    let list = client.get("/").body;
    for text in ["#1", "Telegram: Ana", "Ana Ruiz", "Pending", "Urgent", "deskspool", "2 notes", "2m ago"] {
        assert!(list.contains(text), "{text}: {list}");
    }
    let page = client.get("/tickets/1").body;
    let page = &page[page.find("<body>").unwrap()..];
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    assert!(at("<p>¿Dónde está mi pedido?</p>") < at("added a public note"));
    assert!(at("added a public note") < at("first") && at("first") < at("added a private note"));
    assert!(at("added a private note") < at("second"));
    for text in ["sendpulse:c42", "Pagos", "cf_channel", "Telegram", "2026-11-21T08:01:13Z"] {
        at(text);
    }
    assert_eq!(client.get("/tickets/2").status, 404);
}

#[test]
fn nothing_a_customer_wrote_acts_in_the_page() {
    let (_desk, client, _) = start(Options::default());
    let evil = "</b></div><script>alert(1)</script><img src=x onerror=alert(2)><p style='position:fixed' onclick=x>t</p>";
    let body = json!({
        "unique_external_id": "<script>id</script>", "name": "<script>name</script>", "subject": "<script>subject</script>",
        "description": evil, "tags": ["<script>tag</script>"], "custom_fields": {"cf_external_ref": "\"><script>cf</script>"},
    });
    assert_eq!(client.post("/api/v2/tickets", &body).status, 201);
    client.post("/api/v2/tickets/1/notes", &json!({"body": evil}));
    for path in ["/", "/tickets/1"] {
        let page = client.get(path);
        for text in ["<script", "<img", "onclick", "onerror", "position:fixed"] {
            assert!(!page.body.contains(text), "{path} {text}: {}", page.body);
        }
        assert!(page.body.contains("&lt;script&gt;subject"), "{}", page.body);
        let policy = page.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
}
