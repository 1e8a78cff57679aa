//! What the node process is told when it starts.

use std::{net::SocketAddr, path::PathBuf};

/// Everything that `keel up` tells the node process.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where state is kept; its lock is held by whoever started us.
    pub state_dir: PathBuf,
    /// Where sockets lie: a short path, since a socket's name is limited to 108 bytes (unix(7)).
    pub runtime_dir: PathBuf,
    /// Where the stack comes from.
    pub stack: StackSource,
    /// Address of `/metrics` in place of the stack's `console.bind`.
    pub metrics_bind: Option<SocketAddr>,
}

/// Where a stack comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackSource {
    /// A file, read again at `SIGHUP`.
    File(PathBuf),
    /// A text that somebody made, as for `keel up -- COMMAND`.
    Text {
        /// The stack file's text.
        text: String,
        /// What stands in place of a file name in messages.
        label: String,
        /// Working directory of instances that name none.
        dir: PathBuf,
    },
}
