//! What one client, and all clients together, may take: the numbers of the gate, and what becomes of
//! them on a machine with few file descriptors.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// A request target longer than this is refused with 414; the whole head is bounded by
/// [`Limits::head_bytes_max`].
pub(crate) const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bodies up to this size may use the whole body budget; larger ones leave a quarter of it free, so
/// that a few slow large uploads cannot turn away ordinary webhooks.
pub(crate) const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// File descriptors a relayed request needs beside the client's own: our end of the upstream
/// connection, and the two that tiny_http keeps for its end.
const DESCRIPTORS_PER_UPSTREAM: usize = 3;

/// Descriptors left to the rest of the process: spool, control socket, Freshdesk, logs.
const DESCRIPTOR_HEADROOM: usize = 128;

/// How much clients may take of this machine. Every deadline is absolute: it covers the whole step,
/// however the bytes drip in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all clients; lowered when `RLIMIT_NOFILE` does not carry as many.
    pub connections_max: usize,
    /// Open connections of one IPv4 address or one IPv6 /64. Loopback and trusted proxies are exempt.
    pub connections_per_ip_max: usize,
    /// Request line and headers together.
    pub head_bytes_max: usize,
    /// Header lines.
    pub headers_max: usize,
    /// One body, after removal of its transfer coding (`server.body_max`).
    pub body_bytes_max: u64,
    /// All bodies that are held at the same time; at least `body_bytes_max` is granted.
    pub body_budget_bytes: u64,
    /// From the first byte of a request (of a new connection: from its acceptance) to the end of its head.
    pub head_deadline: Duration,
    /// From the end of the head to the end of the body.
    pub body_deadline: Duration,
    /// From the end of the body to the last byte of the answer.
    pub answer_deadline: Duration,
    /// How long a connection may wait for its next request.
    pub idle_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 256,
            connections_per_ip_max: 64,
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            body_bytes_max: 10 * 1024 * 1024,
            body_budget_bytes: 32 * 1024 * 1024,
            head_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(30),
            answer_deadline: Duration::from_secs(30),
            idle_deadline: Duration::from_secs(15),
        }
    }
}

/// How many connections the descriptors of this process carry, on both sides of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    /// Open client connections.
    pub connections: usize,
    /// Requests that may wait inside tiny_http at the same time.
    pub upstreams: usize,
}

impl Width {
    /// The width for `connections_max` clients under this process's soft limit.
    pub fn of_this_process(connections_max: usize) -> Width {
        let descriptors = getrlimit(Resource::Nofile).current;
        Width::under(connections_max, descriptors.and_then(|n| usize::try_from(n).ok()))
    }

    /// The width for `connections_max` clients when `descriptors` files may be open (`None`: any number).
    fn under(connections_max: usize, descriptors: Option<usize>) -> Width {
        let connections_max = connections_max.max(1);
        let Some(descriptors) = descriptors else {
            return Width { connections: connections_max, upstreams: connections_max };
        };
        let ours = descriptors - DESCRIPTOR_HEADROOM.min(descriptors / 2);
        let connections = connections_max.min(ours / 2).max(1);
        let upstreams = (ours.saturating_sub(connections) / DESCRIPTORS_PER_UPSTREAM).clamp(1, connections);
        Width { connections, upstreams }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_follows_the_descriptors() {
        let check = |descriptors, connections, upstreams| {
            assert_eq!(Width::under(256, descriptors), Width { connections, upstreams }, "{descriptors:?}");
        };
        check(None, 256, 256);
        check(Some(524_288), 256, 256);
        check(Some(1024), 256, 213);
        check(Some(256), 64, 21);
        check(Some(64), 16, 5);
        check(Some(4), 1, 1);
    }
}
