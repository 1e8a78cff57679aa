//! SIGSTOP to a process and its descendants, SIGCONT afterwards.
//!
//! Carried out by a process of its own (see `freezer`), which thaws when this one is gone.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{Aim, Doing, FaultError, Harm};

/// How much longer than planned a freezer waits for a drill that does not end.
const FREEZER_MARGIN_MS: u64 = 60_000;

/// The freezer's process.
struct Freezer {
    pid: u32,
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

/// What the freezer holds still; `None` once it was thawed.
struct Frozen(Option<Freezer>);

/// Takes hold of a process.
pub(super) async fn aim<'a>(pid: u32, for_ms: u64) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    Ok(Box::new(Freezer::start(pid, for_ms).await?))
}

impl<'a> Aim<'a> for Freezer {
    fn fire(mut self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let more = match self.freeze().await? {
                0 | 1 => String::new(),
                more => format!(" and {} of its descendants", more - 1),
            };
            let text = format!("SIGSTOP to process {}{more}", self.pid);
            Ok((Box::new(Frozen(Some(*self))) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Frozen {
    fn lasts(&self) -> bool {
        self.0.is_some()
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(freezer) = self.0.take() {
                freezer.thaw().await;
            }
        })
    }
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
