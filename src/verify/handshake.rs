//! What a platform asks before it posts: is this URL yours?

use super::{Refusal, Secret, Verifier, any};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// A longer challenge is none.
const CHALLENGE_CHARS_MAX: usize = 1024;

/// What a source answers handshakes with.
#[derive(Clone, Debug, Default)]
pub struct HandshakeKeys {
    /// Answers `hub.challenge` to whoever knows it as `hub.verify_token`; one or, during a rotation, two.
    pub verify_tokens: Vec<Secret>,
    /// The query parameter that is echoed to anybody: the platform proves nothing, we prove that we are here.
    pub echo: Option<String>,
    /// A POST without a body needs no secret, because nothing becomes of it: some platforms test a URL so.
    pub is_empty_post_open: bool,
}

/// What becomes of a request as far as handshakes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is none.
    None,
    /// It is answered with this text.
    Answer(String),
    /// It is one, and it is turned away.
    Refused(Refusal),
}

impl Verifier {
    /// Looks for a handshake in a request's query; a POST with a body is never one.
    pub fn shake(&self, peer: Option<IpAddr>, query: &[(String, String)]) -> Handshake {
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let keys = &self.handshake;
        let challenge = value("hub.challenge").or_else(|| value("challenge"));
        let token = value("hub.verify_token").or_else(|| value("verify_token"));
        let answer = match (token, challenge, keys.echo.as_deref().and_then(value)) {
            (token, Some(challenge), _) if !keys.verify_tokens.is_empty() => {
                let token = token.unwrap_or_default().as_bytes();
                let matched = any(keys.verify_tokens.iter().map(|known| known.expose().ct_eq(token)));
                if !bool::from(matched) {
                    return Handshake::Refused(Refusal::new("verify_token did not match", ""));
                }
                challenge
            }
            (_, _, Some(echoed)) => echoed,
            _ => return Handshake::None,
        };
        if let Err(refusal) = self.check_address(peer) {
            return Handshake::Refused(refusal);
        }
        // It is sent back as text; whoever made somebody click on such a URL must get nothing out of it.
        let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if answer.is_empty() || answer.len() > CHALLENGE_CHARS_MAX || !answer.chars().all(is_plain) {
            return Handshake::Refused(Refusal::new("the challenge is not plain text", ""));
        }
        Handshake::Answer(answer.to_owned())
    }
}
