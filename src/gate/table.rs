//! The connection table: who is connected, what each connection is waiting for, and who has to go
//! when it is full.
//!
//! **Invariants:** a newcomer is let in at the cost of the connection that has been unfinished longest,
//! so clients that are slow on purpose push out each other and not the honest; a request that is
//! complete is never cut off. An evicted connection is shut for reading only: what has already arrived
//! is still served, and its thread never blocks again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::stream::Socket;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle = 0,
    /// A request is arriving.
    Reading = 1,
    /// A request is complete and being answered.
    Complete = 2,
}

/// One connection in the table.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    /// The client's address.
    pub peer: IpAddr,
    socket: Socket,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since the table was made.
    since_millis: AtomicU64,
    is_evicted: AtomicBool,
    table: Arc<Table>,
}

impl Slot {
    /// The connection enters `phase`.
    pub fn enter(&self, phase: Phase) {
        self.since_millis.store(self.table.now_millis(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// No further request is wanted from this connection.
    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Nothing more is read than what has already arrived.
    pub fn shut_reading(&self) {
        self.shut(Shutdown::Read);
    }

    fn is_in(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::SeqCst) == phase as u8
    }

    /// Shutting a socket that the client has closed already fails, and that is as good.
    fn shut(&self, how: Shutdown) {
        let _ = self.socket.0.shutdown(how);
    }
}

/// A place in the table, held by the connection's thread; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Seat(pub Arc<Slot>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.table.leave(self.0.id);
    }
}

/// How many may be in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub connections: usize,
    pub per_ip: usize,
}

/// Somebody who wants to come in.
pub(super) struct Newcomer {
    pub peer: IpAddr,
    pub socket: Socket,
    /// The cap per address does not apply: loopback and trusted proxies speak for many.
    pub is_exempt: bool,
}

#[derive(Debug, Default)]
struct Entries {
    slots: BTreeMap<u64, Arc<Slot>>,
    next_id: u64,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Table {
    started: Instant,
    entries: Mutex<Entries>,
    /// A connection left.
    left: Condvar,
    evicted: AtomicU64,
}

impl Table {
    /// An empty table.
    pub fn new() -> Arc<Table> {
        Arc::new(Table {
            started: Instant::now(),
            entries: Mutex::default(),
            left: Condvar::new(),
            evicted: AtomicU64::new(0),
        })
    }

    /// Lets `newcomer` in, if need be at the cost of an unfinished connection; `None` when all others are
    /// being answered.
    pub fn admit(self: &Arc<Table>, newcomer: Newcomer, caps: Caps) -> Option<Seat> {
        let Newcomer { peer, socket, is_exempt } = newcomer;
        let mut entries = self.entries();
        let is_same = |slot: &Slot| block_of(slot.peer) == block_of(peer);
        if !is_exempt && entries.count(is_same) >= caps.per_ip && !self.evict(&entries, is_same) {
            return None;
        }
        if entries.count(|_| true) >= caps.connections && !self.evict(&entries, |_| true) {
            return None;
        }
        entries = self.await_departures(entries, caps.connections)?;
        let id = entries.next_id;
        entries.next_id += 1;
        let slot = Arc::new(Slot {
            id,
            peer,
            socket,
            phase: AtomicU8::new(Phase::Idle as u8),
            since_millis: AtomicU64::new(self.now_millis()),
            is_evicted: AtomicBool::new(false),
            table: Arc::clone(self),
        });
        entries.slots.insert(id, Arc::clone(&slot));
        Some(Seat(slot))
    }

    /// Evicts the connection that has been unfinished longest.
    pub fn evict_oldest(&self) -> bool {
        self.evict(&self.entries(), |_| true)
    }

    /// Waits a moment, but not when somebody leaves.
    pub fn await_departure(&self, at_most: Duration) {
        let waited = self.left.wait_timeout(self.entries(), at_most);
        drop(waited.expect(NO_PANIC));
    }

    /// Waits until the table is empty or `deadline` has passed, and says how many are left.
    pub fn await_empty(&self, deadline: Instant) -> usize {
        let mut entries = self.entries();
        while !entries.slots.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            entries = self.left.wait_timeout(entries, left).expect(NO_PANIC).0;
        }
        entries.slots.len()
    }

    /// Tells connections between requests that there will be no next one.
    pub fn shut_idle(&self) {
        for slot in self.entries().slots.values().filter(|slot| slot.is_in(Phase::Idle)) {
            slot.shut(Shutdown::Read);
        }
    }

    /// Cuts everything off.
    pub fn shut_all(&self) {
        for slot in self.entries().slots.values() {
            slot.is_evicted.store(true, Ordering::Relaxed);
            slot.shut(Shutdown::Both);
        }
    }

    /// Open connections.
    pub fn open_count(&self) -> usize {
        self.entries().slots.len()
    }

    /// Connections evicted so far.
    pub fn evicted_count(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Evicted connections go within moments. Until then they hold a descriptor and a thread each, so a
    /// storm of newcomers has to wait for them.
    fn await_departures<'a>(
        &'a self,
        mut entries: MutexGuard<'a, Entries>,
        connections_max: usize,
    ) -> Option<MutexGuard<'a, Entries>> {
        let leaving_max = (connections_max / 8).clamp(2, 32);
        let deadline = Instant::now() + Duration::from_millis(250);
        while entries.slots.len() >= connections_max + leaving_max {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            entries = self.left.wait_timeout(entries, left).expect(NO_PANIC).0;
        }
        Some(entries)
    }

    fn evict(&self, entries: &Entries, may_go: impl Fn(&Slot) -> bool) -> bool {
        let unfinished =
            |slot: &&Arc<Slot>| !slot.is_evicted() && !slot.is_in(Phase::Complete) && may_go(slot);
        let oldest = entries.slots.values().filter(unfinished);
        let oldest = oldest.min_by_key(|slot| slot.since_millis.load(Ordering::Relaxed));
        let Some(oldest) = oldest else { return false };
        oldest.is_evicted.store(true, Ordering::Relaxed);
        oldest.shut(Shutdown::Read);
        self.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn leave(&self, id: u64) {
        if let Ok(mut entries) = self.entries.lock() {
            entries.slots.remove(&id);
        }
        self.left.notify_all();
    }

    pub fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics while it holds the table";

impl Entries {
    /// Connections that count against a cap: those on their way out do not.
    fn count(&self, counts: impl Fn(&Slot) -> bool) -> usize {
        self.slots.values().filter(|slot| !slot.is_evicted() && counts(slot)).count()
    }
}

/// The addresses that one customer of a provider has to choose from: one of IPv4, a /64 of IPv6.
fn block_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A table with two places, and one for each address.
    struct Room {
        listener: TcpListener,
        table: Arc<Table>,
        clients: Vec<TcpStream>,
    }

    impl Room {
        fn new() -> Room {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            Room { listener, table: Table::new(), clients: Vec::new() }
        }

        fn admit(&mut self, peer: &str, is_exempt: bool, caps: (usize, usize)) -> Option<Seat> {
            let address = self.listener.local_addr().expect("an address");
            self.clients.push(TcpStream::connect(address).expect("a connection"));
            let (stream, _) = self.listener.accept().expect("a connection");
            let socket = Socket(Arc::new(stream));
            let newcomer = Newcomer { peer: peer.parse().expect("an address"), socket, is_exempt };
            self.table.admit(newcomer, Caps { connections: caps.0, per_ip: caps.1 })
        }
    }

    #[test]
    fn the_oldest_unfinished_connection_goes() {
        let mut room = Room::new();
        let [first, second] =
            ["1.1.1.1", "2.2.2.2"].map(|peer| room.admit(peer, false, (2, 2)).expect("room"));
        first.0.enter(Phase::Complete);
        let third = room.admit("3.3.3.3", false, (2, 2)).expect("the second has to go");
        assert_eq!([&first, &second, &third].map(|seat| seat.0.is_evicted()), [false, true, false]);
        third.0.enter(Phase::Complete);
        assert!(room.admit("4.4.4.4", false, (2, 2)).is_none(), "both are being answered");
        drop(first);
        assert!(room.admit("4.4.4.4", false, (2, 2)).is_some());
    }

    #[test]
    fn an_address_over_its_cap_evicts_its_own() {
        let mut room = Room::new();
        let other = room.admit("2001:db8:0:1::1", false, (9, 1)).expect("room");
        let own = room.admit("1.1.1.1", false, (9, 1)).expect("room");
        let newer = room.admit("1.1.1.1", false, (9, 1)).expect("its older one has to go");
        assert_eq!([&other, &own, &newer].map(|seat| seat.0.is_evicted()), [false, true, false]);
        let same_block = room.admit("2001:db8:0:1::ffff", false, (9, 1)).expect("its older one has to go");
        assert!(other.0.is_evicted());
        same_block.0.enter(Phase::Complete);
        assert!(room.admit("2001:db8:0:1::2", false, (9, 1)).is_none());
        let another_block = room.admit("2001:db8:0:2::1", false, (9, 1)).expect("another block");
        let _kept = [1, 2, 3].map(|_| room.admit("127.0.0.1", true, (9, 1)).expect("exempt"));
        assert!(!another_block.0.is_evicted() && !newer.0.is_evicted());
    }

    #[test]
    fn an_evicted_connection_reads_what_came_and_then_the_end() {
        use std::io::{Read, Write};
        let mut room = Room::new();
        let seat = room.admit("1.1.1.1", false, (1, 1)).expect("room");
        room.clients[0].write_all(b"late").expect("a byte");
        // A client on loopback has delivered before its write returns.
        assert!(room.table.evict_oldest());
        let mut socket = seat.0.socket.clone();
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("no reset");
        assert_eq!(text, "late");
    }

    #[test]
    fn waiting_for_an_empty_table_is_bounded() {
        let mut room = Room::new();
        let seat = room.admit("1.1.1.1", false, (1, 1)).expect("room");
        assert_eq!(room.table.await_empty(Instant::now()), 1);
        drop(seat);
        assert_eq!(room.table.await_empty(Instant::now() + Duration::from_secs(60)), 0);
    }
}
