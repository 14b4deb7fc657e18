//! A server on loopback that plays a script, one connection after the other: what a stand-in for
//! Freshdesk cannot do politely (resets, half answers, silence). For tests only.

use super::{ApiKey, Client, ClientConfig};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// What the server does with one request. All but `Keep` end the connection.
pub(super) enum Act {
    /// Reads the request and sends these bytes.
    Answer(Vec<u8>),
    /// The same, and leaves the connection open for the next act.
    Keep(Vec<u8>),
    /// Sends these bytes at once, reads what comes until the client gives up.
    Greet(Vec<u8>),
    /// Closes without reading.
    Close,
    /// Resets without reading, once bytes of the request have arrived. (A reset that comes earlier may
    /// or may not fail the client's `connect`, and both would be right.)
    Reset,
    /// Reads the request, then resets.
    ReadAndReset,
    /// Reads the request and says nothing until the client gives up.
    Stall,
    /// Sends these bytes and then nothing until the client gives up.
    AnswerAndStall(Vec<u8>),
    /// Sends one byte at a time, with pauses, until the client gives up.
    Drip(Vec<u8>),
}

/// The running server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: mpsc::Receiver<String>,
}

impl Server {
    /// Plays `acts` in a thread of its own.
    pub(super) fn play(acts: Vec<Act>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            let mut acts = acts.into_iter().peekable();
            while acts.peek().is_some() {
                let (mut stream, _) = listener.accept().unwrap();
                for act in acts.by_ref() {
                    let keep = matches!(act, Act::Keep(_));
                    perform(act, &mut stream, &sender);
                    if !keep {
                        break;
                    }
                }
            }
        });
        Server { address, requests }
    }

    /// The requests read so far, in order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }

    /// The first line of each request read so far.
    pub(super) fn request_lines(&self) -> Vec<String> {
        let first = |request: String| request.lines().next().unwrap_or_default().to_owned();
        self.requests().into_iter().map(first).collect()
    }

    /// A client of this server.
    pub(super) fn client(&self) -> Client {
        Client::new(config(format!("http://{}", self.address))).unwrap()
    }
}

/// Settings for a test: patient unless the test changes that.
pub(super) fn config(url: String) -> ClientConfig {
    ClientConfig {
        url,
        api_key: ApiKey::from("key".to_owned()),
        timeout: Duration::from_secs(20),
        marker_field: None,
        ca_file: None,
        proxy: None,
    }
}

/// An answer in full, after which the connection ends.
pub(super) fn http(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// A 200 with JSON.
pub(super) fn json(body: &str) -> Act {
    Act::Answer(http("200 OK", &["Content-Type: application/json"], body))
}

fn perform(act: Act, stream: &mut TcpStream, requests: &mpsc::Sender<String>) {
    let read = |stream: &mut TcpStream| {
        // A test that is over does not care for its last requests.
        let _ = requests.send(read_request(stream));
    };
    match act {
        Act::Close => {}
        Act::Greet(bytes) => {
            stream.write_all(&bytes).unwrap();
            wait_for_end(stream);
        }
        Act::Reset => {
            stream.peek(&mut [0]).unwrap();
            reset(stream);
        }
        Act::ReadAndReset => {
            read(stream);
            reset(stream);
        }
        Act::Answer(bytes) | Act::Keep(bytes) => {
            read(stream);
            stream.write_all(&bytes).unwrap();
        }
        Act::Stall => {
            read(stream);
            wait_for_end(stream);
        }
        Act::AnswerAndStall(bytes) => {
            read(stream);
            stream.write_all(&bytes).unwrap();
            wait_for_end(stream);
        }
        Act::Drip(bytes) => {
            read(stream);
            drip(stream, &bytes);
        }
    }
}

/// Makes the close that follows a reset.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn wait_for_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

/// The pause between bytes is a read that times out; the end of the client's patience ends it too.
fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for byte in bytes {
        let gone = matches!(stream.read(&mut [0]), Ok(0)) || stream.write_all(&[*byte]).is_err();
        if gone {
            return;
        }
    }
}

pub(super) fn read_request(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return String::from_utf8(request).unwrap();
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}
