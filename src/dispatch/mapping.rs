//! Between envelopes and sources: what the configured source makes of a stored event.

use super::Planned;
use crate::freshdesk::write::Requester;
use crate::source::{Sources, StoredEvent};
use crate::spool::Envelope;

/// What would be written for an event whose conversation has `ticket`.
pub fn plan(sources: &Sources, envelope: &Envelope, ticket: Option<u64>) -> Planned {
    let Some(source) = sources.get(&envelope.source) else { return Planned::NoSource };
    if let Some(reason) = &envelope.born_dead {
        return Planned::Unmappable(reason.clone());
    }
    match source.plan(&stored(envelope), ticket) {
        Ok(writes) => Planned::Writes(writes),
        Err(error) => Planned::Unmappable(error.to_string()),
    }
}

/// Who asks, for listings.
pub fn label(sources: &Sources, envelope: &Envelope) -> Option<String> {
    sources.get(&envelope.source)?.requester_label(&stored(envelope))
}

/// Who asks, as the mapping finds them.
pub fn requester(sources: &Sources, envelope: &Envelope) -> Option<Requester> {
    sources.get(&envelope.source)?.requester(&stored(envelope))
}

fn stored(envelope: &Envelope) -> StoredEvent<'_> {
    StoredEvent {
        body: &envelope.body,
        context: &envelope.context,
        received_at: envelope.received_at,
        event_id: &envelope.event_id,
        kind: &envelope.kind,
        conversation: &envelope.conversation,
    }
}
