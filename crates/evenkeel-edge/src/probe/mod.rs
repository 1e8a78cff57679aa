//! One probe: one attempt to find out whether an instance is well, and what it saw in words.
//!
//! Every probe opens a connection of its own and closes it, so that it never shares fate with pooled ones, and has
//! one bound on time for all that it does. What follows from a probe is decided in `evenkeel_core::health`; when
//! to probe is decided by the control thread. A kind of probe is a file here.

mod http;
mod tcp;

use std::{io, net::SocketAddr, time::Duration};

use evenkeel_core::{snapshot::Probe, time::in_words};

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
}

impl Failure {
    /// The instance answered, only not as it should.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::NotHttp | Self::Status(_))
    }
}

impl Target {
    /// Probes once.
    pub async fn probe(&self) -> Result<(), Failure> {
        let Some(resolved) = self.resolved else {
            return Err(Failure::NotResolved);
        };
        let attempt = async {
            match &self.probe {
                Probe::Http { path, host, status } => {
                    http::probe(resolved, host.as_deref().unwrap_or(&self.address), path, *status).await
                }
                // The node process runs commands; where a tight probe needs an answer of its own, connecting is one.
                Probe::Tcp | Probe::Exec | Probe::Grpc { .. } => tcp::probe(resolved).await,
            }
        };
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or(Err(Failure::Timeout(self.timeout)))
    }
}

/// The cause of a failed system call as people say it, without its number.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "no answer from the host".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
