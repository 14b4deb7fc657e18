//! Forgetting: the texts of settled events leave the disk now instead of when it pays, and history with them.
//!
//! Nothing is rewritten in place. The journal begins a new segment, what still waits in the old ones is copied forward
//! as always, and they go; the queue is copied into a fresh generation, so that its garbage goes, too.

use super::envelope::{Ended, Envelope, Id, Try};
use super::record::Record;
use super::row::Settled;
use super::segment::{self, Met};
use super::tables::Answer;
use super::{QueueError, Spool, journal};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What history says of an event that was forgotten.
const FORGOTTEN: &str = "forgotten";

impl Spool {
    /// Calls `each` with every event whose text is in the journal, settled or not, and the number of its segment; one
    /// that was copied comes once for each copy.
    pub fn each_text(&self, mut each: impl FnMut(Envelope, u64)) -> io::Result<()> {
        let files = &self.shared.files;
        for number in journal::segment_numbers(&self.directory().join("journal"))? {
            let file = match files.open(number) {
                // Upkeep was faster: what still waits was copied behind it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            segment::walk(&file, files.identity(), |met| {
                let Met::Record { record, .. } = met else { return };
                if let Record::Put(envelope) = *record {
                    each(envelope, number);
                }
            })?;
        }
        Ok(())
    }

    /// History knows nothing more of a settled envelope.
    pub fn forget_settled(&self, id: Id) {
        self.shared.queue.remove_settled(id);
    }

    /// History knows only that there was one, whose, and that it was dropped because it was to be forgotten.
    pub fn blank_settled(&self, id: Id, settled: &Settled) {
        let last = settled.tries.last();
        let told = Try {
            number: last.map_or(0, |last| last.number),
            at: settled.settled_at,
            took: Duration::ZERO,
            ended: Ended::Rejected,
            reason: FORGOTTEN.to_owned(),
        };
        let blank = Settled {
            kind: String::new(),
            event_id: String::new(),
            conversation: String::new(),
            tries: vec![told],
            ..settled.clone()
        };
        self.shared.queue.put_settled(id, &blank);
    }

    /// Removes the journal's segments up to number `last`, after what waits in them was copied forward. Whether that
    /// was done within `patience`; if not, it goes on by itself, as when something in them is being sent right now.
    pub fn purge_journal(&self, last: u64, patience: Duration) -> Answer<bool> {
        let shared = &self.shared;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        {
            let mut core = shared.core();
            core.begins_segment = true;
            core.purge_to = core.purge_to.max(last);
            // A new segment needs a record. This one voids nothing: no number is before the first.
            let from_sequence = core.next_sequence;
            core.append_change(shared.files.identity(), Record::Void { first: 0, last: 0, from_sequence });
            core.group.waiters.push(Box::new(move |result| drop(tell.send(result))));
            core.work += 1;
        }
        shared.commit_wake.notify_one();
        match told.recv() {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => return Err(QueueError::Io(io::Error::other(failed.0.to_string()))),
            Err(_) => return Err(QueueError::Io(io::Error::other("stopping"))),
        }
        shared.core().work += 1;
        shared.upkeep_wake.notify_one();
        let is_left = |core: &mut super::Core| {
            core.segments.first_key_value().is_some_and(|(first, _)| *first <= last) && !core.stopping
        };
        let waited = shared.work_wake.wait_timeout_while(shared.core(), patience, is_left);
        Ok(!waited.expect("no thread panics while it holds the spool").1.timed_out())
    }

    /// Copies the queue into a fresh generation and removes the old one: what was removed from it is gone from the
    /// disk, too.
    pub fn renew_queue(&self) -> Answer<()> {
        let queue = &self.shared.queue;
        queue.flush()?;
        queue.begin_renewal()?;
        while !queue.renew_step()? {
            queue.step()?;
        }
        queue.flush()
    }

    /// What was set aside because it was damaged: nothing is forgotten in there.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.directory()).into_iter().flatten().filter_map(Result::ok);
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let has_any = || std::fs::read_dir(path).is_ok_and(|mut inside| inside.next().is_some());
            (name == "damaged" || name == "salvaged" || name.starts_with("queue.damaged.")) && has_any()
        };
        let mut paths: Vec<PathBuf> = names.map(|entry| entry.path()).filter(is_aside).collect();
        paths.sort();
        paths
    }
}
