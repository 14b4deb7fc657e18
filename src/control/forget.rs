//! `forget`: what we hold about one requester leaves this machine, and a receipt says what did.
//!
//! A requester is who the mapping finds in an event, by e-mail, phone, external id or name, exactly. What waits is
//! dropped, visibly, because it will not reach Freshdesk any more; what is settled leaves history; then the journal's
//! segments with their texts go, and the queue's garbage. Freshdesk's own data is not touched.

use super::view::{Forget, Forgotten};
use super::{Refused, Rooms};
use crate::freshdesk::write::Requester;
use crate::spool::{Change, Envelope, Id, PAGE, Settled, State, Touched};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long what is being sent may keep the journal from shrinking while somebody waits for the receipt.
const PURGE_PATIENCE: Duration = Duration::from_secs(30);
/// Digits from which on a text may be a phone number.
const PHONE_DIGITS_MIN: usize = 6;
/// Letters that a part of the text needs to be looked for before an event is understood.
const PART_LETTERS_MIN: usize = 3;

/// Whom to forget.
struct Person {
    text: String,
    lower: String,
    /// Of a phone number.
    digits: Option<String>,
}

/// What is held about somebody.
#[derive(Default)]
struct Held {
    /// Of every event whose text is in the journal.
    texts: BTreeSet<Id>,
    last_segment: u64,
    /// Source and key.
    conversations: HashSet<(String, String)>,
    /// Not settled, and where they stand.
    waiting: BTreeMap<Id, State>,
    in_flight: Vec<Id>,
    history: Vec<Id>,
}

impl Rooms {
    pub(super) fn forget(&self, asked: &Forget) -> Result<Forgotten, Refused> {
        let person = Person::of(&asked.requester)?;
        let held = self.held_about(&person)?;
        let at = self.clock.now();
        let mut forgotten = held.told();
        forgotten.at = at.to_string();
        forgotten.set_aside = self.spool.set_aside().iter().map(|path| path.display().to_string()).collect();
        if asked.dry_run {
            return Ok(forgotten);
        }
        let ids: Vec<Id> = held.waiting.keys().copied().collect();
        for page in ids.chunks(PAGE) {
            let touched = self.spool.touch_all(page, &Change::Dropped { at })?;
            for (id, touched) in page.iter().zip(touched) {
                match (touched, self.spool.settled(*id)?) {
                    (Touched::Done, Some(settled)) => self.spool.blank_settled(*id, &settled),
                    (Touched::InFlight, _) => forgotten.in_flight.push(*id),
                    _ => {}
                }
            }
        }
        held.history.iter().for_each(|id| self.spool.forget_settled(*id));
        self.tally.recent().forget(&[ids.as_slice(), held.history.as_slice()].concat());
        self.captures.forget_latest();
        forgotten.is_gone = forgotten.in_flight.is_empty();
        if !held.texts.is_empty() {
            forgotten.is_gone &= self.spool.purge_journal(held.last_segment, PURGE_PATIENCE)?;
        }
        if !ids.is_empty() || !held.history.is_empty() {
            self.spool.renew_queue()?;
        }
        forgotten.receipt = receipt(&forgotten.at, &person.text);
        log::warn!(
            "requester forgotten dropped={} history={} texts={} receipt={}",
            ids.len(),
            held.history.len(),
            held.texts.len(),
            forgotten.receipt
        );
        Ok(forgotten)
    }

    fn held_about(&self, person: &Person) -> Result<Held, Refused> {
        let mut held = Held::default();
        self.spool.each_text(|envelope, segment| {
            if person.may_be_in(&envelope) && self.is_from(person, &envelope) {
                held.texts.insert(envelope.id);
                held.last_segment = held.last_segment.max(segment);
                if !envelope.conversation.is_empty() {
                    held.conversations.insert((envelope.source, envelope.conversation));
                }
            }
        })?;
        for id in &held.texts {
            match self.spool.entry(*id)? {
                Some((_, true)) => held.in_flight.push(*id),
                Some((entry, false)) => drop(held.waiting.insert(*id, entry.state)),
                None => {}
            }
        }
        let mut from = 0;
        loop {
            let page = self.spool.history(from)?;
            let Some((last, _)) = page.last() else { return Ok(held) };
            from = last + 1;
            let is_theirs =
                |(id, settled): &&(Id, Settled)| held.texts.contains(id) || person.is_in(settled, &held);
            let theirs: Vec<Id> = page.iter().filter(is_theirs).map(|(id, _)| *id).collect();
            held.history.extend(theirs);
        }
    }

    /// Whether the mapping finds this person; where it finds nobody, whether the event names it anywhere.
    fn is_from(&self, person: &Person, envelope: &Envelope) -> bool {
        // A mapping that panics finds nobody.
        let asked = catch_unwind(AssertUnwindSafe(|| (self.requester)(envelope))).ok().flatten();
        match asked {
            Some(requester) if requester != Requester::default() => person.is(&requester),
            _ => match serde_json::from_slice(&envelope.body) {
                Ok(event) => person.is_named(&event),
                Err(_) => String::from_utf8_lossy(&envelope.body).to_lowercase().contains(&person.lower),
            },
        }
    }
}

impl Person {
    fn of(text: &str) -> Result<Person, Refused> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Refused::Usage(
                "whom? An e-mail address, a phone number, an external id or a name".to_owned(),
            ));
        }
        let is_phone = text.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c));
        let digits = Some(digits_of(text)).filter(|digits| is_phone && digits.len() >= PHONE_DIGITS_MIN);
        Ok(Person { text: text.to_owned(), lower: text.to_lowercase(), digits })
    }

    /// Whether it is worth to understand the event: some part of the text stands in it, as it is written in JSON.
    fn may_be_in(&self, envelope: &Envelope) -> bool {
        let parts = self.lower.split(|c: char| !c.is_ascii_alphanumeric());
        let mut parts = parts.filter(|part| part.len() >= PART_LETTERS_MIN).peekable();
        if self.digits.is_some() || parts.peek().is_none() {
            return true;
        }
        let body = String::from_utf8_lossy(&envelope.body).to_ascii_lowercase();
        let context = String::from_utf8_lossy(&envelope.context).to_ascii_lowercase();
        parts.any(|part| body.contains(part) || context.contains(part))
    }

    fn is(&self, requester: &Requester) -> bool {
        let fields = [&requester.email, &requester.name, &requester.phone, &requester.external_id];
        fields.into_iter().flatten().any(|field| self.is_text(field))
    }

    fn is_text(&self, text: &str) -> bool {
        let is_number = || self.digits.as_ref().is_some_and(|digits| *digits == digits_of(text));
        text.trim() == self.text || text.trim().to_lowercase() == self.lower || is_number()
    }

    fn is_named(&self, value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => self.is_text(text),
            serde_json::Value::Number(number) => self.is_text(&number.to_string()),
            serde_json::Value::Array(list) => list.iter().any(|one| self.is_named(one)),
            serde_json::Value::Object(members) => members.values().any(|one| self.is_named(one)),
            _ => false,
        }
    }

    /// By a conversation of theirs, or because the text is a part of its key.
    fn is_in(&self, settled: &Settled, held: &Held) -> bool {
        let key = (settled.source.clone(), settled.conversation.clone());
        held.conversations.contains(&key)
            || self.is_text(&settled.conversation)
            || settled.conversation.split([':', '/']).any(|part| self.is_text(part))
    }
}

impl Held {
    fn told(&self) -> Forgotten {
        let of = |wanted: &dyn Fn(State) -> bool| {
            self.waiting.iter().filter(|(_, state)| wanted(**state)).map(|(id, _)| *id).collect()
        };
        Forgotten {
            waiting: of(&|state| state != State::Dead),
            dead: of(&|state| state == State::Dead),
            in_flight: self.in_flight.clone(),
            history: self.history.clone(),
            texts: self.texts.len() as u64,
            ..Forgotten::default()
        }
    }
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Whoever knows the moment and the text can compute it again; nobody gets the text from it without guessing it.
fn receipt(at: &str, text: &str) -> String {
    let sum = digest(&SHA256, format!("{at} {text}").as_bytes());
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(text: &str) -> Person {
        Person::of(text).expect("it is a text")
    }

    #[test]
    fn a_person_is_matched_exactly() {
        let ana = Requester {
            name: Some("Ana Ruiz".to_owned()),
            email: Some("ana@example.com".to_owned()),
            phone: Some("+573001112233".to_owned()),
            external_id: Some("sendpulse:c42".to_owned()),
        };
        for text in ["ana@example.com", " ANA@example.com ", "ana ruiz", "+57 300 111-2233", "sendpulse:c42"]
        {
            assert!(person(text).is(&ana), "{text}");
        }
        for text in ["ana", "@example.com", "3001112233", "c42", "sendpulse", "ana@example.co"] {
            assert!(!person(text).is(&ana), "{text}");
        }
        assert!(Person::of("  ").is_err());
    }

    #[test]
    fn where_no_mapping_finds_anybody_every_member_is_looked_at() {
        let event = serde_json::json!({ "a": [{ "from": "Ana@Example.com" }], "tel": 573_001_112_233u64 });
        assert!(person("ana@example.com").is_named(&event) && person("+573001112233").is_named(&event));
        assert!(!person("example.com").is_named(&event) && !person("12345678").is_named(&event));
    }

    #[test]
    fn a_receipt_can_be_computed_again() {
        // printf '%s %s' AT TEXT | sha256sum
        assert_eq!(
            receipt("2026-11-28T20:50:00Z", "ana@example.com"),
            "sha256:0302e1f1f25d58d00e50fef0ee3f9a506772b756153d690dcd4442912a286aeb"
        );
    }
}
