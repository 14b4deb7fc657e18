//! Binding the public address, and saying who has it when it is taken.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Connections that may wait while the accept loop is busy.
const BACKLOG: i32 = 1024;

/// Why an address cannot be listened on. Each text begins with the key of the configuration.
#[derive(Debug, Error)]
pub enum BindError {
    /// The text is no address with a port.
    #[error("{key} {address} is not an address with a port, such as 127.0.0.1:8085 or [::]:8443")]
    NotAnAddress {
        /// The key as written in the file.
        key: String,
        /// The value as written in the file.
        address: String,
    },
    /// Somebody else listens there.
    #[error("{key} {address} is in use{holder}")]
    InUse {
        /// The key as written in the file.
        key: String,
        /// The address.
        address: SocketAddr,
        /// Who has it, as far as we may know.
        holder: Holder,
    },
    /// Ports below 1024 need a capability.
    #[error("{key} {address} is not allowed for this user (ports below 1024 need CAP_NET_BIND_SERVICE)")]
    NotAllowed {
        /// The key as written in the file.
        key: String,
        /// The address.
        address: SocketAddr,
    },
    /// The address is not one of this machine, or the system has no such thing.
    #[error("{key} {address} cannot be listened on: {error}")]
    Failed {
        /// The key as written in the file.
        key: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// The process that listens on an address; shows as ` by pid 733 (nginx)`, or as nothing when unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder(Option<(u32, String)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, name)) => write!(f, " by pid {pid} ({name})"),
            None => Ok(()),
        }
    }
}

/// Listens on `address`, the value of the configuration's `key` (`server.listen`).
pub fn bind(key: &str, address: &str) -> Result<TcpListener, BindError> {
    let addresses = address.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let Some(&address) = addresses.first() else {
        return Err(BindError::NotAnAddress { key: key.to_owned(), address: address.to_owned() });
    };
    let key = key.to_owned();
    listen(address).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => BindError::InUse { key, address, holder: holder_of(address) },
        ErrorKind::PermissionDenied => BindError::NotAllowed { key, address },
        _ => BindError::Failed { key, address, error },
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn holder_of(address: SocketAddr) -> Holder {
    Holder(holders(address).into_iter().next())
}

/// The processes that listen on `address`, as far as we may know, the lowest pid first.
///
/// Looks the listener up in the kernel's table and its socket among the open files of all processes that
/// we may look at.
pub fn holders(address: SocketAddr) -> Vec<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<u64> = tables.iter().flat_map(|table| listening_inodes(table, address.port())).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holders = processes.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        has_open(&entry.path(), &links).then(|| (pid, name.trim().to_owned()))
    });
    let mut holders: Vec<_> = holders.collect();
    holders.sort();
    holders
}

fn has_open(process: &Path, links: &[String]) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| links.iter().any(|link| Path::new(link) == target))
}

/// The inodes of sockets that listen on `port`, in a table in the format of `/proc/net/tcp`: the second
/// column is the local address, the fourth the state (`0A` listens), the tenth the inode.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let ending = format!(":{port:04X}");
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = columns.get(1)?.ends_with(&ending) && *columns.get(3)? == "0A";
        listens.then(|| columns.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_kernel_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1F95 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
             1: 0100007F:1F95 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20\n   \
             2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100\n";
        assert_eq!(listening_inodes(table, 8085), [4711]);
        assert_eq!(listening_inodes(table, 22), [4713]);
        assert!(listening_inodes(table, 80).is_empty());
        assert!(listening_inodes("garbage\n: : :\n", 80).is_empty());
    }

    #[test]
    fn a_taken_address_names_its_holder() {
        let first = bind("server.listen", "127.0.0.1:0").expect("any port");
        let address = first.local_addr().expect("an address");
        let error = bind("server.listen", &address.to_string()).expect_err("it is taken").to_string();
        let comm = fs::read_to_string("/proc/self/comm").expect("the name of this process");
        let expect =
            format!("server.listen {address} is in use by pid {} ({})", std::process::id(), comm.trim());
        assert_eq!(error, expect);
        assert_eq!(Holder::default().to_string(), "");
    }

    #[test]
    fn a_broken_address_names_its_key() {
        let error = bind("server.listen", "8085").expect_err("no host").to_string();
        assert!(error.starts_with("server.listen 8085 is not an address with a port"), "{error}");
    }
}
