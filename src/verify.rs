//! Who may post: compares what a request brings with the source's secrets, in constant time.
//!
//! Owns the schemes and the type of a secret; knows no platform names. Pure: no I/O, no clock. On the road it
//! stands between routing and decoding, so it sees the bytes exactly as they were received.
//!
//! **Invariants:** a secret is never printed, serialised or part of an error; every secret is tried, so the
//! time taken does not tell which of two matched during a rotation.

use ring::hmac;
use std::fmt;
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
    /// HMAC-SHA256 over the raw body, keyed with the secret.
    HmacSha256 {
        /// Header that carries the signature.
        header: String,
        /// What stands before the signature, e.g. `sha256=`.
        prefix: String,
        /// How the signature is written.
        encoding: Encoding,
    },
}

/// How a signature is written in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits of either case.
    Hex,
    /// Base64 of either alphabet, with or without padding.
    Base64,
}

/// Why a request was turned away, for admins: lengths and names, never the secret or what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `authorization did not match`.
    pub why: String,
    /// `got 36 characters, expected 32`; empty when there is nothing to add.
    pub detail: String,
}

impl Refusal {
    fn new(why: impl Into<String>, detail: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), detail: detail.into() }
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
}

impl Verifier {
    /// Compares one request. `headers` as received, `query` percent-decoded, `body` the raw bytes.
    pub fn check(
        &self,
        headers: &[(String, String)],
        query: &[(String, String)],
        body: &[u8],
    ) -> Result<(), Refusal> {
        match &self.scheme {
            Scheme::None => Ok(()),
            Scheme::Header { header, prefix } => self.check_header(headers, header, prefix),
            Scheme::Bearer => self.check_bearer(headers),
            Scheme::Basic { user } => self.check_basic(headers, user.as_deref()),
            Scheme::Query { name } => {
                let given = values(query, |key| key == name);
                self.compare(&given, format!("query parameter {name}"))
            }
            Scheme::HmacSha256 { header, prefix, encoding } => {
                let given = unprefixed(header_values(headers, header), header, prefix)?;
                self.compare_signature(&given, (header, *encoding), body)
            }
        }
    }

    /// Whether anyone may post.
    pub fn is_open(&self) -> bool {
        self.scheme == Scheme::None
    }

    /// The header that carries the secret or the signature: it is not kept with the event.
    pub fn secret_header(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::None | Scheme::Query { .. } => None,
            Scheme::Header { header, .. } | Scheme::HmacSha256 { header, .. } => Some(header),
            Scheme::Bearer | Scheme::Basic { .. } => Some("authorization"),
        }
    }

    /// The query parameter that carries the secret: it is not kept with the event.
    pub fn secret_query(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::Query { name } => Some(name),
            _ => None,
        }
    }

    fn check_header(&self, headers: &[(String, String)], header: &str, prefix: &str) -> Result<(), Refusal> {
        let mut given = unprefixed(header_values(headers, header), header, prefix)?;
        if prefix.is_empty() && header.eq_ignore_ascii_case("authorization") {
            given = given.into_iter().map(|value| after_word(value, "Bearer").unwrap_or(value)).collect();
        }
        self.compare(&given, what_header(header))
    }

    fn check_bearer(&self, headers: &[(String, String)]) -> Result<(), Refusal> {
        let given = header_values(headers, "authorization");
        let tokens: Vec<&str> = given.iter().filter_map(|value| after_word(value, "Bearer")).collect();
        if tokens.is_empty() && !given.is_empty() {
            return Err(Refusal::new("authorization did not match", "it does not begin with \"Bearer \""));
        }
        self.compare(&tokens, what_header("authorization"))
    }

    fn check_basic(&self, headers: &[(String, String)], user: Option<&str>) -> Result<(), Refusal> {
        let given = header_values(headers, "authorization");
        if given.is_empty() {
            return Err(Refusal::new("header authorization is missing", ""));
        }
        let pairs = given.iter().filter_map(|value| after_word(value, "Basic")).filter_map(decode_base64);
        let passwords: Vec<(bool, Vec<u8>)> = pairs
            .filter_map(|pair| {
                let colon = pair.iter().position(|byte| *byte == b':')?;
                let user_matches = user.is_none_or(|user| bool::from(user.as_bytes().ct_eq(&pair[..colon])));
                Some((user_matches, pair[colon + 1..].to_vec()))
            })
            .collect();
        if passwords.is_empty() {
            return Err(Refusal::new(
                "authorization did not match",
                "it is not \"Basic \" and user:password",
            ));
        }
        let matched = passwords
            .iter()
            .map(|(user, password)| self.is_a_secret(password) & Choice::from(u8::from(*user)));
        if bool::from(any(matched)) {
            return Ok(());
        }
        let detail = if passwords.iter().any(|(user, _)| *user) { "wrong password" } else { "wrong user" };
        Err(Refusal::new("authorization did not match", detail))
    }

    /// Is one of the values one of the secrets?
    fn compare(&self, given: &[&str], what: String) -> Result<(), Refusal> {
        let Some(first) = given.first() else {
            return Err(Refusal::new(format!("{what} is missing"), ""));
        };
        if bool::from(any(given.iter().map(|value| self.is_a_secret(value.as_bytes())))) {
            return Ok(());
        }
        let expected: Vec<String> = self.secrets.iter().map(|secret| secret.chars().to_string()).collect();
        let detail = format!("got {} characters, expected {}", first.chars().count(), expected.join(" or "));
        let what = what.strip_prefix("header ").unwrap_or(&what);
        Err(Refusal::new(format!("{what} did not match"), detail))
    }

    fn compare_signature(
        &self,
        given: &[&str],
        (header, encoding): (&str, Encoding),
        body: &[u8],
    ) -> Result<(), Refusal> {
        let signatures: Vec<Vec<u8>> = given
            .iter()
            .filter_map(|value| match encoding {
                Encoding::Hex => decode_hex(value),
                Encoding::Base64 => decode_base64(value),
            })
            .collect();
        let Some(first) = signatures.first() else {
            let written = if encoding == Encoding::Hex { "hex" } else { "base64" };
            return Err(Refusal::new(
                format!("{} did not match", header.to_ascii_lowercase()),
                format!("it is not {written}"),
            ));
        };
        let matched = self.secrets.iter().flat_map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
            signatures
                .iter()
                .map(move |signature| Choice::from(u8::from(hmac::verify(&key, body, signature).is_ok())))
        });
        if bool::from(any(matched)) {
            return Ok(());
        }
        let detail = match first.len() {
            32 => "the signature is of another secret or another body".to_owned(),
            other => format!("got {other} bytes, expected 32"),
        };
        Err(Refusal::new(format!("{} did not match", header.to_ascii_lowercase()), detail))
    }

    fn is_a_secret(&self, given: &[u8]) -> Choice {
        any(self.secrets.iter().map(|secret| secret.expose().ct_eq(given)))
    }
}

/// Looks at every choice, so that the time taken tells nothing.
fn any(choices: impl Iterator<Item = Choice>) -> Choice {
    choices.fold(Choice::from(0), |found, choice| found | choice)
}

fn what_header(header: &str) -> String {
    format!("header {}", header.to_ascii_lowercase())
}

fn values(pairs: &[(String, String)], is_wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    pairs.iter().filter(|(key, _)| is_wanted(key)).map(|(_, value)| value.trim()).collect()
}

fn header_values<'a>(headers: &'a [(String, String)], header: &str) -> Vec<&'a str> {
    values(headers, |key| key.eq_ignore_ascii_case(header))
}

/// The values without their prefix; a missing header and a missing prefix are told apart.
fn unprefixed<'a>(given: Vec<&'a str>, header: &str, prefix: &str) -> Result<Vec<&'a str>, Refusal> {
    let header = header.to_ascii_lowercase();
    if given.is_empty() {
        return Err(Refusal::new(format!("header {header} is missing"), ""));
    }
    let rest: Vec<&str> = given.iter().filter_map(|value| strip_prefix_any_case(value, prefix)).collect();
    if rest.is_empty() {
        return Err(Refusal::new(
            format!("{header} did not match"),
            format!("it does not begin with \"{prefix}\""),
        ));
    }
    Ok(rest.into_iter().map(str::trim).collect())
}

fn strip_prefix_any_case<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    // Header values arrive trimmed, so `Bearer ` may have lost its blank together with an empty secret.
    let head = value.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &value[prefix.len()..])
}

/// What follows `word` and blanks; schemes are compared without case (RFC 9110 §11.1).
fn after_word<'a>(value: &'a str, word: &str) -> Option<&'a str> {
    let rest = strip_prefix_any_case(value, word)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Base64 of the standard or the URL alphabet, padded or not; `None` when it is anything else.
fn decode_base64(text: impl AsRef<str>) -> Option<Vec<u8>> {
    let text = text.as_ref().trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut window, mut bits) = (0_u32, 0_u32);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        window = (window << 6 | u32::from(value)) & 0xfff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((window >> bits & 0xff) as u8);
        }
    }
    (bits < 6 && !bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(scheme: Scheme, secrets: &[&str]) -> Verifier {
        Verifier { scheme, secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// `""` for let in, else the text of the refusal.
    fn check_header(verifier: &Verifier, headers: &[(&str, &str)], expect: &str) {
        let answer = verifier.check(&pairs(headers), &[], b"{}");
        assert_eq!(
            answer.err().map(|refusal| refusal.to_string()).unwrap_or_default(),
            expect,
            "{headers:?}"
        );
    }

    #[test]
    fn a_header_carries_the_secret() {
        let plain =
            verifier(Scheme::Header { header: "X-Bp-Secret".into(), prefix: String::new() }, &["s3cret"]);
        check_header(&plain, &[("x-bp-secret", "s3cret")], "");
        check_header(&plain, &[("X-BP-SECRET", " s3cret ")], "");
        check_header(
            &plain,
            &[("x-bp-secret", "s3creT")],
            "x-bp-secret did not match (got 6 characters, expected 6)",
        );
        check_header(
            &plain,
            &[("x-bp-secret", "")],
            "x-bp-secret did not match (got 0 characters, expected 6)",
        );
        check_header(&plain, &[("authorization", "s3cret")], "header x-bp-secret is missing");
        check_header(
            &plain,
            &[("x-bp-secret", "Bearer s3cret")],
            "x-bp-secret did not match (got 13 characters, expected 6)",
        );
    }

    #[test]
    fn authorization_may_say_bearer_or_not() {
        let free = verifier(Scheme::Header { header: "Authorization".into(), prefix: String::new() }, &["k"]);
        check_header(&free, &[("Authorization", "k")], "");
        check_header(&free, &[("Authorization", "bearer   k")], "");
        check_header(
            &free,
            &[("Authorization", "Bearerk")],
            "authorization did not match (got 7 characters, expected 1)",
        );
        let token =
            verifier(Scheme::Header { header: "Authorization".into(), prefix: "Token ".into() }, &["k"]);
        check_header(&token, &[("Authorization", "Token k")], "");
        check_header(
            &token,
            &[("Authorization", "k")],
            "authorization did not match (it does not begin with \"Token \")",
        );
    }

    #[test]
    fn bearer_needs_its_word() {
        let bearer = verifier(Scheme::Bearer, &["tok_abc"]);
        check_header(&bearer, &[("Authorization", "bearer tok_abc")], "");
        check_header(
            &bearer,
            &[("Authorization", "Bearer tok_abd")],
            "authorization did not match (got 7 characters, expected 7)",
        );
        check_header(
            &bearer,
            &[("Authorization", "tok_abc")],
            "authorization did not match (it does not begin with \"Bearer \")",
        );
        check_header(&bearer, &[], "header authorization is missing");
    }

    #[test]
    fn basic_compares_user_and_password() {
        let hook = verifier(Scheme::Basic { user: Some("hook".into()) }, &["p:w"]);
        check_header(&hook, &[("Authorization", "Basic aG9vazpwOnc=")], "");
        check_header(
            &hook,
            &[("Authorization", "Basic aG9vazpwOng=")],
            "authorization did not match (wrong password)",
        );
        check_header(
            &hook,
            &[("Authorization", "Basic aG9va3M6cDp3")],
            "authorization did not match (wrong user)",
        );
        check_header(
            &hook,
            &[("Authorization", "Basic ???")],
            "authorization did not match (it is not \"Basic \" and user:password)",
        );
        let anybody = verifier(Scheme::Basic { user: None }, &["p:w"]);
        check_header(&anybody, &[("Authorization", "Basic aG9va3M6cDp3")], "");
    }

    #[test]
    fn query_carries_the_token() {
        let query = verifier(Scheme::Query { name: "token".into() }, &["t-1"]);
        let check = |given: &[(&str, &str)], expect: &str| {
            let answer = query.check(&[], &pairs(given), b"");
            assert_eq!(answer.err().map(|refusal| refusal.to_string()).unwrap_or_default(), expect);
        };
        check(&[("x", "1"), ("token", "t-1")], "");
        check(&[("token", "t-2")], "query parameter token did not match (got 3 characters, expected 3)");
        check(&[("Token", "t-1")], "query parameter token is missing");
    }

    #[test]
    fn both_secrets_of_a_rotation_are_good() {
        let rotating = verifier(Scheme::Bearer, &["old", "newer"]);
        check_header(&rotating, &[("Authorization", "Bearer old")], "");
        check_header(&rotating, &[("Authorization", "Bearer newer")], "");
        check_header(
            &rotating,
            &[("Authorization", "Bearer new")],
            "authorization did not match (got 3 characters, expected 3 or 5)",
        );
    }

    #[test]
    fn hmac_is_over_the_raw_body() {
        let body = b"{\"a\": 1}";
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"hs"), body);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let scheme =
            Scheme::HmacSha256 { header: "X-Sig".into(), prefix: "sha256=".into(), encoding: Encoding::Hex };
        let signed = verifier(scheme, &["other", "hs"]);
        let good = pairs(&[("x-sig", &format!("sha256={hex}"))]);
        assert_eq!(signed.check(&good, &[], body), Ok(()));
        assert_eq!(signed.check(&good, &[], b"{\"a\":1}").unwrap_err().why, "x-sig did not match");
        assert_eq!(
            signed.check(&pairs(&[("x-sig", &hex)]), &[], body).unwrap_err().detail,
            "it does not begin with \"sha256=\""
        );
        assert_eq!(
            signed.check(&pairs(&[("x-sig", "sha256=zz")]), &[], body).unwrap_err().detail,
            "it is not hex"
        );
        assert_eq!(
            signed.check(&pairs(&[("x-sig", "sha256=00ff")]), &[], body).unwrap_err().detail,
            "got 2 bytes, expected 32"
        );
    }

    #[test]
    fn base64_of_both_alphabets() {
        let check =
            |text: &str, expect: Option<&[u8]>| assert_eq!(decode_base64(text).as_deref(), expect, "{text}");
        check("aGk=", Some(b"hi"));
        check("aGk", Some(b"hi"));
        check("+/8=", Some(&[0xfb, 0xff]));
        check("-_8", Some(&[0xfb, 0xff]));
        check("a", None);
        check("", None);
        check("a b=", None);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let verifier = verifier(Scheme::Bearer, &["hunter2"]);
        assert_eq!(format!("{verifier:?}"), "Verifier { scheme: Bearer, secrets: [Secret] }");
    }
}
