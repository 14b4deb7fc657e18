//! The accept loop. It ends when it is told to, and for no other reason: an `accept` that fails is
//! counted, logged now and then, and tried again after a moment.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::{self, Shared};
use super::refusal::Reason;
use super::stream::{Socket, Stream};
use super::table::{Newcomer, Seat};
use super::throttle::Throttle;

/// Stack of a connection's thread. Only what it touches costs memory.
const STACK_BYTES: usize = 128 * 1024;

/// Connections taken from one listener before the others get their turn.
const BATCH: usize = 32;

/// How often idle upstream connections are looked at.
const TICK: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How long the loop stands back after a failed `accept`, unless a connection ends before.
const PAUSE: Duration = Duration::from_millis(50);

/// What the accept thread owns.
pub(super) struct Acceptor {
    pub listeners: Vec<TcpListener>,
    /// Readable when the loop shall look at `is_stopping`.
    pub wake: UnixStream,
    pub shared: Arc<Shared>,
}

impl Acceptor {
    /// Accepts until the gate stops. The listeners are closed on return.
    pub fn run(self) {
        let warnings = Throttle::default();
        while !self.shared.is_stopping() {
            self.shared.turned_millis.store(self.shared.table.now_millis(), Ordering::Relaxed);
            match self.wait() {
                Ok(ready) => ready.into_iter().for_each(|listener| self.accept_batch(listener, &warnings)),
                Err(error) => self.stand_back(&error, &warnings),
            }
            self.shared.pool.close_idle();
        }
    }

    /// The listeners that have somebody waiting.
    fn wait(&self) -> io::Result<Vec<&TcpListener>> {
        let sockets = self.listeners.iter().map(AsFd::as_fd).chain([self.wake.as_fd()]);
        let mut polled: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&TICK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = self.listeners.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(listener, _)| listener).collect())
    }

    fn accept_batch(&self, listener: &TcpListener, warnings: &Throttle) {
        for _ in 0..BATCH {
            match listener.accept() {
                Ok((stream, address)) => self.welcome(stream, address.ip().to_canonical()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => return self.stand_back(&error, warnings),
            }
            if self.shared.is_stopping() {
                return;
            }
        }
    }

    /// Waits a moment before the next try; when descriptors or memory ran out, makes room.
    fn stand_back(&self, error: &io::Error, warnings: &Throttle) {
        self.shared.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
        warnings.warn(&format!("cannot accept connections: {error}"));
        if is_shortage(error) {
            self.shared.table.evict_oldest();
        }
        self.shared.table.await_departure(PAUSE);
    }

    fn welcome(&self, stream: TcpStream, peer: IpAddr) {
        self.shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        // Linux does not hand the listener's non-blocking mode on; other systems do.
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        let socket = Socket(Arc::new(stream));
        let is_exempt = peer.is_loopback() || self.shared.trusted_proxies.contains(&peer);
        let newcomer = Newcomer { peer, socket: socket.clone(), is_exempt };
        match self.shared.table.admit(newcomer, self.shared.settings().caps()) {
            Some(seat) => self.start(seat, socket),
            None => self.turn_away(&socket, "the table is full"),
        }
    }

    fn start(&self, seat: Seat, socket: Socket) {
        let shared = Arc::clone(&self.shared);
        let stream = Stream::Plain(socket.clone());
        let thread = thread::Builder::new().name("gate-conn".to_owned()).stack_size(STACK_BYTES);
        if thread.spawn(move || connection::serve(&shared, seat, stream)).is_err() {
            self.shared.table.evict_oldest();
            self.turn_away(&socket, "no thread could be had");
        }
    }

    /// Answers without waiting: what is written fits the empty buffer of a new socket, and what the client
    /// has already sent is read so that closing does not reset the connection.
    fn turn_away(&self, socket: &Socket, detail: &'static str) {
        let refusal = Reason::Full.because(detail);
        self.shared.counters.count_refused(refusal.reason);
        let mut stream = &*socket.0;
        if stream.set_nonblocking(true).is_ok() && stream.write_all(refusal.answer().as_bytes()).is_ok() {
            let mut unread = [0; 4096];
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut unread);
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// The connection at the head of the queue is broken, the listener is not.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}
