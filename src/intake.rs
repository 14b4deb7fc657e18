//! Intake, the second room: tiny_http's requests become envelopes in the spool.
//!
//! Route → handshake → verify → decode → split → filter → put → answer. Workers (`intake-N`) do not wait for the
//! sync: a request that is appended is handed on and answered by the spool after its group's sync.
//!
//! **Invariants:** 200 is answered only for what is on disk, or was here before, or is ignored on
//! purpose. Nothing of a request that failed verification is kept. Peers get bland text. Neither bodies
//! nor URLs with their tokens are logged. It knows neither Freshdesk nor ticket templates.

mod reply;

use crate::capture::{Captured, Captures};
use crate::clock::{Clock, Timestamp};
use crate::decode::{DecodeError, Posted, decode};
use crate::gate::{PEER_HEADER, PING_TARGET};
use crate::pauses::Pauses;
use crate::source::{EventDraft, RequestContext, Source, Sources, Verdict};
use crate::spool::{Envelope, PutError, Receipt, Spool, hash_of};
use crate::status::refused::{NO_SOURCE, Refused, brought, masked};
use crate::status::{Count, Seen, Tally};
use crate::verify::{Evidence, Handshake, Refusal};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reply::{
    BROKEN, CUT_SHORT, FORBIDDEN, HELLO, NOT_ALLOWED, NOTHING, PAUSED, PONG, Reply, STOPPING, TAKEN,
    TOO_LARGE, UNAUTHORIZED, UNKNOWN, answer_to, reply, reply_text,
};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tiny_http::{Header, Method, Request, Server};

/// How long a body that could not be understood is recognised when it is sent again.
const UNREADABLE_WINDOW: Duration = Duration::from_secs(600);

/// Headers or parameters.
type Pairs = [(String, String)];

/// The socket between gate and tiny_http, in a directory that only we can enter.
const GATE_SOCKET: &str = "gate.sock";
/// A Unix socket's path has room for 108 bytes, one of them zero.
const SOCKET_PATH_MAX: usize = 107;

/// What the intake workers share.
pub struct Intake {
    spool: Arc<Spool>,
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
    accepted: RwLock<Arc<Accepted>>,
    captures: Arc<Captures>,
    pauses: Arc<Pauses>,
}

/// What intake works with.
pub struct IntakeRooms {
    /// Where events go.
    pub spool: Arc<Spool>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The counters.
    pub tally: Arc<Tally>,
    /// Whether anything is taken at all.
    pub pauses: Arc<Pauses>,
}

/// What a reload changes.
struct Accepted {
    sources: Sources,
    body_bytes_max: usize,
}

/// A request that may still be answered.
struct Incoming {
    request: Request,
    peer: String,
    received_at: Timestamp,
    started: Duration,
}

impl Incoming {
    fn address(&self) -> Option<IpAddr> {
        self.peer.parse().ok()
    }
}

impl Intake {
    /// Intake for `sources`; `body_bytes_max` is for bodies that come compressed, the gate has seen to the others.
    pub fn new(rooms: IntakeRooms, sources: Sources, body_bytes_max: usize) -> Intake {
        let IntakeRooms { spool, clock, tally, pauses } = rooms;
        let accepted = RwLock::new(Arc::new(Accepted { sources, body_bytes_max }));
        let captures = Arc::new(Captures::new(clock.clone()));
        Intake { spool, clock, tally, accepted, captures, pauses }
    }

    /// Those who wait for a real request.
    pub fn captures(&self) -> Arc<Captures> {
        self.captures.clone()
    }

    /// Applies new sources to the requests that come from now on.
    pub fn set_sources(&self, sources: Sources, body_bytes_max: usize) {
        let accepted = Arc::new(Accepted { sources, body_bytes_max });
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = accepted;
    }

    /// Starts tiny_http on a socket in `private`, a directory that is made with mode 0700, and the workers.
    /// When tiny_http's `recv` fails, `broken` is called: the process must end, since tiny_http never accepts
    /// again.
    pub fn run(self: &Arc<Self>, private: &Path, workers: usize, broken: fn(&str)) -> io::Result<Workers> {
        let socket = private.join(GATE_SOCKET);
        let server = Arc::new(private_server(private, &socket)?);
        let threads = (1..=workers).map(|number| {
            let (intake, server) = (self.clone(), server.clone());
            let thread = std::thread::Builder::new().name(format!("intake-{number}"));
            thread.spawn(move || intake.work(&server, broken))
        });
        let threads = Mutex::new(threads.collect::<io::Result<_>>()?);
        Ok(Workers { server, socket, threads })
    }

    fn work(&self, server: &Server, broken: fn(&str)) {
        loop {
            match server.recv() {
                Ok(request) => {
                    // A panic drops the request, which tiny_http answers with 500.
                    if catch_unwind(AssertUnwindSafe(|| self.handle(request))).is_err() {
                        log::error!("bug: intake panicked at a request; it was answered 500");
                    }
                }
                // `unblock` is how a worker is told to end.
                Err(error) if error.to_string() == "thread unblocked" => return,
                Err(error) => return broken(&format!("intake: {error}")),
            }
        }
    }

    fn handle(&self, request: Request) {
        if request.url() == PING_TARGET {
            return reply(request, &PONG);
        }
        let peer = header(&request, PEER_HEADER).unwrap_or("unknown").to_owned();
        let incoming =
            Incoming { peer, received_at: self.clock.now(), started: self.clock.monotonic(), request };
        let target = incoming.request.url().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let Some((name, rest)) = route(path) else { return reply(incoming.request, &UNKNOWN) };
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner).clone();
        if self.pauses.is_intake_paused() && *incoming.request.method() == Method::Post {
            if accepted.sources.contains_key(name) {
                self.tally.count(name, Count::Unavailable, 1);
            }
            return reply(incoming.request, &PAUSED);
        }
        let Some(source) = accepted.sources.get(name) else {
            self.refuse_unknown(name, &incoming.peer);
            return reply(incoming.request, &UNKNOWN);
        };
        let Some(place) = place(source, rest) else { return reply(incoming.request, &UNKNOWN) };
        let query = parameters(query);
        match incoming.request.method() {
            Method::Post => self.take(incoming, &accepted, (source, &place), &query),
            Method::Get | Method::Head => self.greet(incoming, source, &query),
            _ => reply(incoming.request, &NOT_ALLOWED),
        }
    }

    /// A GET: somebody asks whether this is the place to post to.
    fn greet(&self, incoming: Incoming, source: &Source, query: &[(String, String)]) {
        match source.verifier().shake(incoming.address(), query) {
            Handshake::None => reply(incoming.request, &HELLO),
            handshake => self.answer_handshake(incoming, source, (handshake, query)),
        }
    }

    fn answer_handshake(&self, incoming: Incoming, source: &Source, (handshake, query): (Handshake, &Pairs)) {
        match handshake {
            Handshake::Answer(text) => {
                log::info!("handshake answered source={} from={}", source.name(), incoming.peer);
                reply_text(incoming.request, &text);
            }
            Handshake::Refused(refusal) => {
                self.refuse(source, &incoming.peer, &refusal, (&headers(&incoming.request), query));
                reply(incoming.request, &FORBIDDEN);
            }
            Handshake::None => {}
        }
    }

    /// A POST to a known source.
    fn take(
        &self,
        mut incoming: Incoming,
        accepted: &Accepted,
        (source, place): (&Source, &Place),
        query: &Pairs,
    ) {
        let body = match read_body(&mut incoming.request) {
            Ok(body) => body,
            Err(error) => {
                log::debug!("body not read source={} from={} error={error}", source.name(), incoming.peer);
                return reply(incoming.request, &CUT_SHORT);
            }
        };
        let headers = headers(&incoming.request);
        if body.is_empty() {
            let handshake = source.verifier().shake(incoming.address(), query);
            if handshake != Handshake::None {
                return self.answer_handshake(incoming, source, (handshake, query));
            }
        }
        let evidence = Evidence {
            peer: incoming.address(),
            now: incoming.received_at,
            target: incoming.request.url(),
            path_token: &place.token,
            headers: &headers,
            query,
            body: &body,
        };
        let verified = source.verifier().check(&evidence);
        if self.captures.wants(source.name()) {
            let refusal = verified.as_ref().err();
            self.captures.offer(&captured(&incoming, (source, place), (&headers, query, &body), refusal));
        }
        if let Err(refusal) = verified {
            return self.turn_away(incoming, source, &refusal, (&headers, query, &body));
        }
        let kind = &place.kind;
        let context = RequestContext { kind, headers: &headers, query, received_at: incoming.received_at };
        let (drafts, error) = drafts(source, &context, body, accepted.body_bytes_max);
        if let Some(error @ DecodeError::TooLarge(_)) = &error {
            let refusal = Refusal::because(error.to_string());
            self.refuse(source, &incoming.peer, &refusal, (&headers, query));
            return reply(incoming.request, &TOO_LARGE);
        }
        let answer = match answer_to(error.as_ref()) {
            answer if answer.status == 200 && source.verifier().wants_empty_answer() => &NOTHING,
            answer => answer,
        };
        self.put(incoming, source.name(), drafts, answer);
    }

    /// A request that did not prove itself. Nothing of it is kept.
    fn turn_away(
        &self,
        incoming: Incoming,
        source: &Source,
        refusal: &Refusal,
        (headers, query, body): (&Pairs, &Pairs, &[u8]),
    ) {
        let is_test = source.verifier().handshake.is_empty_post_open && body.trim_ascii().is_empty();
        if is_test && !refusal.is_address {
            log::info!("empty post answered source={} from={}", source.name(), incoming.peer);
            return reply(incoming.request, &TAKEN);
        }
        self.refuse(source, &incoming.peer, refusal, (headers, query));
        reply(incoming.request, if refusal.is_address { &FORBIDDEN } else { &UNAUTHORIZED });
    }

    fn refuse(&self, source: &Source, peer: &str, refusal: &Refusal, (headers, query): (&Pairs, &Pairs)) {
        let verifier = source.verifier();
        let expected = verifier.secret_header().or(verifier.secret_query());
        let refused = Refused {
            from: peer.to_owned(),
            why: refusal.why.clone(),
            detail: refusal.detail.clone(),
            brought: brought(headers, query, expected),
            ..Refused::default()
        };
        let source = source.name();
        self.tally.meters().refused(source, "secret");
        self.tally.remember_refused(source, refused);
        let why = refusal.to_string();
        if let Some(unlogged) = self.tally.refuse(source, &why) {
            log::warn!("event refused source={source} from={peer} reason={why:?} before_unlogged={unlogged}");
        }
    }

    /// The name is not told in full: it may be a secret that stands where the name should.
    fn refuse_unknown(&self, name: &str, peer: &str) {
        log::debug!("request for an unknown source from={peer}");
        self.tally.meters().refused("", "unknown_source");
        let begin: String = name.chars().take(3).collect();
        let detail = format!("{begin:?}… of {} characters", name.chars().count());
        let why = "no source of that name".to_owned();
        let refused = Refused { from: peer.to_owned(), why, detail, ..Refused::default() };
        self.tally.remember_refused(NO_SOURCE, refused);
    }

    /// Puts what is to be kept, and answers after the sync.
    fn put(&self, incoming: Incoming, source: &str, drafts: Vec<EventDraft>, answer: &'static Reply) {
        let mut envelopes = Vec::with_capacity(drafts.len());
        let mut filtered = 0;
        let mut event = String::new();
        let mut names = Vec::new();
        let mut bytes = 0;
        for draft in drafts {
            let born_dead = match draft.verdict {
                Verdict::Keep => None,
                Verdict::Bury(ref reason) => {
                    if reason.starts_with("not JSON") {
                        self.tally.meters().refused(source, "not_json");
                    }
                    Some(reason.clone())
                }
                Verdict::Ignore(ref reason) => {
                    log::debug!("event filtered source={source} event={} reason={reason:?}", draft.event_id);
                    filtered += 1;
                    let seen = Seen {
                        source: source.to_owned(),
                        event: draft.event_id,
                        kind: draft.kind,
                        reason: reason.clone(),
                        ..Seen::default()
                    };
                    self.tally.recent().add(seen.at(incoming.received_at).what("filtered"));
                    continue;
                }
            };
            bytes += draft.body.len();
            event.clone_from(&draft.event_id);
            names.push((draft.event_id.clone(), draft.conversation.clone()));
            envelopes.push(envelope(source, &incoming, draft, born_dead));
        }
        self.tally.count(source, Count::Filtered, filtered);
        if envelopes.is_empty() {
            let took = self.clock.monotonic().saturating_sub(incoming.started);
            self.tally.meters().answered(source, took);
            return reply(incoming.request, answer);
        }
        let put_at = self.clock.monotonic();
        let (tally, clock, source) = (self.tally.clone(), self.clock.clone(), source.to_owned());
        self.spool.put(envelopes, move |result| {
            let now = clock.monotonic();
            let took = now.saturating_sub(incoming.started);
            if result.is_ok() {
                tally.meters().written(now.saturating_sub(put_at));
            }
            tally.meters().answered(&source, took);
            let answer = account(&tally, &source, result.as_ref()).unwrap_or(answer);
            if let Ok(receipt) = &result {
                remember(&tally, clock.now(), &source, (&names, receipt));
            }
            reply(incoming.request, answer);
            log_put(&source, &event, (bytes, took), &result);
        });
    }
}

/// The running workers, and the tiny_http they read from.
pub struct Workers {
    server: Arc<Server>,
    socket: PathBuf,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Where the gate passes requests on to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the workers and removes the socket with its directory. To be called when the gate is drained.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.iter().for_each(|_| self.server.unblock());
        for thread in threads {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
        let _ = self.socket.parent().map(std::fs::remove_dir);
    }
}

fn private_server(directory: &Path, socket: &Path) -> io::Result<Server> {
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let text = format!("{} is too long for a socket (at most {SOCKET_PATH_MAX} bytes)", socket.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Server::http_unix(socket).map_err(io::Error::other)
}

/// Counts what became of a put; the answer when it failed.
fn account(tally: &Tally, source: &str, result: Result<&Receipt, &PutError>) -> Option<&'static Reply> {
    match result {
        Ok(receipt) => {
            tally.count(source, Count::Accepted, receipt.ids.len());
            tally.count(source, Count::Duplicate, receipt.duplicates);
            None
        }
        Err(error) => {
            tally.count(source, Count::Unavailable, 1);
            Some(if matches!(error, PutError::Stopping) { &STOPPING } else { &BROKEN })
        }
    }
}

/// For whoever follows the log. Which of several events are the new ones is not known when there were duplicates.
fn remember(tally: &Tally, now: Timestamp, source: &str, (names, receipt): (&[(String, String)], &Receipt)) {
    let base = Seen { source: source.to_owned(), ..Seen::default() }.at(now);
    let all_new = receipt.duplicates == 0;
    for (index, id) in receipt.ids.iter().enumerate() {
        let (event, conversation) = names.get(index).filter(|_| all_new).cloned().unwrap_or_default();
        tally.recent().add(Seen { id: Some(*id), event, conversation, ..base.clone() }.what("accepted"));
    }
    for _ in 0..receipt.duplicates {
        let (event, conversation) = names.first().filter(|_| names.len() == 1).cloned().unwrap_or_default();
        tally.recent().add(Seen { event, conversation, ..base.clone() }.what("duplicate"));
    }
}

fn log_put(source: &str, event: &str, (bytes, took): (usize, Duration), result: &Result<Receipt, PutError>) {
    let took = took.as_secs_f64() * 1000.0;
    match result {
        Ok(receipt) => {
            for id in &receipt.ids {
                log::info!(
                    "event accepted id={id} source={source} event={event:?} bytes={bytes} took={took:.1}ms"
                );
            }
            if receipt.duplicates > 0 {
                log::info!("event duplicate source={source} event={event:?} count={}", receipt.duplicates);
            }
        }
        Err(error) => {
            log::warn!("event not stored source={source} answer=503 reason={:?}", error.to_string())
        }
    }
}

fn envelope(source: &str, incoming: &Incoming, draft: EventDraft, born_dead: Option<String>) -> Envelope {
    Envelope {
        id: 0,
        received_at: incoming.received_at,
        source: source.to_owned(),
        kind: draft.kind,
        event_id: draft.event_id,
        dedupe: draft.dedupe,
        dedupe_window: draft.dedupe_window,
        conversation: draft.conversation,
        peer: incoming.peer.clone(),
        context: draft.context,
        body: draft.body,
        born_dead,
        origin: None,
    }
}

/// What an authenticated request contains, and why it was not understood. `deskspool try` asks the same.
pub fn drafts(
    source: &Source,
    request: &RequestContext<'_>,
    body: Vec<u8>,
    bytes_max: usize,
) -> (Vec<EventDraft>, Option<DecodeError>) {
    match decode(&Posted { body: &body, headers: request.headers, bytes_max }) {
        Ok(decoded) => (source.events(request, decoded.value), None),
        Err(error) => (vec![unreadable(source.name(), request.kind, body, error.to_string())], Some(error)),
    }
}

/// A request as it is shown to people: without its secrets.
fn captured(
    incoming: &Incoming,
    (source, place): (&Source, &Place),
    (headers, query, body): (&Pairs, &Pairs, &[u8]),
    refusal: Option<&Refusal>,
) -> Captured {
    let verifier = source.verifier();
    let path = match incoming.request.url().split('?').next().unwrap_or_default() {
        _ if !place.token.is_empty() => format!("/in/{}/(secret)/{}", source.name(), place.kind),
        path => path.to_owned(),
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(masked(query, verifier.secret_query()))
        .finish();
    Captured {
        source: source.name().to_owned(),
        received_at: incoming.received_at.to_string(),
        from: incoming.peer.clone(),
        target: if query.is_empty() { path } else { format!("{path}?{query}") },
        headers: masked(headers, verifier.secret_header()),
        verified: refusal.map_or_else(|| "ok".to_owned(), Refusal::to_string),
        body: BASE64_STANDARD.encode(body),
    }
}

/// An authenticated body that makes no sense is kept as a dead letter: the platform cannot mend it by
/// sending it again, an admin may.
fn unreadable(source: &str, kind: &str, body: Vec<u8>, reason: String) -> EventDraft {
    let dedupe = hash_of(&[b"unreadable", source.as_bytes(), &body]);
    let event_id = format!("sha256:{}", hex(&dedupe[..6]));
    EventDraft {
        kind: kind.to_owned(),
        conversation: event_id.clone(),
        event_id,
        dedupe,
        dedupe_window: UNREADABLE_WINDOW,
        body,
        context: Vec::new(),
        verdict: Verdict::Bury(reason),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A source's name and what stands behind it: nothing, or one or two parts.
pub fn route(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/in/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    (!name.is_empty()).then_some((name, rest))
}

/// Where behind a source's name a request was posted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The secret, where the source has it in the path; it is never logged or kept.
    pub token: String,
    /// `/in/contako/abandonado`: one URL for each kind of event.
    pub kind: String,
}

/// `<kind>`, or `<secret>/<kind>` where the secret is in the path; the kind may be missing.
pub fn place(source: &Source, rest: &str) -> Option<Place> {
    let (token, kind) = match source.verifier().is_in_path() {
        true => rest.split_once('/').unwrap_or((rest, "")),
        false => ("", rest),
    };
    let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    (!kind.contains('/')).then(|| Place { token: decoded(token), kind: decoded(kind) })
}

/// The whole body; one that is shorter than announced is an error, though tiny_http says it is fine.
fn read_body(request: &mut Request) -> io::Result<Vec<u8>> {
    let announced = request.body_length().unwrap_or(0);
    // The gate has bounded it. One byte more, or the last read would make room for what never comes.
    let mut body = Vec::with_capacity(announced + 1);
    request.as_reader().read_to_end(&mut body)?;
    if body.len() == announced { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found =
        request.headers().iter().find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
    found.map(|header| header.value.as_str())
}

fn headers(request: &Request) -> Vec<(String, String)> {
    let pair = |header: &Header| (header.field.to_string(), header.value.to_string());
    request.headers().iter().map(pair).collect()
}

fn parameters(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_a_source_and_perhaps_more() {
        let check = |path: &str, expect: Option<(&str, &str)>| assert_eq!(route(path), expect, "{path}");
        check("/in/sendpulse", Some(("sendpulse", "")));
        check("/in/sendpulse/", Some(("sendpulse", "")));
        check("/in/contako/abandonado", Some(("contako", "abandonado")));
        check("/in/a/b/c", Some(("a", "b/c")));
        check("/in/", None);
        check("/", None);
        check("/status", None);
    }

    #[test]
    fn a_secret_in_the_path_stands_before_the_kind() {
        let source = |verify: &str| {
            let table = toml::from_str(&format!("verify = {{ scheme = \"{verify}\" }}")).expect("a table");
            let secrets = vec![crate::verify::Secret::new("x")];
            Arc::new(Source::compile("shop", &table, &Default::default(), secrets).expect("a source"))
        };
        let (path, bearer) = (source("path"), source("bearer"));
        let check = |source: &Arc<Source>, rest: &str, expect: Option<(&str, &str)>| {
            let place = place(source, rest).map(|place| (place.token, place.kind));
            assert_eq!(place, expect.map(|(token, kind)| (token.to_owned(), kind.to_owned())), "{rest}");
        };
        check(&bearer, "", Some(("", "")));
        check(&bearer, "a%20b", Some(("", "a b")));
        check(&bearer, "a/b", None);
        check(&path, "", Some(("", "")));
        check(&path, "t%2B1", Some(("t+1", "")));
        check(&path, "t/k", Some(("t", "k")));
        check(&path, "t/k/x", None);
    }
}
