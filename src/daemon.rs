//! The wiring: from a configuration to running rooms, and back down in order.
//!
//! `serve`, the demo and the tests start the same daemon. It owns every room; it does none of their work.

mod alarm;
mod alert_ticket;
mod rest;
mod sources;
mod status_page;
mod watch;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{self, AfterDead, Config, Finding, Problem, Secret, SourceReport, Surroundings};
use crate::control::{Control, Rooms};
use crate::dispatch::{Dispatch, Orders, Planned, Running, mapping};
use crate::freshdesk::{ApiKey, Client, ClientConfig, ClientError};
use crate::gate::{self, BindError, Gate, GateConfig, GateError};
use crate::intake::{Intake, IntakeRooms, Workers};
use crate::pauses::{DELIVERY, Pauses};
use crate::source::table::{SourceTable, TicketTable};
use crate::source::{Credentials, Layer, Source, Sources};
use crate::spool::{Envelope, Limits, OpenError, Probe, Recovery, Spool};
use crate::status::listener::Listener;
use crate::status::snapshot::Daemon as Facts;
use crate::status::{Snapshot, Tally, snapshot};
use crate::systemd::sockets::Sockets;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use thiserror::Error;

pub use rest::AtRest;

use alarm::Alarm;
use watch::Watch;

/// Threads that read requests from tiny_http. They never wait for the disk.
const INTAKE_WORKERS: usize = 4;
/// A write may still be done by Freshdesk this long after our client has given up waiting for it.
const LATE_COMMIT: Duration = Duration::from_secs(5);
/// No wait that Freshdesk asks for is longer (`freshdesk/answer.rs` cuts it), with time to spare.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2 * 3600);
/// Bodies of all requests together that are being received.
const BODY_BUDGET_BYTES_MIN: u64 = 32 << 20;

/// A loaded configuration with its compiled sources.
pub type Loaded = config::Loaded<Arc<Source>>;

/// The daemon could not start. Each says whose fault it is.
#[derive(Debug, Error)]
pub enum StartError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// The Freshdesk client.
    #[error("freshdesk: {0}")]
    Freshdesk(#[from] ClientError),
    /// A listen address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The control socket.
    #[error("control socket {}: {error}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The private directory for the socket between gate and tiny_http, or a thread.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Reads a configuration and compiles its sources.
pub fn load(path: &Path, around: &Surroundings) -> Result<Loaded, Vec<Finding>> {
    config::load_with(path, around, &compile)
}

/// The compiler of sources, as the configuration wants it.
pub fn compile(
    name: &str,
    table: &SourceTable,
    defaults: &TicketTable,
    credentials: &Credentials,
) -> Result<(Arc<Source>, SourceReport), Vec<Problem>> {
    let source = Source::compile(name, table, defaults, credentials.clone());
    let source =
        source.map_err(|problems| problems.into_iter().map(|one| problem(name, one)).collect::<Vec<_>>())?;
    let report = SourceReport {
        preset: source.preset().map(str::to_owned),
        draft: source.certainty() == Some("draft"),
        templates: source.origins().len(),
        rules: usize::from(source.has_rules()),
        open: source.verifier().is_open(),
        insecure: table.verify.as_ref().and_then(|verify| verify.insecure).unwrap_or(false),
        remote_only: source.verifier().is_remote_only(),
    };
    Ok((Arc::new(source), report))
}

/// A compiler's problem in the configuration's terms: a key of the admin's files, if it is one.
fn problem(name: &str, problem: crate::source::Problem) -> Problem {
    let written_by_admin = matches!(problem.origin.layer, Layer::Admin | Layer::TicketDefaults);
    let is_default = problem.origin.layer == Layer::TicketDefaults;
    Problem {
        at: problem.origin.at.filter(|_| written_by_admin),
        key: if is_default { problem.key } else { format!("source.{name}.{}", problem.key) },
        what: problem.what,
        help: problem.help.into_iter().collect(),
        within: problem.within.map(|within| config::Excerpt {
            line: within.line,
            column: within.column,
            text: within.text,
        }),
    }
}

/// Where a daemon's sockets are.
#[derive(Debug)]
pub struct Places {
    /// The control socket.
    pub control: PathBuf,
    /// A directory of ours for the socket between gate and tiny_http; made with mode 0700.
    pub private: PathBuf,
    /// How to try the queue in another process before it is opened in this one.
    pub probe: Option<Probe>,
    /// Sockets that somebody else listens on for us; where there are any, the configuration's are ignored.
    pub passed: Sockets,
}

/// A running daemon.
pub struct Daemon {
    rooms: Arc<Rooms>,
    intake: Arc<Intake>,
    gate: Gate,
    workers: Workers,
    running: Running,
    control: Mutex<Option<Control>>,
    /// Started when all else runs; none when it is off, or its address cannot be had.
    page: OnceLock<Listener>,
    watch: OnceLock<Watch>,
    alarm: OnceLock<Alarm>,
    sources: Arc<RwLock<Arc<Sources>>>,
    /// What was started with: what cannot change while running stays as it says.
    started_with: Config,
    current: Mutex<Loaded>,
}

impl Daemon {
    /// Starts every room by `clock`. When tiny_http or the spool fails for good, `broken` is called.
    pub fn start(
        loaded: Loaded,
        places: &Places,
        clock: Arc<dyn Clock>,
        broken: fn(&str),
    ) -> Result<(Arc<Daemon>, Recovery), StartError> {
        let config = &loaded.config;
        let probe = places.probe.clone();
        let (spool, recovery) = Spool::open_probed(&config.spool.dir, limits(config), clock.clone(), probe)?;
        let spool = Arc::new(spool);
        spool.when_broken(broken);
        let listeners = listeners("server.listen", &config.server.listen, &places.passed.server)?;
        let tally = Arc::new(Tally::new(spool.clone(), clock.clone()));
        let sources = Arc::new(RwLock::new(Arc::new(by_name(&loaded))));
        let counted = tally.clone();
        let delivered = move |envelope: &Envelope, delivery: &crate::dispatch::Delivery| {
            counted.deliver(&envelope.source, delivery.ticket, delivery.age);
        };
        let pauses = Arc::new(Pauses::open(&config.spool.dir, clock.clone()));
        let orders = orders(config, sources.clone(), pauses.clone())?;
        let dispatch = Dispatch::new(spool.clone(), clock.clone(), orders, Box::new(delivered));
        let dispatch = Arc::new(dispatch.observed_by(watch::counting(tally.clone())));
        let compiled = sources_of(&sources).as_ref().clone();
        let intake = Arc::new(Intake::new(
            intake_rooms((&spool, &clock, &tally, &pauses)),
            compiled,
            body_bytes_max(config),
        ));
        let workers = intake.run(&places.private, INTAKE_WORKERS, broken)?;
        let gate = start_gate(config, listeners, &workers)?;
        dispatch.set_paused(pauses.of(DELIVERY).is_some());
        let running = dispatch.run(config.delivery.workers)?;
        let now = clock.monotonic();
        let passed = places.passed.server.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let facts = Facts { passed, ..facts(config, now, now) };
        let daemon = Arc::new_cyclic(|this: &std::sync::Weak<Daemon>| {
            let this = this.clone();
            let (labels, plans, askers) = (sources.clone(), sources.clone(), sources.clone());
            let rooms = Rooms {
                spool,
                dispatch,
                tally,
                pauses,
                captures: intake.captures(),
                clock,
                daemon: RwLock::new(facts),
                label: Box::new(move |envelope| mapping::label(&sources_of(&labels), envelope)),
                requester: Box::new(move |envelope| mapping::requester(&sources_of(&askers), envelope)),
                plan: Box::new(move |envelope, ticket| mapping::plan(&sources_of(&plans), envelope, ticket)),
                reload: Box::new(move || match this.upgrade() {
                    Some(daemon) => daemon.reload(),
                    None => Err("stopping".to_owned()),
                }),
            };
            Daemon {
                rooms: Arc::new(rooms),
                intake,
                gate,
                workers,
                running,
                control: Mutex::default(),
                page: OnceLock::new(),
                watch: OnceLock::new(),
                alarm: OnceLock::new(),
                sources,
                started_with: loaded.config.clone(),
                current: Mutex::new(loaded),
            }
        });
        daemon.follow_sources();
        daemon.start_control(places)?;
        daemon.start_beside_the_road(places)?;
        Ok((daemon, recovery))
    }

    /// The control socket: ours, or the one that systemd holds.
    fn start_control(&self, places: &Places) -> Result<(), StartError> {
        let control = match &places.passed.control {
            Some(passed) => passed.try_clone().and_then(|passed| Control::take(passed, self.rooms.clone())),
            None => Control::listen(&places.control, self.rooms.clone()),
        };
        let control = control.map_err(|error| StartError::Control { path: places.control.clone(), error })?;
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
        Ok(())
    }

    /// What looks on: the history, the alerts, the status page.
    fn start_beside_the_road(self: &Arc<Self>, places: &Places) -> io::Result<()> {
        let _ = self.watch.set(Watch::start(self.rooms.clone())?);
        let _ = self.alarm.set(Alarm::start(self)?);
        if let Some(page) = self.start_page(places) {
            let _ = self.page.set(page);
        }
        Ok(())
    }

    /// Where the status page answers; empty when it is off.
    pub fn page_addresses(&self) -> Vec<SocketAddr> {
        self.page.get().map(Listener::addresses).unwrap_or_default()
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gate.addresses()
    }

    /// What one screen shows.
    pub fn snapshot(&self) -> Result<Snapshot, crate::spool::QueueError> {
        let facts = self.rooms.daemon.read().unwrap_or_else(PoisonError::into_inner);
        snapshot(
            &facts,
            &*self.rooms.clock,
            (&self.rooms.spool, &self.rooms.dispatch, &self.rooms.tally, &self.rooms.pauses),
        )
    }

    /// Whether a request would get an answer, for the watchdog.
    pub fn answers(&self, within: Duration) -> bool {
        self.rooms.spool.is_sound() && self.gate.answers(within)
    }

    /// Reads the configuration again and applies it, all or nothing. What changed, or the findings.
    pub fn reload(&self) -> Result<String, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = load(&current.config.path, &Surroundings::of_process());
        let applied = loaded.map_err(|findings| lines(&findings)).and_then(|loaded| {
            let orders = orders(&loaded.config, self.sources.clone(), self.rooms.pauses.clone())
                .map_err(|error| format!("error: freshdesk: {error}"))?;
            Ok((loaded, orders))
        });
        let (loaded, orders) = applied.map_err(|findings| {
            let now = self.rooms.clock.now();
            let age = self.rooms.clock.monotonic().saturating_sub(self.facts().configured);
            let since =
                crate::clock::Timestamp(now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(0)));
            log::error!("configuration not applied findings={findings:?}");
            let refused = Some(self.rooms.clock.monotonic());
            self.rooms.daemon.write().unwrap_or_else(PoisonError::into_inner).refused = refused;
            format!("{findings}not applied; still running the configuration loaded at {since}")
        })?;
        let mut needs_restart = config::diff(&self.started_with, &loaded.config).needs_restart;
        if !self.facts().passed.is_empty() {
            needs_restart.retain(|key| !key.starts_with("server.listen "));
        }
        let text =
            diff_text(&config::Diff { needs_restart, ..config::diff(&current.config, &loaded.config) });
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_name(&loaded));
        self.intake.set_sources(by_name(&loaded), body_bytes_max(&loaded.config));
        self.gate.set_limits(gate_limits(&loaded.config));
        self.gate.set_identity(identity(&loaded.config));
        self.rooms.captures.remember(loaded.config.status_page.actions);
        if let Err(error) = self.rooms.spool.set_limits(limits(&loaded.config)) {
            log::error!(
                "heads behind dead letters not found error={:?} next=\"systemctl restart deskspool\"",
                error.to_string()
            );
        }
        self.rooms.dispatch.set_orders(orders);
        let started = self.facts().started;
        let passed = self.facts().passed.clone();
        let fresh = Facts { passed, ..facts(&loaded.config, started, self.rooms.clock.monotonic()) };
        *self.rooms.daemon.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.rooms.tally.mark("reloaded");
        *current = loaded;
        drop(current);
        self.follow_sources();
        log::info!("{}", text.replace('\n', "; "));
        Ok(text)
    }

    fn facts(&self) -> std::sync::RwLockReadGuard<'_, Facts> {
        self.rooms.daemon.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops in order: no new connections, answers what is in, lets attempts end, writes everything down.
    /// Whether all ended in time.
    pub fn stop(&self) -> bool {
        let timeout =
            self.current.lock().unwrap_or_else(PoisonError::into_inner).config.delivery.stop_timeout;
        let started = self.rooms.clock.monotonic();
        let left = || timeout.saturating_sub(self.rooms.clock.monotonic().saturating_sub(started));
        self.gate.stop_accepting();
        self.rooms.dispatch.stop();
        let cut_off = self.gate.drain(left());
        if cut_off > 0 {
            log::warn!("connections cut off count={cut_off} effect=\"their platforms send again\"");
        }
        self.rooms.spool.stop_taking();
        let ended = self.running.wait(left());
        if !ended {
            log::warn!(
                "an attempt outlasted stop_timeout effect=\"the next start looks in freshdesk before resending\""
            );
        }
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(page) = self.page.get() {
            page.stop();
        }
        if let Some(watch) = self.watch.get() {
            watch.stop();
        }
        if let Some(alarm) = self.alarm.get() {
            alarm.stop();
        }
        self.workers.stop();
        self.rooms.tally.store();
        ended
    }
}

/// Those that were passed, else those of the configuration's `key`.
fn listeners(
    key: &str,
    addresses: &[SocketAddr],
    passed: &[TcpListener],
) -> Result<Vec<TcpListener>, StartError> {
    if passed.is_empty() {
        let bound = addresses.iter().map(|address| gate::bind(key, &address.to_string()));
        return Ok(bound.collect::<Result<_, _>>()?);
    }
    Ok(passed.iter().map(TcpListener::try_clone).collect::<Result<_, _>>()?)
}

fn start_gate(config: &Config, listeners: Vec<TcpListener>, workers: &Workers) -> Result<Gate, GateError> {
    Gate::start(GateConfig {
        listeners,
        upstream: workers.socket().to_path_buf(),
        limits: gate_limits(config),
        trusted_proxies: config.server.trusted_proxies.clone(),
        identity: identity(config),
    })
}

fn identity(config: &Config) -> Option<Arc<gate::Identity>> {
    config.server.certificate.as_ref()?.identity.clone()
}

fn intake_rooms(
    (spool, clock, tally, pauses): (&Arc<Spool>, &Arc<dyn Clock>, &Arc<Tally>, &Arc<Pauses>),
) -> IntakeRooms {
    IntakeRooms { spool: spool.clone(), clock: clock.clone(), tally: tally.clone(), pauses: pauses.clone() }
}

fn sources_of(sources: &RwLock<Arc<Sources>>) -> Arc<Sources> {
    sources.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn by_name(loaded: &Loaded) -> Sources {
    loaded.sources.iter().map(|source| (source.name().to_owned(), source.clone())).collect()
}

fn facts(config: &Config, started: Duration, configured: Duration) -> Facts {
    let host = config.freshdesk.url.split("//").nth(1).unwrap_or_default();
    let account = host.strip_suffix(".freshdesk.com").unwrap_or(host).to_owned();
    let sources = config.sources.iter().map(|source| source.name.clone()).collect();
    Facts {
        started,
        configured,
        account,
        sources,
        refused: None,
        passed: Vec::new(),
        certificate_ends: config.server.certificate.as_ref().map(|read| read.chain.expires()),
        freshdesk_url: config.freshdesk.url.clone(),
        public_url: config.server.public_url.clone(),
        redact: config.privacy.redact.clone().into(),
        envelopes_max: config.spool.envelopes_max,
        bytes_max: config.spool.bytes_max,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        envelopes_max: config.spool.envelopes_max,
        bytes_max: config.spool.bytes_max,
        disk_free_min: config.spool.disk_free_min_bytes,
        keep_delivered: config.spool.keep_delivered,
        keep_dead: config.spool.keep_dead,
        wait_max: config.delivery.backoff.max.max(RETRY_AFTER_MAX).max(config.freshdesk.timeout * 2),
        pass_dead: config.delivery.after_dead == AfterDead::Pass,
    }
}

/// For intake, where a compressed body may become as long as a plain one.
fn body_bytes_max(config: &Config) -> usize {
    usize::try_from(config.server.body_max_bytes).unwrap_or(usize::MAX)
}

fn gate_limits(config: &Config) -> gate::Limits {
    gate::Limits {
        connections_max: config.server.connections_max,
        connections_per_ip_max: config.server.connections_per_ip_max,
        body_bytes_max: config.server.body_max_bytes,
        body_budget_bytes: BODY_BUDGET_BYTES_MIN.max(config.server.body_max_bytes.saturating_mul(2)),
        ..gate::Limits::default()
    }
}

/// Everything dispatch needs of a configuration. A new client: the key may be another.
pub fn orders(
    config: &Config,
    sources: Arc<RwLock<Arc<Sources>>>,
    pauses: Arc<Pauses>,
) -> Result<Orders, ClientError> {
    let delivery = &config.delivery;
    let plan = move |envelope: &Envelope, ticket: Option<u64>| -> Planned {
        if pauses.of(&envelope.source).is_some() {
            return Planned::Paused;
        }
        mapping::plan(&sources_of(&sources), envelope, ticket)
    };
    Ok(Orders {
        desk: Arc::new(client(config)?),
        plan: Box::new(plan),
        backoff: Backoff {
            first: delivery.backoff.first,
            factor: delivery.backoff.factor,
            max: delivery.backoff.max,
            jitter: delivery.backoff.jitter,
        },
        give_up_after: delivery.give_up_after,
        rate_per_minute: config.freshdesk.rate_per_minute,
        guard: config.freshdesk.timeout + LATE_COMMIT,
    })
}

/// The Freshdesk client of a configuration.
pub fn client(config: &Config) -> Result<Client, ClientError> {
    let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
    let freshdesk = &config.freshdesk;
    Client::new(ClientConfig {
        url: freshdesk.url.clone(),
        api_key: ApiKey::from(text(&freshdesk.api_key)),
        timeout: freshdesk.timeout,
        marker_field: freshdesk.marker_field.clone(),
        ca_file: freshdesk.ca_file.clone(),
        proxy: freshdesk.proxy.as_ref().map(text),
    })
}

/// All findings, one after the other.
pub fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn diff_text(diff: &config::Diff) -> String {
    let mut lines = Vec::new();
    if diff.changed.is_empty() {
        lines.push("reloaded: nothing changed".to_owned());
    } else {
        lines.push(format!("reloaded: {}", diff.changed.join("; ")));
    }
    if !diff.needs_restart.is_empty() {
        lines.push(format!("needs a restart: {}", diff.needs_restart.join("; ")));
    }
    lines.join("\n")
}
