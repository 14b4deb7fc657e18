//! A closed loop of posts over keep-alive connections: one thread, one `epoll`.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The body of one post.
pub const BODY_BYTES: usize = 2048;
/// The share of a pass that is driven before it is measured.
const WARM_UP: f64 = 0.2;
/// Longest wait for an answer; past it the server is not one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Posts of one conversation.
const POSTS_PER_CONVERSATION: u64 = 4;
const DIGITS: usize = 16;

/// What one pass came to.
pub struct Pass {
    /// How long was measured.
    pub took: Duration,
    /// From a post to its answer, in nanoseconds, sorted.
    pub latencies: Vec<u64>,
    /// Answers other than 200.
    pub refused: u64,
}

impl Pass {
    /// A pass of these latencies.
    pub fn new(took: Duration, mut latencies: Vec<u64>, refused: u64) -> Pass {
        latencies.sort_unstable();
        Pass { took, latencies, refused }
    }

    /// Posts per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the posts did not exceed.
    pub fn latency_millis(&self, share: f64) -> f64 {
        let index = (self.latencies.len() as f64 * share) as usize;
        let found = self.latencies.get(index.min(self.latencies.len().saturating_sub(1)));
        found.map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
    }
}

/// One request's bytes; only its numbers change from post to post.
pub struct Post {
    bytes: Vec<u8>,
    event_at: usize,
    conversation_at: usize,
}

impl Post {
    /// A post to `host`.
    pub fn new(host: SocketAddr) -> Post {
        let zeros = "0".repeat(DIGITS);
        let start = format!(
            "{{\"event_id\":\"evt-{zeros}\",\"conversation_id\":\"conv-{zeros}\",\"type\":\"message\",\
             \"channel\":\"whatsapp\",\"contact\":{{\"name\":\"Ana Ruiz\",\"email\":\"ana.ruiz@example.com\",\
             \"phone\":\"+57 300 111 2233\",\"tags\":[\"vip\",\"bogota\"],\"variables\":{{\"city\":\"Bogotá\",\
             \"plan\":\"anual\",\"orders\":17,\"balance\":120.50}}}},\"bot\":{{\"id\":\"b1\",\"name\":\"Pagos\"}},\
             \"message\":\""
        );
        let text = "¿Dónde está mi pedido? Lo pagué el lunes y nadie contesta. ";
        let mut body = start;
        while body.len() + text.len() + 2 <= BODY_BYTES {
            body.push_str(text);
        }
        body.push_str(&".".repeat(BODY_BYTES - 2 - body.len()));
        body.push_str("\"}");
        let head = format!(
            "POST /in/bench HTTP/1.1\r\nHost: {host}\r\nUser-Agent: road\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            super::servers::SECRET,
            body.len()
        );
        let place = |of: &str| head.len() + body.find(of).expect("it is in the body") + of.len();
        let (event_at, conversation_at) = (place("evt-"), place("conv-"));
        Post { bytes: [head.into_bytes(), body.into_bytes()].concat(), event_at, conversation_at }
    }

    /// The bytes of post number `number`.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        for (at, number) in [(self.event_at, number), (self.conversation_at, number / POSTS_PER_CONVERSATION)]
        {
            let digits = format!("{number:0DIGITS$}");
            self.bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
        }
        &self.bytes
    }

    /// The body of post number `number`.
    pub fn body(&mut self, number: u64) -> &[u8] {
        let bytes = self.numbered(number);
        &bytes[bytes.len() - BODY_BYTES..]
    }
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    sent_at: Instant,
}

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).expect("a socket of ours");
        Connection { stream, answer: Vec::new(), sent_at: Instant::now() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.answer.clear();
        self.sent_at = Instant::now();
        // Nothing else is on its way, so the kernel takes a small request whole.
        let sent = self.stream.write(bytes).expect("the server keeps the connection");
        assert_eq!(sent, bytes.len(), "a small request fits an empty socket buffer");
    }

    /// Reads what is there; the status once the answer is complete.
    fn receive(&mut self) -> Option<u16> {
        let mut bytes = [0; 2048];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the server closed: {}", String::from_utf8_lossy(&self.answer)),
            Ok(count) => self.answer.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the server broke the connection: {error}"),
        }
        complete(&self.answer)
    }
}

/// The status of an answer of which every byte is here.
fn complete(answer: &[u8]) -> Option<u16> {
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..head_end]).expect("answers are ASCII");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |digits| digits.trim().parse().expect("a number"));
    (answer.len() >= head_end + length).then(|| head[9..12].parse().expect("a status"))
}

/// Drives `connections` connections for `seconds`, and as long as a warm-up before. Waits for what is
/// outstanding at the end.
pub fn drive(address: SocketAddr, connections: usize, seconds: f64) -> Pass {
    let mut clients: Vec<Connection> = (0..connections).map(|_| Connection::open(address)).collect();
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
    for (index, client) in clients.iter().enumerate() {
        epoll::add(&poll, &client.stream, EventData::new_u64(index as u64), EventFlags::IN).expect("room");
    }
    let mut post = Post::new(address);
    let mut numbers = 1..;
    let mut next = |client: &mut Connection| client.send(post.numbered(numbers.next().expect("endless")));
    clients.iter_mut().for_each(&mut next);
    let begins = Instant::now() + Duration::from_secs_f64(seconds * WARM_UP);
    let ends = begins + Duration::from_secs_f64(seconds);
    let (mut latencies, mut refused, mut outstanding) = (Vec::with_capacity(1 << 16), 0, connections);
    let mut events: Vec<Event> = Vec::with_capacity(connections);
    let patience = rustix::event::Timespec::try_from(PATIENCE).expect("a short time");
    while outstanding > 0 {
        events.clear();
        let ready = epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience));
        assert!(ready.expect("an epoll of ours") > 0, "no answer for {PATIENCE:?}");
        for event in &events {
            let client = &mut clients[usize::try_from(event.data.u64()).expect("an index of ours")];
            let Some(status) = client.receive() else { continue };
            let now = Instant::now();
            if now > begins && now <= ends {
                latencies.push((now - client.sent_at).as_nanos() as u64);
                refused += u64::from(status != 200);
            }
            if now < ends {
                next(client);
            } else {
                outstanding -= 1;
            }
        }
    }
    Pass::new(Duration::from_secs_f64(seconds), latencies, refused)
}
