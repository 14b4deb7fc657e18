//! Where an imported envelope comes from: its number in the spool that took it from the platform.
//!
//! It is written behind the event in the envelope's put. The markers in Freshdesk stay those of the origin, so that
//! what the other host may have sent is found; and it is an identity of its own, so that importing a file twice has
//! one effect.

use super::codec::{Decoder, Encoder, Malformed};
use super::envelope::{Hash, Id, hash_of};
use super::record::Identity;
use std::time::Duration;

/// How long an origin is remembered, from when its event came in: nobody imports a file that old again.
pub(super) const ORIGIN_KEPT: Duration = Duration::from_secs(2 * 365 * 86_400);

/// An envelope of another spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The other spool's identity.
    pub spool: Identity,
    /// Its number there.
    pub id: Id,
}

impl Origin {
    /// What makes another import the same one.
    pub fn hash(&self) -> Hash {
        hash_of(&[b"origin", &self.spool, &self.id.to_be_bytes()])
    }

    /// At the end of a record or a row, where there is nothing for an envelope that came from its platform.
    pub(super) fn encode(origin: Option<Origin>, encoder: &mut Encoder) {
        if let Some(origin) = origin {
            encoder.hash(&origin.spool).u64(origin.id);
        }
    }

    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Option<Origin>, Malformed> {
        if decoder.rest().is_empty() {
            return Ok(None);
        }
        Ok(Some(Origin { spool: decoder.hash()?, id: decoder.u64()? }))
    }
}
