//! The client: one account, one agent, any number of threads at a time through `&self`.
//!
//! **Invariants:** every request goes to the account's own host with `Authorization`, and to no other,
//! because redirects and links in answers are never followed. Every phase has a deadline. Nothing is
//! retried here: one call is one request that writes; beside it there may be questions (is the ticket closed, which
//! contact is it), and writes that can be done twice. What was surely refused for its files goes once more without.

use super::address::{self, Base};
use super::answer::{Answer, Subject};
use super::failure::Failure;
use super::outcome::{Calls, Cause, Looked, Outcome, Rate};
use super::write::{Attachment, ContactFields, NoteFields, Requester, TicketFields, UpdateFields};
use super::{Desk, More, form, look, request, tap, tls};
use crate::clock::Timestamp;
use base64::Engine;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, RwLock};
use std::time::Duration;
use ureq::http::{HeaderValue, Response, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, Body};

/// Most of an answer that is read. A page of a hundred tickets or notes fits many times.
const ANSWER_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Most of an answer's head; a larger one is an error.
const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Memory on a router is short, but ureq takes a full read buffer for the end of the connection.
const READ_BUFFER_BYTES: usize = 2 * HEAD_MAX_BYTES;
/// Requests are small, and longer ones take several writes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// How long a connection may lie unused before a call opens a new one instead.
const IDLE_MAX: Duration = Duration::from_secs(15);

thread_local! {
    /// Calls of this thread since `Desk::spent` was last asked: an attempt is made by one thread.
    static SPENT: Cell<Calls> = const { Cell::new(Calls { all: 0, ticket_lists: 0, contact_lists: 0 }) };
    /// What its looks may spend without asking, and whom they ask then.
    static GRANT: RefCell<Option<(Calls, More)>> = const { RefCell::new(None) };
}

/// The key of an agent. Never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl From<String> for ApiKey {
    /// Takes the key without the blanks and line end that files tend to have around it.
    fn from(key: String) -> ApiKey {
        ApiKey(key.trim().to_owned())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// What a client needs to know: the `[freshdesk]` table.
#[derive(Clone)]
pub struct ClientConfig {
    /// `https://acme.freshdesk.com`, or a sandbox on loopback.
    pub url: String,
    /// Key of the agent deskspool works as.
    pub api_key: ApiKey,
    /// For one call as a whole; connecting gets half of it.
    pub timeout: Duration,
    /// Custom text field that holds the marker; without it a tag does.
    pub marker_field: Option<String>,
    /// PEM file of authorities trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `http://proxy:3128`; without it `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are obeyed; empty: none.
    pub proxy: Option<String>,
}

impl fmt::Debug for ClientConfig {
    /// Without the key, and without the proxy, which may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .field("marker_field", &self.marker_field)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// Why a client cannot be made. All of them are mended in the configuration or on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not usable.
    #[error("freshdesk.url: {problem}")]
    Url {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key is blank.
    #[error("freshdesk.api_key is empty")]
    EmptyKey,
    /// The file of further authorities cannot be read.
    #[error("freshdesk.ca_file {}: {source}", path.display())]
    CaFileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file of further authorities is something else.
    #[error("freshdesk.ca_file {}: holds no PEM certificate", path.display())]
    CaFileNotPem {
        /// The file.
        path: PathBuf,
    },
    /// This machine trusts nobody, so https cannot work.
    #[error(
        "no certificate authorities found on this machine: install ca-certificates or set freshdesk.ca_file"
    )]
    NoCertificates,
    /// The proxy is not usable.
    #[error("{origin}: {problem}")]
    Proxy {
        /// Setting or environment variable it comes from.
        origin: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A Freshdesk account over HTTP.
pub struct Client {
    base: Base,
    authorization: HeaderValue,
    pub(super) marker_field: Option<String>,
    settings: ureq::config::Config,
    agent: RwLock<Agent>,
    rate: Mutex<Rate>,
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads certificates and understands addresses; opens no connection.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        Client::with_environment(config, |name| std::env::var(name).ok())
    }

    fn with_environment(
        config: ClientConfig,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Client, ClientError> {
        let base = Base::parse(&config.url)?;
        if config.api_key.0.is_empty() {
            return Err(ClientError::EmptyKey);
        }
        let proxy = address::choose_proxy(config.proxy.as_deref(), &base, environment)?;
        let tls_to_proxy = proxy.as_ref().is_some_and(|p| p.protocol() == ureq::ProxyProtocol::Https);
        let tls = match base.https || tls_to_proxy {
            true => tls::configured(config.ca_file.as_deref())?,
            false => tls::unused(),
        };
        let settings = settings(config.timeout, proxy, tls);
        let agent = RwLock::new(new_agent(&settings));
        let authorization = basic_authorization(&config.api_key);
        let (marker_field, rate) = (config.marker_field, Mutex::default());
        let answers = Mutex::default();
        Ok(Client { base, authorization, marker_field, settings, agent, rate, answers })
    }

    /// Asks `path`, which begins with `/api/v2/`.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        let call = |agent: Agent| {
            agent.get(self.address_of(path)).header(header::AUTHORIZATION, &self.authorization).call()
        };
        self.exchange("GET", path, call)
    }

    /// Sends `body` to `path`, which begins with `/api/v2/`.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let call = |agent: Agent| {
            agent
                .post(self.address_of(path))
                .header(header::AUTHORIZATION, &self.authorization)
                .content_type("application/json")
                .send(body.to_string())
        };
        self.exchange("POST", path, call)
    }

    /// Changes `path`, which begins with `/api/v2/`.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let call = |agent: Agent| {
            agent
                .put(self.address_of(path))
                .header(header::AUTHORIZATION, &self.authorization)
                .content_type("application/json")
                .send(body.to_string())
        };
        self.exchange("PUT", path, call)
    }

    fn post_form(&self, path: &str, form: &form::Form) -> Result<Answer, Failure> {
        let call = |agent: Agent| {
            agent
                .post(self.address_of(path))
                .header(header::AUTHORIZATION, &self.authorization)
                .content_type(&form.content_type)
                .send(form.body.as_slice())
        };
        self.exchange("POST", path, call)
    }

    /// Sends `body` with files; without them, and with a line in its member `text` that says so, where they are
    /// too large.
    pub(super) fn post_with_files(
        &self,
        subject: Subject,
        path: &str,
        mut body: Value,
        (text, files): (&str, &[Attachment]),
    ) -> Outcome {
        if files.is_empty() {
            return self.outcome_of(subject, self.post(path, &body));
        }
        if let Some(fields) = body.as_object().filter(|_| !form::are_too_large(files)) {
            let answered = self.post_form(path, &form::encode(fields, files));
            if !answered.as_ref().is_ok_and(Answer::refuses_files) {
                return self.outcome_of(subject, answered);
            }
        }
        let said = body[text].as_str().unwrap_or_default();
        body[text] = Value::from(format!("{said}{}", form::left_out(files)));
        self.outcome_of(subject, self.post(path, &body))
    }

    fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.base.url)
    }

    /// What a call counts for.
    fn weight(method: &str, path: &str) -> Calls {
        let path = path.split('?').next().unwrap_or_default();
        let lists = |list: &str| usize::from(method == "GET" && path == list);
        let (ticket_lists, contact_lists) = (lists("/api/v2/tickets"), lists("/api/v2/contacts"));
        Calls { all: 1, ticket_lists, contact_lists }
    }

    /// A look's `get`: a call beyond what was granted is asked for first. How long to wait when it is not to be had.
    pub(super) fn get_if_granted(&self, path: &str) -> Result<Result<Answer, Failure>, Duration> {
        let call = Client::weight("GET", path);
        GRANT.with_borrow(|grant| match grant {
            Some((calls, more)) if !SPENT.get().and(call).fits(*calls) => more(call),
            _ => Ok(()),
        })?;
        Ok(self.get(path))
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        call: impl FnOnce(Agent) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer, Failure> {
        let agent = self.agent.read().expect("nothing panics while it holds the agent").clone();
        let (result, bytes) = tap::counting(|| call(agent));
        // The query names the requester, so only the path is logged.
        let path = path.split('?').next().unwrap_or_default();
        SPENT.set(SPENT.get().and(Client::weight(method, path)));
        match result {
            Ok(response) => {
                let answer = Answer::read(response, ANSWER_MAX_BYTES);
                log::debug!("freshdesk answered {method} {path} {}", answer.log_line());
                self.note_rate(answer.rate);
                self.note_answer(answer.status);
                Ok(answer)
            }
            Err(error) => {
                let failure = Failure::of(&error, bytes);
                self.note_answer(0);
                log::debug!("freshdesk {method} {path} sent={bytes} failed: {}", failure.reason);
                Err(failure)
            }
        }
    }

    /// Edge servers answer without these headers: then what was known before still holds.
    fn note_rate(&self, heard: Rate) {
        let mut rate = self.rate.lock().expect("nothing panics while it holds the rate");
        rate.total = heard.total.or(rate.total);
        rate.remaining = heard.remaining.or(rate.remaining);
    }

    fn note_answer(&self, status: u16) {
        let mut answers = self.answers.lock().expect("nothing panics while it holds the answers");
        *answers.entry(status).or_default() += 1;
    }

    pub(super) fn outcome_of(&self, subject: Subject, result: Result<Answer, Failure>) -> Outcome {
        match result {
            Ok(answer) => answer.outcome(subject),
            Err(Failure { sent: true, reason }) => Outcome::Unknown { reason },
            Err(Failure { sent: false, reason }) => {
                Outcome::Deferred { not_before: None, cause: Cause::Unreachable, reason }
            }
        }
    }
}

impl Desk for Client {
    fn create_ticket(&self, fields: &TicketFields, marker: &str) -> Outcome {
        let Some(body) = request::ticket(fields, marker, self.marker_field.as_deref()) else {
            let reason = "mapping: the requester has no email, external_id or phone".to_owned();
            return Outcome::Rejected { reason };
        };
        let files = ("description", fields.attachments.as_slice());
        self.post_with_files(Subject::NewTicket, "/api/v2/tickets", body, files)
    }

    fn add_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        self.follow_up(ticket, note, marker)
    }

    fn update_ticket(&self, ticket: u64, update: &UpdateFields) -> Outcome {
        self.update(ticket, update)
    }

    fn put_contact(&self, contact: &ContactFields) -> Result<(), Outcome> {
        self.find_and_fill(contact)
    }

    fn find_follow_up(&self, ticket: u64, note: &NoteFields, marker: &str, since: Timestamp) -> Looked {
        self.look_for_follow_up(ticket, note, (marker, since))
    }

    fn find_update(&self, ticket: u64, update: &UpdateFields) -> Looked {
        self.look_for_update(ticket, update)
    }

    fn find_ticket(&self, requester: &Requester, marker: &str, since: Timestamp) -> Looked {
        look::for_ticket(self, requester, marker, since)
    }

    fn find_note(&self, ticket: u64, marker: &str) -> Looked {
        look::for_note(self, ticket, marker)
    }

    fn probe(&self) -> Result<String, Outcome> {
        let unanswered = |reason| Outcome::Deferred { not_before: None, cause: Cause::Unreachable, reason };
        let answer = self.get("/api/v2/agents/me").map_err(|failure| unanswered(failure.reason))?;
        answer.agent_name().map_err(|(not_before, cause, reason)| Outcome::Deferred {
            not_before,
            cause,
            reason,
        })
    }

    fn rate(&self) -> Rate {
        *self.rate.lock().expect("nothing panics while it holds the rate")
    }

    fn answers(&self) -> Vec<(u16, u64)> {
        let answers = self.answers.lock().expect("nothing panics while it holds the answers");
        answers.iter().map(|(status, count)| (*status, *count)).collect()
    }

    fn grant(&self, calls: Calls, more: More) {
        GRANT.set(Some((calls, more)));
    }

    fn spent(&self) -> Option<Calls> {
        GRANT.set(None);
        Some(SPENT.take())
    }

    /// ureq closes idle connections only when the next call comes along, so the whole agent is exchanged.
    fn rest(&self) {
        *self.agent.write().expect("nothing panics while it holds the agent") = new_agent(&self.settings);
    }
}

fn basic_authorization(key: &ApiKey) -> HeaderValue {
    let credentials = base64::prelude::BASE64_STANDARD.encode(format!("{}:X", key.0));
    let mut value =
        HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is made of header characters");
    value.set_sensitive(true);
    value
}

pub(super) fn settings(
    timeout: Duration,
    proxy: Option<ureq::Proxy>,
    tls: ureq::tls::TlsConfig,
) -> ureq::config::Config {
    Agent::config_builder()
        .http_status_as_error(false)
        // A redirected POST would become a GET that looks like success.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .tls_config(tls)
        .user_agent(concat!("deskspool/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .max_response_header_size(HEAD_MAX_BYTES)
        .input_buffer_size(READ_BUFFER_BYTES)
        .output_buffer_size(WRITE_BUFFER_BYTES)
        .max_idle_connections(3)
        .max_idle_connections_per_host(3)
        .max_idle_age(IDLE_MAX)
        .timeout_global(Some(timeout))
        .timeout_resolve(Some(timeout / 2))
        .timeout_connect(Some(timeout / 2))
        .timeout_send_request(Some(timeout))
        .timeout_send_body(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_recv_body(Some(timeout))
        .build()
}

fn new_agent(settings: &ureq::config::Config) -> Agent {
    let tap = tap::Tap { proxied: settings.proxy().is_some() };
    Agent::with_parts(settings.clone(), DefaultConnector::default().chain(tap), DefaultResolver::default())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
