//! Workers: the memory of serving a request, kept by each thread and lent to the connections that need it.
//!
//! A worker is one future that serves connection after connection, so that a request costs no allocation although an
//! idle connection holds none of what serving needs. A connection is laid on the worker's desk, and is found there again
//! when it is idle. Owned by one thread, of bounded number while nobody uses them.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{client::Client, next};
use crate::thread::Thread;

/// Most workers kept by a thread while nobody uses them.
const KEPT: usize = 1024;

/// The workers of one thread that rest.
#[derive(Default)]
pub(crate) struct Workers {
    resting: RefCell<Vec<Worker>>,
}

/// One worker. Dropping it while it works drops its connection too.
pub(crate) struct Worker {
    work: Pin<Box<dyn Future<Output = ()>>>,
    desk: Rc<Desk>,
}

/// What lies between a worker and its connection.
#[derive(Default)]
struct Desk {
    come: Cell<Option<Box<Client>>>,
    left: Cell<Option<Left>>,
}

/// How a worker leaves a connection.
pub(crate) enum Left {
    /// Its requests are answered, and no byte of a next one is there.
    Idle(Box<Client>),
    /// It has ended. It was one of this thread.
    Over(Rc<Thread>),
}

impl Worker {
    /// A worker of the connection's thread that serves it from now on.
    pub(crate) fn set_to(client: Box<Client>) -> Self {
        let resting = client.thread.workers.resting.borrow_mut().pop();
        let worker = resting.unwrap_or_else(|| {
            let desk = Rc::new(Desk::default());
            Self { work: Box::pin(work(Rc::clone(&desk))), desk }
        });
        worker.desk.come.set(Some(client));
        worker
    }

    /// Works until the connection is idle or has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        // It never ends: without a connection it waits for one.
        let _ = self.work.as_mut().poll(cx);
        self.desk.left.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Goes back to its thread.
    pub(crate) fn rest(self, thread: &Thread) {
        let mut resting = thread.workers.resting.borrow_mut();
        if resting.len() < KEPT {
            resting.push(self);
        }
    }
}

/// Serves whatever is laid on the desk.
async fn work(desk: Rc<Desk>) {
    loop {
        // Nobody has to wake it: it is polled by whoever brings a connection.
        let mut client = poll_fn(|_| desk.come.take().map_or(Poll::Pending, Poll::Ready)).await;
        let goes_on = loop {
            if !next(&mut client).await {
                break false;
            }
            if client.input.is_empty() {
                break true;
            }
        };
        let left = if goes_on { Left::Idle(client) } else { Left::Over(Rc::clone(&client.thread)) };
        desk.left.set(Some(left));
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("resting", &self.resting.borrow().len()).finish()
    }
}
