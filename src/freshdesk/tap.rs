//! Counts the bytes of a request that were handed to the peer: the answer to "did anything leave?".
//!
//! Error kinds cannot tell: a reset looks the same before Freshdesk read anything and after it made the
//! ticket. So a connector is chained after ureq's own, above TLS, and counts what is about to be written.
//!
//! **Invariants:** ureq writes a request in the thread that makes it, so the count belongs to the thread
//! and calls that run at the same time cannot mix theirs. Handshakes and a proxy's CONNECT exchange are
//! not counted: nothing of the request has left by then. Bytes count before they are written, because a
//! write that fails may have written some.

use std::cell::Cell;
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};

thread_local! {
    static HANDED_OVER: Cell<u64> = const { Cell::new(0) };
}

/// Runs `call` and says how many bytes of its request were handed to the peer.
pub(super) fn counting<T>(call: impl FnOnce() -> T) -> (T, u64) {
    HANDED_OVER.set(0);
    let result = call();
    (result, HANDED_OVER.get())
}

/// The last link of the chain of connectors.
#[derive(Debug)]
pub(super) struct Tap {
    /// Requests go through a CONNECT proxy. ureq then runs the whole chain twice, first to the proxy
    /// itself with a configuration that names no proxy: that connection is not the one to count.
    pub(super) proxied: bool,
}

impl<In: Transport> Connector<In> for Tap {
    type Out = Either<In, Tapped<In>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let to_proxy = self.proxied && details.config.proxy().is_none();
        Ok(chained.map(|inner| if to_proxy { Either::A(inner) } else { Either::B(Tapped { inner }) }))
    }
}

/// A connection to Freshdesk whose outgoing bytes are counted.
#[derive(Debug)]
pub(super) struct Tapped<In> {
    inner: In,
}

impl<In: Transport> Transport for Tapped<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        HANDED_OVER.set(HANDED_OVER.get() + amount as u64);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
