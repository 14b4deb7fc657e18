//! Connections to tiny_http: opened when all others are busy, closed when idle for a while.
//!
//! **Invariants:** they are opened one at a time, and each is proven alive before it carries a request,
//! because tiny_http's thread pool counts a thread as free until it has woken up: of two connections
//! that come together, the second may never be read (`TaskPool::spawn`). A request is sent once: when
//! its answer does not come, tiny_http may still have stored the event, so only the platform may decide
//! to send it again.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::answer::{Answer, Incoming};
use super::refusal::{Reason, Refusal};
use super::request::Buffer;
use super::stream::Deadlined;
use super::throttle::Throttle;

/// What the gate asks of each new upstream connection. The tiny_http side answers at once with 204;
/// clients cannot ask for it.
pub const PING_TARGET: &str = "/gate-ping";

/// By when a new connection must have answered its ping. Longer than the five seconds after which an
/// idle thread of tiny_http would go.
const PING_DEADLINE: Duration = Duration::from_secs(6);

/// How long an unused connection, and with it a thread of tiny_http, is kept.
const IDLE_KEPT: Duration = Duration::from_secs(10);

/// Descriptors that must be free before a connection is opened: ours, tiny_http's two, and one for an
/// `accept` of ours in between. tiny_http never accepts again after it ran out of them once.
const SPARE_DESCRIPTORS: usize = 4;

/// One connection to tiny_http.
#[derive(Debug)]
struct Upstream {
    stream: Deadlined<UnixStream>,
    buffer: Buffer,
    idle_since: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// The most recently used last.
    idle: Vec<Upstream>,
    /// Connections that are idle, in use, or being opened.
    open: usize,
    is_opening: bool,
    /// Requests that wait for a connection: nobody else needs to hear that one came back.
    waiting: usize,
    width: usize,
}

/// All connections to tiny_http.
#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    state: Mutex<State>,
    /// A connection came back, went away, or is no longer being opened.
    changed: Condvar,
    /// A connection is no longer being opened. Apart from `changed`, so that a watchdog that waits here does
    /// not swallow the one wake-up that was meant for a request.
    opened: Condvar,
    warnings: Throttle,
}

/// A canonical request on its way.
pub(super) struct Outgoing<'a> {
    pub head: &'a [u8],
    pub body: &'a [u8],
    /// Answers to HEAD have no body.
    pub is_head: bool,
    /// By when the answer must be complete.
    pub deadline: Instant,
}

impl Pool {
    /// A pool of at most `width` connections to the Unix socket at `path`.
    pub fn new(path: PathBuf, width: usize) -> Pool {
        let state = State { width, ..State::default() };
        Pool {
            path,
            state: Mutex::new(state),
            changed: Condvar::new(),
            opened: Condvar::new(),
            warnings: Throttle::default(),
        }
    }

    /// Sends one request and reads its answer.
    pub fn exchange(&self, request: &Outgoing<'_>, answer: &mut Answer) -> Result<(), Refusal> {
        let (mut upstream, place) = self.checkout(request.deadline)?;
        upstream.exchange(request, answer).map_err(|error| refusal_for(&error))?;
        if answer.upstream_stays {
            place.keep(upstream);
        }
        Ok(())
    }

    /// tiny_http answers a ping on a new connection. For a watchdog: it does not wait for one that is in use,
    /// but for its turn to open one.
    pub fn answers(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let state = self.opened.wait_timeout_while(self.state(), within, |state| state.is_opening);
        let (mut state, waited) = state.expect(NO_PANIC);
        if waited.timed_out() {
            return false;
        }
        let _place = self.start_opening(&mut state);
        drop(state);
        self.open_one(deadline).is_ok()
    }

    /// Connections that are open to tiny_http.
    pub fn open_count(&self) -> usize {
        self.state().open
    }

    /// Another limit; what is open stays.
    pub fn set_width(&self, width: usize) {
        self.state().width = width;
        self.changed.notify_all();
    }

    /// Closes what was not used for a while.
    pub fn close_idle(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let keep_from = state.idle.iter().position(|upstream| now < upstream.idle_since + IDLE_KEPT);
        let gone = keep_from.unwrap_or(state.idle.len());
        state.idle.drain(..gone);
        state.open -= gone;
    }

    /// Closes everything that is not in use.
    pub fn close_all(&self) {
        let mut state = self.state();
        state.open -= state.idle.len();
        state.idle.clear();
        state.width = 0;
    }

    /// A live connection: an idle one, or a new one, or the first that comes back.
    fn checkout(&self, deadline: Instant) -> Result<(Upstream, Place<'_>), Refusal> {
        let mut state = self.state();
        loop {
            if let Some(upstream) = state.idle.pop() {
                if upstream.is_quiet() {
                    return Ok((upstream, Place { pool: self, is_opening: false }));
                }
                state.open -= 1;
            } else if state.open < state.width && !state.is_opening {
                let place = self.start_opening(&mut state);
                drop(state);
                return self.open_in(place, deadline);
            } else {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Reason::Unanswered.because("no upstream connection came free"));
                }
                state.waiting += 1;
                state = self.changed.wait_timeout(state, left).expect(NO_PANIC).0;
                state.waiting -= 1;
            }
        }
    }

    fn start_opening(&self, state: &mut State) -> Place<'_> {
        state.is_opening = true;
        state.open += 1;
        Place { pool: self, is_opening: true }
    }

    fn open_in<'a>(&self, mut place: Place<'a>, deadline: Instant) -> Result<(Upstream, Place<'a>), Refusal> {
        match self.open_one(deadline.min(Instant::now() + PING_DEADLINE)) {
            Ok(upstream) => {
                place.opened();
                Ok((upstream, place))
            }
            Err(error) => {
                self.warnings.warn(&format!("cannot reach the handlers at {}: {error}", self.path.display()));
                Err(refusal_for(&error))
            }
        }
    }

    fn open_one(&self, deadline: Instant) -> io::Result<Upstream> {
        let mut upstream = Upstream {
            stream: Deadlined::new(self.connect()?),
            buffer: Buffer::default(),
            idle_since: Instant::now(),
        };
        let head = format!("GET {PING_TARGET} HTTP/1.1\r\nHost: gate\r\nContent-Length: 0\r\n\r\n");
        let ping = Outgoing { head: head.as_bytes(), body: b"", is_head: false, deadline };
        upstream.exchange(&ping, &mut Answer::default())?;
        Ok(upstream)
    }

    /// Connects without waiting: a Unix socket with a full backlog would block for as long as it is full.
    fn connect(&self) -> io::Result<UnixStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let spares: Vec<Socket> =
            (1..SPARE_DESCRIPTORS).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
        drop(spares);
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(&self.path)?)?;
        socket.set_nonblocking(false)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics while it holds the pool";

impl Upstream {
    fn exchange(&mut self, request: &Outgoing<'_>, answer: &mut Answer) -> io::Result<()> {
        self.stream.write_all(request.head, request.deadline)?;
        if !request.body.is_empty() {
            self.stream.write_all(request.body, request.deadline)?;
        }
        let from =
            Incoming { stream: &mut self.stream, buffer: &mut self.buffer, deadline: request.deadline };
        answer.read(from, request.is_head)?;
        self.buffer.shrink();
        Ok(())
    }

    /// Neither closed by tiny_http nor with bytes that nobody asked for.
    fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.stream.get_ref(), &mut byte, flags), Err(Errno::AGAIN))
    }
}

/// The right to have one connection of the pool's width. Given back when dropped, also by a panic.
struct Place<'a> {
    pool: &'a Pool,
    is_opening: bool,
}

impl Place<'_> {
    /// The connection of this place is open; the next may be opened.
    fn opened(&mut self) {
        self.is_opening = false;
        self.pool.state().is_opening = false;
        self.pool.changed.notify_all();
        self.pool.opened.notify_all();
    }

    /// The connection is in order and waits for its next request.
    fn keep(self, mut upstream: Upstream) {
        upstream.idle_since = Instant::now();
        let mut state = self.pool.state();
        if state.open <= state.width {
            state.idle.push(upstream);
            // Dropping the place below takes it away again.
            state.open += 1;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let is_awaited = self.pool.state.lock().is_ok_and(|mut state| {
            state.open -= 1;
            state.is_opening &= !self.is_opening;
            state.waiting > 0
        });
        if self.is_opening {
            self.pool.changed.notify_all();
            self.pool.opened.notify_all();
        } else if is_awaited {
            self.pool.changed.notify_one();
        }
    }
}

fn refusal_for(error: &io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::TimedOut => Reason::Unanswered.because("no answer in time"),
        ErrorKind::InvalidData => Reason::Unreachable.because("an answer that cannot be relayed"),
        _ => Reason::Unreachable.because("the upstream connection failed"),
    }
}
