//! A local stand-in for the Freshdesk API v2, in memory: for the demo, for dry runs, and for tests.
//!
//! It is meant to be stricter than kind. It knows the documented fields, types, choices, limits and error shapes,
//! and reports all errors of a request together; what the vendor leaves open is a switch ([`Knobs`]). On top of it
//! faults can be scripted: resets before and after the write, stalls, wrong answers.
//! It is outside the delivery path: the daemon does not know it and talks to it like to the real service.
//! Attachments are counted and named, their content is not kept. `outbound_email` and the search of contacts are
//! not there (404).
//!
//! **Invariants:** one lock guards all state and a bell rings at every change, so tests wait for conditions
//! ([`Sandbox::wait_until`]) and never for time to pass; it listens on loopback only; [`Sandbox::stop`] and `Drop`
//! end every thread it started. The account's time comes from a [`Clock`]; sockets wait in real time.
//!
//! # In a test
//! ```
//! use deskspool::sandbox::{Effect, Fault, Options, Sandbox};
//! use std::time::Duration;
//!
//! let desk = Sandbox::start(Options::default())?;
//! desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").every(5));
//! println!("freshdesk.url = {:?}", desk.url()); // … here a client creates tickets …
//! # let expected = 0;
//! assert!(desk.wait_until(Duration::from_secs(20), |state| state.ticket_count() == expected));
//! assert_eq!(desk.tickets().len(), expected);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The fault file
//! `deskspool sandbox --faults FILE` reads TOML (or JSON of the same shape when the name ends in `.json`):
//! ```toml
//! [knobs]                         # what the vendor leaves open; every one has a default
//! list_delay_s = 5
//!
//! [form]                          # the account: groups, products, ticket_types, custom_fields …
//! required_for_agents = ["subject", "description", "type"]
//!
//! [[fault]]                       # every fifth created ticket is stored, and the answer is a reset
//! effect = "commit_then_reset"
//! method = "POST"
//! path   = "/api/v2/tickets"      # without the query; * is one segment, ** is anything
//! every  = 5
//!
//! [[fault]]                       # the first three calls of any kind meet the balancer's error page
//! effect = "status"
//! status = 503
//! body   = "html"                 # json (default), html, empty
//! first  = 3
//! ```
//! A fault picks requests by `method`, `path`, `after` (not the first n), `every` (nth), `first` (n), `times` (hits at
//! most), `probability` with `seed`. The first fault in the file that fires decides. Effects and their own keys:
//!
//! | effect | what the client meets | keys |
//! |---|---|---|
//! | `refuse` | closed at accept; counts connections, so neither `method` nor `path`, and hits the control path too | |
//! | `reset_before_reading` | a reset after the head; nothing is done | |
//! | `commit_then_reset` | a reset instead of the answer; the write is done | |
//! | `stall` | silence until it leaves, then nothing (or the answer, with `commit`) | `hold_s` (3600), `commit` (false) |
//! | `status` | another answer | `status`, `body`, `retry_after`, `commit` (false) |
//! | `wrong_key` | 401 | |
//! | `truncated_json` | a complete head with `Content-Length`, half the body; the write is done | `location` (true) |
//! | `garbage_200` | 200 with somebody's HTML page | `commit` (false) |
//! | `slow` | the right answer, late; the write is done late even if the client left | `delay_ms` |
//!
//! # The control path
//! On the API's port and, when given, on `--control-port`, which stays up while the API is down:
//! `POST /_sandbox/faults` (one, a list, or `{"fault": […]}`), `GET` and `DELETE /_sandbox/faults`,
//! `POST` and `GET /_sandbox/knobs`, `POST /_sandbox/key {"key": …}`, `GET /_sandbox/state`, `GET /_sandbox/requests`,
//! `POST /_sandbox/tickets/{id} {"spam": true, "deleted": false}`, `POST /_sandbox/contacts/{id} {"blocked": true}`,
//! and on the control port only `POST /_sandbox/down {"down": true}`. `GET /` and `GET /tickets/{id}` are pages.

mod answer;
mod contacts;
mod control;
mod conversations;
mod exchange;
mod faults;
mod form;
mod http;
mod knobs;
mod limits;
mod list;
mod moment;
mod multipart;
mod page;
mod requesters;
mod routes;
mod script;
mod search;
mod state;
mod store;
mod tickets;
mod validate;
mod view;
mod wire;

#[cfg(test)]
mod tests;

pub use faults::{Effect, Fault, FaultBody};
pub use form::{Agent, CustomField, CustomKind, Form, Named};
pub use knobs::{BlockedRequester, FourByte, Knobs, ResponseMode, UnknownRequester};
pub use limits::Plan;
pub use script::{Script, ScriptError};
pub use state::{RequestRecord, State};
pub use view::{AttachmentView, ContactView, NoteView, RequesterView, TicketView};

use crate::clock::{Clock, SystemClock};
use faults::Armed;
use http::{Api, Door, Purpose};
use socket2::Socket;
use state::Shared;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long [`Sandbox::stop`] waits for connections to end; each is cut, so this is for the scheduler.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How a sandbox begins.
#[derive(Clone)]
pub struct Options {
    /// Port on 127.0.0.1; 0 lets the system choose.
    pub port: u16,
    /// A second port for the page and the control path, up even while the API is down.
    pub control_port: Option<u16>,
    /// The API key.
    pub key: String,
    /// The account's budget.
    pub plan: Plan,
    /// The open points of the API.
    pub knobs: Knobs,
    /// The ticket form, groups and the like.
    pub form: Form,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
    /// The account's time: of tickets, of the budget's window, of the knobs that delay.
    pub clock: Arc<dyn Clock>,
    /// Connections at the same time; the next one is closed.
    pub connections_max: usize,
    /// Largest body of a request.
    pub body_max_bytes: usize,
}

impl Default for Options {
    /// Any port, key `sandbox-key`, no budget, no faults, the machine's clock.
    fn default() -> Options {
        Options {
            port: 0,
            control_port: None,
            key: "sandbox-key".to_owned(),
            plan: Plan::UNLIMITED,
            knobs: Knobs::default(),
            form: Form::default(),
            faults: Vec::new(),
            clock: SystemClock::new(),
            connections_max: 512,
            body_max_bytes: 25 * 1024 * 1024,
        }
    }
}

/// A running stand-in.
pub struct Sandbox {
    shared: Arc<Shared>,
    control: Option<Door>,
    address: SocketAddr,
    control_address: Option<SocketAddr>,
}

impl Sandbox {
    /// Binds and serves.
    pub fn start(options: Options) -> io::Result<Sandbox> {
        let shared = Arc::new(Shared::new(&options));
        let socket = http::bind(loopback(options.port))?;
        let address = address_of(&socket)?;
        shared.change(|state| state.base_url = format!("http://{address}"));
        let control = match options.control_port {
            Some(port) => Some(http::bind(loopback(port))?),
            None => None,
        };
        let control_address = control.as_ref().map(address_of).transpose()?;
        let control = control.map(|socket| Door::open(socket, Purpose::Control, &shared)).transpose()?;
        *shared.api() = Api::Up(Door::open(socket, Purpose::Api, &shared)?);
        Ok(Sandbox { shared, control, address, control_address })
    }

    /// `http://127.0.0.1:<port>`, what `freshdesk.url` takes; also the page's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control path listens by itself, when it does.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// All tickets in the order of their numbers.
    pub fn tickets(&self) -> Vec<TicketView> {
        self.shared.state().tickets()
    }

    /// All contacts in the order of their creation.
    pub fn contacts(&self) -> Vec<ContactView> {
        self.shared.state().contacts()
    }

    /// The calls so far.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.state().requests().iter().cloned().collect()
    }

    /// Arms another fault, after those that are there.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.change(|state| state.faults.push(Armed::new(fault)));
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.faults.clear());
    }

    /// Turns the open points.
    pub fn set_knobs(&self, knobs: Knobs) {
        self.shared.change(|state| state.knobs = knobs);
    }

    /// Changes the API key, as an agent does who resets it.
    pub fn set_key(&self, key: &str) {
        self.shared.change(|state| state.key = key.to_owned());
    }

    /// Marks a ticket; whether there is one.
    pub fn mark_ticket(&self, id: u64, spam: bool, deleted: bool) -> bool {
        self.shared.change(|state| {
            let ticket = state.store.tickets.get_mut(&id);
            ticket.map(|ticket| (ticket.spam, ticket.deleted) = (spam, deleted)).is_some()
        })
    }

    /// Marks a contact; whether there is one.
    pub fn mark_contact(&self, id: u64, blocked: bool, deleted: bool) -> bool {
        self.shared.change(|state| {
            let contact = state.store.contacts.get_mut(&id);
            contact.map(|contact| (contact.blocked, contact.deleted) = (blocked, deleted)).is_some()
        })
    }

    /// Takes the API down (connects are refused, open connections are cut, nothing is stored any more) or up again
    /// on the same port. When it returns, it is so.
    pub fn set_down(&self, down: bool) -> io::Result<()> {
        http::set_down(&self.shared, down)
    }

    /// Waits until `condition` holds, at most for `deadline` of real time; whether it does.
    pub fn wait_until(&self, deadline: Duration, condition: impl FnMut(&State) -> bool) -> bool {
        self.shared.wait_until(deadline, condition)
    }

    /// Closes the ports, cuts every connection, ends every wait.
    pub fn stop(&mut self) {
        self.shared.change(|state| state.stopping = true);
        *self.shared.api() = Api::Stopped;
        self.control = None;
        self.shared.wait_until(STOP_PATIENCE, |state| state.connections == 0);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop();
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::other("the socket has no internet address"))
}
