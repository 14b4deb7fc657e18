//! The thread that tells somebody: it compares what needs a person with what it has told, and remembers that in the
//! spool.

use crate::alert::{Board, Limits, Matter, Message, SendError, matters, run_command};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::freshdesk::poster::Poster;
use crate::spool::{QueueError, Spool};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Daemon;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon again at most, when a ticket waits for its turn.
const SOON: Duration = Duration::from_secs(1);
/// The ring in the spool's history that is two rows: what is open, and its tickets.
pub(super) const RING: u8 = b'a';
const OPEN: u64 = 0;

/// The thread `alert`.
pub(super) struct Alarm {
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Alarm {
    /// Looks at once and then again and again, as long as the daemon is there.
    pub fn start(daemon: &Arc<Daemon>) -> io::Result<Alarm> {
        let (stop, stopped) = channel();
        let daemon = Arc::downgrade(daemon);
        let life = move || {
            loop {
                let Some(daemon) = daemon.upgrade() else { return };
                let again = daemon.alarm().unwrap_or_else(|error| {
                    log::warn!("alerts not looked for error={:?}", error.to_string());
                    LOOK_EVERY
                });
                drop(daemon);
                if stopped.recv_timeout(again.clamp(SOON, LOOK_EVERY)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("alert".to_owned()).spawn(life)?;
        Ok(Alarm { running: Mutex::new(Some((stop, thread))) })
    }

    /// Ends it, once.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl Daemon {
    /// Looks once: what needs a person is told, what needs nobody any more too. When to look again.
    fn alarm(&self) -> Result<Duration, QueueError> {
        let config = self.current.lock().unwrap_or_else(PoisonError::into_inner).config.clone();
        if !config.alert.is_on() {
            return Ok(LOOK_EVERY);
        }
        let rooms = &self.rooms;
        let limits = Limits { oldest_waiting: config.alert.oldest_waiting };
        let matters = matters(&self.snapshot()?, &rooms.tally.usual_gaps()?, limits);
        if config.alert.sends() {
            look((&rooms.spool, rooms.clock.now()), &matters, &config)?;
        }
        match config.alert.ticket {
            true => self.alert_tickets(&config, &matters),
            false => Ok(LOOK_EVERY),
        }
    }
}

fn look((spool, now): (&Spool, Timestamp), matters: &[Matter], config: &Config) -> Result<(), QueueError> {
    let mut board = remembered(spool)?;
    let has_changed = board.update(now, matters, &mut |message| tell(config, message));
    if has_changed {
        let row = serde_json::to_vec(&board).expect("a board holds nothing that JSON cannot");
        spool.put_period(RING, OPEN, row)?;
        spool.flush_queue()?;
    }
    Ok(())
}

fn remembered(spool: &Spool) -> Result<Board, QueueError> {
    let rows = spool.periods(RING, OPEN)?;
    let row = rows.iter().find(|(number, _)| *number == OPEN);
    Ok(row.and_then(|(_, row)| serde_json::from_slice(row).ok()).unwrap_or_default())
}

/// By every way there is; the first that fails fails it.
fn tell(config: &Config, message: &Message) -> Result<(), SendError> {
    let alert = &config.alert;
    if !alert.command.is_empty() {
        run_command(&alert.command, message)?;
    }
    if let Some(url) = &alert.url {
        let text = |secret: &crate::config::Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        let freshdesk = &config.freshdesk;
        let proxy = freshdesk.proxy.as_ref().map(text);
        let poster = Poster::new(&text(url), freshdesk.ca_file.as_deref(), proxy.as_deref());
        let json = serde_json::to_string(message).expect("a message holds nothing that JSON cannot");
        poster.and_then(|poster| poster.post(&json)).map_err(SendError::Url)?;
    }
    Ok(())
}
