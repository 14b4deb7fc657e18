//! An answer, and what it means: for a write, a search, a probe.
//!
//! **Invariants:** the status decides, then `errors[].field` and `errors[].code`; texts never do, and
//! are never repeated. Whatever does not surely say "not done" is unclear, and an unclear write is
//! `Unknown`: 5xx and anything that does not look like Freshdesk may come from an edge server whose
//! back end did the work.

use super::outcome::{Cause, Looked, Outcome, Rate};
use super::refusal;
use crate::clock::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

/// Wait after a 429 that does not say how long.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);
/// Legacy accounts count calls per hour, so no honest wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What a request was about: the same status means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// `POST /tickets`.
    NewTicket,
    /// `POST /tickets/{id}/notes`, and `GET /tickets/{id}/conversations`.
    NoteOn(u64),
    /// `GET` and `PUT /tickets/{id}`.
    Ticket(u64),
    /// `POST /contacts`, `PUT /contacts/{id}`.
    Contact,
    /// Lists, and `GET /agents/me`.
    Account,
}

/// A status and what came with it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Retry-After`, in seconds or as a date.
    pub(super) retry_after: Option<Duration>,
    /// What Freshdesk's clock said.
    pub(super) date: Option<Timestamp>,
    /// There is a `Link` to a next page. Only that it is there counts: its address is not used.
    pub(super) has_next: bool,
    /// The account's budget.
    pub(super) rate: Rate,
    location: Option<String>,
    request_id: String,
    /// `None` when the body did not arrive whole.
    body: Option<Vec<u8>>,
}

/// What an answer other than the wished-for one comes to.
pub(super) enum Verdict {
    /// Surely not done, and may work later.
    Later(Option<Duration>, Cause, String),
    /// Surely not done, and will not work as it stands.
    Never(String),
    /// Nobody knows.
    Unclear(String),
}

impl Answer {
    /// Reads the whole answer, at most `max_bytes` of its body.
    pub(super) fn read(mut response: Response<Body>, max_bytes: u64) -> Answer {
        let headers = response.headers();
        let date = header(headers, "date").and_then(|text| httpdate::parse_http_date(text).ok());
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: header(headers, "retry-after").and_then(|text| wait(text, date)),
            date: date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).map(|d| Timestamp(0).plus(d)),
            has_next: headers
                .get_all("link")
                .iter()
                .any(|link| names_next(&String::from_utf8_lossy(link.as_bytes()))),
            rate: Rate {
                total: header(headers, "x-ratelimit-total").and_then(count),
                remaining: header(headers, "x-ratelimit-remaining").and_then(count),
            },
            location: header(headers, "location").map(str::to_owned),
            request_id: header(headers, "x-request-id").map(printable_id).unwrap_or_default(),
            body: None,
        };
        answer.body = response.body_mut().with_config().limit(max_bytes).read_to_vec().ok();
        answer
    }

    /// Support asks for the request id. Nothing of the body: it may quote customers.
    pub(super) fn log_line(&self) -> String {
        format!("status={} request_id={}", self.status, self.request_id)
    }

    /// The body as `T`; `None` when it is cut off, or something else.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.as_deref()?).ok()
    }

    /// What the answer to a write comes to.
    pub(super) fn outcome(&self, subject: Subject) -> Outcome {
        if let Some(ticket) = self.delivered(subject) {
            return Outcome::Delivered { ticket };
        }
        match self.verdict(subject) {
            Verdict::Later(not_before, cause, reason) => Outcome::Deferred { not_before, cause, reason },
            Verdict::Never(reason) => Outcome::Rejected { reason },
            Verdict::Unclear(reason) => Outcome::Unknown { reason },
        }
    }

    /// Whether a file was refused for its size.
    pub(super) fn refuses_files(&self) -> bool {
        self.status == 413
            || self.status == 400 && refusal::is_about_size_of(self.json().as_ref(), "attachments")
    }

    /// What the answer to a question comes to, when it is not the wished-for one.
    pub(super) fn looked(&self, subject: Subject) -> Looked {
        match self.verdict(subject) {
            Verdict::Later(not_before, cause, reason) => Looked::Deferred { not_before, cause, reason },
            Verdict::Never(reason) => Looked::Undecidable { reason },
            Verdict::Unclear(reason) => Looked::Deferred { not_before: None, cause: Cause::Server, reason },
        }
    }

    /// The agent in the answer to `GET /agents/me`, or what the answer comes to.
    pub(super) fn agent_name(&self) -> Result<String, (Option<Duration>, Cause, String)> {
        if let Some(agent) = self.json::<Value>().filter(|agent| self.status == 200 && agent.is_object()) {
            let name = agent.pointer("/contact/name").and_then(Value::as_str).unwrap_or_default();
            return Ok(if name.is_empty() { "agent".to_owned() } else { name.to_owned() });
        }
        Err(match self.verdict(Subject::Account) {
            Verdict::Later(not_before, cause, reason) => (not_before, cause, reason),
            Verdict::Never(reason) | Verdict::Unclear(reason) => (None, Cause::Server, reason),
        })
    }

    /// The ticket that a write made or added to, when the answer proves that it did.
    ///
    /// A 201 proves it even when its body is cut off; then the `Location` header names a new ticket.
    /// Any other 2xx may come from a captive portal, and must look like Freshdesk.
    fn delivered(&self, subject: Subject) -> Option<u64> {
        if !(200..300).contains(&self.status) {
            return None;
        }
        let id_in_body = || self.json::<Value>()?.get("id")?.as_u64().filter(|&id| id > 0);
        match subject {
            Subject::NoteOn(ticket) if self.status == 201 => Some(ticket),
            Subject::NoteOn(ticket) | Subject::Ticket(ticket) => id_in_body().map(|_| ticket),
            Subject::NewTicket => id_in_body().or_else(|| ticket_in_location(self.location.as_deref()?)),
            Subject::Contact | Subject::Account => None,
        }
    }

    fn verdict(&self, subject: Subject) -> Verdict {
        let code = || refusal::code(self.json().as_ref());
        match self.status {
            200..=299 => Verdict::Unclear(self.unclear_success(subject)),
            301 | 302 | 307 | 308 => denied(format!(
                "freshdesk {}: the address redirects{}, set freshdesk.domain to the account's own",
                self.status,
                self.location
                    .as_deref()
                    .and_then(host_in)
                    .map(|host| format!(" to {host}"))
                    .unwrap_or_default(),
            )),
            401 => denied("freshdesk 401: the API key is wrong or belongs to a deactivated agent".to_owned()),
            402 | 403 => self.forbidden(code()),
            404 => self.not_found(subject),
            408 => Verdict::Unclear(self.phrase()),
            429 => self.rate_limited(),
            400..=499 => Verdict::Never(refusal::explain(self.status, self.json().as_ref(), subject)),
            _ => Verdict::Unclear(match code() {
                Some(code) => format!("{} ({code})", self.phrase()),
                None => self.phrase(),
            }),
        }
    }

    /// These two codes can be about one record, and were seen to come and go; all else is about the account.
    fn forbidden(&self, code: Option<String>) -> Verdict {
        match code.as_deref() {
            Some(code @ ("access_denied" | "require_feature")) => Verdict::Later(
                self.retry_after,
                Cause::Server,
                format!("freshdesk {}: {} ({code})", self.status, refusal::meaning(code)),
            ),
            Some(code) => denied(format!("freshdesk {}: {} ({code})", self.status, refusal::meaning(code))),
            None => denied(format!("freshdesk {}: this machine or agent is not let in", self.status)),
        }
    }

    fn not_found(&self, subject: Subject) -> Verdict {
        match subject {
            Subject::NoteOn(ticket) | Subject::Ticket(ticket) => Verdict::Never(format!(
                "freshdesk 404: ticket {ticket} was deleted, set followup.when_closed"
            )),
            Subject::Contact => Verdict::Never("freshdesk 404: the contact was deleted meanwhile".to_owned()),
            Subject::NewTicket | Subject::Account => {
                denied("freshdesk 404: no such account, freshdesk.domain is wrong".to_owned())
            }
        }
    }

    fn rate_limited(&self) -> Verdict {
        let reason = match self.retry_after {
            Some(wait) => format!("429 rate limited, Retry-After {}", wait.as_secs()),
            None => "429 rate limited".to_owned(),
        };
        let wait = self.retry_after.unwrap_or(RATE_LIMIT_WAIT);
        Verdict::Later(Some(wait), Cause::RateLimited, reason)
    }

    fn unclear_success(&self, subject: Subject) -> String {
        let problem = match (&self.body, subject) {
            (None, _) => "but the answer was cut off",
            (Some(_), Subject::NewTicket) => "but the answer names no ticket",
            (Some(_), _) => "but the answer is not what Freshdesk sends",
        };
        format!("{} {problem}", self.phrase())
    }

    /// `503 Service Unavailable`.
    fn phrase(&self) -> String {
        let known = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        known.map_or_else(|| self.status.to_string(), |known| format!("{} {known}", self.status))
    }
}

fn denied(reason: String) -> Verdict {
    Verdict::Later(None, Cause::Denied, reason)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Seconds, or a date, which is compared with the answer's own `Date`: this machine's clock may be wrong.
fn wait(retry_after: &str, date: Option<SystemTime>) -> Option<Duration> {
    let wait = match retry_after.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(retry_after).ok()?;
            until.duration_since(date?).unwrap_or_default()
        }
    };
    Some(wait.clamp(Duration::from_secs(1), WAIT_MAX))
}

/// `199`, `199.0`, `199;w=60`: the digits in front.
fn count(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// `<https://acme.freshdesk.com/api/v2/tickets?page=2>; rel="next"`, alone or among others.
fn names_next(link: &str) -> bool {
    link.split([';', ',']).any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"))
}

fn ticket_in_location(location: &str) -> Option<u64> {
    let (_, id) = location.split_once("/api/v2/tickets/")?;
    id.trim_end_matches('/').parse().ok().filter(|&id| id > 0)
}

fn host_in(location: &str) -> Option<String> {
    let host = location.parse::<ureq::http::Uri>().ok()?.host()?.to_owned();
    Some(host).filter(|host| !host.is_empty())
}

fn printable_id(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(64).collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
