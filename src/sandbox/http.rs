//! The listeners and their connections: a thread each, bounded.
//!
//! **Invariants:** accepting never ends by itself; what the sandbox cannot take is closed. A port that is down
//! stays bound, so that it refuses and nobody else gets it.

use super::answer::Answer;
use super::control;
use super::exchange::Exchange;
use super::faults::{self, Effect};
use super::state::Shared;
use super::wire::{Head, Manner, Request, Trouble, Wire};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(60);
const BODY_PATIENCE: Duration = Duration::from_secs(60);
const BACKLOG: i32 = 1024;
const STACK_BYTES: usize = 512 * 1024;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The API, the page and the control path.
    Api,
    /// The page and the control path, also while the API is down.
    Control,
}

/// The API's port.
#[derive(Default)]
pub(crate) enum Api {
    Up(Door),
    /// Bound and not listening, so that connects are refused and nobody else gets the port.
    Down(Socket),
    #[default]
    Stopped,
}

/// Takes the API down or up again.
pub(crate) fn set_down(shared: &Arc<Shared>, down: bool) -> io::Result<()> {
    let mut api = shared.api();
    // The state is told first and last: while the API is down nothing may be stored.
    *api = match std::mem::take(&mut *api) {
        Api::Up(door) if down => {
            shared.change(|state| state.down = true);
            Api::Down(door.close()?)
        }
        Api::Down(socket) if !down => {
            shared.change(|state| state.down = false);
            Api::Up(Door::open(socket, Purpose::Api, shared)?)
        }
        same => same,
    };
    Ok(())
}

/// A bound port with the thread that accepts on it.
pub(crate) struct Door {
    listener: Arc<TcpListener>,
    is_closed: Arc<AtomicBool>,
    streams: Arc<Streams>,
    thread: Option<JoinHandle<()>>,
}

/// Binds without listening: the port is ours, and who connects is refused.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Door {
    /// Listens on a bound socket.
    pub(crate) fn open(socket: Socket, purpose: Purpose, shared: &Arc<Shared>) -> io::Result<Door> {
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from(socket));
        let (is_closed, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Streams::default()));
        let accepting = Accepting {
            listener: Arc::clone(&listener),
            is_closed: Arc::clone(&is_closed),
            streams: Arc::clone(&streams),
            shared: Arc::clone(shared),
            purpose,
        };
        let name = "sandbox-accept".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || accepting.run())?;
        Ok(Door { listener, is_closed, streams, thread: Some(thread) })
    }

    /// Stops accepting and cuts every connection; the port stays ours.
    pub(crate) fn close(mut self) -> io::Result<Socket> {
        let address = self.listener.local_addr()?;
        self.shut();
        // Taken while the old socket, which no longer listens, still holds the port: nobody can come between.
        bind(address)
    }

    fn shut(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let woken = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if woken.is_err() {
            // Where a listener cannot be shut down, a connection wakes it.
            let address = self.listener.local_addr();
            let _ = address.map(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.streams.cut();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut();
    }
}

/// The open connections of a door, so that they can be cut.
#[derive(Default)]
struct Streams(Mutex<(u64, HashMap<u64, Weak<TcpStream>>)>);

impl Streams {
    fn add(&self, stream: &Arc<TcpStream>) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, Arc::downgrade(stream));
        number
    }

    fn remove(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
    }

    fn cut(&self) {
        for stream in self.0.lock().unwrap_or_else(PoisonError::into_inner).1.values() {
            if let Some(stream) = stream.upgrade() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

#[derive(Clone)]
struct Accepting {
    listener: Arc<TcpListener>,
    is_closed: Arc<AtomicBool>,
    streams: Arc<Streams>,
    shared: Arc<Shared>,
    purpose: Purpose,
}

impl Accepting {
    fn run(&self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                // Out of descriptors, or a client that left already: the next one may fare better, in a moment.
                Err(_) if !self.is_closed.load(Ordering::SeqCst) => {
                    self.shared.wait_until(Duration::from_millis(50), |state| state.stopping);
                }
                Err(_) => {}
            }
        }
    }

    fn welcome(&self, stream: TcpStream) {
        let is_api = self.purpose == Purpose::Api;
        let most = self.shared.connections_max;
        let is_taken = self.shared.change(|state| {
            let is_refused = is_api && faults::refuses(&mut state.faults);
            if is_refused {
                state.record(&Head::default(), 0, Some("refuse"));
            }
            let is_taken = !is_refused && !state.stopping && state.connections < most;
            state.connections += usize::from(is_taken);
            is_taken
        });
        if !is_taken {
            return;
        }
        let stream = Arc::new(stream);
        let number = self.streams.add(&stream);
        let guest = self.clone();
        let serve = move || {
            guest.serve(stream);
            guest.streams.remove(number);
            guest.shared.change(|state| state.connections -= 1);
        };
        let builder =
            std::thread::Builder::new().name("sandbox-connection".to_owned()).stack_size(STACK_BYTES);
        if builder.spawn(serve).is_err() {
            self.streams.remove(number);
            self.shared.change(|state| state.connections -= 1);
        }
    }

    fn serve(&self, stream: Arc<TcpStream>) {
        let clock = Arc::clone(&self.shared.socket_clock);
        let mut wire = Some(Wire::new(stream, clock));
        while !self.is_closed.load(Ordering::SeqCst) {
            wire = match wire.take() {
                Some(wire) => self.exchange(wire),
                None => return,
            };
        }
    }

    /// One request and its answer; the connection, when it may go on.
    fn exchange(&self, mut wire: Wire) -> Option<Wire> {
        let head = match wire.read_head(IDLE) {
            Ok(head) => head,
            Err(trouble) => return refuse(wire, &trouble),
        };
        let is_api = head.path == "/api" || head.path.starts_with("/api/");
        let effect = if is_api && self.purpose == Purpose::Api {
            self.shared.change(|state| faults::choose(&mut state.faults, &head.method, &head.path))
        } else {
            None
        };
        if effect == Some(Effect::ResetBeforeReading) {
            self.shared.change(|state| state.record(&head, 0, Some("reset_before_reading")));
            wire.reset();
            return None;
        }
        let body = match wire.read_body(&head, self.shared.body_max_bytes, BODY_PATIENCE) {
            Ok(body) => body,
            Err(trouble) => return refuse(wire, &trouble),
        };
        let call = Exchange { shared: &self.shared, request: Request { head, body } };
        match (is_api, self.purpose, effect) {
            (false, ..) => call.send(wire, &control::answer(&self.shared, &call.request, self.purpose)),
            (true, Purpose::Control, _) => call.send(wire, &Answer::empty(404)),
            (true, Purpose::Api, None) => {
                let answer = call.answer()?;
                call.send(wire, &answer)
            }
            (true, Purpose::Api, Some(effect)) => call.spoil(wire, &effect),
        }
    }
}

/// Tells a client what was wrong with its framing, and ends.
fn refuse(mut wire: Wire, trouble: &Trouble) -> Option<Wire> {
    if let Trouble::Refused(status) = trouble {
        if wire.answer(&Answer::edge(*status), Manner::LAST).is_ok() {
            wire.finish();
        }
    }
    None
}
