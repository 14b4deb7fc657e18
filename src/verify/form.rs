//! Twilio's signature: over the URL that was called and the fields of the form.

use super::signature::{SIGNATURES_MAX, is_signed};
use super::written::{decode_base64, decode_hex};
use super::{Evidence, Refusal, UrlBase, Verifier, any, header_values};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

/// The parameter in which the platform tells the hash of a body that is no form.
const BODY_HASH: &str = "bodySHA256";

/// Fields of a form that are sorted at most.
const FIELDS_MAX: usize = 1000;

impl Verifier {
    pub(super) fn check_signed_form(
        &self,
        given: &Evidence<'_>,
        header: &str,
        url: &UrlBase,
    ) -> Result<(), Refusal> {
        let written = header_values(given.headers, header);
        if written.is_empty() {
            return Err(Refusal::missing(header));
        }
        let signatures: Vec<Vec<u8>> =
            written.into_iter().take(SIGNATURES_MAX).filter_map(decode_base64).collect();
        if signatures.is_empty() {
            return Err(Refusal::of_header(header, "it is not base64"));
        }
        let body_hash = given.query.iter().find(|(name, _)| name == BODY_HASH).map(|(_, hash)| hash);
        let fields = match body_hash {
            Some(hash) => {
                check_body_hash(hash, given.body)?;
                Vec::new()
            }
            None => sorted_fields(given.body),
        };
        let keys: Vec<hmac::Key> = self
            .secrets
            .iter()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose()))
            .collect();
        let candidates: Vec<Vec<u8>> =
            urls(url, given.target).into_iter().map(|url| [url.as_bytes(), &fields].concat()).collect();
        let matched =
            candidates.iter().flat_map(|signed| keys.iter().map(|key| is_signed(key, &signatures, signed)));
        if bool::from(any(matched)) {
            return Ok(());
        }
        let detail = "the signature is of another secret, another form or another URL: the platform must call \
                      exactly server.public_url and the path, or what verify.url says";
        Err(Refusal::of_header(header, detail))
    }
}

/// The URL as the platform may have written it: some sign the default port, some do not.
fn urls(base: &UrlBase, target: &str) -> Vec<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let whole = match base {
        UrlBase::Server(server) => format!("{server}{path}"),
        UrlBase::Whole(url) => url.clone(),
    };
    let mut urls = vec![whole.clone()];
    if let Some((scheme, rest)) = whole.split_once("://") {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = if scheme == "http" { ":80" } else { ":443" };
        match host.strip_suffix(port) {
            Some(bare) => urls.push(format!("{scheme}://{bare}{path}")),
            None if !has_port(host) => urls.push(format!("{scheme}://{host}{port}{path}")),
            None => {}
        }
    }
    match query {
        Some(query) => urls.into_iter().map(|url| format!("{url}?{query}")).collect(),
        None => urls,
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Names and values one after the other, sorted by name; equal pairs are signed once.
fn sorted_fields(body: &[u8]) -> Vec<u8> {
    let mut fields: Vec<_> = form_urlencoded::parse(body).take(FIELDS_MAX).collect();
    fields.sort();
    fields.dedup();
    fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).flatten().copied().collect()
}

fn check_body_hash(hash: &str, body: &[u8]) -> Result<(), Refusal> {
    let given = decode_hex(hash).unwrap_or_default();
    if bool::from(digest::digest(&digest::SHA256, body).as_ref().ct_eq(&given)) {
        return Ok(());
    }
    Err(Refusal::new(format!("{BODY_HASH} did not match"), "the body is another one"))
}
