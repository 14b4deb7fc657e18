//! Alerts without Prometheus: what needs a person is told to a command, a URL or a ticket, once per matter, and once more
//! when it is over.
//!
//! **Invariants:** what is told is remembered in the spool, so that a restart neither repeats a matter nor forgets to
//! say that it is over. What could not be told is told later. No text carries what a customer wrote.

mod matters;
mod send;
mod ticket;

pub use matters::{Limits, Matter, matters};
pub use send::{Message, SendError, run_command};
pub use ticket::{Step, Ticket, Tickets};

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A matter that was told, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// As it was told.
    text: String,
    /// Seconds since 1970 at which it began.
    since: u64,
    /// Whether somebody has been told.
    is_told: bool,
}

/// What is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Board(BTreeMap<String, Open>);

impl Board {
    /// Compares what is open with what there is now, tells what is new and what is over, and says whether anything has
    /// changed that is to be remembered.
    pub fn update(
        &mut self,
        now: Timestamp,
        matters: &[Matter],
        tell: &mut dyn FnMut(&Message) -> Result<(), SendError>,
    ) -> bool {
        let before = self.clone();
        for matter in matters {
            let open = self.0.entry(matter.key.clone()).or_insert_with(|| Open {
                text: matter.text.clone(),
                since: now.unix_seconds(),
                is_told: false,
            });
            if !open.is_told {
                open.text.clone_from(&matter.text);
                let message = Message::begun(matter, now);
                open.is_told = told(&message, tell);
            }
        }
        let is_over = |key: &String| !matters.iter().any(|matter| matter.key == *key);
        self.0.retain(|key, open| {
            // What began and ended before anybody could be told is nobody's business any more.
            !is_over(key) || (open.is_told && !told(&Message::over(key, &open.text, open.since, now), tell))
        });
        *self != before
    }
}

fn told(message: &Message, tell: &mut dyn FnMut(&Message) -> Result<(), SendError>) -> bool {
    match tell(message) {
        Ok(()) => {
            log::info!("alert sent matter={} state={}", message.matter, message.state);
            true
        }
        Err(error) => {
            log::error!(
                "alert not sent matter={} state={} error={:?} next=\"tried again in a minute\"",
                message.matter,
                message.state,
                error.to_string()
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matter(key: &str, text: &str) -> Matter {
        Matter { key: key.to_owned(), text: text.to_owned(), next: "deskspool status".to_owned() }
    }

    /// What is told when these matters are there, and whether telling works.
    fn step(board: &mut Board, matters: &[Matter], works: bool) -> Vec<String> {
        let mut told = Vec::new();
        board.update(Timestamp(60_000), matters, &mut |message| {
            told.push(format!("{} {}", message.state, message.matter));
            if works { Ok(()) } else { Err(SendError::Command("exit status: 1".to_owned())) }
        });
        told
    }

    #[test]
    fn a_matter_is_told_once_and_once_more_when_it_is_over() {
        let mut board = Board::default();
        let (dead, key) = (matter("dead", "1 dead"), matter("freshdesk", "wrong key"));
        assert_eq!(step(&mut board, std::slice::from_ref(&dead), true), ["begun dead"]);
        assert_eq!(step(&mut board, &[matter("dead", "2 dead")], true), [""; 0]);
        assert_eq!(step(&mut board, &[dead.clone(), key], true), ["begun freshdesk"]);
        assert_eq!(step(&mut board, &[dead], true), ["over freshdesk"]);
        assert_eq!(step(&mut board, &[], true), ["over dead"]);
        assert_eq!(step(&mut board, &[], true), [""; 0]);
    }

    #[test]
    fn what_could_not_be_told_is_told_later_unless_it_is_over() {
        let mut board = Board::default();
        let dead = [matter("dead", "1 dead")];
        assert_eq!(step(&mut board, &dead, false), ["begun dead"]);
        assert_eq!(step(&mut board, &dead, true), ["begun dead"]);
        assert_eq!(step(&mut board, &[], false), ["over dead"]);
        assert_eq!(step(&mut board, &[], true), ["over dead"]);
        assert_eq!(step(&mut board, &dead, false), ["begun dead"]);
        assert_eq!(step(&mut board, &[], true), [""; 0], "nobody knew");
    }

    #[test]
    fn a_restart_repeats_nothing() {
        let mut board = Board::default();
        let dead = [matter("dead", "1 dead")];
        step(&mut board, &dead, true);
        let text = serde_json::to_string(&board).unwrap();
        let mut again: Board = serde_json::from_str(&text).unwrap();
        assert_eq!(step(&mut again, &dead, true), [""; 0]);
        assert_eq!(step(&mut again, &[], true), ["over dead"]);
    }
}
