//! A small client that sees everything a server can do to it.

use crate::sandbox::Sandbox;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// `sandbox-key:X`.
pub(super) const AUTHORIZATION: &str = "Authorization: Basic c2FuZGJveC1rZXk6WA==\r\n";

pub(super) struct Client {
    pub(super) address: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `field code` of every error.
    pub(super) fn errors(&self) -> Vec<String> {
        let json = self.json();
        let word = |error: &Value, name: &str| error[name].as_str().unwrap_or("?").to_owned();
        let errors = json["errors"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        errors.iter().map(|error| format!("{} {}", word(error, "field"), word(error, "code"))).collect()
    }
}

impl Client {
    pub(super) fn of(desk: &Sandbox) -> Client {
        Client { address: desk.address() }
    }

    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        // Long enough for a loaded machine; only what is broken waits for it.
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// Sends `text` as it is and reads one answer.
    pub(super) fn raw(&self, text: &[u8]) -> io::Result<Reply> {
        let mut stream = self.connect()?;
        stream.write_all(text)?;
        read_reply(&mut stream)
    }

    pub(super) fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Reply> {
        self.raw(&request(method, path, body))
    }

    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.try_call(method, path, Some(body)).unwrap()
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.try_call("GET", path, None).unwrap()
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, body)
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> Reply {
        self.call("PUT", path, body)
    }

    pub(super) fn delete(&self, path: &str) -> Reply {
        self.try_call("DELETE", path, None).unwrap()
    }

    /// Makes a ticket of `email` and `tag`; its number.
    pub(super) fn ticket(&self, email: &str, tag: &str) -> u64 {
        let body = json!({"email": email, "subject": tag, "description": "x", "tags": [tag]});
        let reply = self.post("/api/v2/tickets", &body);
        reply.json()["id"].as_u64().unwrap_or_else(|| panic!("{reply:?}"))
    }
}

pub(super) fn request(method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string);
    let framing = body.as_ref().map_or_else(String::new, |body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    });
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{AUTHORIZATION}{framing}\r\n");
    format!("{head}{}", body.unwrap_or_default()).into_bytes()
}

pub(super) fn read_reply(stream: &mut TcpStream) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let head = read_until(stream, &mut bytes, b"\r\n\r\n")?;
    let text = String::from_utf8(bytes[..head].to_vec()).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status line"))?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut reply = Reply { status, headers, body: String::new() };
    bytes.drain(..head + 4);
    let body = if reply.header("Transfer-Encoding") == Some("chunked") {
        read_chunks(stream, bytes)?
    } else {
        let length = reply.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        fill(stream, &mut bytes, length)?;
        bytes
    };
    reply.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(reply)
}

fn read_chunks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_until(stream, &mut bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        fill(stream, &mut bytes, line + 2 + size + 2)?;
        body.extend(&bytes[line + 2..line + 2 + size]);
        bytes.drain(..line + 2 + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> io::Result<usize> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
            return Ok(at);
        }
        let more = bytes.len() + 1;
        fill(stream, bytes, more)?;
    }
}

fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    let mut chunk = [0; 4096];
    while bytes.len() < wanted {
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend(&chunk[..count]),
        }
    }
    Ok(())
}
