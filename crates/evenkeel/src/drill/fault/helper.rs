//! Processes of their own that do harm and take it back whatever happens to the drill.
//!
//! Each is a hidden command of the same binary, in a session of its own before it says a word. It says `ready`, does what
//! it is told by one line, says so, and undoes it when its standard input ends, which it does however this process ends.
//! Every wait for one is bounded. How it ended is judged: one that died, failed or came to no end has its work done by
//! this process, and where that fails too, the run says what is left to do by hand. [`Helpers`] belongs to one run; the
//! lock of the stack's drills is handed on to each helper as its standard error, so that the next drill begins when the
//! last one of them has ended, even where this process was killed.

use std::{
    ffi::OsString,
    fs::File,
    io,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use evenkeel_core::drill::in_words;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{Doing, FaultError};

/// How long a helper may take to start, and to do what it is told.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The helpers of one run: their lock, and what became of them.
#[derive(Debug)]
pub(crate) struct Helpers {
    lock: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those whose owner is gone.
    left: Vec<Left>,
    told: Vec<String>,
    failed: Vec<String>,
}

/// A helper that undoes its harm or has done so.
#[derive(Debug)]
struct Left {
    name: &'static str,
    child: Child,
    undo: Box<dyn Undo>,
}

/// A helper that is being waited for. Dropping it gives it back to those that are left.
struct Waited<'h> {
    helpers: &'h Helpers,
    /// `None` once it was judged.
    left: Option<Left>,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.helpers.state().left.extend(self.left.take());
    }
}

/// How to take back what a helper did, should it not do so.
pub(in crate::drill) trait Undo: std::fmt::Debug + Send + Sync {
    /// How long the helper may take for it.
    fn within(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Does it from this process, and looks whether it is done; else why not.
    fn again(&self) -> Doing<'_, Result<(), String>>;

    /// What a person would do.
    fn by_hand(&self) -> String;
}

impl Helpers {
    /// Those of a run that holds this lock.
    pub(in crate::drill) fn new(lock: File) -> Arc<Self> {
        Arc::new(Self { lock, state: Mutex::default() })
    }

    /// Waits until all those that nobody owns any more have ended, and undoes what they did not. Where this is dropped
    /// before, it can be asked again: the one that was waited for is not forgotten.
    pub(in crate::drill) async fn settle(&self) {
        while let Some(left) = self.next() {
            let mut waited = Waited { helpers: self, left: Some(left) };
            if let Some(left) = &mut waited.left {
                self.finished(left).await;
            }
            waited.left = None;
        }
    }

    fn next(&self) -> Option<Left> {
        self.state().left.pop()
    }

    /// How long [`Self::settle`] may take at most, with what this process would have to undo itself.
    pub(in crate::drill) fn longest_wait(&self) -> Duration {
        self.state().left.iter().map(|left| left.undo.within() * 2).sum()
    }

    /// What this process had to undo itself, since this was last asked.
    pub(in crate::drill) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.state().told)
    }

    /// What could not be undone, and what to do about it.
    pub(in crate::drill) fn failed(&self) -> Vec<String> {
        self.state().failed.clone()
    }

    async fn finished(&self, Left { name, child, undo }: &mut Left) {
        let within = undo.within();
        let why = match timeout(within, child.wait()).await {
            Ok(Ok(status)) if status.success() => return,
            Ok(Ok(status)) => format!("the {name} has ended with {status}"),
            Ok(Err(error)) => format!("nobody knows how the {name} has ended: {error}"),
            Err(_) => {
                // It must not undo, or do, anything behind the back of whoever does its work now.
                let _ = timeout(ANSWER_WITHIN, child.kill()).await;
                format!("the {name} had not done its work after {}", words(within))
            }
        };
        let again = match timeout(within, undo.again()).await {
            Ok(again) => again,
            Err(_) => Err(format!("this took longer than {}", words(within))),
        };
        let mut state = self.state();
        match again {
            Ok(()) => state.told.push(format!("{why}, so the drill itself has taken its harm back")),
            Err(error) => state.failed.push(format!("{why}, and {error}; {}", undo.by_hand())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A helper that is ready. Dropping it has it undo everything; whoever waits for that asks [`Helpers::settle`].
pub(in crate::drill) struct Helper {
    name: &'static str,
    helpers: Arc<Helpers>,
    words: Lines<BufReader<ChildStdout>>,
    orders: Option<ChildStdin>,
    own: Option<(Child, Box<dyn Undo>)>,
}

impl Helper {
    /// Starts `keel drill NAME ARGUMENTS…` and waits until it says `ready`.
    pub(in crate::drill) async fn start(
        helpers: &Arc<Helpers>,
        name: &'static str,
        arguments: &[OsString],
        undo: Box<dyn Undo>,
    ) -> Result<Self, FaultError> {
        let failed = |error| FaultError::Broken { name, source: error };
        let lock = helpers.lock.try_clone().map_err(failed)?;
        let mut child = Command::new("/proc/self/exe")
            .args(["drill", name])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Nothing can be written to it: it is there to be held.
            .stderr(lock)
            .spawn()
            .map_err(failed)?;
        let orders = child.stdin.take().expect("standard input is piped");
        let words = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let own = Some((child, undo));
        let mut helper = Self { name, helpers: Arc::clone(helpers), words, orders: Some(orders), own };
        match helper.word().await.map_err(failed)? {
            word if word == "ready" => Ok(helper),
            word => Err(FaultError::NotHere(word)),
        }
    }

    /// Its process; `None` once it was reaped.
    pub(in crate::drill) fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.0.id()
    }

    /// Gives an order and returns what it says when that is done.
    pub(in crate::drill) async fn order(&mut self, order: &str) -> io::Result<String> {
        self.tell(order).await?;
        self.word().await
    }

    /// Tells it something to which it says nothing.
    pub(in crate::drill) async fn tell(&mut self, words: &str) -> io::Result<()> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        bounded(orders.write_all(format!("{words}\n").as_bytes())).await
    }

    /// What it has said meanwhile, if anything. Returns at once.
    pub(in crate::drill) async fn said(&mut self) -> Option<String> {
        timeout(Duration::ZERO, self.words.next_line()).await.ok()?.ok()?
    }

    /// Has it undo everything, and waits for that. What became of it is asked of [`Helpers`].
    pub(in crate::drill) async fn finish(self) {
        let helpers = Arc::clone(&self.helpers);
        drop(self);
        helpers.settle().await;
    }

    /// The next thing that it says.
    pub(in crate::drill) async fn word(&mut self) -> io::Result<String> {
        let word = bounded(self.words.next_line()).await?;
        word.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without a word"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.orders = None;
        if let Some((child, undo)) = self.own.take() {
            self.helpers.state().left.push(Left { name: self.name, child, undo });
        }
    }
}

async fn bounded<T>(doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing came within {}", words(ANSWER_WITHIN)));
    timeout(ANSWER_WITHIN, doing).await.map_err(|_| late())?
}

fn words(time: Duration) -> String {
    in_words(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts how often it was asked; fails where it is told to.
    #[derive(Debug)]
    struct Counted {
        asked: Arc<AtomicU32>,
        fails: bool,
    }

    impl Undo for Counted {
        fn within(&self) -> Duration {
            Duration::from_millis(500)
        }

        fn again(&self) -> Doing<'_, Result<(), String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { if self.fails { Err("it is as it was".to_owned()) } else { Ok(()) } })
        }

        fn by_hand(&self) -> String {
            "pull the plug".to_owned()
        }
    }

    /// A helper that does this once its standard input ends, and how often its work is done again.
    async fn helper(script: &str, fails: bool) -> (Arc<Helpers>, Helper, Arc<AtomicU32>) {
        let helpers = Helpers::new(tempfile::tempfile().unwrap());
        let asked = Arc::<AtomicU32>::default();
        let mut child = Command::new("sh");
        let child = child.args(["-c", &format!("echo ready; read order; {script}")]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let orders = child.stdin.take();
        let words = BufReader::new(child.stdout.take().unwrap()).lines();
        let undo = Counted { asked: Arc::clone(&asked), fails };
        let own: Option<(Child, Box<dyn Undo>)> = Some((child, Box::new(undo)));
        let mut helper = Helper { name: "helper", helpers: Arc::clone(&helpers), words, orders, own };
        assert_eq!(helper.word().await.unwrap(), "ready");
        (helpers, helper, asked)
    }

    async fn ends(script: &str, fails: bool, dropped: bool) -> (u32, Vec<String>, Vec<String>) {
        let (helpers, helper, asked) = helper(script, fails).await;
        if dropped {
            drop(helper);
            helpers.settle().await;
        } else {
            helper.finish().await;
        }
        (asked.load(Ordering::Relaxed), helpers.told(), helpers.failed())
    }

    #[tokio::test]
    async fn a_helper_that_ends_well_is_believed() {
        for dropped in [false, true] {
            assert_eq!(ends("exit 0", false, dropped).await, (0, Vec::new(), Vec::new()));
        }
    }

    #[tokio::test]
    async fn the_work_of_one_that_fails_dies_or_hangs_is_done_again() {
        for script in ["exit 3", "kill -9 $$", "exec sleep 1000"] {
            let (asked, told, failed) = ends(script, false, script == "exit 3").await;
            assert_eq!((asked, told.len(), failed.len()), (1, 1, 0), "{script}");
            assert!(told[0].contains("so the drill itself has taken its harm back"), "{told:?}");
        }
    }

    #[tokio::test]
    async fn one_that_was_waited_for_is_judged_although_the_wait_was_given_up() {
        let (helpers, helper, asked) = helper("exec sleep 1000", false).await;
        assert!(timeout(Duration::from_millis(50), helper.finish()).await.is_err(), "it is waited for longer");
        assert!(!helpers.longest_wait().is_zero(), "it is still there to be waited for");
        helpers.settle().await;
        assert_eq!((asked.load(Ordering::Relaxed), helpers.told().len()), (1, 1));
        assert!(helpers.longest_wait().is_zero());
    }

    #[tokio::test]
    async fn what_cannot_be_undone_is_said_with_what_to_do() {
        let (asked, told, failed) = ends("exit 3", true, false).await;
        assert_eq!((asked, told), (1, Vec::new()));
        assert_eq!(failed, ["the helper has ended with exit status: 3, and it is as it was; pull the plug"]);
    }
}
