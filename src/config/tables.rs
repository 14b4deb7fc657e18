//! The tables of the configuration as the rest of the program sees them: typed, complete, with defaults.

use super::secrets::Secret;
use super::units::{self, Listed, OneOrList};
use crate::source::table::SecretRef;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// `[freshdesk]`: whose tickets, and how fast.
#[derive(Clone, Debug)]
pub struct FreshdeskConfig {
    /// `https://acme.freshdesk.com`, without a slash at the end; plain http only to loopback.
    pub url: String,
    /// The key that writes tickets. A check in a shell has a stand-in here when systemd keeps the key.
    pub api_key: Secret,
    /// Calls per minute at most, whatever the account would allow.
    pub rate_per_minute: u32,
    /// For one call, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The custom text field (`cf_…`) that tells our tickets apart; without it a tag does.
    pub marker_field: Option<String>,
    /// PEM certificates trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port`; may contain a password, hence hidden.
    pub proxy: Option<Secret>,
}

/// `[freshdesk]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FreshdeskTable {
    #[serde(deserialize_with = "domain")]
    pub domain: Option<String>,
    pub api_key: Option<SecretRef>,
    #[serde(deserialize_with = "units::whole::<1, 100_000, _, _>")]
    pub rate_per_minute: u32,
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    #[serde(deserialize_with = "freshdesk_url")]
    pub url: Option<String>,
    #[serde(deserialize_with = "marker_field")]
    pub marker_field: Option<String>,
    #[serde(deserialize_with = "absolute_path_or_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "proxy")]
    pub proxy: Option<Secret>,
}

impl Default for FreshdeskTable {
    fn default() -> Self {
        FreshdeskTable {
            domain: None,
            api_key: None,
            rate_per_minute: 50,
            timeout: 20 * SECOND,
            url: None,
            marker_field: None,
            ca_file: None,
            proxy: None,
        }
    }
}

/// `[server]`: where platforms post, and how much they may.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Never empty.
    #[serde(deserialize_with = "listen")]
    pub listen: Vec<SocketAddr>,
    /// Bytes of one request's body.
    #[serde(rename = "body_max", deserialize_with = "units::size")]
    pub body_max_bytes: u64,
    /// Connections at a time.
    #[serde(deserialize_with = "units::whole::<1, 100_000, _, _>")]
    pub connections_max: usize,
    /// Connections at a time from one address.
    #[serde(deserialize_with = "units::whole::<1, 100_000, _, _>")]
    pub connections_per_ip_max: usize,
    /// Whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "addresses")]
    pub trusted_proxies: Vec<IpAddr>,
    /// What platforms call before `/in/…`, perhaps with a path of the proxy's; without a slash at the end.
    #[serde(deserialize_with = "public_url")]
    pub public_url: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8085))],
            body_max_bytes: 10 << 20,
            connections_max: 256,
            connections_per_ip_max: 64,
            trusted_proxies: Vec::new(),
            public_url: None,
        }
    }
}

/// `[spool]`: where events are kept, and how many.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// Absolute.
    #[serde(deserialize_with = "absolute_path")]
    pub dir: PathBuf,
    /// Past this many waiting envelopes, platforms get 503 and keep the event.
    #[serde(deserialize_with = "units::whole::<1, 100_000_000, _, _>")]
    pub envelopes_max: u64,
    /// The same for the bytes of waiting envelopes.
    #[serde(deserialize_with = "units::size")]
    pub bytes_max: u64,
    /// The same for the free space of the disk.
    #[serde(rename = "disk_free_min", deserialize_with = "units::size")]
    pub disk_free_min_bytes: u64,
    /// How long the history remembers what was delivered.
    #[serde(deserialize_with = "units::duration_or_zero")]
    pub keep_delivered: Duration,
    /// How long the dead and the dropped are kept.
    #[serde(deserialize_with = "units::duration_or_zero")]
    pub keep_dead: Duration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        SpoolConfig {
            dir: PathBuf::from("/var/lib/deskspool"),
            envelopes_max: 100_000,
            bytes_max: 2 << 30,
            disk_free_min_bytes: 512 << 20,
            keep_delivered: 7 * DAY,
            keep_dead: 90 * DAY,
        }
    }
}

/// `[delivery]`: how hard we try.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Calls at a time, each for another conversation.
    #[serde(deserialize_with = "units::whole::<1, 64, _, _>")]
    pub workers: usize,
    /// How the gaps between attempts grow.
    pub backoff: BackoffConfig,
    /// After this an envelope is dead, never deleted.
    #[serde(deserialize_with = "units::duration")]
    pub give_up_after: Duration,
    /// What becomes of the envelopes behind a dead one of the same conversation.
    pub after_dead: AfterDead,
    /// How long a stop waits for what is in flight.
    #[serde(deserialize_with = "units::duration")]
    pub stop_timeout: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            workers: 4,
            backoff: BackoffConfig::default(),
            give_up_after: 3 * DAY,
            after_dead: AfterDead::Pass,
            stop_timeout: MINUTE,
        }
    }
}

/// The gap after attempt `n` (from 0) is `gap = min(max, first * factor^n)`, of which the part `jitter`
/// is left to chance: the delay is uniform in `gap * (1 - jitter) ..= gap`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackoffConfig {
    /// After the first attempt.
    #[serde(deserialize_with = "units::duration")]
    pub first: Duration,
    /// 1.0 to 10.0.
    #[serde(deserialize_with = "factor")]
    pub factor: f64,
    /// No gap is longer; not shorter than `first`.
    #[serde(deserialize_with = "units::duration")]
    pub max: Duration,
    /// 0.0 (none) to 1.0 (full jitter, the default: all waiting clients spread over the whole gap).
    #[serde(deserialize_with = "jitter")]
    pub jitter: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        BackoffConfig { first: 5 * SECOND, factor: 2.0, max: 15 * MINUTE, jitter: 1.0 }
    }
}

/// What becomes of the envelopes behind a dead one of the same conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterDead {
    /// They are delivered as if it were not there.
    #[default]
    Pass,
    /// They wait until an admin retries or drops it.
    Wait,
}

fn domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let expecting =
        "a Freshdesk domain like \"acme\", \"acme.freshdesk.com\" or \"https://acme.freshdesk.com\"";
    units::text(deserializer, expecting, |text| {
        account_name(text).map(|name| Some(format!("https://{name}.freshdesk.com")))
    })
}

/// `acme`, of all the ways in which people write a Freshdesk domain.
pub fn account_name(text: &str) -> Option<String> {
    let name = text.strip_prefix("https://").unwrap_or(text);
    let name = name.strip_suffix('/').unwrap_or(name).to_ascii_lowercase();
    let name = name.strip_suffix(".freshdesk.com").unwrap_or(&name);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let good = !name.is_empty() && name.len() <= 63 && name.chars().all(fits) && !name.starts_with('-');
    good.then(|| name.to_owned())
}

fn freshdesk_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let expecting = "\"https://host\" or, to this machine only, \"http://127.0.0.1:8090\"";
    units::text(deserializer, expecting, |text| desk_address(text).map(Some))
}

/// Of a Freshdesk or its stand-in, without a slash at the end; plain http only to this machine.
pub fn desk_address(text: &str) -> Option<String> {
    let (plain, authority) = split_url(text)?;
    (!plain || is_loopback(authority)).then(|| text.trim_end_matches('/').to_owned())
}

fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    units::text(deserializer, "an address like \"https://hooks.acme.com\"", |text| {
        public_address(text).map(Some)
    })
}

/// What platforms call, without a slash at the end.
pub fn public_address(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%".contains(c);
    split_url(&format!("{scheme}://{authority}"))?;
    path.chars().all(fits).then(|| text.to_owned())
}

fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    units::text(deserializer, "a proxy like \"http://proxy:3128\"", |text| {
        let authority = text.strip_prefix("http://")?.trim_end_matches('/');
        let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        is_authority(host).then(|| Some(Secret::new(text)))
    })
}

/// Whether it is plain http, and the host with its port. No user, path, query or fragment.
fn split_url(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let plain = match scheme {
        "http" => true,
        "https" => false,
        _ => return None,
    };
    is_authority(authority).then_some((plain, authority))
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']' | '_');
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && host.chars().all(fits) && (host.starts_with('[') || !host.contains(':')) && port_fits
}

fn is_loopback(authority: &str) -> bool {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn marker_field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    units::text(deserializer, "the name of a custom field, like \"cf_external_ref\"", |text| {
        let name = text.strip_prefix("cf_")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (!name.is_empty() && name.chars().all(fits)).then(|| Some(text.to_owned()))
    })
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    units::text(deserializer, "an absolute path", |text| {
        Some(PathBuf::from(text)).filter(|path| path.is_absolute())
    })
}

fn absolute_path_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    absolute_path(deserializer).map(Some)
}

pub(super) struct Listen(SocketAddr);

impl Listen {
    pub(super) fn parse(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }
}

impl Listed for Listen {
    const FORMS: &'static str = "an address and a port, like \"127.0.0.1:8085\" or \"[::]:8443\"";
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        units::text(deserializer, Listen::FORMS, |text| Listen::parse(text).map(Listen))
    }
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let OneOrList(list) = OneOrList::<Listen>::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("expected at least one address"));
    }
    Ok(list.into_iter().map(|Listen(address)| address).collect())
}

struct Address(IpAddr);

impl Listed for Address {
    const FORMS: &'static str = "an address, like \"127.0.0.1\"";
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        units::text(deserializer, Address::FORMS, |text| text.parse().ok().map(Address))
    }
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let OneOrList(list) = OneOrList::<Address>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Address(address)| address).collect())
}

fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number_between(deserializer, 1.0, 10.0)
}

fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number_between(deserializer, 0.0, 1.0)
}

fn number_between<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: f64,
    most: f64,
) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!("expected a number from {least:.1} to {most:.1}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshdesk(text: &str) -> Option<FreshdeskTable> {
        toml::from_str(text).ok()
    }

    #[test]
    fn domains() {
        let check = |text: &str, expect: Option<&str>| {
            let table = freshdesk(&format!("domain = \"{text}\""));
            assert_eq!(table.and_then(|table| table.domain).as_deref(), expect, "{text}");
        };
        for good in
            ["acme", "acme.freshdesk.com", "https://acme.freshdesk.com", "https://ACME.freshdesk.com/"]
        {
            check(good, Some("https://acme.freshdesk.com"));
        }
        for wrong in
            ["", "http://acme.freshdesk.com", "acme.example.com", "a b", "https://", "-a", ".freshdesk.com"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn plain_http_only_to_this_machine() {
        let check = |text: &str, expect: Option<&str>| {
            let table = freshdesk(&format!("url = \"{text}\""));
            assert_eq!(table.and_then(|table| table.url).as_deref(), expect, "{text}");
        };
        check("https://desk.example.com/", Some("https://desk.example.com"));
        for good in ["http://127.0.0.1:8090", "http://localhost:8090", "http://[::1]:8090", "http://[::1]"] {
            check(good, Some(good));
        }
        for wrong in [
            "http://10.0.0.1:8090",
            "http://localhost.example.com",
            "ftp://a",
            "https://u:p@a",
            "https://a/b",
            "acme",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn public_urls_may_have_a_path() {
        let url = |text: &str| {
            let server = toml::from_str::<ServerConfig>(&format!("public_url = \"{text}\""));
            server.ok().and_then(|server| server.public_url)
        };
        for good in ["https://hooks.acme.com", "https://acme.com/hooks", "http://acme.com:8080"] {
            assert_eq!(url(good).as_deref(), Some(good));
            assert_eq!(url(&format!("{good}/")).as_deref(), Some(good));
        }
        for wrong in ["acme.com", "https://", "https://a/b?c", "https://a/b#c", "ftp://a", "https://u:p@a/b"]
        {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn proxies_and_marker_fields() {
        let proxies = |text: &str| freshdesk(&format!("proxy = \"{text}\"")).is_some();
        assert!(proxies("http://proxy:3128") && proxies("http://user:word@proxy:3128"));
        assert!(!proxies("proxy:3128") && !proxies("socks5://proxy:1") && !proxies("http://proxy:99999"));
        let fields = |text: &str| freshdesk(&format!("marker_field = \"{text}\"")).is_some();
        assert!(fields("cf_external_ref") && !fields("external_ref") && !fields("cf_"));
    }
}
