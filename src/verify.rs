//! Who may post: compares what a request brings with the source's secrets, in constant time.
//!
//! Owns the schemes, the type of a secret, the lists of addresses and the answers to handshakes; knows no
//! platform names beyond those of the schemes. Pure: no I/O, and the time is given. On the road it stands between
//! routing and decoding, so it sees the bytes exactly as they were received.
//!
//! **Invariants:** a secret is never printed, serialised or part of an error; every secret and every signature is
//! tried, so the time taken does not tell which of them matched; a signature that covers a time is good for
//! `tolerance` around it and no longer.
//!
//! | module | owns |
//! |---|---|
//! | `token` | secrets that are sent: header, bearer, basic, query, path |
//! | `signature` | HMAC over the body or a template, and the window around a signed time |
//! | `stamped` | signatures over id, time and body: Standard Webhooks, and lists like `t=…,v1=…` |
//! | `form` | Twilio's: over the URL and the form's fields |
//! | `handshake` | what platforms ask before they post |
//! | `address` | `203.0.113.0/24` |
//! | `written` | hexadecimal and base64 |

mod address;
mod form;
mod handshake;
mod signature;
mod stamped;
mod token;
mod written;

pub use address::AddressRange;
pub use handshake::{Handshake, HandshakeKeys};
pub use signature::{Hash, Signed, SignedError, TOLERANCE};
pub use stamped::is_standard_key;
pub use written::Encoding;

use crate::clock::Timestamp;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};

/// Bytes that nobody may see: `Debug` prints none of them, and there is no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the secret as it was read; the caller strips a file's last newline.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into().into_boxed_slice())
    }

    /// The bytes, for comparing and signing only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// An empty secret protects nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in characters, as an admin counts them.
    fn chars(&self) -> usize {
        String::from_utf8_lossy(&self.0).chars().count()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How a platform proves itself (interface.md §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Anybody may post.
    None,
    /// The secret stands in a header, after `prefix`. `Authorization` may say `Bearer ` before it.
    Header {
        /// Compared without case.
        header: String,
        /// What stands before the secret; empty for nothing.
        prefix: String,
    },
    /// RFC 6750: `Authorization: Bearer <secret>`.
    Bearer,
    /// RFC 7617: `Authorization: Basic base64(user:secret)`.
    Basic {
        /// Any user when absent.
        user: Option<String>,
    },
    /// The secret is a query parameter of the URL.
    Query {
        /// The parameter's name.
        name: String,
    },
    /// The secret is the part of the URL's path behind the source's name.
    Path,
    /// HMAC over the raw body, or over a template with it, keyed with the secret.
    Hmac {
        /// Header that carries the signature.
        header: String,
        /// What stands before the signature, e.g. `sha256=`.
        prefix: String,
        /// Which hash.
        hash: Hash,
        /// How the signature is written.
        encoding: Encoding,
        /// What is signed; the raw body when absent.
        signed: Option<Signed>,
    },
    /// <https://www.standardwebhooks.com>: `webhook-id`, `-timestamp` and `-signature`, or the same with `svix`.
    StandardWebhooks {
        /// How old or how early a signed time may be.
        tolerance: Duration,
    },
    /// One header like `t=1763712000,v1=<hex>`: HMAC-SHA256 over time, joint and body.
    Stamped {
        /// Header that carries the list.
        header: String,
        /// The name of a signature in the list; there may be several.
        name: String,
        /// What stands between time and body.
        joint: String,
        /// How old or how early a signed time may be.
        tolerance: Duration,
    },
    /// HMAC-SHA1 over the URL that the platform called and the sorted fields of the form it posts.
    SignedForm {
        /// Header that carries the signature.
        header: String,
        /// What the platform calls, with the path and without a query; [`UrlBase`] says how it is known.
        url: UrlBase,
    },
}

/// What a platform calls, as far as the configuration knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlBase {
    /// Scheme, host and maybe a path before `/in/…`: `server.public_url`.
    Server(String),
    /// All of the URL up to the query: `verify.url`.
    Whole(String),
}

/// What a request brings to prove itself.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Who sent it, if that is known.
    pub peer: Option<IpAddr>,
    /// When it arrived.
    pub now: Timestamp,
    /// Path and query as received.
    pub target: &'a str,
    /// The part of the path behind the source's name, percent-decoded; empty without.
    pub path_token: &'a str,
    /// As received.
    pub headers: &'a [(String, String)],
    /// Percent-decoded.
    pub query: &'a [(String, String)],
    /// The raw bytes.
    pub body: &'a [u8],
}

impl<'a> Evidence<'a> {
    /// A request with nothing but these, for tests and for trying a body out.
    pub fn of(
        headers: &'a [(String, String)],
        query: &'a [(String, String)],
        body: &'a [u8],
    ) -> Evidence<'a> {
        Evidence { peer: None, now: Timestamp(0), target: "", path_token: "", headers, query, body }
    }
}

/// Why a request was turned away, for admins: lengths and names, never the secret or what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `authorization did not match`.
    pub why: String,
    /// `got 36 characters, expected 32`; empty when there is nothing to add.
    pub detail: String,
    /// The address is not allowed: no secret would change that.
    pub is_address: bool,
}

impl Refusal {
    fn new(why: impl Into<String>, detail: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), detail: detail.into(), is_address: false }
    }

    /// Turned away for what it is, not for who sent it.
    pub fn because(why: impl Into<String>) -> Refusal {
        Refusal::new(why, "")
    }

    /// A header, or what is in it, did not match.
    fn of_header(header: &str, detail: impl Into<String>) -> Refusal {
        Refusal::new(format!("{} did not match", header.to_ascii_lowercase()), detail)
    }

    fn missing(header: &str) -> Refusal {
        Refusal::new(format!("header {} is missing", header.to_ascii_lowercase()), "")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            return f.write_str(&self.why);
        }
        write!(f, "{} ({})", self.why, self.detail)
    }
}

impl std::error::Error for Refusal {}

/// A scheme with the secrets of one source: one, or the old and the new during a rotation.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// How the request proves itself.
    pub scheme: Scheme,
    /// Each is as good as the other.
    pub secrets: Vec<Secret>,
    /// Who may post at all; everybody when empty.
    pub allow: Vec<AddressRange>,
    /// What the platform may ask before it posts.
    pub handshake: HandshakeKeys,
}

impl Verifier {
    /// A scheme with its secrets, open to every address and without a handshake.
    pub fn new(scheme: Scheme, secrets: Vec<Secret>) -> Verifier {
        Verifier { scheme, secrets, allow: Vec::new(), handshake: HandshakeKeys::default() }
    }

    /// Compares one request.
    pub fn check(&self, given: &Evidence<'_>) -> Result<(), Refusal> {
        self.check_address(given.peer)?;
        self.check_proof(given)
    }

    /// The same, whatever the address.
    pub fn check_proof(&self, given: &Evidence<'_>) -> Result<(), Refusal> {
        match &self.scheme {
            Scheme::None => Ok(()),
            Scheme::Header { header, prefix } => self.check_header(given.headers, header, prefix),
            Scheme::Bearer => self.check_bearer(given.headers),
            Scheme::Basic { user } => self.check_basic(given.headers, user.as_deref()),
            Scheme::Query { name } => self.check_query(given.query, name),
            Scheme::Path => self.check_path(given.path_token),
            Scheme::Hmac { .. } => self.check_hmac(given),
            Scheme::StandardWebhooks { tolerance } => self.check_standard(given, *tolerance),
            Scheme::Stamped { .. } => self.check_stamped(given),
            Scheme::SignedForm { header, url } => self.check_signed_form(given, header, url),
        }
    }

    /// Whether anyone may post.
    pub fn is_open(&self) -> bool {
        self.scheme == Scheme::None
    }

    /// Whether only some addresses may post, and none of this machine's own.
    pub fn is_remote_only(&self) -> bool {
        !self.allow.is_empty() && !self.allow.iter().any(AddressRange::is_loopback)
    }

    /// Whether the answer must be empty: who signs forms sends the text of an answer on to the customer.
    pub fn wants_empty_answer(&self) -> bool {
        matches!(self.scheme, Scheme::SignedForm { .. })
    }

    /// Whether the secret is the part of the path behind the source's name.
    pub fn is_in_path(&self) -> bool {
        self.scheme == Scheme::Path
    }

    /// The header that carries the secret or the signature.
    pub fn secret_header(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::None | Scheme::Query { .. } | Scheme::Path => None,
            Scheme::Header { header, .. }
            | Scheme::Hmac { header, .. }
            | Scheme::Stamped { header, .. }
            | Scheme::SignedForm { header, .. } => Some(header),
            Scheme::Bearer | Scheme::Basic { .. } => Some("authorization"),
            Scheme::StandardWebhooks { .. } => Some(stamped::FAMILIES[0].signature),
        }
    }

    /// Whether a header of this name carries the secret or the signature: it is not kept with the event.
    pub fn is_proof_header(&self, name: &str) -> bool {
        let is = |header: &str| name.eq_ignore_ascii_case(header);
        let is_standard = matches!(self.scheme, Scheme::StandardWebhooks { .. });
        self.secret_header().is_some_and(is)
            || is_standard && stamped::FAMILIES.iter().any(|family| is(family.signature))
    }

    /// The query parameter that carries the secret: it is not kept with the event.
    pub fn secret_query(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::Query { name } => Some(name),
            _ => None,
        }
    }

    fn check_address(&self, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let is_in = |peer: IpAddr| self.allow.iter().any(|range| range.contains(peer));
        if self.allow.is_empty() || peer.is_some_and(is_in) {
            return Ok(());
        }
        Err(Refusal { is_address: true, ..Refusal::new("address is not in allow", "") })
    }

    fn is_a_secret(&self, given: &[u8]) -> Choice {
        any(self.secrets.iter().map(|secret| secret.expose().ct_eq(given)))
    }
}

/// Looks at every choice, so that the time taken tells nothing.
fn any(choices: impl Iterator<Item = Choice>) -> Choice {
    choices.fold(Choice::from(0), |found, choice| found | choice)
}

fn values(pairs: &[(String, String)], is_wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    pairs.iter().filter(|(key, _)| is_wanted(key)).map(|(_, value)| value.trim()).collect()
}

fn header_values<'a>(headers: &'a [(String, String)], header: &str) -> Vec<&'a str> {
    values(headers, |key| key.eq_ignore_ascii_case(header))
}

/// The values without their prefix; a missing header and a missing prefix are told apart.
fn unprefixed<'a>(given: Vec<&'a str>, header: &str, prefix: &str) -> Result<Vec<&'a str>, Refusal> {
    if given.is_empty() {
        return Err(Refusal::missing(header));
    }
    let rest: Vec<&str> = given.iter().filter_map(|value| strip_prefix_any_case(value, prefix)).collect();
    if rest.is_empty() {
        return Err(Refusal::of_header(header, format!("it does not begin with \"{prefix}\"")));
    }
    Ok(rest.into_iter().map(str::trim).collect())
}

fn strip_prefix_any_case<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    // Header values arrive trimmed, so `Bearer ` may have lost its blank together with an empty secret.
    let head = value.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &value[prefix.len()..])
}

#[cfg(test)]
mod tests;
