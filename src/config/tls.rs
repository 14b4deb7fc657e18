//! `[server] tls`: the certificate we show, read from its files whenever the configuration is.

use super::finding::Finding;
use super::secrets::{self, Secret};
use super::tables::ServerConfig;
use crate::clock::{Timestamp, spell};
use crate::gate::tls::{Chain, Identity};
use crate::source::table::SecretRef;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAY_SECONDS: u64 = 86_400;
/// A certificate that ends sooner should have been renewed: those who renew by themselves do it weeks before.
pub const RENEW_SECONDS: u64 = 14 * DAY_SECONDS;

/// `server.tls` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsTable {
    /// The certificate and those that vouch for it, in PEM.
    pub cert: Option<PathBuf>,
    /// Its key, in PEM.
    pub key: Option<SecretRef>,
}

/// A certificate, and its key where that can be seen.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// What platforms see.
    pub chain: Chain,
    /// Both; none when a check in a shell does not see the key.
    pub identity: Option<Arc<Identity>>,
}

/// What is doubtful about a certificate.
pub(super) struct Doubts<'a> {
    pub server: &'a ServerConfig,
    pub now: Timestamp,
}

/// Reads both files. The key is none when it may not be seen from here.
pub(super) fn read(path: &Path, reference: &SecretRef, key: Option<&Secret>) -> Result<TlsConfig, Finding> {
    let shown = path.display();
    let at_cert = |what: String| Finding::error("server.tls.cert", format!("{shown} {what}"));
    let pem = secrets::read(path).map_err(|error| {
        let finding = at_cert(format!("cannot be read: {}", secrets::plain(&error)));
        match error.kind() {
            ErrorKind::PermissionDenied => finding
                .help(format!("chgrp deskspool {shown}; chmod g+r {shown}; and the directories above it")),
            _ => finding,
        }
    })?;
    let chain = Chain::parse(&pem).map_err(|error| at_cert(error.to_string()))?;
    let identity = key.map(|key| chain.clone().with_key(key.expose())).transpose().map_err(|error| {
        let finding = Finding::error("server.tls.key", format!("{} {error}", secrets::described(reference)));
        match reference {
            SecretRef::Credential(_) => {
                finding.help("a credential is read when the service starts: systemctl restart deskspool")
            }
            _ => finding,
        }
    })?;
    Ok(TlsConfig { chain, identity: identity.map(Arc::new) })
}

impl Doubts<'_> {
    /// What somebody should look at.
    pub fn of(&self, chain: &Chain) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut warn = |key: &str, what: String| findings.push(Finding::warning(key, what));
        let now = self.now.unix_seconds();
        match chain.expires().checked_sub(now) {
            None => warn(
                "server.tls.cert",
                format!("expired {} ago, platforms refuse it", spell(now - chain.expires())),
            ),
            Some(left) if left < RENEW_SECONDS => {
                warn("server.tls.cert", format!("expires in {}, renew it", spell(left)));
            }
            Some(_) => {}
        }
        if chain.is_alone() {
            let what =
                "holds one certificate and none that vouches for it, which platforms need (fullchain.pem)";
            warn("server.tls.cert", what.to_owned());
        }
        let host = self.server.public_url.as_deref().and_then(host_of);
        if let Some(host) = host.filter(|host| !chain.is_for(host)) {
            warn("server.public_url", format!("the certificate in server.tls is not for {host}"));
        }
        findings
    }
}

/// Secrets that anybody on the way could read.
pub(super) fn plain_to_others(server: &ServerConfig) -> Option<Finding> {
    let is_behind_proxy = server.trusted_proxies.iter().any(|proxy| !proxy.is_loopback());
    let open = server.listen.iter().find(|address| !address.ip().is_loopback())?;
    let finding = || {
        let what = format!("{open} takes plain http from other machines: secrets can be read on the way");
        Finding::warning("server.listen", what).help(
            "tls = { cert = \"…\", key = { file = \"…\" } }, or a proxy that speaks TLS, in trusted_proxies",
        )
    };
    (server.tls.is_none() && !is_behind_proxy).then(finding)
}

fn host_of(url: &str) -> Option<&str> {
    let authority = url.split("://").nth(1)?.split('/').next()?;
    let host = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let host = host.map_or(authority, |(host, _)| host);
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &[u8] = include_bytes!("../gate/tests/tls/server.pem");
    const ENDS: u64 = 4_949_498_583;

    fn read_from(name: &str, key: Option<&[u8]>) -> Result<TlsConfig, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gate/tests/tls").join(name);
        let reference = SecretRef::Inline(String::new());
        let read = read(&path, &reference, key.map(Secret::new).as_ref());
        read.map_err(|finding| finding.to_string().replace(&path.display().to_string(), "CERT"))
    }

    #[test]
    fn a_certificate_and_its_key_are_read_together() {
        let key: &[u8] = include_bytes!("../gate/tests/tls/server.key");
        assert!(read_from("server.pem", Some(key)).unwrap().identity.is_some());
        assert!(read_from("server.pem", None).unwrap().identity.is_none(), "a check in a shell");
        let check = |name, expect| assert_eq!(read_from(name, Some(key)).unwrap_err(), expect);
        check(
            "rsa.pem",
            "error: server.tls.key: the secret is not the key of the first certificate in server.tls.cert",
        );
        let expect = "error: server.tls.cert: CERT holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        check("server.key", expect);
    }

    fn warnings(now: u64, public_url: &str) -> Vec<String> {
        let server = ServerConfig { public_url: Some(public_url.to_owned()), ..ServerConfig::default() };
        let doubts = Doubts { server: &server, now: Timestamp(now * 1000) };
        let chain = Chain::parse(&[PEM, include_bytes!("../gate/tests/tls/ca.pem")].concat()).unwrap();
        doubts.of(&chain).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_certificate_that_ends_is_told() {
        let check = |now, expect: &[&str]| assert_eq!(warnings(now, "https://hooks.test"), expect);
        check(ENDS - RENEW_SECONDS, &[]);
        check(ENDS - 86_400 * 3, &["warning: server.tls.cert: expires in 3d, renew it"]);
        check(ENDS, &["warning: server.tls.cert: expires in 0s, renew it"]);
        check(ENDS + 7200, &["warning: server.tls.cert: expired 2h ago, platforms refuse it"]);
    }

    #[test]
    fn a_certificate_is_for_the_public_url() {
        for url in ["https://hooks.test", "https://hooks.test:8443/x", "https://127.0.0.1/hooks"] {
            assert_eq!(warnings(0, url), [""; 0], "{url}");
        }
        let expect = "warning: server.public_url: the certificate in server.tls is not for hooks.acme.com";
        assert_eq!(warnings(0, "https://hooks.acme.com"), [expect]);
        assert_eq!(host_of("https://[::1]:8443/x"), Some("::1"));
        assert_eq!(host_of("https://[::1]"), Some("::1"));
    }

    #[test]
    fn plain_http_from_elsewhere_is_doubtful() {
        let check = |text: &str, expect: bool| {
            let server: ServerConfig = toml::from_str(text).unwrap();
            assert_eq!(plain_to_others(&server).is_some(), expect, "{text}");
        };
        check("", false);
        check("listen = \"0.0.0.0:8085\"", true);
        check("listen = [\"127.0.0.1:8085\", \"[::]:8085\"]\ntrusted_proxies = [\"127.0.0.1\"]", true);
        check("listen = \"10.0.0.2:8085\"\ntrusted_proxies = [\"10.0.0.1\"]", false);
        check("listen = \"[::]:8443\"\ntls = { cert = \"/a\" }", false);
    }
}
