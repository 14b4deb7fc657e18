//! Requests that never reach tiny_http: why, what the client is told, and how often it happened.
//!
//! **Invariants:** the client gets bland words, the exact reason goes to the debug log; a 503 always
//! says when to come back; after a refusal the connection is closed, because what follows on it
//! cannot be trusted to be the start of a request.

use std::sync::atomic::{AtomicU64, Ordering};

/// After how many seconds a client that got a 503 may come back.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Why a request was refused: one variant per counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bytes are not a request that every server would read the same way.
    Malformed,
    /// The request target is too long.
    TargetTooLong,
    /// The head is too long or has too many headers.
    HeadTooLarge,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    VersionUnsupported,
    /// CONNECT or TRACE.
    MethodNotAllowed,
    /// An `Expect` other than `100-continue`.
    ExpectationUnknown,
    /// The gate's own liveness target, asked for from outside.
    NotFound,
    /// The body is larger than `body_bytes_max`.
    BodyTooLarge,
    /// A deadline passed before the request was complete.
    TooSlow,
    /// All bodies that are held together would be larger than `body_budget_bytes`.
    BodyBudget,
    /// No connection could be evicted to make room, or no thread could be had.
    Full,
    /// tiny_http could not be reached or broke off.
    Unreachable,
    /// tiny_http did not answer in time.
    Unanswered,
    /// Plain HTTP on a port that speaks TLS.
    Plain,
    /// A handshake that came to nothing. There is nobody to answer.
    Handshake,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 15] = [
        Reason::Malformed,
        Reason::TargetTooLong,
        Reason::HeadTooLarge,
        Reason::VersionUnsupported,
        Reason::MethodNotAllowed,
        Reason::ExpectationUnknown,
        Reason::NotFound,
        Reason::BodyTooLarge,
        Reason::TooSlow,
        Reason::BodyBudget,
        Reason::Full,
        Reason::Unreachable,
        Reason::Unanswered,
        Reason::Plain,
        Reason::Handshake,
    ];

    /// The word for this reason in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::TargetTooLong => "target_too_long",
            Reason::HeadTooLarge => "head_too_large",
            Reason::VersionUnsupported => "version",
            Reason::MethodNotAllowed => "method",
            Reason::ExpectationUnknown => "expectation",
            Reason::NotFound => "not_found",
            Reason::BodyTooLarge => "body_too_large",
            Reason::TooSlow => "too_slow",
            Reason::BodyBudget => "body_budget",
            Reason::Full => "full",
            Reason::Unreachable => "unreachable",
            Reason::Unanswered => "unanswered",
            Reason::Plain => "plain_http",
            Reason::Handshake => "handshake",
        }
    }

    /// Status and reason phrase of the answer.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Reason::Malformed | Reason::Plain | Reason::Handshake => (400, "Bad Request"),
            Reason::NotFound => (404, "Not Found"),
            Reason::MethodNotAllowed => (405, "Method Not Allowed"),
            Reason::TooSlow => (408, "Request Timeout"),
            Reason::BodyTooLarge => (413, "Content Too Large"),
            Reason::TargetTooLong => (414, "URI Too Long"),
            Reason::ExpectationUnknown => (417, "Expectation Failed"),
            Reason::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Reason::VersionUnsupported => (505, "HTTP Version Not Supported"),
            Reason::BodyBudget | Reason::Full | Reason::Unreachable | Reason::Unanswered => {
                (503, "Service Unavailable")
            }
        }
    }

    /// A refusal for this reason; `detail` is for our debug log only.
    pub(crate) const fn because(self, detail: &'static str) -> Refusal {
        Refusal { reason: self, detail }
    }
}

/// A refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is counted and decides the answer.
    pub reason: Reason,
    /// What exactly was wrong; never a part of the request.
    pub detail: &'static str,
}

impl Refusal {
    /// The whole answer, as it goes over the wire.
    pub fn answer(self) -> String {
        let (status, phrase) = self.reason.status();
        let more = match status {
            405 => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n".to_owned(),
            503 => format!("Retry-After: {RETRY_AFTER_SECONDS}\r\n"),
            _ => String::new(),
        };
        let text = match self.reason {
            Reason::Plain => "this port speaks https, not plain http".to_owned(),
            _ => phrase.to_ascii_lowercase(),
        };
        let length = text.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             {more}Connection: close\r\n\r\n{text}\n"
        )
    }
}

/// What the gate has done since it started.
#[derive(Default)]
pub(crate) struct Counters {
    pub accepted: AtomicU64,
    pub relayed: AtomicU64,
    pub truncated: AtomicU64,
    pub accept_errors: AtomicU64,
    pub panics: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Counters {
    /// Counts one refused request.
    pub fn count_refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often requests were refused for each reason.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        Reason::ALL
            .iter()
            .map(|&reason| (reason, self.refused[reason as usize].load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_the_reasons() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place, "{reason:?}");
        }
    }

    #[test]
    fn an_answer_is_complete_and_bland() {
        let answer = Reason::Full.because("the table is full").answer();
        assert_eq!(
            answer,
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\
             Retry-After: 10\r\nConnection: close\r\n\r\nservice unavailable\n"
        );
    }
}
