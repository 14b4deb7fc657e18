//! The one form in which tiny_http gets a request: HTTP/1.1, origin-form target, ASCII only,
//! end-to-end headers, an exact `Content-Length`, and the peer in `X-Deskspool-Peer`.

use std::net::{IpAddr, SocketAddr};

use super::request::{Head, connection_options, values};

/// The header that says who the peer is. Clients' own headers with the prefix are dropped.
pub const PEER_HEADER: &str = "X-Deskspool-Peer";

/// Prefix of headers that only the gate may set.
const OWN_PREFIX: &str = "x-deskspool-";

/// Headers that concern one connection (RFC 9110 §7.6.1), or that the gate writes itself.
const DROPPED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Writes everything up to the length of the body, which is not known yet.
pub(super) fn write_head(head: &Head<'_>, peer: IpAddr, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    write_target(head.target, out);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.host.filter(|host| !host.is_empty()).unwrap_or("localhost").as_bytes());
    out.extend_from_slice(b"\r\n");
    for header in head.headers.iter().filter(|header| is_relayed(head, header.name)) {
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(header.value.iter().map(|&byte| if byte.is_ascii() { byte } else { b'?' }));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("{PEER_HEADER}: {peer}\r\n").as_bytes());
}

/// Writes the length of the body and the end of the head.
pub(super) fn end_head(body_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("Content-Length: {body_bytes}\r\n\r\n").as_bytes());
}

/// tiny_http drops requests that are not ASCII without a word, and characters that RFC 3986 does not
/// know are read differently by different programs.
fn write_target(target: &[u8], out: &mut Vec<u8>) {
    if target.first().is_none_or(|&byte| byte == b'?') {
        out.push(b'/');
    }
    for &byte in target {
        if byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

fn is_relayed(head: &Head<'_>, name: &str) -> bool {
    let is_own = name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
    !is_own
        && !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
        && !connection_options(&head.headers).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

/// Who sent the request: the socket's peer, or, when that is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not a trusted proxy itself. What cannot be read is not believed.
pub(super) fn peer(head: &Head<'_>, socket_peer: IpAddr, trusted_proxies: &[IpAddr]) -> IpAddr {
    if !trusted_proxies.contains(&socket_peer) {
        return socket_peer;
    }
    let hops: Vec<&[u8]> = values(&head.headers, "x-forwarded-for")
        .flat_map(|value| value.split(|&byte| byte == b','))
        .collect();
    for hop in hops.iter().rev() {
        match parse_hop(hop) {
            Some(address) if trusted_proxies.contains(&address) => {}
            Some(address) => return address,
            None => return socket_peer,
        }
    }
    socket_peer
}

/// An address, with or without port and brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> String {
        let head = Head::parse(raw.as_bytes(), 64).expect("a good head");
        let mut out = Vec::new();
        write_head(&head, IpAddr::from([192, 0, 2, 7]), &mut out);
        end_head(3, &mut out);
        String::from_utf8(out).expect("canonical requests are ASCII")
    }

    #[test]
    fn only_end_to_end_headers_are_relayed() {
        let raw = "POST /in/a?b=c HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, X-Hop, Upgrade\r\nX-Hop: 1\r\n\
                   Upgrade: h2c\r\nTE: trailers\r\nTrailer: x\r\nExpect: 100-continue\r\nKeep-Alive: 5\r\n\
                   Content-Length: 3\r\nX-DESKSPOOL-Peer: 6.6.6.6\r\nx-deskspool-any: 1\r\nX-Kept: a  b\r\n\
                   Accept:\r\nX-Name: Jos\u{e9}\r\n\r\n";
        let expect = "POST /in/a?b=c HTTP/1.1\r\nHost: h:1\r\nX-Kept: a  b\r\nAccept: \r\nX-Name: Jos??\r\n\
                      X-Deskspool-Peer: 192.0.2.7\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(canonical(raw), expect);
    }

    #[test]
    fn targets_become_ascii_origin_form() {
        let check = |target: &str, expect: &str| {
            let text = canonical(&format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let line = text.lines().next().unwrap_or_default();
            assert_eq!(line, format!("OPTIONS {expect} HTTP/1.1"), "{target}");
        };
        check("/a/b?c=d&e", "/a/b?c=d&e");
        check("*", "*");
        check("http://hooks.test/in/x?y", "/in/x?y");
        check("HTTPS://hooks.test?y", "/?y");
        check("http://hooks.test", "/");
        check("/caf\u{e9}#x", "/caf%C3%A9%23x");
        check("/{\"a\"|b}", "/%7B%22a%22%7Cb%7D");
        check("/%zz", "/%zz");
    }

    #[test]
    fn an_absolute_target_brings_its_host() {
        let text = canonical("GET http://real:8/ HTTP/1.1\r\nHost: other\r\n\r\n");
        assert!(text.starts_with("GET / HTTP/1.1\r\nHost: real:8\r\n"), "{text}");
        assert!(canonical("GET / HTTP/1.0\r\n\r\n").contains("\r\nHost: localhost\r\n"));
    }

    #[test]
    fn forwarded_addresses_are_believed_from_proxies_only() {
        let proxies: Vec<IpAddr> =
            ["127.0.0.1", "10.0.0.1"].iter().map(|a| a.parse().expect("an address")).collect();
        let check = |socket: &str, forwarded: &str, expect: &str| {
            let raw = format!("GET / HTTP/1.1\r\nHost: x\r\n{forwarded}\r\n");
            let head = Head::parse(raw.as_bytes(), 64).expect("a good head");
            let socket = socket.parse().expect("an address");
            assert_eq!(peer(&head, socket, &proxies).to_string(), expect, "{forwarded:?}");
        };
        check("192.0.2.7", "X-Forwarded-For: 1.2.3.4\r\n", "192.0.2.7");
        check("127.0.0.1", "", "127.0.0.1");
        check("127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4");
        check("127.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1\r\n", "1.2.3.4");
        check("127.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 1.2.3.4:99\r\n", "1.2.3.4");
        check("127.0.0.1", "X-Forwarded-For: 1.2.3.4, bogus\r\n", "127.0.0.1");
        check("127.0.0.1", "X-Forwarded-For: 10.0.0.1\r\n", "127.0.0.1");
        check("127.0.0.1", "X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1");
        check("127.0.0.1", "X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1");
        check("127.0.0.1", "X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4");
    }
}
