//! Why a call got no answer, in words from a fixed vocabulary.
//!
//! **Invariant:** whether anything left is decided by the tap alone; the error only chooses the words.
//! ureq's own texts are not repeated, because some quote the address asked for, and that names customers.

use super::tls;
use std::io;
use ureq::{Error, Timeout};

/// No answer came.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    /// Bytes of the request were handed to the peer, so it may have been heard.
    pub(super) sent: bool,
    /// One line for admins.
    pub(super) reason: String,
}

impl Failure {
    /// Words for `error`, after `bytes` of the request were handed over.
    pub(super) fn of(error: &Error, bytes: u64) -> Failure {
        let sent = bytes > 0;
        Failure { sent, reason: if sent { after_sending(error).to_owned() } else { before_sending(error) } }
    }
}

fn after_sending(error: &Error) -> &'static str {
    match error {
        Error::Timeout(_) => "timeout after the request was sent",
        Error::Protocol(_) => "the answer is not HTTP",
        Error::LargeResponseHeader(..) => "the answer's head is too large",
        _ => "connection lost after the request was sent",
    }
}

fn before_sending(error: &Error) -> String {
    match error {
        Error::Timeout(Timeout::Resolve) => "timeout while looking up the host name".to_owned(),
        Error::Timeout(_) => "timeout while connecting".to_owned(),
        Error::HostNotFound => "host name not found".to_owned(),
        Error::ConnectProxyFailed(reason) => proxy_refused(reason),
        Error::Rustls(error) => tls::explain(error),
        Error::Io(error) => io_error(error),
        _ => "could not connect".to_owned(),
    }
}

fn io_error(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::explain(error);
    }
    // The standard library has no error kind for a failed lookup, only this text of its own.
    if error.to_string().starts_with("failed to lookup address information") {
        return "host name not found".to_owned();
    }
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
            "connection closed while connecting".to_owned()
        }
        kind => kind.to_string(),
    }
}

/// ureq says `proxy server responded 407/407`.
fn proxy_refused(reason: &str) -> String {
    match reason.rsplit('/').next().and_then(|status| status.parse::<u16>().ok()) {
        Some(407) => "the proxy wants a user and password (407), set freshdesk.proxy".to_owned(),
        Some(status) => format!("the proxy answered {status}"),
        None => "the proxy did not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_depend_on_whether_bytes_left() {
        let check = |error: Error, bytes, expect: &str| {
            let failure = Failure::of(&error, bytes);
            assert_eq!((failure.sent, failure.reason.as_str()), (bytes > 0, expect));
        };
        let reset = || Error::Io(io::ErrorKind::ConnectionReset.into());
        check(reset(), 0, "connection closed while connecting");
        check(Error::Io(io::ErrorKind::NetworkUnreachable.into()), 0, "network unreachable");
        check(reset(), 1, "connection lost after the request was sent");
        check(Error::Timeout(Timeout::Global), 0, "timeout while connecting");
        check(Error::Timeout(Timeout::Global), 9, "timeout after the request was sent");
        check(Error::Timeout(Timeout::Resolve), 0, "timeout while looking up the host name");
        check(
            Error::Io(io::Error::other("failed to lookup address information: Name or service not known")),
            0,
            "host name not found",
        );
        check(
            Error::ConnectProxyFailed("proxy server responded 407/407".to_owned()),
            0,
            "the proxy wants a user and password (407), set freshdesk.proxy",
        );
        check(
            Error::ConnectProxyFailed("proxy server responded 502/502".to_owned()),
            0,
            "the proxy answered 502",
        );
        check(
            Error::ConnectProxyFailed("proxy server did not respond".to_owned()),
            0,
            "the proxy did not answer",
        );
        check(Error::BadUri("https://x/?email=ana@example.com".to_owned()), 0, "could not connect");
        check(Error::LargeResponseHeader(9, 8), 1, "the answer's head is too large");
    }

    #[test]
    fn a_failed_handshake_says_what_to_do() {
        let check = |error: rustls::Error, expect: &str| {
            assert_eq!(Failure::of(&Error::Io(io::Error::other(error.clone())), 0).reason, expect);
            assert_eq!(Failure::of(&Error::Rustls(error), 0).reason, expect);
        };
        let invalid = |wrong| rustls::Error::InvalidCertificate(wrong);
        check(
            invalid(rustls::CertificateError::UnknownIssuer),
            "TLS: certificate of unknown issuer, set freshdesk.ca_file",
        );
        check(
            invalid(rustls::CertificateError::Expired),
            "TLS: certificate has expired, or this machine's clock is wrong",
        );
        check(rustls::Error::DecryptError, "TLS: handshake failed");
    }
}
