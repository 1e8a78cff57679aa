//! Threads that own database connections and do work sent to them.
//!
//! An [`Executor`] has one bounded queue and one thread for each of its connections. Work is refused at once
//! when the queue is full, and not begun when it has waited so long that its caller was promised an answer
//! already. A panic inside a piece of work fails that piece alone, its transaction undone while unwinding; where
//! the build aborts on panic the process ends, and the file is as if the work had not begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::ShopError;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

struct Job {
    deadline: Instant,
    work: Work,
}

pub(super) struct Executor {
    queue: SyncSender<Job>,
    wait: Duration,
}

impl Executor {
    /// Starts one thread for each connection. Work waits at most `wait`, in the queue and for locks together.
    pub(super) fn start(
        name: &str,
        connections: Vec<(Connection, Patience)>,
        queue_length: usize,
        wait: Duration,
    ) -> Result<Self, ShopError> {
        let (queue, jobs) = sync_channel(queue_length);
        let jobs = Arc::new(Mutex::new(jobs));
        for (mut connection, patience) in connections {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || serve(&mut connection, &patience, &jobs))
                .map_err(|source| ShopError::System { what: "a database thread", source })?;
        }
        Ok(Self { queue, wait })
    }

    /// Runs `work` on one of the connections and waits for its result without blocking the thread.
    pub(super) async fn run<T, W>(&self, work: W) -> Result<T, ShopError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> Result<T, ShopError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |connection: &mut Connection| {
            let _nobody_waits_any_more = answer.send(work(connection));
        });
        match self.queue.try_send(Job { deadline: Instant::now() + self.wait, work }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(ShopError::Unavailable("too much work is waiting")),
            Err(TrySendError::Disconnected(_)) => {
                return Err(ShopError::Unavailable("the database threads have ended"));
            }
        }
        // The answer is dropped unsent by work that panicked or that was too late to begin.
        answered.await.unwrap_or(Err(ShopError::Unavailable("the work waited too long or failed")))
    }
}

/// A thread's life: until the executor is dropped.
fn serve(connection: &mut Connection, patience: &Patience, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the other threads of this executor queue up behind it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { deadline, work }) = job else { return };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            continue;
        }
        patience.renew(left);
        if catch_unwind(AssertUnwindSafe(|| work(connection))).is_err() {
            tracing::error!("a piece of database work panicked; its transaction was undone");
        }
    }
}

/// How long a connection still waits for a lock that another one holds.
#[derive(Clone)]
pub(super) struct Patience {
    started: Instant,
    ends_after_ms: Arc<AtomicU64>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { started: Instant::now(), ends_after_ms: Arc::default() }
    }
}

impl Patience {
    /// Waits for locks until `left` from now.
    pub(super) fn renew(&self, left: Duration) {
        let end = self.started.elapsed() + left;
        self.ends_after_ms.store(u64::try_from(end.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn has_some_left(&self) -> bool {
        self.started.elapsed().as_millis() < u128::from(self.ends_after_ms.load(Ordering::Relaxed))
    }

    /// A busy handler (<https://sqlite.org/c3ref/busy_handler.html>). It asks again after 1 to 8 ms: `SQLite`'s own
    /// backs off to 100 ms, during which the lock may change hands many times and pass this process by.
    pub(super) fn handler(&self) -> impl FnMut(i32) -> bool + Send + 'static {
        let patience = self.clone();
        // Processes that wait for the same lock ask at different moments.
        let offset = u64::from(std::process::id());
        move |asked| {
            let pause_ms = 1 + (u64::from(asked.unsigned_abs()) * 5 + offset) % 8;
            std::thread::sleep(Duration::from_millis(pause_ms));
            patience.has_some_left()
        }
    }
}
