//! What comes in from platforms, and the process that takes it: opened, told to end, killed, opened again.

use super::super::between;
use super::super::desk::Line;
use super::{Event, GUARD, Happening, START, STEPS_MAX, State, World, backoff, plan, tag, texts};
use crate::backoff::Dice;
use crate::clock::Clock;
use crate::dispatch::{Delivery, Dispatch, Orders, marker};
use crate::spool::{Change, Envelope, Id, Limits, Spool, hash_of};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a platform's repetition is recognised.
const DEDUPE_WINDOW: Duration = Duration::from_secs(600);
/// The first bytes of a segment; a cut never takes them.
const SEGMENT_HEADER_LENGTH: u64 = 64;

/// The process: replaced when it is restarted.
pub struct Process {
    pub spool: Arc<Spool>,
    pub dispatch: Arc<Dispatch>,
    directory: PathBuf,
    /// The queue as it was when the process began, and the segments then.
    early: PathBuf,
}

impl World {
    /// Starts a process over a directory.
    pub fn open(self: &Arc<Self>, directory: PathBuf) {
        let life = {
            let mut state = self.state();
            state.life += 1;
            (state.over, state.stopping, state.busy) = (false, false, 0);
            state.failed.clear();
            state.judge.begin_life();
            state.life
        };
        let limits = Limits { disk_free_min: 0, ..Limits::default() };
        let (spool, recovery) = Spool::open(&directory, limits, self.clock.clone()).expect("the spool opens");
        if !recovery.lost.is_empty() || !recovery.damaged.is_empty() || recovery.queue_set_aside.is_some() {
            self.state().judge.violate(format!("a kill has done damage: {recovery:?}"));
        }
        let spool = Arc::new(spool);
        let orders = Orders {
            desk: Arc::new(Line { world: self.clone(), life }),
            plan: Box::new(plan),
            backoff: backoff(),
            give_up_after: Duration::from_secs(3 * 86_400),
            rate_per_minute: self.settings.rate_per_minute,
            guard: GUARD,
        };
        let told = Arc::downgrade(self);
        let delivered = move |envelope: &Envelope, _: &Delivery| {
            if let Some(world) = told.upgrade() {
                world.told_delivered(life, envelope.id);
            }
        };
        let dispatch = Dispatch::new(spool.clone(), self.clock.clone(), orders, Box::new(delivered));
        let seed = self.state().dice.next_u64();
        *dispatch.dice.lock().unwrap_or_else(PoisonError::into_inner) = Dice::seeded(seed);
        spool.flush_queue().expect("the queue can be written");
        let early = directory.with_extension("early");
        copy_tree(&directory.join("queue"), &early.join("queue"));
        fs::create_dir(early.join("journal")).expect("there is room for a directory");
        for segment in segments(&directory) {
            // Upkeep may have removed it, and it is complete: nobody writes to it any more.
            let _ =
                fs::hard_link(&segment, early.join("journal").join(segment.file_name().expect("it has one")));
        }
        let process = Process { spool, dispatch: Arc::new(dispatch), early, directory };
        *self.process() = Some(process);
        self.promise();
        self.state().step_at = self.clock.monotonic();
    }

    /// Ends what is left of the old process, and after some time starts the next one.
    pub fn restart(self: &Arc<Self>, left: Option<PathBuf>) {
        let process = self.process().take().expect("there is one");
        let Process { spool, dispatch, directory, early } = process;
        drop((dispatch, spool));
        remove_tree(&early);
        let next = match left {
            Some(left) => {
                remove_tree(&directory);
                left
            }
            None => {
                self.state().told.restarts += 1;
                directory
            }
        };
        let now = self.clock.monotonic();
        let down = {
            let mut state = self.state();
            (state.over, state.stopping) = (false, false);
            state.step_at = Duration::MAX;
            // Systemd starts it again at once; now and then somebody has to find the plug.
            let most = if state.dice.throw() < 0.05 { 20 * 3_600_000 } else { 30_000 };
            Duration::from_millis(between(&mut state.dice, 1000, most))
        };
        self.pass(now + down);
        self.open(next);
    }

    /// The power goes: what is promised stays, of what is not a random part does.
    pub fn kill(&self) {
        let process = self.process();
        let Some(process) = process.as_ref().filter(|_| !self.state().over) else { return };
        // Everything appended goes to disk, so that the dice and not the machine's speed decide what is lost.
        process.spool.touch_all(&[], &Change::Retried).expect("the spool can be written");
        process.spool.flush_queue().expect("the queue can be written");
        let mut state = self.state();
        state.told.kills += 1;
        state.directories += 1;
        let next = self.room.path().join(state.directories.to_string());
        copy_tree(&process.directory, &next);
        let (promised, length) = state.durable.clone();
        let last = next.join("journal").join(promised.file_name().expect("a segment has a name"));
        let written = fs::metadata(&last).map_or(0, |metadata| metadata.len());
        // A segment that was begun since is behind the promise, and is left as it is.
        if segments(&next).last() == Some(&last) && written > length {
            let kept = between(&mut state.dice, length.max(SEGMENT_HEADER_LENGTH), written);
            let file = fs::OpenOptions::new().write(true).open(&last).expect("it was just copied");
            file.set_len(kept).expect("it can be cut");
        }
        if state.dice.throw() < 0.4 {
            // sled had written nothing since the beginning, and so upkeep had removed nothing.
            remove_tree(&next.join("queue"));
            copy_tree(&process.early.join("queue"), &next.join("queue"));
            for segment in segments(&process.early) {
                let to = next.join("journal").join(segment.file_name().expect("a segment has a name"));
                if !to.exists() {
                    fs::copy(&segment, &to).expect("there is room for a segment");
                }
            }
        }
        state.left = Some(next);
        state.over = true;
    }

    /// What is on disk now is promised.
    pub fn promise(&self) {
        let process = self.process();
        let Some(process) = process.as_ref() else { return };
        let last = segments(&process.directory).pop();
        let mut state = self.state();
        if let Some(last) = last.filter(|_| !state.over) {
            let length = fs::metadata(&last).map_or(0, |metadata| metadata.len());
            state.durable = (last, length);
        }
    }

    fn told_delivered(&self, life: u32, id: Id) {
        let mut state = self.state();
        if state.over || state.life != life {
            return;
        }
        let text = state.events.get(&id).map(|event| event.text.clone());
        match text {
            Some(text) => {
                let missing: Vec<String> =
                    texts(&text).into_iter().filter(|text| !state.judge.there.contains(text)).collect();
                for text in missing {
                    state.judge.violate(format!("{text:?} is called delivered and is not there"));
                }
            }
            None => state.judge.violate(format!("envelope {id} was never accepted")),
        }
    }

    /// A customer writes, or several do.
    pub fn arrive(self: &Arc<Self>, now: Duration) {
        let mut state = self.state();
        state.repeat(now, self.settings.hours_between_bursts, Happening::Arrive);
        let most = if state.dice.throw() < 0.02 { 60 } else { 4 };
        for _ in 0..between(&mut state.dice, 1, most) {
            let conversation = between(&mut state.dice, 1, self.settings.conversations);
            let number = state.next_number.entry(conversation).or_default();
            *number += 1;
            let place = format!("c{conversation}/{number}");
            let text = match between(&mut state.dice, 0, 99) {
                0..=1 => format!("bad {place}"),
                2 => format!("sick {place}"),
                3..=12 => format!("twice {place}"),
                13..=24 => format!("filed {place}"),
                25..=30 => format!("moved {place}"),
                _ => place,
            };
            let envelope = Box::new(envelope(conversation, text));
            // Some platforms send twice what they send.
            if state.dice.throw() < 0.05 {
                let later = Duration::from_millis(between(&mut state.dice, 1, 500_000));
                state.schedule_at(now + later, Happening::Post(envelope.clone()));
            }
            let moment = Duration::from_millis(between(&mut state.dice, 0, 5000));
            state.schedule_at(now + moment, Happening::Post(envelope));
        }
    }

    /// A request comes in; while nobody is there, or who is there is on his way out, it comes again.
    pub fn post(&self, mut envelope: Envelope, now: Duration) {
        let spool = self.process().as_ref().map(|process| process.spool.clone());
        let is_open = |state: &State| !state.stopping && !state.over;
        let Some(spool) = spool.filter(|_| is_open(&self.state())) else {
            self.state().schedule_at(now + Duration::from_secs(30), Happening::Post(Box::new(envelope)));
            return;
        };
        envelope.received_at = self.clock.now();
        let text = String::from_utf8_lossy(&envelope.body).into_owned();
        let receipt = spool.put_and_wait(vec![envelope]);
        self.promise();
        let mut state = self.state();
        let known = state.accepted.get(&text).copied();
        match receipt.as_ref().map(|receipt| receipt.ids.first()) {
            Ok(Some(id)) => {
                if known.is_some_and(|at| now < at + DEDUPE_WINDOW) {
                    state.judge.violate(format!("{text:?} was accepted twice"));
                }
                let days = Duration::from_secs(between(&mut state.dice, 0, 5 * 86_400));
                let sick_until = if text.starts_with("sick") { now + days } else { Duration::ZERO };
                for step in 0..STEPS_MAX {
                    let number = u32::try_from(step).expect("plans are short");
                    state.markers.insert(marker(&spool.identity(), *id, number), *id);
                    state.markers.insert(tag(*id, step), *id);
                }
                state.accepted.insert(text.clone(), now);
                state.events.insert(*id, Event { text, sick_until });
                state.step_at = now;
                drop(state);
                // A put enters the queue a moment after it was answered.
                spool.entry(*id).expect("the spool can be read");
            }
            Ok(None) if known.is_some_and(|at| now < at + DEDUPE_WINDOW) => {}
            Ok(None) => state.judge.violate(format!("{text:?} was taken for a duplicate")),
            Err(error) => state.judge.violate(format!("{text:?} was not taken: {error}")),
        }
    }
}

fn envelope(conversation: u64, text: String) -> Envelope {
    Envelope {
        id: 0,
        received_at: START,
        source: "test".into(),
        kind: String::new(),
        event_id: text.clone(),
        dedupe: hash_of(&[text.as_bytes()]),
        dedupe_window: DEDUPE_WINDOW,
        conversation: format!("c{conversation}"),
        peer: "127.0.0.1".into(),
        context: Vec::new(),
        body: text.into_bytes(),
        born_dead: None,
        origin: None,
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory.join("journal"))
        .expect("a spool has a journal")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

/// What vanishes meanwhile is not missed: upkeep removes segments when it likes, the oldest first. So the newest are
/// copied first, or the copy could lack one in the middle.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("there is room for a directory");
    let entries = fs::read_dir(from).expect("it can be listed").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names.into_iter().rev() {
        let (path, to) = (from.join(&name), to.join(&name));
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            let _ = fs::copy(&path, &to);
        }
    }
}

fn remove_tree(directory: &Path) {
    fs::remove_dir_all(directory).expect("it is ours");
}
