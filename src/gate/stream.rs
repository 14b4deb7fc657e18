//! Streams with absolute deadlines.
//!
//! A socket timeout bounds one call, not a step: a peer that drips one byte a second never meets it.
//! [`Deadlined`] gives each call the time that is left of its step. The kernel's timeout is set only
//! when the one in force would wait too long, so a busy keep-alive connection pays no extra system calls.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tls::{Opening, Secured};

/// A stream whose blocking calls can be bounded.
pub trait Timed: Read + Write {
    /// Bounds the following reads. `timeout` is never zero.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Bounds the following writes. `timeout` is never zero.
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Tells the peer that nothing more will come; reading goes on.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// A client's socket, shared with the connection table so that it can be shut from there without a
/// second file descriptor.
#[derive(Clone, Debug)]
pub struct Socket(pub Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client speaks HTTP over.
#[derive(Debug)]
pub enum Stream {
    /// TCP as it is.
    Plain(Socket),
    /// TLS. Its handshake is made in the connection's own thread, under its head deadline.
    Tls(Secured),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => &socket.0,
            Stream::Tls(secured) => &secured.socket().0,
        }
    }

    /// One step towards the first request; `WouldBlock` when another one is needed. A client that speaks plain
    /// HTTP where it should not is answered in its own language from then on.
    pub(super) fn open(&mut self) -> io::Result<Opening> {
        let Stream::Tls(secured) = self else { return Ok(Opening::Secure) };
        let opening = secured.open()?;
        if opening == Opening::Plain {
            *self = Stream::Plain(secured.socket().clone());
        }
        Ok(opening)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(secured) => secured.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(secured) => secured.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(secured) => secured.flush(),
        }
    }
}

impl Timed for Stream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_write_timeout(Some(timeout))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        if let Stream::Tls(secured) = self {
            secured.farewell();
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Timed for UnixStream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        UnixStream::set_read_timeout(self, Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        UnixStream::set_write_timeout(self, Some(timeout))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Timed for TcpStream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_read_timeout(self, Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_write_timeout(self, Some(timeout))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A stream that is read and written up to absolute deadlines. A passed deadline is
/// [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Deadlined<S> {
    stream: S,
    /// The kernel's timeouts as far as we know them; `None` when they must be set before the next call.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl<S: Timed> Deadlined<S> {
    /// Takes over `stream`, which must be in blocking mode.
    pub fn new(stream: S) -> Deadlined<S> {
        Deadlined { stream, read_timeout: None, write_timeout: None }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads what is there, at least one byte unless the peer is done (zero).
    pub fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let left = time_left(deadline)?;
            if !carries(self.read_timeout, left) {
                self.stream.set_read_timeout(left)?;
                self.read_timeout = Some(left);
            }
            match self.stream.read(buffer) {
                Err(error) if is_timeout(&error) => self.read_timeout = None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Writes all of `bytes`.
    pub fn write_all(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_step(deadline, |stream| stream.write(bytes))? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        self.write_step(deadline, Write::flush)
    }

    /// Repeats a call that writes until it does not wait any more.
    fn write_step<T>(
        &mut self,
        deadline: Instant,
        mut step: impl FnMut(&mut S) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let left = time_left(deadline)?;
            if !carries(self.write_timeout, left) {
                self.stream.set_write_timeout(left)?;
                self.write_timeout = Some(left);
            }
            match step(&mut self.stream) {
                Err(error) if is_timeout(&error) => self.write_timeout = None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Repeats a call that reads and writes until it does not wait any more.
    pub(super) fn step<T>(
        &mut self,
        deadline: Instant,
        mut step: impl FnMut(&mut S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.read_timeout = None;
        self.write_step(deadline, |stream| {
            stream.set_read_timeout(time_left(deadline)?)?;
            step(stream)
        })
    }
}

/// A timeout in force serves a call when it does not end much after the deadline: a sixteenth is the
/// price for not setting it anew before each call.
fn carries(timeout: Option<Duration>, left: Duration) -> bool {
    timeout.is_some_and(|timeout| timeout <= left + left / 16)
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Linux reports a passed socket timeout as `WouldBlock`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_in_force_is_kept_while_it_fits() {
        let check = |timeout_millis: Option<u64>, left_millis, expect| {
            let timeout = timeout_millis.map(Duration::from_millis);
            assert_eq!(carries(timeout, Duration::from_millis(left_millis)), expect, "{timeout:?}");
        };
        check(None, 1000, false);
        check(Some(500), 1000, true);
        check(Some(1000), 999, true);
        check(Some(1000), 900, false);
    }

    #[test]
    fn dripping_bytes_do_not_move_the_deadline() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut stream = Deadlined::new(ours);
        let mut writer = &theirs;
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = loop {
            writer.write_all(b"x").expect("the peer writes");
            if let Err(error) = stream.read(&mut [0; 2], deadline) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
