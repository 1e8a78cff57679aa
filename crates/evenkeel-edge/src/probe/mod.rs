//! One probe: one attempt to find out whether an instance is well, and what it saw in words.
//!
//! Every probe opens a connection of its own and closes it, so that it never shares fate with pooled ones, and has
//! one bound on time for all that it does. What follows from a probe is decided in `evenkeel_core::health`; when
//! to probe is decided by the control thread. A kind of probe is a file here.

pub mod grpc;
mod http;
mod udp;

use std::{io, net::SocketAddr, path::Path, time::Duration};

use evenkeel_core::{
    snapshot::{Probe, ProxyHeader},
    stack::UNIX,
    time::in_words,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{fastcgi, stream::proxy_header};

/// What to probe and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect; `None` where the name of the instance has not been resolved yet.
    pub resolved: Option<SocketAddr>,
    /// The address as the snapshot has it: the `Host` where the check names none.
    pub address: String,
    /// What to do.
    pub probe: Probe,
    /// Bound on everything together.
    pub timeout: Duration,
    /// The instance expects a PROXY header in front of every connection: here one that names nobody.
    pub introduces: Option<ProxyHeader>,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The instance's host name was never resolved.
    #[error("the host name does not resolve")]
    NotResolved,
    /// No connection.
    #[error("connect: {}", cause(.0))]
    Connect(#[source] io::Error),
    /// It took too long.
    #[error("timed out after {}", in_words(*.0))]
    Timeout(Duration),
    /// The connection broke.
    #[error("{}", cause(.0))]
    Broken(#[source] io::Error),
    /// The connection was closed before an answer.
    #[error("closed without an answer")]
    Closed,
    /// The answer is not HTTP/1.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The answer's status is not one that passes.
    #[error("status {0}")]
    Status(u16),
    /// The answer is not gRPC over HTTP/2.
    #[error("the answer is not gRPC over HTTP/2")]
    NotGrpc,
    /// The health service says something else than `SERVING`.
    #[error("{0}")]
    NotServing(&'static str),
    /// The call failed; the status of gRPC in words.
    #[error("{0}")]
    Grpc(String),
    /// The command that checks it failed; how, in words.
    #[error("{0}")]
    Command(String),
}

impl Failure {
    /// The instance answered, only not as it should.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::NotHttp | Self::Status(_) | Self::NotGrpc | Self::NotServing(_) | Self::Grpc(_) | Self::Command(_)
        )
    }
}

impl Target {
    /// Probes once.
    pub async fn probe(&self) -> Result<(), Failure> {
        if let Some(path) = self.address.strip_prefix(UNIX) {
            // Only what speaks FastCGI is reached so, and of that connecting is all that is asked.
            let connected = tokio::time::timeout(self.timeout, fastcgi::connect_unix(Path::new(path))).await;
            return connected.map_or(Err(Failure::Timeout(self.timeout)), |connected| {
                connected.map(drop).map_err(Failure::Connect)
            });
        }
        let Some(resolved) = self.resolved else {
            return Err(Failure::NotResolved);
        };
        let attempt = async {
            match &self.probe {
                Probe::Http { path, host, status } => {
                    http::probe(self.open(resolved).await?, host.as_deref().unwrap_or(&self.address), path, *status)
                        .await
                }
                Probe::Grpc { service } => grpc::probe(self.open(resolved).await?, &self.address, service).await,
                // Connecting passes. A process that is frozen passes too, since its kernel accepts for it.
                // Commands are run by the node process: here nobody asks for one.
                Probe::Tcp | Probe::Exec { .. } => self.open(resolved).await.map(drop),
                Probe::Udp => udp::probe(resolved, self.timeout).await,
            }
        };
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or(Err(Failure::Timeout(self.timeout)))
    }
}

impl Target {
    /// A connection to it.
    async fn open(&self, resolved: SocketAddr) -> Result<TcpStream, Failure> {
        let mut stream = TcpStream::connect(resolved).await.map_err(Failure::Connect)?;
        if let Some(version) = self.introduces {
            stream.write_all(proxy_header::own(version)).await.map_err(Failure::Broken)?;
        }
        Ok(stream)
    }
}

/// The cause of a failed system call as people say it, without its number.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        io::ErrorKind::TimedOut => "no answer from the host".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
