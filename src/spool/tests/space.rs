//! Disks that are full or fail, generations of the queue, clean stops, and queues that are tried first.

use super::super::ground::Disk;
use super::*;
use std::fs;

impl Rig {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Opens with other sizes, or a probe.
    fn open_on(&mut self, change: impl FnOnce(&mut Ground)) {
        let mut ground = Ground { disk: self.disk.clone(), ..Ground::default() };
        change(&mut ground);
        let opened = Spool::open_on(ground, self.directory.path(), self.limits.clone(), self.clock.clone());
        let (spool, recovery) = opened.expect("the spool opens");
        self.spool = Some(spool);
        self.recovery = recovery;
    }

    fn put_many(&self, events: std::ops::Range<u64>) {
        let envelopes = events.map(|event| self.envelope(&event.to_string(), &event.to_string()));
        self.spool().put_and_wait(envelopes.collect()).expect("there is room");
    }
}

fn probe(script: &str, patience: Duration) -> Option<Probe> {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    Some(Probe { program: "/bin/sh".into(), arguments, patience, bytes_per_second: u64::MAX })
}

#[test]
fn a_queue_that_makes_its_opener_fail_panic_or_hang_is_set_aside_and_rebuilt() {
    for (script, patience) in
        [("exit 11", 60), ("exit 101", 60), ("kill -SEGV $$", 60), ("exec sleep 1000", 1)]
    {
        let mut rig = Rig::new();
        rig.put_many(0..20);
        rig.close();
        rig.open_on(|ground| ground.probe = probe(script, Duration::from_secs(patience)));
        assert_eq!(rig.recovery.queue_set_aside.as_deref(), Some("queue.damaged.1"), "{script}");
        assert_eq!((rig.recovery.waiting, rig.recovery.mended, rig.recovery.was_clean), (20, 20, false));
        assert_eq!(rig.deliver(1), 1);
    }
}

#[test]
fn a_queue_that_cannot_be_tried_or_is_sound_stays() {
    for script in ["exit 0", "exit 10", "exit 127"] {
        let mut rig = Rig::new();
        rig.put_many(0..3);
        rig.close();
        rig.open_on(|ground| ground.probe = probe(script, Duration::from_secs(60)));
        assert_eq!((rig.recovery.queue_set_aside.as_ref(), rig.recovery.was_clean), (None, true), "{script}");
    }
    let mut rig = Rig::new();
    rig.put_many(0..3);
    rig.close();
    let nobody = Probe { program: "/nonexistent".into(), ..probe("", Duration::from_secs(60)).unwrap() };
    rig.open_on(|ground| ground.probe = Some(nobody));
    assert_eq!((rig.recovery.queue_set_aside.as_ref(), rig.recovery.waiting), (None, 3));
}

#[test]
fn queues_that_were_set_aside_do_not_pile_up() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.close();
        rig.open_on(|ground| ground.probe = probe("exit 11", Duration::from_secs(60)));
    }
    let names = fs::read_dir(rig.directory.path()).unwrap().flatten().map(|entry| entry.file_name());
    let mut kept: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
    kept.retain(|name| name.starts_with("queue.damaged."));
    kept.sort();
    assert_eq!(kept, ["queue.damaged.3", "queue.damaged.4", "queue.damaged.5"]);
}

#[test]
fn the_real_probe_tells_a_sound_queue_from_a_damaged_one() {
    let mut rig = Rig::new();
    rig.put_many(0..200);
    rig.close();
    let queue = rig.path("queue/1");
    assert_eq!(try_queue(&queue, true), 0);
    let conf = OpenOptions::new().write(true).open(queue.join("conf")).unwrap();
    conf.set_len(conf.metadata().unwrap().len() / 2).unwrap();
    assert_eq!(try_queue(&queue, true), 11);
}

#[test]
fn a_clean_stop_is_believed_once_and_only_if_nothing_was_touched() {
    type Touch = fn(&Rig);
    let touches: [(&str, bool, Touch); 5] = [
        ("nothing", true, |_| {}),
        ("a byte of the queue", false, |rig| {
            let db = OpenOptions::new().write(true).open(rig.path("queue/1/db")).unwrap();
            db.write_all_at(&[0xa5], db.metadata().unwrap().len() - 1).unwrap();
        }),
        ("a segment", false, |rig| rig.damage(1, 1_000)),
        ("a segment more", false, |rig| fs::write(rig.path("journal/00000009.seg"), b"").unwrap()),
        ("the mark", false, |rig| {
            let mark = OpenOptions::new().write(true).open(rig.path("clean")).unwrap();
            mark.write_all_at(b"?", 9).unwrap();
        }),
    ];
    for (what, is_believed, touch) in touches {
        let mut rig = Rig::new();
        rig.put_many(0..20);
        rig.deliver(7);
        rig.close();
        assert!(rig.path("clean").exists());
        touch(&rig);
        rig.open();
        assert_eq!(rig.recovery.was_clean, is_believed, "{what}");
        assert!(!rig.path("clean").exists(), "it is believed once");
        assert_eq!((rig.waiting(), rig.put("a", "new")), (19, 21), "{what}");
    }
}

#[test]
fn a_stop_with_an_attempt_under_way_is_not_clean() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let lease = rig.lease_soon();
    rig.spool().begin(lease.envelope.id, START, None).unwrap();
    rig.reopen();
    assert!(!rig.recovery.was_clean);
    assert!(rig.lease_soon().doubt.is_some(), "it is looked for before it is sent again");
}

#[test]
fn a_queue_that_is_mostly_garbage_is_rewritten_while_it_works_on() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("queue");
    let ground = Ground { renew_bytes_min: 1 << 20, ..Ground::default() };
    let queue = Queue::open(&home, ground.clone()).unwrap();
    let envelope = Rig::new().envelope("a", "1");
    let entry = |id: Id| Entry {
        conversation: hash_of(&[&id.to_be_bytes()]),
        ..Entry::of(&envelope, Place { segment: 1, offset: 64, length: 300 })
    };
    let fill = 30_000;
    (1..=fill).for_each(|id| queue.put_new_entry(id, &entry(id)));
    queue.remember([7; 16], START);
    queue.set_ticket([8; 16], 4711, START);
    queue.step().unwrap();
    (11..=fill).for_each(|id| queue.remove_entry(id));
    queue.step().unwrap();
    assert!(queue.renew_if_worth_it().unwrap(), "next to nothing lives");
    // What is told while it is copied: before and behind the place of the copy, and in between a step.
    queue.remove_entry(1);
    queue.put_new_entry(fill + 1, &entry(fill + 1));
    assert!(!queue.renew_step().unwrap());
    queue.remove_entry(2);
    queue.set_ticket([8; 16], 4712, START);
    queue.set_ticket([9; 16], 4713, START);
    queue.step().unwrap();
    while !queue.renew_step().unwrap() {
        assert!(queue.entry(3).unwrap().is_some(), "it answers all the while");
    }
    assert!(home.join("2/built").exists() && !home.join("1").exists());
    let check = |queue: &Queue| {
        let ids: Vec<Id> = queue.entries(0).unwrap().iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [3, 4, 5, 6, 7, 8, 9, 10, fill + 1]);
        assert!(queue.is_duplicate([7; 16], Timestamp(0)).unwrap());
        let tickets = [[8; 16], [9; 16]].map(|hash| queue.ticket_of(hash).unwrap().map(|(ticket, _)| ticket));
        assert_eq!(tickets, [Some(4712), Some(4713)]);
    };
    check(&queue);
    queue.flush().unwrap();
    queue.close();
    check(&Queue::open(&home, ground).unwrap());
}

#[test]
fn a_queue_whose_sync_failed_is_relied_on_in_another_file_only() {
    let directory = tempfile::tempdir().unwrap();
    let (home, disk) = (directory.path().join("queue"), Arc::new(TestDisk::default()));
    let queue = Queue::open(&home, Ground { disk: disk.clone(), ..Ground::default() }).unwrap();
    queue.set_ticket([8; 16], 4711, START);
    disk.fail_next_sync();
    assert!(queue.flush().is_err());
    queue.set_ticket([9; 16], 4712, START);
    queue.come_back().unwrap();
    // The next sync would succeed, though what failed to sync may not be on the disk.
    assert!(matches!(queue.flush(), Err(QueueError::Unsure)));
    assert!(queue.renew_if_worth_it().unwrap(), "however small it is");
    while !queue.renew_step().unwrap() {}
    assert!(home.join("2/built").exists() && !home.join("1").exists());
    queue.flush().unwrap();
    let tickets = [[8; 16], [9; 16]].map(|hash| queue.ticket_of(hash).unwrap().map(|(ticket, _)| ticket));
    assert_eq!(tickets, [Some(4711), Some(4712)]);
}

#[test]
fn a_crash_during_a_switch_leaves_one_of_the_two() {
    // What is on disk: a copy that is not complete, one that is but does not count, a pointer that is damaged.
    type Leave = fn(&Rig);
    let crashes: [(&str, &str, Leave); 4] = [
        ("while it is copied", "1", |rig| fs::create_dir(rig.path("queue/2")).unwrap()),
        ("before the pointer", "1", |rig| {
            fs::create_dir(rig.path("queue/2")).unwrap();
            fs::write(rig.path("queue/2/built"), b"").unwrap();
            fs::write(rig.path("queue/current.new"), b"2 ").unwrap();
        }),
        ("after the pointer", "2", |rig| {
            fs::rename(rig.path("queue/1"), rig.path("queue/2")).unwrap();
            fs::create_dir(rig.path("queue/1")).unwrap();
            let checksum = crc32fast::hash(b"2");
            fs::write(rig.path("queue/current"), format!("2 {checksum:08x}\n")).unwrap();
        }),
        ("and the pointer is damaged", "1", |rig| fs::write(rig.path("queue/current"), b"7 0000\n").unwrap()),
    ];
    for (when, remains, leave) in crashes {
        let mut rig = Rig::new();
        rig.put_many(0..20);
        rig.deliver(7);
        rig.close();
        leave(&rig);
        rig.open();
        assert_eq!((rig.waiting(), rig.recovery.mended), (19, 0), "{when}");
        assert!(rig.recovery.queue_set_aside.is_none(), "{when}");
        assert!(rig.path("queue").join(remains).exists(), "{when}");
        let directories = fs::read_dir(rig.path("queue")).unwrap().flatten();
        assert_eq!(directories.filter(|entry| entry.path().is_dir()).count(), 1, "{when}");
    }
}

#[test]
fn what_is_appended_counts_before_the_disk_is_asked_again() {
    let rig = Rig::new();
    let free = super::super::disk::free_bytes(rig.directory.path()).unwrap();
    let floor = free - (64 << 20);
    rig.spool().set_limits(Limits { disk_free_min: floor, ..rig.limits.clone() }).unwrap();
    // The clock stands still, so free space is asked for once.
    let mut taken = 0;
    for event in 0..64_u64 {
        let mut envelope = rig.envelope("a", &event.to_string());
        envelope.body = vec![b'x'; 2 << 20];
        match rig.spool().put_and_wait(vec![envelope]) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(matches!(error, PutError::Full("disk low")), "{error}");
                break;
            }
        }
    }
    assert!((4..=32).contains(&taken), "{taken} times 2 MiB above a floor that is 64 MiB below");
}

#[test]
fn the_reserve_is_given_up_on_a_full_disk_and_taken_again() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let lease = rig.lease_soon();
    rig.spool().begin(1, START, None).unwrap();
    assert!(rig.path("reserve").exists());
    rig.disk.fill(true);
    let refused = rig.spool().put_and_wait(vec![rig.envelope("b", "2")]);
    assert!(matches!(refused, Err(PutError::Broken(_))));
    assert!(!rig.path("reserve").exists());
    rig.settle(&lease, delivered(&lease, Some(7)));
    rig.disk.fill(false);
    assert_eq!(rig.put("b", "2"), 3, "intake reopens by itself");
    let mut seen = 0;
    for _ in 0..400 {
        if rig.path("reserve").exists() {
            break;
        }
        rig.spool().nudge();
        rig.spool().shared.upkeep_wake.notify_all();
        // Twice: the first returns at once, because of the nudge.
        for _ in 0..2 {
            seen = rig.spool().wait_for_work(seen, Duration::from_millis(50));
        }
    }
    assert!(rig.path("reserve").exists());
    rig.reopen();
    assert_eq!(rig.waiting(), 1, "what settled on the full disk is settled");
}

#[test]
fn a_preallocated_segment_is_no_longer_than_what_is_in_it() {
    let rig = Rig::new();
    rig.put("a", "1");
    let path = rig.path("journal").join(journal::segment_name(1));
    assert!(fs::metadata(&path).unwrap().len() < 4_096);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    super::super::ground::RealDisk.give_back_blocks(&file, file.metadata().unwrap().len()).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) <= 8);
}
