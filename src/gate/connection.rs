//! One client's connection, on its own thread: read a request, relay it, copy the answer back, again.
//!
//! **Invariants:** a request is relayed only when it is complete; a request that is complete is answered,
//! also while the gate stops; whatever happens here ends this connection only.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use super::answer::Answer;
use super::budget::{Budget, Reservation};
use super::canonical;
use super::limits::{Limits, Width};
use super::pool::{Outgoing, PING_TARGET, Pool};
use super::refusal::{Counters, Reason, Refusal};
use super::request::{Framing, Head, ReadError, Reader, Version};
use super::stream::Stream;
use super::table::{Caps, Phase, Seat, Table};

/// Limits, and what this machine makes of them.
#[derive(Debug)]
pub(super) struct Settings {
    pub limits: Limits,
    pub width: Width,
}

impl Settings {
    pub fn new(limits: Limits) -> Arc<Settings> {
        let width = Width::of_this_process(limits.connections_max);
        Arc::new(Settings { limits, width })
    }

    pub fn caps(&self) -> Caps {
        Caps { connections: self.width.connections, per_ip: self.limits.connections_per_ip_max }
    }
}

/// What all threads of the gate share.
pub(super) struct Shared {
    pub settings: RwLock<Arc<Settings>>,
    pub table: Arc<Table>,
    pub pool: Pool,
    pub counters: Counters,
    pub budget: Arc<Budget>,
    pub trusted_proxies: Vec<IpAddr>,
    pub is_stopping: AtomicBool,
    /// Nobody is waited for who has not begun a request.
    pub is_closing: AtomicBool,
    /// When the accept loop last went round, in the table's milliseconds.
    pub turned_millis: AtomicU64,
}

impl Shared {
    /// The limits in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("nothing panics while it swaps the settings"))
    }

    /// No further requests are wanted.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// The accept loop went round not long before `now_millis`, or has nothing to do any more.
    pub fn accepts(&self, now_millis: u64) -> bool {
        let turned_millis = self.turned_millis.load(Ordering::Relaxed);
        self.is_stopping() || now_millis.saturating_sub(turned_millis) < STALLED_MILLIS
    }
}

/// Bodies up to this size go to tiny_http in one write with their head: it is woken once.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// An accept loop that did not go round for so long hangs: it turns at least every five seconds.
const STALLED_MILLIS: u64 = 60_000;

/// Serves a connection until it ends.
pub(super) fn serve(shared: &Arc<Shared>, seat: Seat, stream: Stream) {
    let peer = seat.0.peer;
    let served = catch_unwind(AssertUnwindSafe(|| {
        let settings = shared.settings();
        let reader = Reader::new(stream, &settings.limits);
        let (answer, out) = (Answer::default(), Vec::new());
        Connection { shared, seat, reader, answer, out }.run();
    }));
    if served.is_err() {
        shared.counters.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("bug: the connection of {peer} panicked");
    }
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    seat: Seat,
    reader: Reader<Stream>,
    answer: Answer,
    /// The canonical head on its way in, the answer on its way out.
    out: Vec<u8>,
}

/// What is still needed of a head once it is canonical.
#[derive(Clone, Copy)]
struct Terms {
    framing: Framing,
    version: Version,
    keep_alive: bool,
    expects_continue: bool,
    is_head: bool,
}

impl Connection<'_> {
    fn run(mut self) {
        loop {
            let settings = self.shared.settings();
            match self.serve_one(&settings.limits) {
                Ok(true) => {}
                Ok(false) => return self.close(),
                Err(ReadError::Closed) => return,
                Err(ReadError::Truncated) => {
                    self.shared.counters.truncated.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(ReadError::Refused(refusal)) => return self.refuse(refusal, &settings.limits),
            }
        }
    }

    /// One request and its answer; says whether another may follow.
    fn serve_one(&mut self, limits: &Limits) -> Result<bool, ReadError> {
        self.seat.0.enter(Phase::Idle);
        // Whoever stops the gate sets the flag before it looks at the phases, so one of us sees the other.
        if self.shared.is_closing.load(Ordering::SeqCst) {
            self.seat.0.shut_reading();
        }
        self.reader.await_request(limits)?;
        self.seat.0.enter(Phase::Reading);
        let terms = self.read_head(limits)?;
        self.reader.invite_body(terms.framing, terms.expects_continue, limits)?;
        let mut reservation = self.shared.budget.reservation(limits);
        self.reader.read_body(terms.framing, limits, &mut reservation)?;
        self.seat.0.enter(Phase::Complete);
        self.relay(terms, limits, reservation)
    }

    /// Reads a head and leaves its canonical form in `out`.
    fn read_head(&mut self, limits: &Limits) -> Result<Terms, ReadError> {
        let place = self.reader.await_head(limits)?;
        let end = place.end;
        let head = Head::parse(&self.reader.filled()[place], limits.headers_max)?;
        if is_ping(head.target) {
            return Err(Reason::NotFound.because("the ping target, from outside").into());
        }
        let peer = canonical::peer(&head, self.seat.0.peer, &self.shared.trusted_proxies);
        canonical::write_head(&head, peer, &mut self.out);
        let terms = Terms {
            framing: head.framing,
            version: head.version,
            keep_alive: head.keep_alive,
            expects_continue: head.expects_continue,
            is_head: head.method == "HEAD",
        };
        self.reader.consume(end);
        Ok(terms)
    }

    /// Sends the complete request to tiny_http and its answer to the client. The memory of the body stays
    /// reserved until then, because the handler holds a copy.
    fn relay(&mut self, terms: Terms, limits: &Limits, reservation: Reservation) -> Result<bool, ReadError> {
        let deadline = Instant::now() + limits.answer_deadline;
        let mut body = self.reader.body();
        canonical::end_head(body.len(), &mut self.out);
        if body.len() <= JOINED_BYTES_MAX {
            self.out.extend_from_slice(body);
            body = b"";
        }
        let request = Outgoing { head: &self.out, body, is_head: terms.is_head, deadline };
        self.shared.pool.exchange(&request, &mut self.answer)?;
        self.shared.counters.relayed.fetch_add(1, Ordering::Relaxed);
        self.reader.release_body();
        drop(reservation);
        let keep_alive = terms.keep_alive && !self.shared.is_stopping() && !self.seat.0.is_evicted();
        self.answer.write(terms.version, keep_alive, &mut self.out);
        // The answer counts as ours from here on: a client that is gone now will ask again by itself.
        let written = self.reader.stream().write_all(&self.out, Instant::now() + limits.answer_deadline);
        self.answer.shrink();
        self.out.clear();
        self.out.shrink_to(limits.head_bytes_max);
        written.map_err(|_| ReadError::Closed)?;
        Ok(keep_alive)
    }

    fn refuse(&mut self, refusal: Refusal, limits: &Limits) {
        self.shared.counters.count_refused(refusal.reason);
        log::debug!("{} refused, {}: {}", self.seat.0.peer, refusal.reason.word(), refusal.detail);
        // From here on the client may be evicted: it has its answer.
        self.seat.0.enter(Phase::Reading);
        let deadline = Instant::now() + limits.head_deadline;
        if self.reader.stream().write_all(refusal.answer().as_bytes(), deadline).is_ok() {
            self.reader.linger();
        }
    }

    /// Ends a connection after an answer. If the client has already sent more, a plain close would reset the
    /// connection and could destroy the answer on its way.
    fn close(&mut self) {
        if !self.reader.filled().is_empty() {
            self.seat.0.enter(Phase::Reading);
            self.reader.linger();
        }
    }
}

fn is_ping(target: &[u8]) -> bool {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    path == PING_TARGET.as_bytes()
}
