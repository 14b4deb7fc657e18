//! Events of `[source.chat]`, and what of them is found in Freshdesk again.

use deskspool::sandbox::TicketView;
use serde_json::json;

/// Message `number` of a conversation, from a customer of its own.
pub fn message(conversation: &str, number: usize) -> String {
    json!({
        "event_id": format!("{conversation}-{number}"),
        "conversation_id": conversation,
        "email": format!("{conversation}@example.com"),
        "name": format!("Customer {conversation}"),
        "text": token(conversation, number),
    })
    .to_string()
}

/// What is said in it, found once in all of Freshdesk when it was delivered once.
pub fn token(conversation: &str, number: usize) -> String {
    format!("token-{conversation}-{number:05}-end")
}

/// The numbers of the messages that were delivered for a conversation, in the order an agent reads them.
pub fn delivered(tickets: &[TicketView], conversation: &str) -> Vec<usize> {
    let start = format!("token-{conversation}-");
    let mut found = Vec::new();
    for ticket in tickets {
        let texts = std::iter::once(&ticket.description_text);
        for text in texts.chain(ticket.notes.iter().map(|note| &note.body_text)) {
            let pieces = text.split(&start).skip(1);
            found.extend(pieces.filter_map(|piece| piece.split("-end").next()?.parse::<usize>().ok()));
        }
    }
    found
}
