//! The status page's wiring: its listener, and what it has to ask the daemon.

use super::{Daemon, Places, compile, listeners};
use crate::config::{self, Finding, SourceText};
use crate::gate::Reason;
use crate::page::{Asks, Page};
use crate::source::Source;
use crate::status::listener::Listener;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a health check waits for intake to answer.
const HEALTH_WITHIN: Duration = Duration::from_secs(5);
/// The socket between the status page's gate and its tiny_http, beside intake's.
const PAGE_SOCKET: &str = "page.sock";

impl Daemon {
    /// The status page, if it is on. It is no part of the road: without it, events are received and delivered.
    pub(super) fn start_page(self: &Arc<Self>, places: &Places) -> Option<Listener> {
        let listen = &self.started_with.status_page.listen;
        let listeners = match listeners("status_page.listen", listen, &places.passed.status_page) {
            Ok(listeners) if listeners.is_empty() => return None,
            Ok(listeners) => listeners,
            Err(error) => {
                log::error!("no status page error={:?}", error.to_string());
                return None;
            }
        };
        self.rooms.captures.remember(self.started_with.status_page.actions);
        let page = Page::new(self.rooms.clone(), self.page_asks());
        let socket = places.private.join(PAGE_SOCKET);
        match Listener::start(listeners, &socket, Box::new(move |asked| page.answer(asked))) {
            Ok(listener) => Some(listener),
            Err(error) => {
                log::error!("no status page error={:?}", error.to_string());
                None
            }
        }
    }

    /// The daemon owns the page's listener, so what the page holds of the daemon must be weak.
    fn page_asks(self: &Arc<Self>) -> Asks {
        let (alive, refusing, admitting) = (Arc::downgrade(self), Arc::downgrade(self), Arc::downgrade(self));
        let (written, compiled) = (Arc::downgrade(self), Arc::downgrade(self));
        let stopping = || Finding::error("", "the daemon is stopping");
        Asks {
            is_alive: Box::new(move || alive.upgrade().is_some_and(|daemon| daemon.answers(HEALTH_WITHIN))),
            too_large: Box::new(move || refusing.upgrade().map_or(0, |daemon| daemon.too_large())),
            password: Box::new(move || admitting.upgrade()?.page_password()),
            source_text: Box::new(move |name| match written.upgrade() {
                Some(daemon) => daemon.source_text(name),
                None => Err(stopping()),
            }),
            compile: Box::new(move |name, text| match compiled.upgrade() {
                Some(daemon) => daemon.try_source(name, text),
                None => Err(vec![stopping()]),
            }),
        }
    }

    fn page_password(&self) -> Option<Vec<u8>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let page = &current.config.status_page;
        page.password.as_ref().filter(|_| page.actions).map(|password| password.expose().to_vec())
    }

    fn too_large(&self) -> u64 {
        let refused = self.gate.counters().refused;
        refused.iter().filter(|(reason, _)| *reason == Reason::BodyTooLarge).map(|(_, count)| count).sum()
    }

    fn source_text(&self, name: &str) -> Result<SourceText, Finding> {
        let path = self.current.lock().unwrap_or_else(PoisonError::into_inner).config.path.clone();
        config::source_text(&path, name)
    }

    /// Compiled for a look at it; what runs stays.
    fn try_source(&self, name: &str, text: &str) -> Result<Arc<Source>, Vec<Finding>> {
        let config = self.current.lock().unwrap_or_else(PoisonError::into_inner).config.clone();
        config::read_source((name, text), &config, &compile)
    }
}
