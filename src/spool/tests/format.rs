//! Spools of earlier versions: one of each format is kept in `tests/spools/`, and opens for ever.
//!
//! `UPDATE_GOLDEN=1` writes the present format's again; do so only before that format was released.

use super::super::segment::{FORMAT, SEGMENT_HEADER_LENGTH};
use super::*;

fn stored(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/spools/format-{format}"))
}

/// A rig over a copy of a stored spool; it is not open yet.
fn rig_of(format: u32) -> Rig {
    let mut rig = Rig::new();
    rig.close();
    for name in ["journal", "queue"] {
        std::fs::remove_dir_all(rig.directory.path().join(name)).unwrap();
    }
    std::fs::create_dir(rig.directory.path().join("journal")).unwrap();
    for name in ["identity", "journal/00000001.seg"] {
        std::fs::copy(stored(format).join(name), rig.directory.path().join(name)).unwrap();
    }
    rig
}

fn write_present_format() {
    let mut rig = Rig::new();
    for event in ["delivered", "deferred", "dead", "in doubt", "queued"] {
        rig.put(event, event);
    }
    rig.deliver(8812);
    let lease = rig.lease_soon();
    rig.spool().begin(2, START, None).unwrap();
    rig.settle(&lease, deferred(&rig, &lease, Duration::from_secs(60)));
    let lease = rig.lease_soon();
    rig.settle(&lease, buried());
    rig.lease_soon();
    rig.spool().begin(4, START, None).unwrap();
    rig.close();
    std::fs::create_dir_all(stored(FORMAT).join("journal")).unwrap();
    for name in ["identity", "journal/00000001.seg"] {
        std::fs::copy(rig.directory.path().join(name), stored(FORMAT).join(name)).unwrap();
    }
}

#[test]
fn a_spool_of_format_1_opens_and_says_what_it_said() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() && FORMAT == 1 {
        write_present_format();
    }
    let mut rig = rig_of(1);
    rig.open();
    assert_eq!((rig.waiting(), rig.recovery.lost.len(), rig.recovery.damaged.len()), (4, 0, 0));
    assert!(rig.spool().entry(1).unwrap().is_none(), "it was delivered");
    let stands = |id| rig.spool().entry(id).unwrap().expect("it waits").0;
    let (second, third, fourth, fifth) = (stands(2), stands(3), stands(4), stands(5));
    assert_eq!((second.state, second.attempts, second.reason.as_str()), (State::Deferred, 1, "503"));
    assert_eq!(second.due, START.plus(Duration::from_secs(60)));
    assert_eq!((third.state, third.reason.as_str()), (State::Dead, "mapping: subject rendered empty"));
    assert_eq!(fourth.doubt, Some(Doubt { since: START, looks: 0, ticket: None }));
    assert_eq!((fifth.state, fifth.attempts), (State::Queued, 0));
    let envelope = rig.spool().envelope(&fifth).unwrap();
    assert_eq!(envelope, Envelope { id: 5, ..rig.envelope("queued", "queued") });
}

#[test]
fn a_newer_format_is_refused_with_the_way_back_and_left_as_it_is() {
    let rig = rig_of(1);
    let path = rig.directory.path().join("journal").join(journal::segment_name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..usize::try_from(SEGMENT_HEADER_LENGTH).expect("small")]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let refused = Spool::open(rig.directory.path(), rig.limits.clone(), rig.clock.clone());
    let text = refused.map(drop).expect_err("it is newer").to_string();
    assert!(text.starts_with("spool format 2 was written by a newer deskspool (this is "), "{text}");
    assert!(text.ends_with("with that one: deskspool export"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_queue_of_the_first_layout_moves_into_blocks() {
    let mut rig = rig_of(1);
    std::fs::remove_file(rig.directory.path().join("journal/00000001.seg")).unwrap();
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spools/queue-1");
    copy_all(&stored, &rig.directory.path().join("queue"));
    rig.open();
    assert_eq!(
        (rig.recovery.queue_set_aside.clone(), rig.recovery.removed),
        (None, 4),
        "the journal knows of none"
    );
    // What only the queue knew: history, identities, tickets, the numbers of the status page.
    let settled = rig.spool().settled(1).unwrap().expect("it was delivered");
    assert_eq!((settled.event_id.as_str(), settled.ticket), ("delivered", Some(8812)));
    for event in ["delivered", "deferred", "dead", "in doubt", "queued"] {
        let receipt = rig.spool().put_and_wait(vec![rig.envelope("delivered", event)]).unwrap();
        assert_eq!((receipt.ids.len(), receipt.duplicates), (0, 1), "{event}");
    }
    assert_eq!(rig.put("delivered", "new"), 6);
    assert_eq!(rig.lease_soon().ticket, Some(8812));
    assert_eq!(rig.spool().periods(1, 0).unwrap(), [(7, vec![1, 2, 3])]);
    rig.reopen();
    assert!(rig.spool().settled(1).unwrap().is_some(), "it moved once");
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
