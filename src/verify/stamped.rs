//! Signatures over a time and the body: Standard Webhooks, and headers that are a list like `t=…,v1=…`.

use super::signature::{SIGNATURES_MAX, check_time, is_signed, one_header};
use super::written::{decode_base64, decode_hex};
use super::{Evidence, Refusal, Scheme, Secret, Verifier, any, header_values};
use ring::{hmac, signature};
use std::time::Duration;
use subtle::Choice;

/// Before the base64 of a shared key, and of the platform's public key.
const SHARED_PREFIX: &[u8] = b"whsec_";
const PUBLIC_PREFIX: &[u8] = b"whpk_";

/// The names that the three headers of Standard Webhooks go by.
pub(super) struct Family {
    id: &'static str,
    time: &'static str,
    pub signature: &'static str,
}

pub(super) const FAMILIES: [Family; 2] = [
    Family { id: "webhook-id", time: "webhook-timestamp", signature: "webhook-signature" },
    Family { id: "svix-id", time: "svix-timestamp", signature: "svix-signature" },
];

/// Whether a key that says it is base64 is that.
pub fn is_standard_key(secret: &Secret) -> bool {
    let bytes = secret.expose();
    match bytes.strip_prefix(SHARED_PREFIX).or(bytes.strip_prefix(PUBLIC_PREFIX)) {
        Some(rest) => std::str::from_utf8(rest).ok().and_then(decode_base64).is_some(),
        None => true,
    }
}

impl Verifier {
    /// `webhook-signature: v1,<base64> v1,<base64> v1a,<base64>` over `id.time.body`.
    pub(super) fn check_standard(&self, given: &Evidence<'_>, tolerance: Duration) -> Result<(), Refusal> {
        let is_there = |family: &&Family| !header_values(given.headers, family.signature).is_empty();
        let family = FAMILIES.iter().find(is_there).ok_or_else(|| Refusal::missing(FAMILIES[0].signature))?;
        let id = one_header(given.headers, family.id)?;
        let time = one_header(given.headers, family.time)?;
        let written = one_header(given.headers, family.signature)?;
        let of_version = |version: &str| -> Vec<Vec<u8>> {
            let list = written.split_ascii_whitespace().filter_map(|one| one.split_once(','));
            let list = list.filter(|(named, _)| *named == version).take(SIGNATURES_MAX);
            list.filter_map(|(_, signature)| decode_base64(signature)).collect()
        };
        let (shared, public) = (of_version("v1"), of_version("v1a"));
        if shared.is_empty() && public.is_empty() {
            return Err(Refusal::of_header(family.signature, "it has no signature v1 or v1a"));
        }
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", given.body].concat();
        let matched =
            any(self.secrets.iter().map(|secret| match secret.expose().strip_prefix(PUBLIC_PREFIX) {
                Some(key) => is_signed_publicly(key, &public, &signed),
                None => is_signed(&standard_key(secret.expose()), &shared, &signed),
            }));
        if !bool::from(matched) {
            let detail = "the signature is of another secret or another body";
            return Err(Refusal::of_header(family.signature, detail));
        }
        check_time(family.time, time, given.now, tolerance)
    }

    /// `t=1763712000,v1=<hex>,v1=<hex>`.
    pub(super) fn check_stamped(&self, given: &Evidence<'_>) -> Result<(), Refusal> {
        let Scheme::Stamped { header, name, joint, tolerance } = &self.scheme else { return Ok(()) };
        let list = one_header(given.headers, header)?;
        let items: Vec<(&str, &str)> =
            list.split(',').filter_map(|item| item.trim().split_once('=')).collect();
        let time = match items.iter().filter(|(key, _)| *key == "t").collect::<Vec<_>>().as_slice() {
            [(_, time)] => *time,
            _ => return Err(Refusal::of_header(header, "it has no time t=")),
        };
        let signatures = items.iter().filter(|(key, _)| key == name).take(SIGNATURES_MAX);
        let signatures: Vec<Vec<u8>> = signatures.filter_map(|(_, text)| decode_hex(text)).collect();
        if signatures.is_empty() {
            return Err(Refusal::of_header(header, format!("it has no signature {name}= in hex")));
        }
        let signed = [time.as_bytes(), joint.as_bytes(), given.body].concat();
        let keys = self.secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
        if !bool::from(any(keys.map(|key| is_signed(&key, &signatures, &signed)))) {
            return Err(Refusal::of_header(header, "the signature is of another secret or another body"));
        }
        check_time(header, time, given.now, *tolerance)
    }
}

/// The base64 behind `whsec_`; a key without it is taken as base64 too, and as it is when it is none.
fn standard_key(secret: &[u8]) -> hmac::Key {
    let text = secret.strip_prefix(SHARED_PREFIX).unwrap_or(secret);
    let bytes = std::str::from_utf8(text).ok().and_then(decode_base64);
    hmac::Key::new(hmac::HMAC_SHA256, bytes.as_deref().unwrap_or(secret))
}

/// Ed25519; nothing secret is compared.
fn is_signed_publicly(key: &[u8], signatures: &[Vec<u8>], signed: &[u8]) -> Choice {
    let Some(key) = std::str::from_utf8(key).ok().and_then(decode_base64) else { return Choice::from(0) };
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
    Choice::from(u8::from(signatures.iter().any(|one| key.verify(signed, one).is_ok())))
}
