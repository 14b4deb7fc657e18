//! TLS before HTTP: who we say we are ([`Chain`], [`Identity`]), and a stream that encrypts ([`Secured`]).
//!
//! **Invariants:** a call reads or writes the socket once at most, so that the caller's absolute deadline is looked at
//! between any two bytes of a slow client; a key is never shown.

mod der;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, InconsistentKeys, ServerConfig, ServerConnection};
use thiserror::Error;

use super::stream::Socket;

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE: u8 = 22;

/// Why a certificate or its key is of no use. Each text goes on after the name of its file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TlsError {
    /// Nothing that begins with the words of a certificate.
    #[error("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// One that is none.
    #[error("holds something between BEGIN CERTIFICATE and END CERTIFICATE that is no certificate")]
    BrokenCertificate,
    /// Nothing that begins with the words of a key.
    #[error("holds no private key in PEM (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// A key behind a passphrase.
    #[error("is encrypted; without a passphrase: openssl pkey -in KEY -out NEW")]
    Encrypted,
    /// The key of another certificate.
    #[error("is not the key of the first certificate in server.tls.cert")]
    Mismatch,
    /// A kind of key that nobody would accept.
    #[error("cannot be used: {0}")]
    Unusable(String),
}

/// A certificate with those that vouch for it, as in a `fullchain.pem`.
#[derive(Clone, Debug)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    expires: u64,
    is_self_signed: bool,
}

impl Chain {
    /// Reads it.
    pub fn parse(pem: &[u8]) -> Result<Chain, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|_| TlsError::BrokenCertificate)?;
        let first = certificates.first().ok_or(TlsError::NoCertificate)?;
        let facts = der::facts(first).ok_or(TlsError::BrokenCertificate)?;
        Ok(Chain { expires: facts.not_after, is_self_signed: facts.is_self_signed, certificates })
    }

    /// The last second of its validity, since 1970.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether those that call `host` accept it for that.
    pub fn is_for(&self, host: &str) -> bool {
        let name = ServerName::try_from(host.to_owned());
        let certificate = ParsedCertificate::try_from(&self.certificates[0]);
        name.is_ok_and(|name| {
            certificate.is_ok_and(|own| rustls::client::verify_server_name(&own, &name).is_ok())
        })
    }

    /// It stands alone although somebody else has signed it: platforms will not know whom to believe.
    pub fn is_alone(&self) -> bool {
        self.certificates.len() == 1 && !self.is_self_signed
    }

    /// Both halves together.
    pub fn with_key(self, pem: &[u8]) -> Result<Identity, TlsError> {
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => key,
            Err(_) if contains(pem, b"ENCRYPTED") => return Err(TlsError::Encrypted),
            Err(_) => return Err(TlsError::NoKey),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError::Unusable(error.to_string()))?;
        let config = builder.with_no_client_auth().with_single_cert(self.certificates.clone(), key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch,
            other => TlsError::Unusable(other.to_string()),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Identity { chain: self, config: Arc::new(config) })
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// A certificate with its key, ready for clients.
pub struct Identity {
    chain: Chain,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// The certificate.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// The same certificates; their keys are the same then, too.
impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.chain.certificates == other.chain.certificates
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("expires", &self.chain.expires).finish_non_exhaustive()
    }
}

/// What a step of the handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Both sides are sure of each other.
    Secure,
    /// The client does not speak TLS.
    Plain,
}

/// TLS over a client's socket.
#[derive(Debug)]
pub struct Secured {
    socket: Socket,
    session: Box<ServerConnection>,
    is_begun: bool,
}

impl Secured {
    pub(super) fn new(identity: &Identity, socket: Socket) -> Result<Secured, rustls::Error> {
        let session = Box::new(ServerConnection::new(Arc::clone(&identity.config))?);
        Ok(Secured { socket, session, is_begun: false })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// One step of the handshake; `WouldBlock` when another one is needed.
    pub(super) fn open(&mut self) -> io::Result<Opening> {
        if !self.is_begun {
            let mut first = [0];
            match self.socket.0.peek(&mut first)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ if first[0] != HANDSHAKE => return Ok(Opening::Plain),
                _ => self.is_begun = true,
            }
        }
        if self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        } else if self.session.is_handshaking() && self.receive()? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let is_open = !self.session.is_handshaking() && !self.session.wants_write();
        if is_open { Ok(Opening::Secure) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// Takes what the socket has; zero when the client is gone.
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut self.socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // The client learns why, if it still listens.
            let _ = self.session.write_tls(&mut self.socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    /// What is decrypted already. An end without a farewell is an end: HTTP says itself when something is missing.
    fn decrypted(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.session.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            result => result,
        }
    }

    /// Says that nothing more will come.
    pub(super) fn farewell(&mut self) {
        self.session.send_close_notify();
        if self.session.wants_write() {
            // Best effort: who does not read it sees the connection end.
            let _ = self.session.write_tls(&mut self.socket);
        }
    }
}

/// A connection that ends says so, unless that would wait for the client.
impl Drop for Secured {
    fn drop(&mut self) {
        if self.is_begun && self.socket.0.set_nonblocking(true).is_ok() {
            self.farewell();
        }
    }
}

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.decrypted(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
        self.receive()?;
        if self.session.wants_write() {
            // An answer to the protocol, such as new keys. What does not fit now goes with the next write.
            let _ = self.session.write_tls(&mut self.socket);
        }
        self.decrypted(buffer)
    }
}

impl Write for Secured {
    /// What was taken before goes first, so that no more than a buffer of it waits here.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        self.session.writer().write(bytes)
    }

    /// One write; `WouldBlock` when another one is needed.
    fn flush(&mut self) -> io::Result<()> {
        if self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        if self.session.wants_write() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

/// The client turned our certificate down, which is for the admin to mend.
pub(super) fn refuses_certificate(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let is_about_us = matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
    );
    is_about_us.then(|| format!("{alert:?}"))
}
