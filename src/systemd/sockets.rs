//! Sockets that systemd listens on and passes to us (`deskspool.socket`), so that nobody is refused while one
//! process ends and the next one starts.
//!
//! A socket is told by its `FileDescriptorName=`: `status_page` is the page's, `control` the control socket, every
//! other one is where platforms post.

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use thiserror::Error;

/// The first descriptor that is passed; the others follow it.
const FIRST: usize = 3;

/// What was passed. All of them are closed in children.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where platforms post; `server.listen` is ignored when there is one.
    pub server: Vec<TcpListener>,
    /// Where the status page answers; `status_page.listen` is ignored when there is one.
    pub status_page: Vec<TcpListener>,
    /// The control socket.
    pub control: Option<UnixListener>,
}

/// Something was passed that we cannot use.
#[derive(Debug, Error)]
pub enum SocketsError {
    /// The variables that tell of them make no sense, or a descriptor is closed.
    #[error("LISTEN_FDS: {0}")]
    Variables(String),
    /// Not a socket that we can listen on.
    #[error(
        "systemd passed {name:?} as descriptor {descriptor}, which is not {wanted}; a .socket unit passes \
         ListenStream=ADDRESS:PORT with Accept=no, or ListenStream=/PATH with FileDescriptorName=control"
    )]
    Unfit {
        /// Its `FileDescriptorName=`.
        name: String,
        /// Its number.
        descriptor: usize,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Takes the sockets over. Only the first call gets them.
pub fn passed() -> Result<Sockets, SocketsError> {
    static TAKEN: std::sync::Once = std::sync::Once::new();
    let mut sockets = Ok(Sockets::default());
    TAKEN.call_once(|| sockets = take());
    sockets
}

fn take() -> Result<Sockets, SocketsError> {
    // This one says whether they are open, and closes them in children; the other one makes us their owner.
    let count = sd_notify::listen_fds().map_err(|error| SocketsError::Variables(error.to_string()))?.len();
    if count == 0 {
        return Ok(Sockets::default());
    }
    let all = sd_listen_fds::get().map_err(|error| SocketsError::Variables(error.to_string()))?;
    let named = all.into_iter().map(|(name, socket)| (name.unwrap_or_default(), socket.into_std()));
    sort(named)
}

fn sort(named: impl Iterator<Item = (String, OwnedFd)>) -> Result<Sockets, SocketsError> {
    let mut sockets = Sockets::default();
    for (index, (name, socket)) in named.enumerate() {
        let is_control = name == "control";
        let (fits, wanted): (fn(AddressFamily) -> bool, _) = if is_control {
            (|family| family == AddressFamily::UNIX, "a Unix socket that listens")
        } else {
            (
                |family| matches!(family, AddressFamily::INET | AddressFamily::INET6),
                "a TCP socket that listens",
            )
        };
        if !listening_family(&socket).is_ok_and(|family| family.is_some_and(fits)) {
            return Err(SocketsError::Unfit { name, descriptor: FIRST + index, wanted });
        }
        match name.as_str() {
            "control" => sockets.control = Some(socket.into()),
            "status_page" => sockets.status_page.push(socket.into()),
            _ => sockets.server.push(socket.into()),
        }
    }
    Ok(sockets)
}

/// The family of a stream socket that listens; none when it does not.
fn listening_family(socket: &OwnedFd) -> io::Result<Option<AddressFamily>> {
    let listens = socket_type(socket)? == SocketType::STREAM && socket_acceptconn(socket)?;
    Ok(if listens { Some(socket_domain(socket)?) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn sockets_are_told_by_their_names_and_kinds() {
        let directory = tempfile::tempdir().unwrap();
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let unix = || OwnedFd::from(UnixListener::bind(directory.path().join("control.sock")).unwrap());
        let all = [("deskspool.socket", tcp()), ("status_page", tcp()), ("control", unix()), ("", tcp())];
        let sockets = sort(all.into_iter().map(|(name, socket)| (name.to_owned(), socket))).unwrap();
        assert_eq!((sockets.server.len(), sockets.status_page.len()), (2, 1));
        assert!(sockets.control.is_some());
    }

    #[test]
    fn what_cannot_be_listened_on_is_named() {
        let check = |name: &str, socket: OwnedFd, expect: &str| {
            let error = sort([(name.to_owned(), socket)].into_iter()).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let expect = "systemd passed \"x\" as descriptor 3, which is not a TCP socket that listens; ";
        check("x", udp.into(), expect);
        check("x", std::fs::File::open("/dev/null").unwrap().into(), expect);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let expect = "systemd passed \"control\" as descriptor 3, which is not a Unix socket that listens; ";
        check("control", tcp.into(), expect);
    }
}
