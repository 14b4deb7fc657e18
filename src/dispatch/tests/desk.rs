//! A Freshdesk that answers by a script and writes down what it was asked.

use super::*;

/// What the scripted desk does with the next call.
#[derive(Clone, Debug)]
pub enum Answer {
    Fine,
    /// Done, but the answer is lost.
    DoneUnanswered,
    /// Not done, and no answer.
    LostUnanswered,
    Deferred(Cause, Option<Duration>),
    Rejected,
    Panics,
}

#[derive(Default)]
pub struct Books {
    pub script: VecDeque<Answer>,
    pub always: Option<Answer>,
    /// Marker, ticket, text.
    pub written: Vec<(String, u64, String)>,
    /// When each call came, monotonic.
    pub calls: Vec<(Duration, &'static str)>,
    pub next_ticket: u64,
}

pub struct ScriptedDesk {
    pub clock: Arc<ManualClock>,
    pub books: Mutex<Books>,
}

impl ScriptedDesk {
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, what: &'static str, ticket: Option<u64>, text: &str, marker: &str) -> Outcome {
        let mut books = self.books();
        books.calls.push((self.clock.monotonic(), what));
        let answer = books.script.pop_front().or_else(|| books.always.clone()).unwrap_or(Answer::Fine);
        if matches!(answer, Answer::Fine | Answer::DoneUnanswered) {
            let number = ticket.unwrap_or_else(|| {
                books.next_ticket += 1;
                books.next_ticket
            });
            books.written.push((marker.to_owned(), number, text.to_owned()));
        }
        let unknown = Outcome::Unknown { reason: "timeout after the request was sent".into() };
        match answer {
            Answer::Fine => Outcome::Delivered { ticket: books.written.last().expect("just written").1 },
            Answer::DoneUnanswered | Answer::LostUnanswered => unknown,
            Answer::Deferred(cause, not_before) => {
                Outcome::Deferred { not_before, cause, reason: "scripted".into() }
            }
            Answer::Rejected => Outcome::Rejected { reason: "freshdesk 400: type is invalid (type)".into() },
            Answer::Panics => {
                drop(books);
                panic!("scripted panic")
            }
        }
    }

    pub fn find(&self, what: &'static str, within: Option<u64>, marker: &str) -> Looked {
        let mut books = self.books();
        books.calls.push((self.clock.monotonic(), what));
        let mut written = books.written.iter();
        let is_it =
            |one: &&(String, u64, String)| one.0 == marker && within.is_none_or(|ticket| one.1 == ticket);
        match written.find(is_it) {
            Some((_, ticket, _)) => Looked::Found { ticket: *ticket },
            None => Looked::Absent,
        }
    }

    pub fn count(&self, what: &str) -> usize {
        self.books().calls.iter().filter(|(_, call)| *call == what).count()
    }
}

impl Desk for ScriptedDesk {
    fn create_ticket(&self, fields: &TicketFields, marker: &str) -> Outcome {
        self.write("create", None, &fields.subject, marker)
    }

    fn add_note(&self, ticket: u64, note: &NoteFields, marker: &str) -> Outcome {
        let before = self.books().written.len();
        let outcome = self.write("note", Some(ticket), &note.body, marker);
        let mut books = self.books();
        if books.written.len() > before {
            let others = note.merged.iter().map(|(body, marker)| (marker.clone(), ticket, body.clone()));
            books.written.extend(others);
        }
        outcome
    }

    fn update_ticket(&self, ticket: u64, update: &UpdateFields) -> Outcome {
        self.write("update", Some(ticket), &update.tags_add.join(","), "")
    }

    fn put_contact(&self, contact: &ContactFields) -> Result<(), Outcome> {
        let name = contact.requester.name.clone().unwrap_or_default();
        match self.write("contact", Some(0), &name, "") {
            Outcome::Delivered { .. } => Ok(()),
            outcome => Err(outcome),
        }
    }

    fn find_follow_up(&self, ticket: u64, _: &NoteFields, marker: &str, _: Timestamp) -> Looked {
        self.find_note(ticket, marker)
    }

    fn find_update(&self, ticket: u64, update: &UpdateFields) -> Looked {
        let mut books = self.books();
        books.calls.push((self.clock.monotonic(), "find update"));
        let tags = update.tags_add.join(",");
        match books.written.iter().any(|one| one.1 == ticket && one.2 == tags) {
            true => Looked::Found { ticket },
            false => Looked::Absent,
        }
    }

    fn find_ticket(&self, _: &Requester, marker: &str, _: Timestamp) -> Looked {
        self.find("find ticket", None, marker)
    }

    fn find_note(&self, ticket: u64, marker: &str) -> Looked {
        self.find("find note", Some(ticket), marker)
    }

    fn probe(&self) -> Result<String, Outcome> {
        let mut books = self.books();
        books.calls.push((self.clock.monotonic(), "probe"));
        match books.always.clone() {
            Some(Answer::Deferred(cause, not_before)) => {
                Err(Outcome::Deferred { not_before, cause, reason: "scripted".into() })
            }
            _ => Ok("Integrations".into()),
        }
    }

    fn rate(&self) -> Rate {
        Rate::default()
    }
}
