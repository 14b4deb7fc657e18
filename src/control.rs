//! The control socket: how admins ask and tell the running daemon.
//!
//! HTTP over a Unix socket of mode 0660: whoever may write to it is an admin, and may read customer text
//! through `show`. One implementation of each verb, here; the command line only asks and renders.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | a [`Snapshot`](crate::status::Snapshot) |
//! | `GET /queue?…` | one [`Row`] per line |
//! | `GET /envelope/ID` | an [`EnvelopeView`], 404 when unknown |
//! | `GET /export?at=…` | a page of [`Line`](wire::Line)s, and a line that says where to go on |
//! | `GET /log?at=…` | a page of [`Seen`](crate::status::Seen), likewise |
//! | `GET /follow?after=…` | what came since, after a line that says what to ask next |
//! | `POST /import?line=…` | takes lines of an export, answers a [`Brought`](import::Brought) |
//! | `GET /refused?source=…` | one [`RefusedView`](crate::status::refused::RefusedView) per line |
//! | `GET /capture?source=…&as=…` | a [`Captured`], when one comes |
//! | `DELETE /capture?as=…` | nothing; who asked waits no more |
//! | `POST /count`, `/retry`, `/drop` | takes a [`Selection`], answers a [`Done`] |
//! | `POST /hold`, `/release` | takes an [`Aside`], a [`Selection`]; answers a [`Done`] |
//! | `POST /pause?by=…`, `/resume` | takes an [`Aside`]; answers `{"text":…}` |
//! | `POST /forget` | takes a [`Forget`](view::Forget), answers a [`Forgotten`](view::Forgotten) |
//! | `POST /reload` | `{"text":…}`, 409 when the configuration was not applied |

mod aside;
pub mod client;
mod events;
mod export;
mod forget;
pub mod import;
mod listing;
mod reader;
mod redact;
pub mod view;
pub mod wire;

use crate::capture::{Captured, Captures};
use crate::clock::Clock;
use crate::dispatch::{Dispatch, Planner};
use crate::freshdesk::write::Requester;
use crate::pauses::Pauses;
use crate::spool::{Change, Entry, Envelope, Id, PAGE, QueueError, Spool, Touched};
use crate::status::snapshot::Daemon;
use crate::status::{Tally, snapshot};
use listing::{Lines, Listing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tiny_http::{Method, Request, Response, Server};
use view::{Aside, Done, EnvelopeView, Filter, Row, Selection};

pub use aside::paused_reason;
pub use reader::Reader;
pub use redact::{HIDDEN, Redaction};

/// A selection is a few numbers and words.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// One event of `server.body_max`, escaped, is the largest line; so many bytes are read of it.
const IMPORT_BYTES_MAX: u64 = 128 << 20;

/// What is over by itself is looked at again so long after a bug.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Names the requester of an event.
pub type Labeller = dyn Fn(&Envelope) -> Option<String> + Send + Sync;

/// Finds who asks in an event.
pub type Asker = dyn Fn(&Envelope) -> Option<Requester> + Send + Sync;

/// What the verbs work on.
pub struct Rooms {
    /// The envelopes.
    pub spool: Arc<Spool>,
    /// The workers.
    pub dispatch: Arc<Dispatch>,
    /// The counters.
    pub tally: Arc<Tally>,
    /// What is set aside for a while.
    pub pauses: Arc<Pauses>,
    /// Those who wait for a real request.
    pub captures: Arc<Captures>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What only the daemon knows.
    pub daemon: RwLock<Daemon>,
    /// Names the requester of an event, for listings.
    pub label: Box<Labeller>,
    /// Who asks in an event, when the mapping finds somebody.
    pub requester: Box<Asker>,
    /// What would be written for an event now.
    pub plan: Box<Planner>,
    /// Applies the configuration: what changed, or the findings.
    pub reload: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

/// A verb could not be carried out.
#[derive(Debug, Error)]
pub enum Refused {
    /// There is no such request or envelope.
    #[error("no such request")]
    NotFound,
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Not as things stand.
    #[error("{0}")]
    Conflict(String),
    /// The queue cannot be read or written.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The journal, or the one who asks, broke off.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Refused {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Refused::NotFound => 404,
            Refused::Usage(_) => 400,
            Refused::Conflict(_) => 409,
            Refused::Queue(_) | Refused::Io(_) => 500,
        }
    }
}

/// The listening end.
pub struct Control {
    server: Arc<Server>,
    /// The file that goes with the daemon.
    path: Option<PathBuf>,
    thread: Option<JoinHandle<()>>,
    is_ending: Arc<AtomicBool>,
}

impl Control {
    /// Listens on `path`, replacing the socket of a daemon that is gone.
    pub fn listen(path: &Path, rooms: Arc<Rooms>) -> io::Result<Control> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let server = Arc::new(Server::http_unix(path).map_err(io::Error::other)?);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Control::serve(server, Some(path.to_path_buf()), rooms)
    }

    /// Listens on a socket that was passed to us. Its file and its mode are its owner's.
    pub fn take(passed: UnixListener, rooms: Arc<Rooms>) -> io::Result<Control> {
        passed.set_nonblocking(false)?;
        let server = Arc::new(Server::from_listener(passed, None).map_err(io::Error::other)?);
        // A tiny_http that is dropped removes the socket's file, which is not ours.
        std::mem::forget(server.clone());
        Control::serve(server, None, rooms)
    }

    fn serve(server: Arc<Server>, path: Option<PathBuf>, rooms: Arc<Rooms>) -> io::Result<Control> {
        let serving = server.clone();
        let is_ending = Arc::new(AtomicBool::new(false));
        let ending = is_ending.clone();
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let mut quiet = rooms.tick();
            while let Ok(request) = serving.recv_timeout(quiet) {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                let answered = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(request) = request {
                        rooms.answer(request);
                    }
                    rooms.tick()
                }));
                quiet = answered.unwrap_or_else(|_| {
                    log::error!("bug: a control verb panicked");
                    AFTER_PANIC
                });
            }
        })?;
        Ok(Control { server, path, thread: Some(thread), is_ending })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(path) = &self.path {
            // When it is gone already, that is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Rooms {
    fn answer(&self, mut request: Request) {
        if *request.method() == Method::Get && request.url().starts_with("/capture?") {
            return self.capture(request);
        }
        if let Some(query) = listing_query(&request) {
            return self.list(request, &query);
        }
        let answer = self.route(&mut request);
        respond(request, answer);
    }

    /// The answer is given when a request comes, by the thread that took it.
    fn capture(&self, request: Request) {
        let query = request.url().split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
        let (source, name) = (parameter(&query, "source"), parameter(&query, "as"));
        if !self.daemon.read().unwrap_or_else(PoisonError::into_inner).sources.contains(&source) {
            return respond(request, Err(Refused::Usage(format!("there is no [source.{source}]"))));
        }
        let waiter = move |captured: &Captured| respond(request, Ok(json(captured)));
        // Who finds no room is answered by the request's end.
        if !self.captures.ask(&name, &source, Box::new(waiter)) {
            log::warn!("capture not begun source={source} reason=\"too many wait\"");
        }
    }

    /// Answers with a listing, which is read while it is sent.
    fn list(&self, request: Request, query: &str) {
        let filter = Filter::of_query(query).map_err(Refused::Usage);
        let filter = filter.as_ref();
        let responded = match filter.map(|filter| Lines::of(Listing::new(self.reader(), filter))) {
            Ok(Ok(lines)) => request.respond(Response::new(200.into(), Vec::new(), lines, None, None)),
            Ok(Err(refused)) => request.respond(refusal(&refused)),
            Err(refused) => request.respond(refusal(refused)),
        };
        if let Err(error) = responded {
            log::debug!("control answer not sent error={error}");
        }
    }

    fn route(&self, request: &mut Request) -> Result<String, Refused> {
        let url = request.url().to_owned();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        match (request.method(), path) {
            (Method::Get, "/status") => self.status(),
            (Method::Delete, "/capture") => {
                self.captures.done(&parameter(query, "as"));
                Ok(String::new())
            }
            (Method::Get, "/refused") => Ok(self.refused(query)),
            (Method::Get, "/follow") => events::live(&self.reader(), self.tally.recent(), query),
            (Method::Get, _) => self.reader().answer(path, query)?.ok_or(Refused::NotFound),
            (Method::Post, "/import") => {
                let mut lines = String::new();
                request.as_reader().take(IMPORT_BYTES_MAX).read_to_string(&mut lines)?;
                let first = parameter(query, "line").parse().unwrap_or(1);
                self.import(&lines, first).map(|brought| json(&brought))
            }
            (Method::Post, "/count") => self.count(&read(request)?).map(|done| json(&done)),
            (Method::Post, "/retry") => self.retry(&read(request)?).map(|done| json(&done)),
            (Method::Post, "/drop") => self.give_up(&read(request)?).map(|done| json(&done)),
            (Method::Post, "/hold") => self.hold(&read(request)?).map(|done| json(&done)),
            (Method::Post, "/release") => self.release(&read(request)?).map(|done| json(&done)),
            (Method::Post, "/pause") => {
                let by: String = parameter(query, "by").chars().filter(is_of_a_name).take(32).collect();
                self.pause(&read(request)?, &by).map(|text| told(&text))
            }
            (Method::Post, "/resume") => {
                let aside: Aside = read(request)?;
                self.resume(&aside.what).map(|text| told(&text))
            }
            (Method::Post, "/forget") => self.forget(&read(request)?).map(|forgotten| json(&forgotten)),
            (Method::Post, "/reload") => match (self.reload)() {
                Ok(text) => Ok(serde_json::json!({ "text": text }).to_string()),
                Err(findings) => Err(Refused::Conflict(findings)),
            },
            _ => Err(Refused::NotFound),
        }
    }

    fn status(&self) -> Result<String, Refused> {
        let daemon = self.daemon.read().unwrap_or_else(PoisonError::into_inner);
        let rooms = (&*self.spool, &*self.dispatch, &*self.tally, &*self.pauses);
        Ok(json(&snapshot(&daemon, &*self.clock, rooms)?))
    }

    fn refused(&self, query: &str) -> String {
        let source = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "source");
        let views = self.tally.refused(source.as_ref().map(|(_, source)| source.as_ref()));
        views.iter().map(|view| json(view) + "\n").collect()
    }

    /// What reading verbs are answered from.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            spool: &self.spool,
            clock: &*self.clock,
            pauses: &self.pauses,
            label: &*self.label,
            requester: &*self.requester,
            plan: &*self.plan,
            redact: self.daemon.read().unwrap_or_else(PoisonError::into_inner).redact.clone(),
        }
    }

    /// One envelope, whole; none when there is no such.
    pub fn look(&self, id: Id) -> Result<Option<EnvelopeView>, Refused> {
        self.reader().look(id)
    }

    /// An unsettled envelope as it stands in a listing.
    pub fn row(&self, id: Id, entry: &Entry, in_flight: bool) -> Result<Row, Refused> {
        self.reader().row(id, entry, in_flight)
    }

    /// What a verb would meet.
    fn look_up(&self, id: Id) -> Result<Touched, QueueError> {
        Ok(match self.spool.entry(id)? {
            Some((_, is_in_flight)) if is_in_flight => Touched::InFlight,
            Some(_) => Touched::Done,
            None => Touched::Unknown,
        })
    }

    fn count(&self, selection: &Selection) -> Result<Done, Refused> {
        self.select(selection, |ids| ids.iter().map(|id| self.look_up(*id)).collect())
    }

    /// Makes what is selected due now.
    pub fn retry(&self, selection: &Selection) -> Result<Done, Refused> {
        let done = self.select(selection, |ids| self.spool.touch_all(ids, &Change::Retried))?;
        self.spool.nudge();
        Ok(done)
    }

    /// Drops what is selected.
    pub fn give_up(&self, selection: &Selection) -> Result<Done, Refused> {
        let change = Change::Dropped { at: self.clock.now() };
        let done = self.select(selection, |ids| self.spool.touch_all(ids, &change))?;
        self.spool.nudge();
        Ok(done)
    }

    /// Applies a verb to what is selected; ids that do not exist are reported, not refused.
    fn select(
        &self,
        selection: &Selection,
        verb: impl Fn(&[Id]) -> Result<Vec<Touched>, QueueError>,
    ) -> Result<Done, Refused> {
        let mut done = Done::default();
        self.each_page(selection, |page| {
            let ids: Vec<Id> = page.iter().map(|(id, _)| *id).collect();
            for ((id, source), touched) in page.iter().zip(verb(&ids)?) {
                match touched {
                    Touched::Done => done.touch(source.clone()),
                    Touched::InFlight => done.in_flight.push(*id),
                    Touched::Unknown => done.unknown.push(*id),
                }
            }
            Ok(())
        })?;
        Ok(done)
    }

    /// Calls `apply` with the selected ids and their sources, a page at a time: one sync a page, and between pages
    /// others get their turn.
    fn each_page(
        &self,
        selection: &Selection,
        mut apply: impl FnMut(&[(Id, String)]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        for ids in selection.ids.chunks(PAGE) {
            let source = |id: &Id| -> Result<(Id, String), Refused> {
                let source = self.spool.entry(*id)?.map(|(entry, _)| entry.source);
                Ok((*id, source.unwrap_or_default()))
            };
            apply(&ids.iter().map(source).collect::<Result<Vec<_>, _>>()?)?;
        }
        if !selection.ids.is_empty() {
            return Ok(());
        }
        let mut listing = Listing::new(self.reader(), &selection.filter);
        while let Some(rows) = listing.page()? {
            let is_here = |row: &Row| row.state != "delivered" && row.state != "dropped";
            let waiting = rows.into_iter().filter(is_here);
            let page: Vec<_> = waiting.map(|row| (row.id, row.source)).collect();
            if !page.is_empty() {
                apply(&page)?;
            }
        }
        Ok(())
    }
}

fn respond(request: Request, answer: Result<String, Refused>) {
    let response = match answer {
        Ok(body) => Response::from_string(body),
        Err(refused) => refusal(&refused),
    };
    if let Err(error) = request.respond(response) {
        log::debug!("control answer not sent error={error}");
    }
}

/// What a verb was sent.
fn read<T: DeserializeOwned>(request: &mut Request) -> Result<T, Refused> {
    let mut body = String::new();
    request.as_reader().take(BODY_BYTES_MAX).read_to_string(&mut body)?;
    serde_json::from_str(&body).map_err(|error| Refused::Usage(error.to_string()))
}

fn told(text: &str) -> String {
    serde_json::json!({ "text": text }).to_string()
}

fn parameter(query: &str, name: &str) -> String {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(other, _)| other == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn refusal(refused: &Refused) -> Response<io::Cursor<Vec<u8>>> {
    let body = serde_json::json!({ "error": refused.to_string() }).to_string();
    Response::from_string(body).with_status_code(refused.status())
}

/// What a user of this machine may be called.
fn is_of_a_name(c: &char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ' ')
}

/// The query of `GET /queue`, if it is that.
fn listing_query(request: &Request) -> Option<String> {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    (path == "/queue" && *request.method() == Method::Get).then(|| query.to_owned())
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("views hold nothing that JSON cannot")
}
