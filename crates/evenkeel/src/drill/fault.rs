//! Doing harm to exactly the process that was meant, and taking it back.
//!
//! In two steps: [`Aim`] takes hold of the process; after that the caller asks the stack again whether this is still
//! the instance that the plan named, and only then [`Aim::fire`]s. So a process that was replaced in between is
//! never harmed. A freeze is carried out by a process of its own (see `freezer`), which thaws when this one is
//! gone; dropping a [`Harm`] thaws too.

use std::process::Stdio;

use evenkeel_core::drill::Fault;
use rustix::{io::Errno, process::Signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::processes::Held;

/// How much longer than planned a freezer waits for a drill that does not end.
const FREEZER_MARGIN_MS: u64 = 60_000;

/// Why the harm could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    /// There is no such process any more.
    #[error("process {0} is gone")]
    Gone(u32),
    /// The kernel refuses.
    #[error("process {pid} cannot be signalled: {source}")]
    Refused {
        /// Which process.
        pid: u32,
        /// What the kernel says.
        source: Errno,
    },
    /// The freezer does not start.
    #[error("cannot start the freezer: {0}")]
    Freezer(#[source] std::io::Error),
    /// The freezer ended without its word.
    #[error("the freezer did not freeze process {0}")]
    NotFrozen(u32),
}

/// Holds the process that is about to be harmed.
pub(super) enum Aim {
    /// It will be killed.
    Kill(Held),
    /// It will be frozen.
    Freeze(Box<Freezer>),
}

impl Aim {
    /// Takes hold of a process.
    pub(super) async fn at(pid: u32, fault: Fault) -> Result<Self, FaultError> {
        match fault {
            Fault::Kill => Held::open(pid).map(Self::Kill).map_err(|source| match source {
                Errno::SRCH => FaultError::Gone(pid),
                source => FaultError::Refused { pid, source },
            }),
            Fault::Freeze { for_ms } => Ok(Self::Freeze(Box::new(Freezer::start(pid, for_ms).await?))),
        }
    }

    /// Does the harm. Returns what has to be taken back, and what was done in words.
    pub(super) async fn fire(self) -> Result<(Harm, String), FaultError> {
        match self {
            Self::Kill(held) => match held.signal(Signal::KILL) {
                Ok(true) => Ok((Harm(None), format!("SIGKILL to process {}", held.pid))),
                Ok(false) => Err(FaultError::Gone(held.pid)),
                Err(source) => Err(FaultError::Refused { pid: held.pid, source }),
            },
            Self::Freeze(mut freezer) => {
                let processes = freezer.freeze().await?;
                let more = match processes {
                    0 | 1 => String::new(),
                    more => format!(" and {} of its descendants", more - 1),
                };
                let text = format!("SIGSTOP to process {}{more}", freezer.pid);
                Ok((Harm(Some(freezer)), text))
            }
        }
    }
}

/// Harm that was done.
pub(super) struct Harm(Option<Box<Freezer>>);

impl Harm {
    /// Whether there is something to take back.
    pub(super) fn lasts(&self) -> bool {
        self.0.is_some()
    }

    /// Takes back what lasts; done when this returns.
    pub(super) async fn release(&mut self) {
        if let Some(freezer) = self.0.take() {
            freezer.thaw().await;
        }
    }
}

/// The freezer's process.
pub(super) struct Freezer {
    pid: u32,
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Freezer {
    async fn start(pid: u32, for_ms: u64) -> Result<Self, FaultError> {
        let bound_ms = for_ms.saturating_add(FREEZER_MARGIN_MS);
        let mut child = Command::new("/proc/self/exe")
            .args(["drill", "freezer", &pid.to_string(), &bound_ms.to_string()])
            // Ctrl-C in a terminal goes to a whole process group; the freezer must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(FaultError::Freezer)?;
        let orders = child.stdin.take().expect("standard input is piped");
        let words = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut freezer = Self { pid, child, orders, words };
        match freezer.words.next_line().await {
            Ok(Some(word)) if word == "ready" => Ok(freezer),
            Ok(_) => Err(FaultError::Gone(pid)),
            Err(error) => Err(FaultError::Freezer(error)),
        }
    }

    async fn freeze(&mut self) -> Result<usize, FaultError> {
        self.orders.write_all(b"freeze\n").await.map_err(FaultError::Freezer)?;
        let word = self.words.next_line().await.map_err(FaultError::Freezer)?;
        let count = word.as_deref().and_then(|word| word.strip_prefix("frozen ")).and_then(|n| n.parse().ok());
        count.ok_or(FaultError::NotFrozen(self.pid))
    }

    async fn thaw(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        // It ends once it has thawed everything; how it ends makes no difference to what it did.
        let _ = child.wait().await;
    }
}
