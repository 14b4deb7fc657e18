//! TLS: who we are, what clients get, and clients that are slow, wrong or in the clear.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::room::{PATIENCE, Room, hasty, until};
use crate::gate::tls::{Chain, TlsError};
use crate::gate::{Identity, Limits, Reason};

const CA: &[u8] = include_bytes!("tls/ca.pem");
const SERVER: &[u8] = include_bytes!("tls/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("tls/server.key");
const SEC1_KEY: &[u8] = include_bytes!("tls/sec1.key");
const ENCRYPTED_KEY: &[u8] = include_bytes!("tls/encrypted.key");
const RSA: &[u8] = include_bytes!("tls/rsa.pem");
const RSA_KEY: &[u8] = include_bytes!("tls/rsa.key");
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

type Client = StreamOwned<ClientConnection, TcpStream>;

fn identity(certificate: &[u8], key: &[u8]) -> Arc<Identity> {
    Arc::new(Chain::parse(certificate).unwrap().with_key(key).unwrap())
}

fn room(limits: Limits) -> Room {
    Room::with(limits, Some(identity(SERVER, SERVER_KEY)))
}

/// A client that trusts `authority` and speaks one version, or either.
fn client_of(room: &Room, authority: &[u8], versions: &[&'static SupportedProtocolVersion]) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let session = ClientConnection::new(Arc::new(config), "hooks.test".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(room.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(session, socket)
}

fn client(room: &Room) -> Client {
    client_of(room, CA, &BOTH)
}

/// Sends `raw` and reads one answer.
fn ask(client: &mut Client, raw: impl AsRef<[u8]>) -> String {
    client.write_all(raw.as_ref()).unwrap();
    let mut answer = String::new();
    let mut piece = [0; 4096];
    loop {
        let length =
            answer.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if length.is_some_and(|length: usize| body.is_some_and(|body| body >= length)) {
            return answer;
        }
        let count = client.read(&mut piece).unwrap();
        assert!(count > 0, "the end instead of the rest of {answer:?}");
        answer.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

#[test]
fn requests_are_answered_over_both_versions_and_connections_are_kept() {
    let room = room(Limits::default());
    for version in BOTH {
        let mut client = client_of(&room, CA, &[version]);
        assert!(ask(&mut client, GET).contains("GET /\n"));
        assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(ask(&mut client, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n").len() > 100_000);
        let body = "x".repeat(300_000);
        let post = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(ask(&mut client, post).ends_with(&body));
        let two = ask(&mut client, format!("{GET}{GET}"));
        assert!(two.matches("HTTP/1.1 200").count() == 2 || ask(&mut client, "").contains("HTTP/1.1 200"));
    }
    assert_eq!(room.received(), 10);
}

#[test]
fn the_end_is_said_and_the_limits_hold() {
    let room = room(Limits { body_bytes_max: 10, ..Limits::default() });
    let mut polite = client(&room);
    let close = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(ask(&mut polite, close).starts_with("HTTP/1.1 200"));
    assert_eq!(polite.read(&mut [0]).unwrap(), 0, "a farewell, and no broken line");
    let mut large = client(&room);
    let post = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{}", "x".repeat(11));
    assert!(ask(&mut large, post).starts_with("HTTP/1.1 413"));
    assert_eq!(large.read(&mut [0]).unwrap(), 0);
}

#[test]
fn keys_of_every_kind_are_read() {
    for (certificate, key) in [(SERVER, SERVER_KEY), (SERVER, SEC1_KEY), (RSA, RSA_KEY)] {
        let room = Room::with(Limits::default(), Some(identity(certificate, key)));
        assert!(ask(&mut client(&room), GET).starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let of = |certificate: &[u8], key: &[u8]| Chain::parse(certificate)?.with_key(key).map(|_| ());
    assert_eq!(of(SERVER, RSA_KEY), Err(TlsError::Mismatch));
    assert_eq!(of(SERVER, ENCRYPTED_KEY), Err(TlsError::Encrypted));
    assert_eq!(of(SERVER, CA), Err(TlsError::NoKey));
    assert_eq!(of(SERVER_KEY, SERVER_KEY), Err(TlsError::NoCertificate));
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(of(broken, SERVER_KEY), Err(TlsError::BrokenCertificate));
}

#[test]
fn a_chain_knows_its_end_its_hosts_and_whether_it_is_whole() {
    let chain = Chain::parse(SERVER).unwrap();
    assert_eq!(chain.expires(), 4_949_498_583, "openssl says Nov  4 20:43:03 2126 GMT");
    assert!(chain.is_for("hooks.test") && chain.is_for("127.0.0.1") && !chain.is_for("hooks.other"));
    assert!(chain.is_alone());
    assert!(!Chain::parse(&[SERVER, CA].concat()).unwrap().is_alone());
    assert!(!Chain::parse(CA).unwrap().is_alone(), "it vouches for itself");
}

#[test]
fn plain_http_is_told_where_it_is() {
    let room = room(Limits::default());
    let answer = room.client_with(GET).answer();
    assert_eq!((answer.status, answer.body.as_str()), (400, "this port speaks https, not plain http\n"));
    assert_eq!(room.gate.counters().refused[Reason::Plain as usize].1, 1);
    assert_eq!(room.received(), 0);
}

#[test]
fn a_client_that_does_not_trust_us_is_counted() {
    let room = room(Limits::default());
    let error = client_of(&room, RSA, &BOTH).write_all(GET.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    until("it is counted", || room.gate.counters().refused[Reason::Handshake as usize].1 == 1);
    assert!(ask(&mut client(&room), GET).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_handshake_that_drips_meets_the_deadline() {
    let room = room(hasty());
    let mut slow = client_of(&room, CA, &BOTH);
    let mut hello = Vec::new();
    slow.conn.write_tls(&mut hello).unwrap();
    let socket = &slow.sock;
    // One byte after the other, until the gate has had enough.
    let sent = Cell::new(0);
    until("it is cut off", || {
        let byte = hello.get(sent.replace(sent.get() + 1));
        let _ = byte.map(|byte| {
            let mut socket = socket;
            socket.write_all(&[*byte])
        });
        room.gate.counters().refused[Reason::TooSlow as usize].1 == 1
    });
    until("it is gone", || room.gate.counters().open_connections == 0);
}

#[test]
fn slow_handshakes_push_out_each_other_and_not_the_honest() {
    let room = room(Limits { connections_max: 4, ..Limits::default() });
    let stalled: Vec<_> = (0..4).map(|_| room.client_with("\x16\x03\x01")).collect();
    until("the table is full", || room.gate.counters().open_connections == 4);
    assert!(ask(&mut client(&room), GET).starts_with("HTTP/1.1 200"));
    assert_eq!(room.gate.counters().evicted, 1);
    drop(stalled);
}

#[test]
fn another_certificate_is_for_those_who_come_next() {
    let room = room(Limits::default());
    let mut before = client(&room);
    assert!(ask(&mut before, GET).starts_with("HTTP/1.1 200"));
    room.gate.set_identity(Some(identity(RSA, RSA_KEY)));
    let mut after = client(&room);
    assert!(ask(&mut after, GET).starts_with("HTTP/1.1 200"));
    assert!(ask(&mut before, GET).starts_with("HTTP/1.1 200"), "who was there stays");
    let leaf = |client: &Client| client.conn.peer_certificates().unwrap()[0].clone();
    assert_ne!(leaf(&before), leaf(&after));
    room.gate.set_identity(None);
    room.assert_serves();
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let room = room(Limits::default());
    let mut client = client(&room);
    assert!(ask(&mut client, GET).starts_with("HTTP/1.1 200"));
    std::thread::scope(|scope| {
        scope.spawn(|| room.gate.stop_within(PATIENCE));
        until("it stops", || room.gate.shared.is_stopping());
        assert!(ask(&mut client, GET).contains("Connection: close"));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
    assert_eq!(room.gate.drain(Duration::ZERO), 0);
}
