//! Who the client of a connection is: its peer, or whom a PROXY header names.
//!
//! A listener with `proxy_protocol` expects a header from connections of its `trusted` networks, and takes the address
//! in it for the client's: for `X-Forwarded-For`, for hashing, for limits. Being believed about addresses is one thing;
//! the bytes behind the header are the client's own. So its `X-Forwarded-*` fields are believed only where the client
//! itself, as named, is in a trusted network, and never where the header names nobody. A connection of the proxy's own
//! (`LOCAL`) is one of the peer, as if there were no header.
//!
//! Owned by the connection's task. Nothing is decided here about requests.

use std::{net::SocketAddr, rc::Rc};

use evenkeel_core::link::ProxyFault;

use super::proxy_header::{MISSING, MOST_BYTES, Says, parse};
use crate::{
    buffers::Input,
    http::client::{Client, TooMany},
    messages::Notice,
    slots::Signal,
};

/// Who a connection's client is. One for each connection, so that its identity is the connection's.
#[derive(Debug)]
pub(crate) struct Names {
    /// The client.
    pub(crate) source: SocketAddr,
    /// Where it connected to.
    pub(crate) destination: SocketAddr,
    /// Somebody is there of whom nothing is known, so nothing that it says of itself is believed.
    pub(crate) nameless: bool,
}

/// Reads the PROXY header in front of a connection. `false`: there is none in time, and the connection is to be closed.
pub(crate) async fn receive(client: &mut Client) -> bool {
    client.thread.read_clock();
    client.arm(client.limits().head_timeout_ms);
    loop {
        match parse(client.input.filled()) {
            Ok(Some(header)) => {
                client.input.consume(header.length);
                return take(client, header.says).is_ok();
            }
            Ok(None) => {}
            Err(malformed) => {
                let missing = malformed == MISSING;
                refuse(client, if missing { ProxyFault::Missing } else { ProxyFault::Malformed }, malformed.0);
                return false;
            }
        }
        if !client.input.has_buffer() {
            client.input = Input::new(client.thread.buffers.take());
        }
        client.input.make_room(MOST_BYTES);
        let Client { slot, input, stream, .. } = client;
        match slot.until(Signal::Expired as u8, |cx| input.poll_fill(stream, cx)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => {
                // A check of the proxy that only connects says nothing.
                if !client.input.filled().is_empty() {
                    refuse(client, ProxyFault::Malformed, "a PROXY header that ended before it was complete");
                }
                return false;
            }
            Err(_) => {
                // Where servers speak first, whoever sends no header waits for that.
                let nothing = client.input.filled().is_empty();
                let late = if nothing {
                    "a connection on which nothing came in time"
                } else {
                    "a PROXY header that took too long"
                };
                refuse(client, ProxyFault::Late, late);
                return false;
            }
        }
    }
}

/// Counts and says why the connection is closed.
fn refuse(client: &Client, fault: ProxyFault, reason: &'static str) {
    client.thread.read_clock();
    let listener = &client.place.listener().config.name;
    let sample = || Notice::ProxyHeader { listener: listener.clone(), peer: client.address, fault, reason };
    client.thread.proxy_fault(fault, sample);
}

fn take(client: &mut Client, says: Says) -> Result<(), TooMany> {
    match says {
        Says::Own => Ok(()),
        Says::Client { source, destination } => client.is_named(Names { source, destination, nameless: false }),
        Says::Nothing => {
            let Names { source, destination, .. } = of_connection(client);
            client.is_named(Names { source, destination, nameless: true })
        }
    }
}

/// The addresses of the connection itself.
fn of_connection(client: &Client) -> Names {
    let unknown_port = SocketAddr::new(client.address, 0);
    Names {
        source: client.stream.peer_addr().unwrap_or(unknown_port),
        destination: client.stream.local_addr().unwrap_or(client.place.listener().config.bind),
        nameless: false,
    }
}

impl Client {
    /// Who it is, for whoever has to be told. Asks the kernel once where no PROXY header has said it.
    pub(crate) fn names(&self) -> &Rc<Names> {
        self.names.get_or_init(|| Rc::new(of_connection(self)))
    }
}
