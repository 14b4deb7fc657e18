//! HTTP as platforms speak it: raw bytes over a socket, one request per connection or many.

use super::PATIENCE;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The value of a header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection that is kept open.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects; reads and writes give up after a minute.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, unread: Vec::new() })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a POST and reads its answer.
    pub fn post(&mut self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        self.send(&request("POST", target, headers, body))?;
        self.answer()
    }

    /// Reads one answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head_length = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.unread[..head_length]).into_owned();
        let mut answer = parse_head(&head).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, head))?;
        let length: usize =
            answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.unread.len() < head_length + length {
            self.read_more()?;
        }
        answer.body = String::from_utf8_lossy(&self.unread[head_length..head_length + length]).into_owned();
        self.unread.drain(..head_length + length);
        Ok(answer)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.unread.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }
}

fn parse_head(head: &str) -> Option<Answer> {
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Answer { status, headers, body: String::new() })
}

/// The bytes of a request with a body.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: hooks.example\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" || !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// One POST on a connection of its own.
pub fn post(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let headers = [headers, &[("Connection", "close")]].concat();
    send(address, &request("POST", target, &headers, body))
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> io::Result<Answer> {
    send(address, &request("GET", target, &[("Connection", "close")], &[]))
}

/// Any bytes on a connection of their own, and the answer to them.
pub fn send(address: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
    let mut client = Client::connect(address)?;
    // A refusal may come, and the connection be closed, before all was sent.
    let sent = client.send(bytes);
    client.answer().or_else(|error| sent.and(Err(error)))
}
