//! Whom we believe to be Freshdesk: the system's certificate authorities and the admin's own.
//!
//! **Invariant:** the files are read once, at start, and only when TLS is spoken at all; agents that are
//! made later share what was read.

use super::client::ClientError;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The trust for https: the system's authorities, and those in `ca_file` beside them.
pub(super) fn configured(ca_file: Option<&Path>) -> Result<TlsConfig, ClientError> {
    let system = rustls_native_certs::load_native_certs();
    let mut trusted: Vec<Certificate<'static>> =
        system.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if let Some(path) = ca_file {
        trusted.extend(read_ca_file(path)?);
    }
    if trusted.is_empty() {
        return Err(ClientError::NoCertificates);
    }
    Ok(with_roots(trusted))
}

/// For a sandbox on plain http: trusts nobody, loads nothing.
pub(super) fn unused() -> TlsConfig {
    with_roots(Vec::new())
}

fn with_roots(trusted: Vec<Certificate<'static>>) -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(trusted)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

fn read_ca_file(path: &Path) -> Result<Vec<Certificate<'static>>, ClientError> {
    let pem = std::fs::read(path)
        .map_err(|source| ClientError::CaFileUnreadable { path: path.to_owned(), source })?;
    let certificates: Result<Vec<_>, _> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ClientError::CaFileNotPem { path: path.to_owned() }),
    }
}

/// What went wrong in a handshake, for admins.
pub(super) fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as Wrong;
    match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            Wrong::UnknownIssuer => "TLS: certificate of unknown issuer, set freshdesk.ca_file".to_owned(),
            Wrong::Expired | Wrong::ExpiredContext { .. } => {
                "TLS: certificate has expired, or this machine's clock is wrong".to_owned()
            }
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                "TLS: certificate is not valid yet, or this machine's clock is wrong".to_owned()
            }
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                "TLS: certificate is for another host".to_owned()
            }
            _ => "TLS: certificate is not valid".to_owned(),
        },
        rustls::Error::InvalidMessage(_) => "TLS: the other side does not speak TLS".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("TLS: the other side refused ({alert:?})"),
        _ => "TLS: handshake failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_cannot_serve_says_why() {
        let check = |content: Option<&str>, expect: &str| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("ca.pem");
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = read_ca_file(&path).unwrap_err().to_string();
            assert_eq!(error.replace(&*path.to_string_lossy(), "ca.pem"), expect);
        };
        check(None, "freshdesk.ca_file ca.pem: No such file or directory (os error 2)");
        check(Some("hello"), "freshdesk.ca_file ca.pem: holds no PEM certificate");
        check(
            Some("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"),
            "freshdesk.ca_file ca.pem: holds no PEM certificate",
        );
    }
}
