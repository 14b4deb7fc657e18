//! Secrets that are sent as they are.

use super::written::decode_base64;
use super::{Refusal, Verifier, any, header_values, strip_prefix_any_case, unprefixed, values};
use subtle::{Choice, ConstantTimeEq};

impl Verifier {
    pub(super) fn check_header(
        &self,
        headers: &[(String, String)],
        header: &str,
        prefix: &str,
    ) -> Result<(), Refusal> {
        let mut given = unprefixed(header_values(headers, header), header, prefix)?;
        if prefix.is_empty() && header.eq_ignore_ascii_case("authorization") {
            given = given.into_iter().map(|value| after_word(value, "Bearer").unwrap_or(value)).collect();
        }
        self.compare(&given, what_header(header))
    }

    pub(super) fn check_bearer(&self, headers: &[(String, String)]) -> Result<(), Refusal> {
        let given = header_values(headers, "authorization");
        let tokens: Vec<&str> = given.iter().filter_map(|value| after_word(value, "Bearer")).collect();
        if tokens.is_empty() && !given.is_empty() {
            return Err(Refusal::of_header("authorization", "it does not begin with \"Bearer \""));
        }
        self.compare(&tokens, what_header("authorization"))
    }

    pub(super) fn check_basic(
        &self,
        headers: &[(String, String)],
        user: Option<&str>,
    ) -> Result<(), Refusal> {
        let given = header_values(headers, "authorization");
        if given.is_empty() {
            return Err(Refusal::missing("authorization"));
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
            return Err(Refusal::of_header("authorization", "it is not \"Basic \" and user:password"));
        }
        let matched = passwords
            .iter()
            .map(|(user, password)| self.is_a_secret(password) & Choice::from(u8::from(*user)));
        if bool::from(any(matched)) {
            return Ok(());
        }
        let detail = if passwords.iter().any(|(user, _)| *user) { "wrong password" } else { "wrong user" };
        Err(Refusal::of_header("authorization", detail))
    }

    pub(super) fn check_query(&self, query: &[(String, String)], name: &str) -> Result<(), Refusal> {
        self.compare(&values(query, |key| key == name), format!("query parameter {name}"))
    }

    pub(super) fn check_path(&self, token: &str) -> Result<(), Refusal> {
        let given: &[&str] = if token.is_empty() { &[] } else { &[token] };
        self.compare(given, "secret in the path".to_owned())
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
}

fn what_header(header: &str) -> String {
    format!("header {}", header.to_ascii_lowercase())
}

/// What follows `word` and blanks; schemes are compared without case (RFC 9110 §11.1).
fn after_word<'a>(value: &'a str, word: &str) -> Option<&'a str> {
    let rest = strip_prefix_any_case(value, word)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}
