//! SIGSTOP to a process and its descendants and SIGCONT afterwards, once or by turns.
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

/// When processes stand still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// For how long in all.
    pub(super) for_ms: u64,
    /// How long they stand still each time and run in between; `None`: they stand still all the time.
    pub(super) by_turns_ms: Option<(u64, u64)>,
}

/// The freezer's process.
pub(super) struct Freezer {
    pids: Vec<u32>,
    by_turns: bool,
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

/// What the freezer holds still; `None` once it was thawed.
struct Frozen(Option<Freezer>);

/// Takes hold of a process.
pub(super) async fn aim<'a>(pid: u32, pattern: Pattern) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    Ok(Box::new(Freezer::start(&[pid], pattern).await?))
}

impl<'a> Aim<'a> for Freezer {
    fn fire(mut self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let more = match self.freeze().await? {
                0 | 1 => String::new(),
                more => format!(" and {} of its descendants", more - 1),
            };
            let what = if self.by_turns { "SIGSTOP and SIGCONT by turns" } else { "SIGSTOP" };
            let text = format!("{what} to process {}{more}", self.first());
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
    /// Takes hold of these processes.
    pub(super) async fn start(pids: &[u32], pattern: Pattern) -> Result<Self, FaultError> {
        let bound_ms = pattern.for_ms.saturating_add(FREEZER_MARGIN_MS);
        let mut command = Command::new("/proc/self/exe");
        command.args(["drill", "freezer", &bound_ms.to_string()]);
        command.args(pids.iter().map(u32::to_string));
        if let Some((stopped_ms, running_ms)) = pattern.by_turns_ms {
            command.args(["--stopped-ms", &stopped_ms.to_string(), "--running-ms", &running_ms.to_string()]);
        }
        let mut child = command
            // Ctrl-C in a terminal goes to a whole process group; the freezer must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(FaultError::Freezer)?;
        let orders = child.stdin.take().expect("standard input is piped");
        let words = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let by_turns = pattern.by_turns_ms.is_some();
        let mut freezer = Self { pids: pids.to_vec(), by_turns, child, orders, words };
        match freezer.words.next_line().await {
            Ok(Some(word)) if word == "ready" => Ok(freezer),
            Ok(_) => Err(FaultError::Gone(freezer.first())),
            Err(error) => Err(FaultError::Freezer(error)),
        }
    }

    /// Begins; returns how many processes stand still.
    pub(super) async fn freeze(&mut self) -> Result<usize, FaultError> {
        self.orders.write_all(b"freeze\n").await.map_err(FaultError::Freezer)?;
        let word = self.words.next_line().await.map_err(FaultError::Freezer)?;
        let count = word.as_deref().and_then(|word| word.strip_prefix("frozen ")).and_then(|n| n.parse().ok());
        count.ok_or(FaultError::NotFrozen(self.first()))
    }

    /// Lets all of them run.
    pub(super) async fn thaw(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        // It ends once it has thawed everything; how it ends makes no difference to what it did.
        let _ = child.wait().await;
    }

    fn first(&self) -> u32 {
        self.pids.first().copied().unwrap_or_default()
    }
}
