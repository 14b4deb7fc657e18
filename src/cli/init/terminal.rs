//! Questions on a terminal; what is hidden is read sign by sign, and shown as stars.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Read, Write};

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const ERASE: [u8; 2] = [8, 127];

/// What a question came to.
pub(super) enum Asked<T> {
    /// The answer.
    Said(T),
    /// Ctrl-C.
    Interrupted,
}

/// An answer that may be seen; none when there is nobody any more.
pub(super) fn line(question: &str) -> io::Result<Option<String>> {
    eprint!("{question}");
    io::stderr().flush()?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer)?;
    Ok((read > 0).then(|| answer.trim().to_owned()))
}

/// The terminal as it was, however the question ends.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}

/// An answer that nobody sees.
pub(super) fn hidden(question: &str) -> io::Result<Asked<String>> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    // What was typed ahead stays; only what is shown changes.
    tcsetattr(io::stdin(), OptionalActions::Drain, &silent)?;
    let _restored = Restored(before);
    eprint!("{question}");
    io::stderr().flush()?;
    let mut answer = Vec::new();
    let mut input = io::stdin().lock();
    loop {
        let mut one = [0];
        let read = input.read(&mut one)?;
        match one[0] {
            INTERRUPT => return Ok(Asked::Interrupted),
            _ if read == 0 => break,
            b'\n' | b'\r' | END => break,
            sign if ERASE.contains(&sign) => {
                if answer.pop().is_some() {
                    eprint!("\x08 \x08");
                }
            }
            sign => {
                answer.push(sign);
                eprint!("*");
            }
        }
    }
    Ok(Asked::Said(String::from_utf8_lossy(&answer).trim().to_owned()))
}
