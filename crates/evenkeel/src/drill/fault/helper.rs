//! A process of its own that does harm and takes it back whatever happens to the drill.
//!
//! It is a hidden command of the same binary. It says `ready`, does what it is told by one line, says so, and undoes it
//! when its standard input ends, which it does however this process ends. Its owner decides when.

use std::{ffi::OsString, io, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::FaultError;

/// A helper that is ready.
pub(super) struct Helper {
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts `keel drill NAME ARGUMENTS…` and waits until it is ready.
    pub(super) async fn start(name: &'static str, arguments: &[OsString]) -> Result<Self, FaultError> {
        let failed = |error| FaultError::Broken { name, source: error };
        let mut child = Command::new("/proc/self/exe")
            .args(["drill", name])
            .args(arguments)
            // Ctrl-C in a terminal goes to a whole process group; what undoes the harm must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let orders = child.stdin.take().expect("standard input is piped");
        let words = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let mut helper = Self { child, orders, words };
        match helper.word().await.map_err(failed)? {
            word if word == "ready" => Ok(helper),
            word => Err(FaultError::NotHere(word)),
        }
    }

    /// Gives its order and returns what it says when that is done.
    pub(super) async fn order(&mut self, order: &str) -> io::Result<String> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        self.word().await
    }

    /// Has it undo everything, and waits for that.
    pub(super) async fn finish(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        // How it ends makes no difference to what it undid.
        let _ = child.wait().await;
    }

    async fn word(&mut self) -> io::Result<String> {
        let word = self.words.next_line().await?;
        word.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without a word"))
    }
}
