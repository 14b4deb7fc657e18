//! Everything a sandbox knows, behind one lock.
//!
//! **Invariant:** every change is made under the lock of [`Shared`] and wakes who waits for it, so a test can wait
//! for a condition instead of for time to pass.

use super::Options;
use super::faults::Armed;
use super::form::Form;
use super::http::Api;
use super::knobs::Knobs;
use super::limits::Limits;
use super::store::Store;
use super::view::{ContactView, TicketView};
use super::wire::Head;
use crate::clock::{Clock, SystemClock, Timestamp};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const REQUESTS_MAX: usize = 50_000;

/// One call of the API, or one connection that was refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRecord {
    /// When it was decided, in milliseconds since 1970 by the sandbox's clock.
    pub at_ms: u64,
    /// `-` for a refused connection.
    pub method: String,
    /// Without the query; `-` for a refused connection.
    pub path: String,
    /// What the client was told; 0 when it was told nothing.
    pub status: u16,
    /// Which fault it met.
    pub fault: Option<&'static str>,
}

/// What a sandbox holds; [`super::Sandbox::wait_until`] shows it to a condition.
pub struct State {
    pub(crate) store: Store,
    pub(crate) form: Form,
    pub(crate) knobs: Knobs,
    pub(crate) limits: Limits,
    pub(crate) faults: Vec<Armed>,
    pub(crate) key: String,
    pub(crate) base_url: String,
    /// Whether the API is down: nothing is answered and nothing changes.
    pub(crate) down: bool,
    pub(crate) stopping: bool,
    pub(crate) connections: usize,
    pub(crate) answers: u64,
    requests: VecDeque<RequestRecord>,
    clock: Arc<dyn Clock>,
}

impl State {
    pub(crate) fn new(options: &Options) -> State {
        State {
            store: Store::default(),
            form: options.form.clone(),
            knobs: options.knobs.clone(),
            limits: Limits::new(options.plan),
            faults: options.faults.iter().cloned().map(Armed::new).collect(),
            key: options.key.clone(),
            base_url: String::new(),
            down: false,
            stopping: false,
            connections: 0,
            answers: 0,
            requests: VecDeque::new(),
            clock: Arc::clone(&options.clock),
        }
    }

    /// How many tickets there are, spam and deleted ones included.
    pub fn ticket_count(&self) -> usize {
        self.store.tickets.len()
    }

    /// How many notes and replies there are.
    pub fn note_count(&self) -> usize {
        self.store.tickets.values().map(|ticket| ticket.conversations.len()).sum()
    }

    /// All tickets in the order of their numbers.
    pub fn tickets(&self) -> Vec<TicketView> {
        self.store.tickets.values().map(|ticket| TicketView::of(self, ticket)).collect()
    }

    /// All contacts in the order of their creation.
    pub fn contacts(&self) -> Vec<ContactView> {
        self.store.contacts.values().map(ContactView::of).collect()
    }

    /// The calls so far, the last 50,000 of them.
    pub fn requests(&self) -> &VecDeque<RequestRecord> {
        &self.requests
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Logs a call; the blank head is a connection that was refused.
    pub(crate) fn record(&mut self, head: &Head, status: u16, fault: Option<&'static str>) {
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
        }
        let word = |word: &str| if word.is_empty() { "-".to_owned() } else { word.to_owned() };
        let (method, path) = (word(&head.method), word(&head.path));
        self.requests.push_back(RequestRecord { at_ms: self.now().0, method, path, status, fault });
    }
}

/// The state, its lock, and the bell that rings at every change.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    api: Mutex<Api>,
    /// For deadlines of sockets, which run in real time whatever clock the account has.
    pub(crate) socket_clock: Arc<SystemClock>,
    pub(crate) connections_max: usize,
    pub(crate) body_max_bytes: usize,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Shared {
        Shared {
            state: Mutex::new(State::new(options)),
            changed: Condvar::new(),
            api: Mutex::default(),
            socket_clock: SystemClock::new(),
            connections_max: options.connections_max,
            body_max_bytes: options.body_max_bytes,
        }
    }

    /// Looks.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API's port.
    pub(crate) fn api(&self) -> MutexGuard<'_, Api> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and tells everybody.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until `condition` holds, at most for `deadline`; whether it does.
    pub(crate) fn wait_until(&self, deadline: Duration, mut condition: impl FnMut(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), deadline, |state| !condition(state));
        let (_state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}
