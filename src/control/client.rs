//! The asking end of the control socket: ureq over a Unix stream.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Long enough for a verb on a full spool; a daemon that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A listing of a full spool.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The daemon did not do as asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("deskspool is not running (no answer on {})", .0.display())]
    NotRunning(PathBuf),
    /// We may not ask.
    #[error("permission denied on {}", .0.display())]
    Denied(PathBuf),
    /// The daemon said no, with its reason.
    #[error("{reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In words.
        reason: String,
    },
    /// The conversation broke.
    #[error("no usable answer on {}: {error}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: String,
    },
}

/// A running daemon, by its socket.
pub struct Daemon {
    path: PathBuf,
    agent: ureq::Agent,
}

impl Daemon {
    /// The daemon behind `path`; whether it is there shows when it is asked.
    pub fn at(path: &Path) -> Daemon {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .build();
        let connector = UnixConnector { path: path.to_path_buf() };
        Daemon { path: path.to_path_buf(), agent: ureq::Agent::with_parts(config, connector, NoResolver) }
    }

    /// `GET`.
    pub fn get(&self, target: &str) -> Result<String, AskError> {
        self.read(self.agent.get(address(target)).call())
    }

    /// `GET` of something that may take its time; none when it did not come before `patience` was over.
    pub fn wait(&self, target: &str, patience: Duration) -> Result<Option<String>, AskError> {
        let request = self.agent.get(address(target)).config().timeout_global(Some(patience)).build();
        match request.call() {
            Err(ureq::Error::Timeout(_)) => Ok(None),
            Err(ureq::Error::Io(error))
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            answer => self.read(answer).map(Some),
        }
    }

    /// `DELETE`.
    pub fn delete(&self, target: &str) -> Result<String, AskError> {
        self.read(self.agent.delete(address(target)).call())
    }

    /// `POST` of JSON.
    pub fn post(&self, target: &str, body: &str) -> Result<String, AskError> {
        self.read(self.agent.post(address(target)).send(body))
    }

    /// The same for what may take its time.
    pub fn post_patiently(&self, target: &str, body: &str, patience: Duration) -> Result<String, AskError> {
        let request = self.agent.post(address(target)).config().timeout_global(Some(patience)).build();
        self.read(request.send(body))
    }

    fn read(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, AskError> {
        let mut response = answer.map_err(|error| self.failed(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| self.failed(&error))?;
        if status == 200 {
            return Ok(body);
        }
        let reason = serde_json::from_str::<serde_json::Value>(&body).ok();
        let reason = reason.as_ref().and_then(|reason| reason["error"].as_str()).unwrap_or("no reason given");
        Err(AskError::Refused { status, reason: reason.to_owned() })
    }

    fn failed(&self, error: &ureq::Error) -> AskError {
        let path = self.path.clone();
        match error {
            ureq::Error::Io(io) if io.kind() == io::ErrorKind::PermissionDenied => AskError::Denied(path),
            ureq::Error::Io(io)
                if matches!(io.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                AskError::NotRunning(path)
            }
            other => AskError::Broken { path, error: other.to_string() },
        }
    }
}

/// The host is for the syntax only.
fn address(target: &str) -> String {
    format!("http://deskspool{target}")
}

#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // Not looked at, but ureq wants at least one.
        let mut addresses = self.empty();
        addresses.push(([127, 0, 0, 1], 0).into());
        Ok(addresses)
    }
}

#[derive(Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Connector<()> for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<UnixTransport>, ureq::Error> {
        let stream = UnixStream::connect(&self.path)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers }))
    }
}

#[derive(Debug)]
struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|after| *after))?;
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|after| *after))?;
        let input = self.buffers.input_append_buf();
        // A socket with a deadline is not read on after a signal; who interrupts is heard when the answer is there.
        let read = loop {
            match self.stream.read(input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }
}
