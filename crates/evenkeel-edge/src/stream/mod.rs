//! Whatever is not HTTP: connections of TCP listeners, datagrams of UDP listeners, PROXY headers both ways.
//!
//! | module | concern |
//! | --- | --- |
//! | [`proxy_header`] | the bytes of a PROXY header, read and written |
//! | `names` | who a connection's client is, and reading that from a PROXY header |
//! | `owned` | connections to an instance that belong to one client each |
//! | `pass` | passing bytes between two connections; tunnels do that too |
//! | `tcp` | a connection of a TCP listener |
//! | `udp`, `session`, [`table`] | the datagrams of a UDP listener, those of one client, and all clients of a thread |
//!
//! Instances are chosen, held for, counted and judged by the rules of requests. A connection of a plain HTTP listener
//! passes nothing of this.

pub(crate) mod names;
pub(crate) mod owned;
pub(crate) mod pass;
pub mod proxy_header;
pub(crate) mod session;
pub mod table;
pub(crate) mod tcp;
pub(crate) mod udp;

use evenkeel_core::snapshot::Protocol;

use crate::http::{client::Client, connection::Connection};

/// Serves a connection of a listener that is not plain HTTP until it ends, and keeps `kept` until then.
pub(crate) async fn serve<K: Unpin>(mut client: Client, kept: K) {
    // The view may be another one by the time when the header has come.
    if client.place.listener().config.accepts_proxy
        && client.place.trusted
        && !(names::receive(&mut client).await && client.find_place())
    {
        return;
    }
    match client.place.listener().config.protocol {
        Protocol::Http => Connection::new(client, kept).await,
        // No connection is accepted there.
        Protocol::Udp => {}
        Protocol::Tcp => {
            tcp::serve(client).await;
            drop(kept);
        }
    }
}
