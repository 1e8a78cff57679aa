//! TCP: connecting passes. A process that is frozen passes too, since its kernel accepts for it.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::Failure;

/// Connects and closes at once, without a byte.
pub(super) async fn probe(address: SocketAddr) -> Result<(), Failure> {
    TcpStream::connect(address).await.map(drop).map_err(Failure::Connect)
}
