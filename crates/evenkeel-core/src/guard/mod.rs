//! What the guard and the processes it starts say to each other.
//!
//! Messages travel over a Unix socket pair of type `SOCK_SEQPACKET`, one message a packet, descriptors beside
//! them (`SCM_RIGHTS`, unix(7)). The node process gives orders; the guard carries them out, holds descriptors
//! and reports exits. The edge only receives. After a restart of the node process the guard tells it everything
//! that it holds before anything else, so that nothing needs to be remembered elsewhere.
//!
//! The format is [`wire`]: no dependency, bounded, versioned.

pub mod wire;

use crate::{secret::Secret, status::ExitStatus};

/// The version of this protocol. Guard and node process of different versions say so and part.
pub const VERSION: u16 = 2;

/// The largest packet. A process whose command and environment exceed it is refused with a clear error.
pub const MAX_PACKET_BYTES: usize = 160 * 1024;

/// The descriptor by which a started node process, edge or stub finds its channel to the guard.
pub const CHANNEL_FD: i32 = 3;

/// What names a process or a held descriptor, as `shop/1#4`, `listener/web/0`, `snapshot`.
pub type Key = String;

/// The key under which the guard holds the bytes of [`crate::balance::TokenKey`], in memory without a name, for every edge
/// that it starts.
pub const TOKENS_KEY: &str = "tokens";

/// How the key of a process begins that checks an instance; no instance's does.
pub const CHECK_KEYS: &str = "check ";

/// What the node process tells the guard.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Start a process below a stub of its own. Answered by `Started` or `NotStarted`.
    Spawn {
        /// Its name; must be free.
        key: Key,
        /// What to run.
        spec: ProcessSpec,
    },
    /// Send `SIGTERM` (or another signal) to its main process; whatever is left of it after `grace_ms` is
    /// killed, by the guard itself, even if the node process is gone by then, and by the stub, even if the guard is.
    /// Another one before the deadline replaces it. A stub takes signal 0 as none: only the deadline counts.
    Stop {
        /// Which process.
        key: Key,
        /// Signal number.
        signal: i32,
        /// Milliseconds from now.
        grace_ms: u64,
    },
    /// Kill it and all of its descendants now.
    Kill {
        /// Which process.
        key: Key,
    },
    /// Forget a process that has exited; closes the guard's end of its output pipe. Until then its stub keeps how it
    /// ended, for the next guard where this one dies.
    Forget {
        /// Which process.
        key: Key,
    },
    /// Keep this descriptor (attached) and hand it to every node process and edge that starts from now on. An
    /// edge that runs gets it at once. Replaces a former one of the same key.
    Hold {
        /// Its name; `listener/NAME/THREAD` or `snapshot`.
        key: Key,
    },
    /// Close a held descriptor and tell a running edge so.
    Release {
        /// Its name.
        key: Key,
    },
    /// Start the edge if it was not started yet. The guard restarts it from then on when it dies.
    StartEdge,
    /// How long the end of `keel` may take, by the stack in force. Until it comes the guard goes by bounds of its own.
    Bounds {
        /// Milliseconds that the edge may finish its requests.
        edge_grace_ms: u64,
        /// Milliseconds from `Terminate` to `Finish` before everything is killed.
        finish_ms: u64,
    },
    /// The node process is not frozen: it will say so again, and is killed and started anew if it does not.
    Alive {
        /// Milliseconds that it may be silent.
        within_ms: u64,
    },
    /// Kill the edge, which does not answer any more; it is started again as after any death.
    KillEdge,
    /// Everything is stopped: the guard may end with this exit code.
    Finish {
        /// Exit code of `keel up`.
        code: u8,
    },
    /// Nothing can be done with what was adopted, and nothing was started: the guard ends with this exit code and
    /// leaves the adopted processes to the next guard.
    Leave {
        /// Exit code of `keel up`.
        code: u8,
    },
    /// To a stub, before `Spawn`: outlive the guard. The read end of the output pipe is attached; below this folder
    /// the stub listens for the next guard.
    Outlive {
        /// Absolute path.
        folder: String,
    },
    /// To a stub that lost its guard, from the next one: it answers with `Adopted`, `Process`, and `Started` with
    /// the pidfd if its process runs, then `Complete`; from then on it obeys and reports as before.
    Adopt {
        /// Whether it is to outlive this guard too.
        outlive: bool,
    },
}

/// What the guard tells the node process.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// First: who we are. What is held and what runs follows, then `Complete`.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// The guard's process.
        guard_pid: u32,
        /// When the guard started, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// How often the node process was started before.
        node_starts: u64,
    },
    /// A held descriptor (attached).
    Held {
        /// Its name.
        key: Key,
    },
    /// A process that the guard started earlier; its output pipe's read end is attached.
    Process {
        /// Its name.
        key: Key,
        /// Its main process.
        pid: u32,
        /// Its start in milliseconds since the Unix epoch.
        started_ms: u64,
        /// How it ended, if it did.
        exit: Option<ExitStatus>,
    },
    /// The process of this key outlived the guard that started it: said before its `Process` in the inventory of
    /// whatever node process comes.
    Adopted {
        /// Its name.
        key: Key,
        /// Bytes of output that were dropped, since nobody read them and the process must not wait.
        dropped_bytes: u64,
        /// Milliseconds until it is killed, where a stop was in progress.
        kill_in_ms: Option<u64>,
    },
    /// The inventory is complete.
    Complete,
    /// A process runs; the read end of its output pipe (stdout and stderr) is attached.
    Started {
        /// Its name.
        key: Key,
        /// Its main process.
        pid: u32,
        /// Its start in milliseconds since the Unix epoch.
        started_ms: u64,
    },
    /// A process could not be started; nothing of it is left.
    NotStarted {
        /// Its name.
        key: Key,
        /// Cause in words, as "cannot run `nod`: no such file or directory".
        reason: String,
    },
    /// A process ended, and so did everything it had started.
    Exited {
        /// Its name.
        key: Key,
        /// How.
        status: ExitStatus,
        /// Descendants that outlived it and were killed.
        leftovers: u32,
    },
    /// An edge started; a fresh link to it is attached.
    EdgeStarted {
        /// Its process.
        pid: u32,
        /// How often it was started before.
        starts: u64,
    },
    /// The edge ended; another one is being started.
    EdgeExited {
        /// How.
        status: ExitStatus,
        /// Milliseconds until it is started again; `u64::MAX` where it is not, since `keel` is ending.
        restart_in_ms: u64,
    },
    /// `keel` was told to end (`SIGTERM`, `SIGINT`): stop everything, then `Finish`. No edge is started any more. A
    /// node process that starts later hears it before `Complete`, so that it starts nothing.
    Terminate,
    /// `SIGHUP`: read the stack file again.
    Reload,
}

/// What the guard tells the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeNotice {
    /// A held descriptor (attached): `listener/NAME/THREAD` or `snapshot`.
    Held {
        /// Its name.
        key: Key,
    },
    /// Everything held has been sent.
    Complete,
    /// A descriptor is no longer held: close yours after finishing what it has.
    Released {
        /// Its name.
        key: Key,
    },
    /// A fresh link to a node process (attached); a former one is dead.
    Link,
    /// Finish requests for at most `grace_ms`, then end.
    Terminate {
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSpec {
    /// Program and arguments; the program is looked up in the environment's `PATH`.
    pub argv: Vec<String>,
    /// The whole environment. Values may be secret; they travel over the socket, never on a command line.
    pub env: Vec<(String, Secret)>,
    /// Working directory.
    pub cwd: String,
    /// User and group to run as; `None`: as the guard.
    pub user: Option<(u32, u32)>,
    /// Supplementary groups, where `user` is given.
    pub groups: Vec<u32>,
    /// Memory bound in bytes, applied where cgroups permit.
    pub memory_bytes: Option<u64>,
}
