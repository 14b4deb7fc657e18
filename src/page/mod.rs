//! The status page: what it answers to which request. Read-only unless `status_page.actions`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /?span=24h` | the overview; `1h`, `24h`, `7d` or `30d` of the past |
//! | `GET /list?state=…&source=…` | envelopes; the filters are the command line's |
//! | `GET /passed?source=…&what=…` | the last events that were filtered or here before |
//! | `GET /refused?source=…` | the last requests that were turned away |
//! | `GET /envelope/ID` | one envelope; with `?show=1` and the password, what it says |
//! | `GET /preview/SOURCE`, `POST` | with the password: a mapping tried on real events, and on a text that is in no file yet |
//! | `GET /act?do=…` | what a verb would meet, and the button that does it |
//! | `POST /act` | retry, hold, release, drop, pause, resume, with the password and a token from one of our pages |
//! | `GET /healthz` | 200 `ok` while a request would be answered, else 503 |
//! | `GET /readyz` | 200 `ok` while an event would be taken, else 503 with the bland reason |
//! | `GET /status.json` | the [`Snapshot`] |
//! | `GET /metrics` | the same and more for Prometheus |
//!
//! **Invariants:** what others wrote is escaped, and a policy forbids what escaping might let through. Without the
//! password, no page names a requester, a conversation or anything a customer wrote. Freshdesk being down makes
//! neither `healthz` nor `readyz` fail: that is what the spool is for. One thread answers, so at most one mapping is
//! tried at a time; what it may cost is bounded by the templates' steps, the length of a request and the events of it
//! that are looked at.

mod act;
mod chart;
mod confirm;
mod envelope;
mod html;
mod list;
mod overview;
mod pictures;
mod preview;
mod recent;
mod ticket;

use crate::clock::Timestamp;
use crate::config::{Finding, SourceText};
use crate::control::{Refused as Refusal, Rooms};
use crate::pauses::{DELIVERY, INTAKE};
use crate::source::Source;
use crate::spool::State;
use crate::status::listener::{Answer, Asked};
use crate::status::prometheus::{self, Exposed};
use crate::status::{Snapshot, Span, snapshot};
use act::Token;
use std::sync::{Arc, PoisonError};

/// Before the name of a source.
const PREVIEW: &str = "/preview/";

/// What the page is made of.
pub struct Page {
    rooms: Arc<Rooms>,
    asks: Asks,
    token: Token,
}

/// The tables of the source of this name.
pub type SourceTexts = dyn Fn(&str) -> Result<SourceText, Finding> + Send + Sync;
/// The source of this name, of this text.
pub type Compiler = dyn Fn(&str, &str) -> Result<Arc<Source>, Vec<Finding>> + Send + Sync;

/// What the page has to ask the daemon.
pub struct Asks {
    /// Whether a platform's request would get an answer.
    pub is_alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Requests that the public gate refused because of their size.
    pub too_large: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The password of those who may act; none when the page is read-only.
    pub password: Box<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// The tables of a source as they stand in the files.
    pub source_text: Box<SourceTexts>,
    /// Compiles the tables of a source from a text, for a look at it.
    pub compile: Box<Compiler>,
}

impl Page {
    /// A page over these rooms.
    pub fn new(rooms: Arc<Rooms>, asks: Asks) -> Page {
        Page { rooms, asks, token: Token::random() }
    }

    /// Answers a request.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let answer = match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/act") => self.act(asked),
            ("POST", path) if path.starts_with(PREVIEW) => self.preview(asked),
            ("GET" | "HEAD", _) => self.show(asked),
            _ => Ok(text(405, "only GET\n")),
        };
        answer.unwrap_or_else(|refusal| match refusal {
            Refusal::NotFound => nothing_here(),
            Refusal::Usage(why) => text(400, &format!("{why}\n")),
            Refusal::Conflict(why) => text(409, &format!("{why}\n")),
            Refusal::Queue(_) | Refusal::Io(_) => {
                log::error!("status page cannot read the spool error={:?}", refusal.to_string());
                text(500, "the spool cannot be read\n")
            }
        })
    }

    fn show(&self, asked: &Asked) -> Result<Answer, Refusal> {
        match asked.path.as_str() {
            "/" => {
                let span = asked.parameter("span").and_then(|word| Span::of_word(&word)).unwrap_or_default();
                self.overview(span).map(|body| page(200, body))
            }
            "/list" => self.list(&without_blanks(&asked.query)).map(|body| page(200, body)),
            "/passed" => Ok(page(200, self.passed(asked))),
            "/refused" => Ok(page(200, self.refused(asked.parameter("source").as_deref()))),
            "/act" => self.confirm(asked),
            "/healthz" => Ok(self.health()),
            "/readyz" => Ok(self.readiness()),
            "/status.json" => Ok(json(&self.snapshot()?)),
            "/metrics" => self.metrics(),
            "/page.css" => Ok(asset("text/css; charset=utf-8", html::STYLE)),
            "/page.js" => Ok(asset("text/javascript; charset=utf-8", html::SCRIPT)),
            "/icon.svg" => Ok(asset("image/svg+xml", html::ICON)),
            path if path.starts_with(PREVIEW) => self.preview(asked),
            path => match path.strip_prefix("/envelope/") {
                Some(id) => self.show_envelope(asked, id),
                None => Err(Refusal::NotFound),
            },
        }
    }

    fn show_envelope(&self, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
        let is_revealed = asked.parameter("show").is_some();
        if is_revealed && !self.is_admin(asked) {
            return Ok(act::who_are_you());
        }
        let body = self.envelope(id, is_revealed)?;
        body.map(|body| page(200, body)).ok_or(Refusal::NotFound)
    }

    fn health(&self) -> Answer {
        if (self.asks.is_alive)() { text(200, "ok\n") } else { text(503, "not answering\n") }
    }

    fn readiness(&self) -> Answer {
        if self.rooms.pauses.is_intake_paused() {
            return text(503, "paused\n");
        }
        match self.rooms.spool.unhealthy_reason() {
            None => text(200, "ok\n"),
            Some(reason) => text(503, &format!("{reason}\n")),
        }
    }

    /// Names of the configured sources.
    fn source_names(&self) -> Vec<String> {
        self.rooms.daemon.read().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }

    fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let daemon = self.rooms.daemon.read().unwrap_or_else(PoisonError::into_inner);
        let rooms = &*self.rooms;
        Ok(snapshot(&daemon, &*rooms.clock, (&rooms.spool, &rooms.dispatch, &rooms.tally, &rooms.pauses))?)
    }

    /// What can be paused, and whether it is.
    fn paused(&self, snapshot: &Snapshot) -> Vec<(String, bool)> {
        let pauses = self.rooms.pauses.all();
        let sources = snapshot.sources.iter().map(|view| view.name.as_str());
        let all = [INTAKE, DELIVERY].into_iter().chain(sources);
        all.map(|what| (what.to_owned(), pauses.contains_key(what))).collect()
    }

    fn metrics(&self) -> Result<Answer, Refusal> {
        let rooms = &*self.rooms;
        let snapshot = self.snapshot()?;
        let now = rooms.clock.now();
        let (configured_ago, is_configured_as_on_disk) = {
            let daemon = rooms.daemon.read().unwrap_or_else(PoisonError::into_inner);
            (rooms.clock.monotonic().saturating_sub(daemon.configured), daemon.refused.is_none())
        };
        let oldest = rooms.spool.oldest(&[State::Queued, State::Deferred, State::Held, State::Dead])?;
        let exposition = prometheus::expose(&Exposed {
            snapshot: &snapshot,
            numbers: &rooms.tally.meters().read(),
            now,
            oldest: oldest.into_iter().map(|(state, at)| (state_label(state), at)).collect(),
            answers: rooms.dispatch.standing().answers,
            too_large: (self.asks.too_large)(),
            configured_at: Timestamp(now.0.saturating_sub(millis(configured_ago))),
            is_configured_as_on_disk,
            paused: self.paused(&snapshot),
        });
        Ok(Answer { body: exposition, ..typed(200, prometheus::CONTENT_TYPE) })
    }
}

fn state_label(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Deferred => "deferred",
        State::Held => "held",
        State::Dead => "dead",
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A form sends the fields that were left empty too.
fn without_blanks(query: &str) -> String {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    html::query(&pairs.iter().map(|(name, value)| (name.as_str(), value.trim())).collect::<Vec<_>>())
}

fn page(status: u16, body: String) -> Answer {
    let mut answer = typed(status, "text/html; charset=utf-8");
    answer.headers.push(("Content-Security-Policy", html::POLICY.to_owned()));
    answer.headers.push(("Referrer-Policy", "same-origin".to_owned()));
    Answer { body, ..answer }
}

fn nothing_here() -> Answer {
    let main =
        "<main><section class=card><p class=empty>There is no such page or envelope.</p></section></main>";
    page(404, html::document("Nothing here", false, &(html::head("Nothing here") + main)))
}

fn asset(content_type: &str, body: &str) -> Answer {
    Answer { body: body.to_owned(), ..typed(200, content_type) }
}

fn typed(status: u16, content_type: &str) -> Answer {
    let headers = vec![
        ("Content-Type", content_type.to_owned()),
        ("Cache-Control", "no-store".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
    ];
    Answer { status, headers, body: String::new() }
}

fn text(status: u16, body: &str) -> Answer {
    Answer { body: body.to_owned(), ..typed(status, "text/plain; charset=utf-8") }
}

fn json(snapshot: &Snapshot) -> Answer {
    let body = serde_json::to_string(snapshot).expect("a snapshot holds nothing that JSON cannot");
    Answer { body, ..typed(200, "application/json") }
}
