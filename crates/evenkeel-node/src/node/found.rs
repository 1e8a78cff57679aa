//! What tasks of the node process found out on their own, and tell the owner of the world.

use std::net::SocketAddr;

use super::Node;

/// Something that was found out.
#[derive(Debug)]
pub(super) enum Found {
    /// A resolver answered.
    Resolved {
        /// Whose instances these are.
        service: String,
        /// What was asked: name and port.
        dns: String,
        /// The addresses, or why there are none.
        answer: Result<Vec<SocketAddr>, String>,
    },
    /// A command that checks an instance will print nothing more.
    Printed {
        /// The process's key.
        key: String,
        /// Its last lines.
        lines: String,
    },
}

impl Node {
    /// Takes note of it.
    pub(super) fn found(&mut self, found: Found) {
        match found {
            Found::Resolved { service, dns, answer } => self.resolved(&service, &dns, answer),
            Found::Printed { key, lines } => self.check_printed(&key, lines),
        }
    }
}
