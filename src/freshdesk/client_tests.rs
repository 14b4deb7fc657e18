//! The client against a server that plays a script.

use super::super::test_server::{Act, Server, config, http, json};
use super::*;
use std::net::TcpListener;
use std::sync::Barrier;

const MARKER: &str = "ds-abc";

fn ana() -> TicketFields {
    let requester = Requester {
        name: Some("Ana".to_owned()),
        email: Some("ana@example.com".to_owned()),
        ..Requester::default()
    };
    let (subject, description) = ("Hi".to_owned(), "<p>ñ</p>".to_owned());
    TicketFields { requester, subject, description, priority: Some(2), ..TicketFields::default() }
}

fn create(client: &Client) -> Outcome {
    client.create_ticket(&ana(), MARKER)
}

fn add_note(client: &Client) -> Outcome {
    let note = NoteFields { body: "<p>x</p>".to_owned(), private: true, ..NoteFields::default() };
    client.add_note(8812, &note, MARKER)
}

fn impatient(server: &Server) -> Client {
    let timeout = Duration::from_secs(1);
    Client::new(ClientConfig { timeout, ..config(format!("http://{}", server.address)) }).unwrap()
}

fn unknown(reason: &str) -> Outcome {
    Outcome::Unknown { reason: reason.to_owned() }
}

fn unreachable(reason: &str) -> Outcome {
    Outcome::Deferred { not_before: None, cause: Cause::Unreachable, reason: reason.to_owned() }
}

fn delivered(ticket: u64) -> Outcome {
    Outcome::Delivered { ticket }
}

/// A port of loopback on which nobody listens, and which nobody else gets while the socket lives.
fn closed_port() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address.to_string())
}

#[test]
fn the_bytes_of_a_create() {
    let server = Server::play(vec![Act::Answer(http("201 Created", &[], r#"{"id":8812}"#))]);
    assert_eq!(create(&server.client()), delivered(8812));
    let body = concat!(
        r#"{"subject":"Hi","description":"<p>ñ</p>","email":"ana@example.com","name":"Ana","#,
        r#""priority":2,"tags":["ds-abc"]}"#,
    );
    let expect = format!(
        "POST /api/v2/tickets HTTP/1.1\r\ncontent-length: {}\r\nuser-agent: deskspool/{}\r\n\
         accept: application/json\r\nhost: {}\r\nauthorization: Basic a2V5Olg=\r\n\
         content-type: application/json\r\n\r\n{body}",
        body.len(),
        env!("CARGO_PKG_VERSION"),
        server.address,
    );
    assert_eq!(server.requests(), [expect]);
}

#[test]
fn the_bytes_of_a_note_and_of_a_question() {
    let server = Server::play(vec![
        Act::Answer(http("201 Created", &[], r#"{"id":1,"ticket_id":8812}"#)),
        json(r#"{"id":7,"contact":{"name":"Integrations"}}"#),
    ]);
    let client = server.client();
    assert_eq!(add_note(&client), delivered(8812));
    assert_eq!(client.probe(), Ok("Integrations".to_owned()));
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(head.lines().next(), Some("POST /api/v2/tickets/8812/notes HTTP/1.1"));
    let line = r#"<div style=\"color:#888;font-size:11px\">ref ds-abc</div>"#;
    assert_eq!(body, format!(r#"{{"body":"<p>x</p>{line}","private":true}}"#));
    let expect = format!(
        "GET /api/v2/agents/me HTTP/1.1\r\nuser-agent: deskspool/{}\r\naccept: application/json\r\n\
         host: {}\r\nauthorization: Basic a2V5Olg=\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        server.address,
    );
    assert_eq!(requests[1], expect);
}

#[test]
fn the_marker_goes_into_the_field_that_is_configured() {
    let server = Server::play(vec![Act::Answer(http("201 Created", &[], r#"{"id":1}"#))]);
    let marker_field = Some("cf_external_ref".to_owned());
    let config = ClientConfig { marker_field, ..config(format!("http://{}", server.address)) };
    assert_eq!(create(&Client::new(config).unwrap()), delivered(1));
    let request = server.requests().remove(0);
    assert!(request.ends_with(r#""priority":2,"custom_fields":{"cf_external_ref":"ds-abc"}}"#), "{request}");
}

#[test]
fn nothing_left_when_nobody_listens() {
    let (_socket, address) = closed_port();
    let client = Client::new(config(format!("http://{address}"))).unwrap();
    assert_eq!(create(&client), unreachable("connection refused"));
    assert_eq!(client.probe(), Err(unreachable("connection refused")));
}

#[test]
fn nobody_knows_when_the_line_breaks_after_bytes_left() {
    let lost = "connection lost after the request was sent";
    let check = |act: Act, expect: Outcome| {
        let server = Server::play(vec![act]);
        assert_eq!(create(&server.client()), expect);
    };
    check(Act::Close, unknown(lost));
    check(Act::Reset, unknown(lost));
    check(Act::ReadAndReset, unknown(lost));
    check(Act::Answer(vec![]), unknown(lost));
    check(Act::Answer(b"HTTP/1.1 201 Crea".to_vec()), unknown(lost));
    check(Act::Answer(b"HTTP/1.1 201 Created\r\nLocation: /api/v2/tickets/1\r\n".to_vec()), unknown(lost));
    check(Act::Answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), unknown("the answer is not HTTP"));
    let endless_head = format!("HTTP/1.1 201 Created\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    check(Act::Answer(endless_head.into_bytes()), unknown("the answer's head is too large"));
}

#[test]
fn nobody_knows_when_the_answer_does_not_come_in_time() {
    let check = |act: Act, expect: Outcome| {
        let server = Server::play(vec![act]);
        assert_eq!(create(&impatient(&server)), expect);
    };
    let late = "timeout after the request was sent";
    check(Act::Stall, unknown(late));
    check(Act::AnswerAndStall(b"HTTP/1.1 201 Created\r\n".to_vec()), unknown(late));
    check(Act::Drip(http("201 Created", &["X-Filler: 0123456789"], r#"{"id":8812}"#)), unknown(late));
}

#[test]
fn a_created_ticket_is_found_in_location_when_the_body_breaks_off() {
    let check = |act: Act, expect: Outcome| {
        let server = Server::play(vec![act]);
        assert_eq!(create(&impatient(&server)), expect);
    };
    let head = "HTTP/1.1 201 Created\r\nLocation: https://acme.freshdesk.com/api/v2/tickets/8812\r\n\
                Content-Length: 900\r\n\r\n{\"id\":88";
    let nameless = "HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{\"id\":88";
    check(Act::Answer(head.into()), delivered(8812));
    check(Act::AnswerAndStall(head.into()), delivered(8812));
    check(Act::Answer(nameless.into()), unknown("201 Created but the answer was cut off"));
    let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"id\":88";
    check(Act::Answer(chunked.into()), unknown("201 Created but the answer was cut off"));
}

#[test]
fn a_note_is_there_once_its_201_came() {
    let server = Server::play(vec![Act::Answer(
        b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{\"id\":88".to_vec(),
    )]);
    assert_eq!(add_note(&server.client()), delivered(8812));
}

#[test]
fn a_redirect_is_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let elsewhere = Server::play(vec![json("{}")]);
        let location = format!("Location: http://{}/login", elsewhere.address);
        let server = Server::play(vec![Act::Answer(http(status, &[&location], ""))]);
        let reason = format!(
            "freshdesk {}: the address redirects to 127.0.0.1, set freshdesk.domain to the account's own",
            &status[..3],
        );
        let expect = Outcome::Deferred { not_before: None, cause: Cause::Denied, reason };
        assert_eq!(create(&server.client()), expect);
        assert_eq!(elsewhere.requests(), Vec::<String>::new());
    }
}

#[test]
fn calls_at_the_same_time_do_not_mix_their_counts() {
    const PAIRS: usize = 8;
    let (_socket, closed) = closed_port();
    // One client, as the dispatch workers share it; what differs is how far each call gets. Through a
    // proxy that refuses every other tunnel, half of the calls send nothing while the others do.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Some(format!("http://{}", listener.local_addr().unwrap()));
    let server = std::thread::spawn(move || {
        let barrier = Barrier::new(2 * PAIRS);
        std::thread::scope(|scope| {
            for number in 0..2 * PAIRS {
                let (mut stream, _) = listener.accept().unwrap();
                let barrier = &barrier;
                scope.spawn(move || {
                    use super::super::test_server::read_request;
                    use std::io::Write;
                    read_request(&mut stream);
                    // The refused half ends only after the bytes of the other half were sent.
                    if number % 2 == 0 {
                        barrier.wait();
                        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").unwrap();
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                    read_request(&mut stream);
                    barrier.wait();
                });
            }
        });
    });
    let client = Client::new(ClientConfig { proxy, ..config(format!("http://{closed}")) }).unwrap();
    let mut outcomes = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..2 * PAIRS).map(|_| scope.spawn(|| create(&client))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    server.join().unwrap();
    let lost = unknown("connection lost after the request was sent");
    outcomes.sort_by_key(|outcome| *outcome == lost);
    assert_eq!(outcomes[..PAIRS], vec![unreachable("the proxy answered 502"); PAIRS]);
    assert_eq!(outcomes[PAIRS..], vec![lost; PAIRS]);
}

#[test]
fn what_is_said_to_a_proxy_does_not_count() {
    let check = |act: Act, expect: Outcome| {
        let server = Server::play(vec![act]);
        let proxy = Some(format!("http://user:pass@{}", server.address));
        let timeout = Duration::from_secs(1);
        let config = ClientConfig { proxy, timeout, ..config("http://127.0.0.1:9".to_owned()) };
        assert_eq!(create(&Client::new(config).unwrap()), expect);
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.starts_with("CONNECT 127.0.0.1:9 HTTP/1.1\r\n")));
        assert!(!requests.concat().contains("a2V5Olg="), "the API key is not for the proxy: {requests:?}");
    };
    let refused = "the proxy wants a user and password (407), set freshdesk.proxy";
    check(Act::Answer(http("407 Proxy Authentication Required", &[], "")), unreachable(refused));
    check(Act::Answer(http("503 Service Unavailable", &[], "<html>")), unreachable("the proxy answered 503"));
    check(Act::Stall, unreachable("timeout while connecting"));
    check(Act::Answer(vec![]), unreachable("the proxy did not answer"));
    let (_socket, address) = closed_port();
    let proxy = Some(format!("http://{address}"));
    let config = ClientConfig { proxy, ..config("http://127.0.0.1:9".to_owned()) };
    assert_eq!(create(&Client::new(config).unwrap()), unreachable("connection refused"));
}

#[test]
fn a_request_goes_through_a_tunnel_and_counts_there() {
    let answer = http("201 Created", &[], r#"{"id":8812}"#);
    let tunnel = || Act::Keep(b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec());
    let server = Server::play(vec![tunnel(), Act::Answer(answer), tunnel(), Act::ReadAndReset]);
    let proxy = Some(format!("http://{}", server.address));
    let client = Client::new(ClientConfig { proxy, ..config("http://127.0.0.1:9".to_owned()) }).unwrap();
    assert_eq!(create(&client), delivered(8812));
    assert_eq!(create(&client), unknown("connection lost after the request was sent"));
    let lines = server.request_lines();
    assert_eq!(lines[..2], ["CONNECT 127.0.0.1:9 HTTP/1.1", "POST /api/v2/tickets HTTP/1.1"]);
}

#[test]
fn a_connection_is_used_again_until_the_client_rests() {
    let alive = || {
        let body = r#"{"id":8812}"#;
        Act::Keep(format!("HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\n{body}").into_bytes())
    };
    // The script ends the first connection only when its client does: the fourth act is never reached there.
    let server = Server::play(vec![alive(), alive(), Act::Stall, Act::Answer(http("201 Created", &[], ""))]);
    let client = server.client();
    assert_eq!((create(&client), create(&client)), (delivered(8812), delivered(8812)));
    client.rest();
    assert_eq!(create(&client), unknown("201 Created but the answer names no ticket"));
    // The stalled read saw the end of the connection instead of a third request.
    assert_eq!(server.request_lines()[2], "");
}

#[test]
fn the_budget_is_what_was_last_heard() {
    let with = |status, headers: &[&str]| Act::Answer(http(status, headers, "{}"));
    let server = Server::play(vec![
        with("200 OK", &["X-Ratelimit-Total: 50", "X-RATELIMIT-REMAINING: 48.0"]),
        with("502 Bad Gateway", &[]),
        with("200 OK", &["X-Ratelimit-Remaining: many"]),
        with("200 OK", &["X-Ratelimit-Remaining: 0"]),
    ]);
    let client = server.client();
    assert_eq!(client.rate(), Rate::default());
    let heard = |total, remaining| {
        let _ = client.probe();
        assert_eq!(client.rate(), Rate { total: Some(total), remaining: Some(remaining) });
    };
    heard(50, 48);
    heard(50, 48);
    heard(50, 48);
    heard(50, 0);
}

#[test]
fn a_ticket_for_nobody_is_not_sent() {
    let (_socket, address) = closed_port();
    let client = Client::new(config(format!("http://{address}"))).unwrap();
    let nobody = TicketFields { requester: Requester::default(), ..ana() };
    let reason = "mapping: the requester has no email, external_id or phone".to_owned();
    assert_eq!(client.create_ticket(&nobody, MARKER), Outcome::Rejected { reason });
}

#[test]
fn secrets_are_not_shown() {
    let mut config = config("http://127.0.0.1:9".to_owned());
    config.api_key = ApiKey::from("hunter2\n".to_owned());
    config.proxy = Some("http://user:hunter2@proxy".to_owned());
    let client = Client::new(config.clone()).unwrap();
    let shown = format!("{config:?} {client:?} {:?}", client.authorization);
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMjpY"), "{shown}");
    assert_eq!(client.authorization.as_bytes(), b"Basic aHVudGVyMjpY");
}

#[test]
fn a_configuration_that_cannot_work_says_why() {
    let check = |change: &dyn Fn(&mut ClientConfig), expect: &str| {
        let mut config = config("https://acme.freshdesk.com".to_owned());
        change(&mut config);
        let error = Client::with_environment(config, |_| None).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(
        &|config| config.url = "acme".to_owned(),
        "freshdesk.url: must look like https://acme.freshdesk.com",
    );
    check(&|config| config.api_key = ApiKey::from(" \n".to_owned()), "freshdesk.api_key is empty");
    check(
        &|config| config.proxy = Some("http://".to_owned()),
        "freshdesk.proxy: is not a proxy's URL, like http://proxy:3128",
    );
    check(
        &|config| config.ca_file = Some(PathBuf::from("/nonexistent/ca.pem")),
        "freshdesk.ca_file /nonexistent/ca.pem: No such file or directory (os error 2)",
    );
}

#[test]
fn a_long_transcript_arrives_whole() {
    let server = Server::play(vec![Act::Answer(http("201 Created", &[], r#"{"id":8812}"#))]);
    let transcript = TicketFields { description: "<p>hola</p>".repeat(100_000), ..ana() };
    assert_eq!(server.client().create_ticket(&transcript, MARKER), delivered(8812));
    let request = server.requests().remove(0);
    assert!(request.contains(&transcript.description), "{} bytes came", request.len());
}

/// Over TLS on loopback, with an authority made for these tests.
mod over_tls {
    use super::*;
    use crate::freshdesk::test_server::read_request;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::Write;
    use std::sync::Arc;

    /// Serves one connection; `answer` of `None` means to hang up after the request.
    fn serve(answer: Option<Vec<u8>>) -> String {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("test_tls/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("test_tls/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(Arc::new(tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let request = read_request(&mut stream);
            if let Some(answer) = answer.filter(|_| !request.is_empty()) {
                stream.write_all(&answer).unwrap();
            }
        });
        format!("https://{address}")
    }

    fn client(url: String, trusted: &[u8]) -> Client {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, trusted).unwrap();
        Client::new(ClientConfig { ca_file: Some(path), ..config(url) }).unwrap()
    }

    const OURS: &[u8] = include_bytes!("test_tls/ca.pem");

    #[test]
    fn an_authority_of_the_admin_is_trusted_and_bytes_count() {
        let created = http("201 Created", &[], r#"{"id":8812}"#);
        assert_eq!(create(&client(serve(Some(created)), OURS)), delivered(8812));
        let lost = unknown("connection lost after the request was sent");
        assert_eq!(create(&client(serve(None), OURS)), lost);
    }

    #[test]
    fn nothing_leaves_when_the_handshake_fails() {
        let other = include_bytes!("test_tls/server.pem");
        let distrust = unreachable("TLS: certificate of unknown issuer, set freshdesk.ca_file");
        assert_eq!(create(&client(serve(Some(vec![])), other)), distrust);
        let plain = |act| {
            let server = Server::play(vec![act]);
            let timeout = Duration::from_secs(1);
            let mut client = client(format!("https://{}", server.address), OURS);
            client.settings = settings(timeout, None, client.settings.tls_config().clone());
            client.rest();
            create(&client)
        };
        let stranger = b"220 mail.example.com ESMTP\r\n".to_vec();
        assert_eq!(plain(Act::Greet(stranger)), unreachable("TLS: the other side does not speak TLS"));
        assert_eq!(plain(Act::Greet(vec![])), unreachable("timeout while connecting"));
        assert_eq!(plain(Act::Close), unreachable("connection closed while connecting"));
    }
}
