//! The gate: the public listener, the first room on the road of an event. It lets in complete,
//! bounded, unambiguous requests and nothing else, and passes each of them in one canonical form to
//! tiny_http over a private Unix socket.
//!
//! tiny_http 0.12 must not meet the network: it has no limits and no deadlines, one request aborts the
//! process, one failed `accept` ends its service, and requests can be smuggled through it.
//!
//! What it owns: listeners, client connections ([`table`](self)), deadlines, the framing of requests
//! ([`request`]), the connections to tiny_http. It knows neither sources nor the spool.
//!
//! **Invariants**
//! - The accept loop ends only when the gate is stopped.
//! - Every wait has an absolute deadline, every buffer a limit, every client a share.
//! - A client that is slow on purpose pushes out others like it: a full table evicts the connection that has
//!   been unfinished longest, never one whose request is complete.
//! - A request that came only in part is never relayed; a relayed request is never sent twice.
//!
//! Threads: `gate-accept`, and one `gate-conn` per client.
//!
//! What the tiny_http side has to do: answer `GET` [`PING_TARGET`] at once with 204, read all of a body
//! before it answers, and end the process when its `recv` fails.

mod accept;
mod answer;
mod budget;
mod canonical;
mod connection;
mod limits;
mod listen;
mod pool;
mod refusal;
pub mod request;
mod stream;
mod table;
mod throttle;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;

use accept::Acceptor;
use connection::{Settings, Shared};
use pool::Pool;
use refusal::Counters;
use table::Table;

pub use budget::{Budget, Reservation};
pub use canonical::PEER_HEADER;
pub use limits::Limits;
pub use listen::{BindError, Holder, bind, holders};
pub use pool::PING_TARGET;
pub use refusal::{Reason, Refusal};
pub use stream::{Deadlined, Socket, Stream, Timed};

/// How long a connection that is open when the gate stops may still send a request: of those who have just come
/// or are about to ask again, nobody is cut off in the middle of it.
const GRACE: Duration = Duration::from_secs(1);

/// What a gate is made of.
#[derive(Debug)]
pub struct GateConfig {
    /// Bound by [`bind`], or handed over by systemd.
    pub listeners: Vec<TcpListener>,
    /// The Unix socket on which tiny_http listens, in a directory of mode 0700.
    pub upstream: PathBuf,
    /// How much clients may take.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

/// Why a gate could not start.
#[derive(Debug, Error)]
pub enum GateError {
    /// Nothing to listen on.
    #[error("the gate has no listener")]
    NoListener,
    /// The system refused what a listener needs.
    #[error("a listener cannot be used: {0}")]
    Listener(io::Error),
    /// No thread or descriptor could be had.
    #[error("the gate cannot start: {0}")]
    Start(io::Error),
}

/// What the gate has done since it started, and what is open now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Requests relayed and answered.
    pub relayed: u64,
    /// Requests refused, by reason.
    pub refused: Vec<(Reason, u64)>,
    /// Connections closed to make room.
    pub evicted: u64,
    /// Requests whose client went away in the middle.
    pub truncated: u64,
    /// Failed `accept`s.
    pub accept_errors: u64,
    /// Connections that ended in a panic: bugs.
    pub panics: u64,
    /// Client connections open now.
    pub open_connections: usize,
    /// Connections to tiny_http open now.
    pub open_upstreams: usize,
}

/// A running gate. Dropping it cuts everything off; call [`Gate::drain`] first.
pub struct Gate {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    wake: UnixStream,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Gate {
    /// Starts accepting.
    pub fn start(config: GateConfig) -> Result<Gate, GateError> {
        if config.listeners.is_empty() {
            return Err(GateError::NoListener);
        }
        let addresses = config.listeners.iter().map(prepare).collect::<io::Result<_>>();
        let addresses = addresses.map_err(GateError::Listener)?;
        let settings = Settings::new(config.limits);
        let shared = Arc::new(Shared {
            table: Table::new(),
            pool: Pool::new(config.upstream, settings.width.upstreams),
            settings: RwLock::new(settings),
            counters: Counters::default(),
            budget: Arc::new(Budget::default()),
            trusted_proxies: config.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            is_stopping: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            turned_millis: AtomicU64::new(0),
        });
        let (wake, woken) = UnixStream::pair().map_err(GateError::Start)?;
        let acceptor = Acceptor { listeners: config.listeners, wake: woken, shared: Arc::clone(&shared) };
        let thread = thread::Builder::new().name("gate-accept".to_owned());
        let accepting = thread.spawn(move || acceptor.run()).map_err(GateError::Start)?;
        Ok(Gate { shared, addresses, wake, accepting: Mutex::new(Some(accepting)) })
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Closes the listeners and the connections between requests. What is under way is still answered,
    /// with `Connection: close`. On return nobody is accepted any more.
    pub fn stop_accepting(&self) {
        self.stop_within(GRACE);
    }

    fn stop_within(&self, grace: Duration) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        let accepting = self.accepting.lock().expect("nothing panics while it holds the thread").take();
        if let Some(accepting) = accepting {
            // If the byte cannot be sent, the loop looks at the flag with its next tick.
            let _ = (&self.wake).write(&[1]);
            if accepting.join().is_err() {
                log::error!("bug: the accept loop panicked");
            }
            self.shared.table.await_empty(Instant::now() + grace);
        }
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.shared.table.shut_idle();
    }

    /// Stops accepting and waits until all connections have ended. Says how many had not by then; they are cut
    /// off.
    pub fn drain(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        self.stop_within(GRACE.min(timeout));
        let unfinished = self.shared.table.await_empty(deadline);
        self.shared.table.shut_all();
        self.shared.pool.close_all();
        unfinished
    }

    /// Other limits, from now on: for connections that are open, from their next request.
    pub fn set_limits(&self, limits: Limits) {
        let settings = Settings::new(limits);
        self.shared.pool.set_width(settings.width.upstreams);
        *self.shared.settings.write().expect("nothing panics while it swaps the settings") = settings;
    }

    /// The accept loop turns, and tiny_http answers a ping on a connection of its own. For a watchdog: other
    /// requests do not hold it up.
    pub fn answers(&self, within: Duration) -> bool {
        self.shared.accepts(self.shared.table.now_millis()) && self.shared.pool.answers(within)
    }

    /// What happened so far.
    pub fn counters(&self) -> GateCounters {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GateCounters {
            accepted: read(&counters.accepted),
            relayed: read(&counters.relayed),
            refused: counters.refused(),
            evicted: self.shared.table.evicted_count(),
            truncated: read(&counters.truncated),
            accept_errors: read(&counters.accept_errors),
            panics: read(&counters.panics),
            open_connections: self.shared.table.open_count(),
            open_upstreams: self.shared.pool.open_count(),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}

/// Makes a listener, ours or systemd's, fit for the accept loop. Connections inherit `TCP_NODELAY`:
/// answers are small, and nobody shall wait for more of them.
fn prepare(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    socket2::SockRef::from(listener).set_tcp_nodelay(true)?;
    listener.local_addr()
}
