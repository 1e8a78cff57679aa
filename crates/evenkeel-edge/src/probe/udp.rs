//! UDP: an empty datagram is sent; a refusal by ICMP (RFC 1122 section 4.1.3.3) fails, anything else passes.
//!
//! All that can be known of a service of datagrams without speaking its protocol: whether nobody has bound the port.
//! A firewall that drops in silence passes, and so does a process that is frozen.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use super::Failure;

/// How long a refusal is waited for: within a site it comes at once.
const PATIENCE: Duration = Duration::from_millis(250);

/// Asks once; takes at most half of `bound`.
pub(super) async fn probe(address: SocketAddr, bound: Duration) -> Result<(), Failure> {
    let socket = open(address).await.map_err(Failure::Connect)?;
    match socket.send(&[]).await {
        Ok(_) => {}
        Err(error) => return Err(Failure::Connect(error)),
    }
    match timeout(PATIENCE.min(bound / 2), socket.recv(&mut [0u8; 1])).await {
        Ok(Err(error)) => Err(Failure::Connect(error)),
        // It answered, or nobody said anything against it.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// A socket that speaks with this address alone, and so hears of refusals.
async fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}
