//! Compressed bodies: what `Content-Encoding` names, and gzip that nobody announced.
//!
//! **Invariant:** never more than `bytes_max` and one byte are inflated, however many codings lie over each
//! other.

use super::{DecodeError, Posted, text};
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use std::borrow::Cow;
use std::io::Read;

/// Codings over each other; no sender has a reason for more than one, a proxy may add another.
const CODINGS_MAX: usize = 2;

const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// The body as it was before it was compressed.
pub(super) fn inflate<'a>(posted: &Posted<'a>) -> Result<Cow<'a, [u8]>, DecodeError> {
    let mut body = Cow::Borrowed(posted.body);
    if body.is_empty() {
        return Ok(body);
    }
    let mut codings = codings(posted.headers);
    if codings.len() > CODINGS_MAX {
        return Err(DecodeError::UnknownCoding);
    }
    if codings.is_empty() && body.starts_with(&GZIP_MAGIC) {
        codings.push("gzip".to_owned());
    }
    // The last one named was applied last.
    for coding in codings.iter().rev() {
        let inflated = match coding.as_str() {
            // Announced, but it is text: somebody on the way has inflated it and left the header. A bare
            // deflate stream may begin with the byte of a brace; then all of it inflates, to text again.
            "deflate" if text::begins_like_json(&body) => undeflate_text(&body, posted.bytes_max)?,
            _ if text::begins_like_json(&body) => None,
            "gzip" | "x-gzip" if !body.starts_with(&GZIP_MAGIC[..2]) => None,
            "gzip" | "x-gzip" => Some(gunzip(&body, posted.bytes_max)?),
            "deflate" => Some(undeflate(&body, posted.bytes_max)?),
            _ => return Err(DecodeError::UnknownCoding),
        };
        body = inflated.map_or(body, Cow::Owned);
    }
    Ok(body)
}

/// In the order they were applied, without those that do nothing.
fn codings(headers: &[(String, String)]) -> Vec<String> {
    let values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let names = values.flat_map(|(_, value)| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !matches!(name.as_str(), "" | "identity" | "utf-8" | "utf8" | "none")).collect()
}

/// Every member of a gzip file; what follows the last is not ours to judge.
fn gunzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut inflated = Vec::new();
    let mut rest = body;
    while rest.starts_with(&GZIP_MAGIC[..2]) {
        let mut decoder = GzDecoder::new(rest);
        read(&mut decoder, &mut inflated, bytes_max)?.map_err(|_| DecodeError::Damaged("gzip"))?;
        rest = decoder.into_inner();
    }
    Ok(inflated)
}

/// `deflate` is a zlib stream (RFC 9110 §8.4.1.2), but some send the bare one.
fn undeflate(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut inflated = Vec::new();
    if is_zlib(body) && read(&mut ZlibDecoder::new(body), &mut inflated, bytes_max)?.is_ok() {
        return Ok(inflated);
    }
    inflated.clear();
    let bare = read(&mut DeflateDecoder::new(body), &mut inflated, bytes_max)?;
    bare.map(|()| inflated).map_err(|_| DecodeError::Damaged("deflate"))
}

/// RFC 1950: method 8, and a header that is a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 15 == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

/// What comes out when all of the body is a bare deflate stream of JSON.
fn undeflate_text(body: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, DecodeError> {
    let (mut decoder, mut inflated) = (DeflateDecoder::new(body), Vec::new());
    let is_whole = read(&mut decoder, &mut inflated, bytes_max)?.is_ok() && decoder.into_inner().is_empty();
    Ok(Some(inflated).filter(|inflated| is_whole && text::begins_like_json(inflated)))
}

/// Appends to `inflated`, which may not become longer than `bytes_max`.
fn read(
    decoder: &mut impl Read,
    inflated: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<std::io::Result<()>, DecodeError> {
    let room = bytes_max.saturating_sub(inflated.len()).saturating_add(1);
    let answer = decoder.take(room as u64).read_to_end(inflated);
    if inflated.len() > bytes_max {
        return Err(DecodeError::TooLarge(bytes_max));
    }
    Ok(answer.map(|_| ()))
}
