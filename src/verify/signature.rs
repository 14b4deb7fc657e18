//! Keyed hashes over the body, or over a template with the body and headers in it.

use super::{Evidence, Refusal, Scheme, Verifier, any, header_values, unprefixed};
use crate::clock::Timestamp;
use ring::hmac;
use std::fmt;
use std::time::Duration;
use subtle::Choice;
use thiserror::Error;

/// How old or how early a signed time may be where nobody says otherwise; what Stripe's and Standard Webhooks'
/// libraries allow.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Signatures of one request that are compared; a rotation needs two.
pub(super) const SIGNATURES_MAX: usize = 16;

/// The hash of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Still signed with by some; as a keyed hash it is not broken.
    Sha1,
    /// What most sign with.
    Sha256,
}

impl Hash {
    pub(super) fn algorithm(self) -> hmac::Algorithm {
        match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }
}

/// One piece of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Header(String),
    Body,
}

/// What is signed: text with `{body}` and `{Header-Name}` in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    pieces: Vec<Piece>,
    /// The header that says when it was signed, and how far from now that may be.
    time: Option<(String, Duration)>,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("pieces", &self.pieces.len()).field("time", &self.time).finish()
    }
}

/// What is wrong with the text of a [`Signed`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SignedError {
    /// Somebody else's body would do as well.
    #[error("does not sign the {{body}}")]
    NoBody,
    /// A brace that opens or closes nothing.
    #[error("has a brace that is not closed")]
    Brace,
    /// No name of a header.
    #[error("has braces around what is no name of a header")]
    NotAHeader,
    /// A window, but no time.
    #[error("names no header with a time, so a tolerance has nothing to measure")]
    NoTime,
    /// Several headers, and none called timestamp.
    #[error("names several headers, and none of them is called timestamp, time or date")]
    WhichTime,
}

impl Signed {
    /// Reads `{X-Timestamp}.{body}`. A signed header that can be the time has a window, [`TOLERANCE`] where
    /// `tolerance` says nothing.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, tolerance: Option<Duration>) -> Result<Signed, SignedError> {
        let pieces = pieces(text)?;
        if !pieces.contains(&Piece::Body) {
            return Err(SignedError::NoBody);
        }
        let headers: Vec<&String> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Header(name) => Some(name),
                _ => None,
            })
            .collect();
        let named = |word: &str| headers.iter().find(|name| name.to_ascii_lowercase().contains(word));
        let time = named("timestamp").or_else(|| named("time")).or_else(|| named("date"));
        let time = match (time, tolerance, headers.as_slice()) {
            (Some(header), _, _) => Some((*header).clone()),
            (None, Some(_), []) => return Err(SignedError::NoTime),
            (None, Some(_), [header]) => Some((*header).clone()),
            (None, Some(_), _) => return Err(SignedError::WhichTime),
            (None, None, _) => None,
        };
        let time = time.map(|header| (header, tolerance.unwrap_or(TOLERANCE)));
        Ok(Signed { pieces, time })
    }

    /// The bytes that were signed; an error names the header that is missing.
    fn bytes(&self, given: &Evidence<'_>) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::with_capacity(given.body.len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Piece::Body => bytes.extend_from_slice(given.body),
                Piece::Header(name) => bytes.extend_from_slice(one_header(given.headers, name)?.as_bytes()),
            }
        }
        Ok(bytes)
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, SignedError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or(SignedError::Brace)?;
        if before.contains('}') || name.contains('{') {
            return Err(SignedError::Brace);
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(SignedError::NotAHeader);
        }
        pieces.push(if name == "body" { Piece::Body } else { Piece::Header(name.to_owned()) });
        rest = behind;
    }
    if rest.contains('}') {
        return Err(SignedError::Brace);
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

impl Verifier {
    pub(super) fn check_hmac(&self, given: &Evidence<'_>) -> Result<(), Refusal> {
        let Scheme::Hmac { header, prefix, hash, encoding, signed } = &self.scheme else { return Ok(()) };
        let written = unprefixed(header_values(given.headers, header), header, prefix)?;
        let mut signatures: Vec<Vec<u8>> = written.iter().filter_map(|text| encoding.decode(text)).collect();
        signatures.truncate(SIGNATURES_MAX);
        if signatures.is_empty() {
            return Err(Refusal::of_header(header, format!("it is not {}", encoding.name())));
        }
        let template = signed.as_ref().map(|signed| signed.bytes(given)).transpose()?;
        let bytes = template.as_deref().unwrap_or(given.body);
        let keys = self.secrets.iter().map(|secret| hmac::Key::new(hash.algorithm(), secret.expose()));
        if !bool::from(any(keys.map(|key| is_signed(&key, &signatures, bytes)))) {
            let detail = match signatures[0].len() {
                length if length == hash.bytes() => {
                    "the signature is of another secret or another body".to_owned()
                }
                other => format!("got {other} bytes, expected {}", hash.bytes()),
            };
            return Err(Refusal::of_header(header, detail));
        }
        match signed.as_ref().and_then(|signed| signed.time.as_ref()) {
            Some((name, tolerance)) => {
                check_time(name, one_header(given.headers, name)?, given.now, *tolerance)
            }
            None => Ok(()),
        }
    }
}

/// Whether one of the signatures is the key's over `bytes`; all of them are compared.
pub(super) fn is_signed(key: &hmac::Key, signatures: &[Vec<u8>], bytes: &[u8]) -> Choice {
    let tag = hmac::sign(key, bytes);
    any(signatures.iter().map(|signature| subtle::ConstantTimeEq::ct_eq(tag.as_ref(), signature.as_slice())))
}

/// The value of a header that was signed; two of them have two readings.
pub(super) fn one_header<'a>(headers: &'a [(String, String)], name: &str) -> Result<&'a str, Refusal> {
    match header_values(headers, name).as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal::missing(name)),
        _ => Err(Refusal::of_header(name, "it comes more than once")),
    }
}

/// Whether a time in seconds (or milliseconds, of 13 digits) is near enough. To be asked after the signature:
/// only the platform's own clock is worth telling about.
pub(super) fn check_time(what: &str, text: &str, now: Timestamp, tolerance: Duration) -> Result<(), Refusal> {
    let digits = text.trim();
    let is_plain =
        !digits.is_empty() && digits.len() <= 13 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| is_plain);
    let Some(number) = number else {
        return Err(Refusal::of_header(what, "the time is not a number of seconds"));
    };
    let signed = Timestamp(if digits.len() > 11 { number } else { number.saturating_mul(1000) });
    let (age, lead) = (now.since(signed), signed.since(now));
    if age.max(lead) <= tolerance {
        return Ok(());
    }
    let word = if age > lead { "old" } else { "in the future" };
    let detail = format!(
        "signed {} s {word}, at most {} s are allowed; is this machine's clock right?",
        age.max(lead).as_secs(),
        tolerance.as_secs()
    );
    Err(Refusal::new("the signed time is outside the window", detail))
}
