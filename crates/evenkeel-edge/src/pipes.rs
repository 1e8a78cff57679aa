//! Pipes: through them long bodies pass from one connection to another without being copied into this process.
//!
//! `splice(2)` moves pages from a socket into a pipe and from there into another socket. Only what is passed on
//! unchanged may go this way: the bytes are never seen. A connection holds a pipe only while there are bytes in it.
//! The pool belongs to one thread. Pipes of this size count towards what the kernel grants a user
//! (`/proc/sys/fs/pipe-user-pages-soft`, see `pipe(7)`), so there are few; whoever gets none passes bytes on by a buffer.
//!
//! Writing to a connection that was closed raises no signal: the runtime of Rust ignores `SIGPIPE` in every process whose
//! `main` it calls.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

/// Capacity of a pipe, in bytes: the most that the kernel grants to everybody. With a smaller one the same bytes need more
/// calls, each of which costs as much as one that moves more.
const PIPE_BYTES: usize = 1 << 20;
/// Most pipes over all threads: half of what the kernel grants one user.
const MOST: usize = 32;
/// Shorter bodies are passed on by a buffer, in bytes.
pub(crate) const LONG_BYTES: u64 = 64 << 10;

/// The pipes of one thread.
#[derive(Debug)]
pub(crate) struct Pipes {
    free: RefCell<Vec<Pipe>>,
    open: Rc<Cell<usize>>,
    most: Cell<usize>,
}

/// A pipe, empty while it is in the pool.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    open: Rc<Cell<usize>>,
}

/// Bytes on their way from one connection to another.
#[derive(Debug, Default)]
pub(crate) struct Passage {
    pipe: Option<Pipe>,
    held: usize,
    /// Some have passed.
    pub(crate) used: bool,
}

impl Pipes {
    /// The pool of one of so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        let most = Cell::new((MOST / threads.max(1)).max(2));
        Self { free: RefCell::default(), open: Rc::default(), most }
    }

    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.open.get() >= self.most.get() {
            return None;
        }
        let made = Pipe::open(&self.open);
        if made.is_none() {
            // The kernel grants no more of them, and asking again with every body would not change that.
            self.most.set(self.open.get());
        }
        made
    }

    fn give(&self, pipe: Pipe) {
        self.free.borrow_mut().push(pipe);
    }
}

impl Pipe {
    fn open(open: &Rc<Cell<usize>>) -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&into, PIPE_BYTES).ok()?;
        open.set(open.get() + 1);
        Some(Self { out, into, open: Rc::clone(open) })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Passage {
    /// Whether bytes wait to be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.held > 0
    }

    /// Takes in at most so many bytes, where none wait. `Ok(0)` is the end of the stream; `None`: there is no pipe, so a
    /// buffer has to do.
    pub(crate) fn poll_fill(
        &mut self,
        pipes: &Pipes,
        from: &TcpStream,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<usize>>> {
        debug_assert!(self.held == 0, "what waits goes first");
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIPE_BYTES);
        loop {
            let Poll::Ready(readable) = from.poll_read_ready(cx) else {
                self.end(pipes);
                return Poll::Pending;
            };
            if let Err(error) = readable {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(pipe) = self.pipe.take().or_else(|| pipes.take()) else {
                return Poll::Ready(None);
            };
            let moved = from.try_io(Interest::READABLE, || pass(from, &pipe.into, most));
            self.pipe = Some(pipe);
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.held = count;
                    self.used = true;
                    return Poll::Ready(Some(Ok(count)));
                }
                Err(error) if is_refused(&error) => {
                    // A sandbox around this process may not let it pass bytes so.
                    pipes.most.set(0);
                    self.pipe = None;
                    return Poll::Ready(None);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Lets the other side take what waits. Returns how much it took.
    pub(crate) fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let pipe = self.pipe.as_ref().expect("what waits is in a pipe");
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pass(&pipe.out, to, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.held -= count;
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives the pipe back; with bytes in it, it is closed.
    pub(crate) fn end(&mut self, pipes: &Pipes) {
        if let Some(pipe) = self.pipe.take()
            && self.held == 0
            && pipes.most.get() > 0
        {
            pipes.give(pipe);
        }
        self.held = 0;
    }
}

fn pass(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::io::retry_on_intr(|| splice(&from, None, &to, None, most, flags)).map_err(io::Error::from)
}

fn is_refused(error: &io::Error) -> bool {
    [Errno::NOSYS, Errno::INVAL, Errno::PERM].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        (client, listener.accept().await.expect("it connected").0)
    }

    #[tokio::test]
    async fn bytes_pass_as_they_are_and_pipes_come_back() {
        let ((mut sender, from), (to, mut receiver)) = (pair().await, pair().await);
        let (pipes, mut passage) = (Pipes::new(1), Passage::default());
        sender.write_all(b"hello, world").await.expect("room");
        let came = poll_fn(|cx| passage.poll_fill(&pipes, &from, 5, cx)).await;
        assert!(matches!(came, Some(Ok(5))), "no more than was asked for: {came:?}");
        assert!(passage.is_full());
        assert_eq!(poll_fn(|cx| passage.poll_drain(&to, cx)).await.expect("room"), 5);
        let mut text = [0; 5];
        receiver.read_exact(&mut text).await.expect("it came");
        assert_eq!(&text, b"hello");
        passage.end(&pipes);
        assert_eq!((pipes.free.borrow().len(), pipes.open.get()), (1, 1));
        let came = poll_fn(|cx| passage.poll_fill(&pipes, &from, 100, cx)).await;
        assert!(matches!(came, Some(Ok(7))), "{came:?}");
        passage.end(&pipes);
        assert_eq!((pipes.free.borrow().len(), pipes.open.get()), (0, 0), "one with bytes in it is closed");
        drop(sender);
        assert!(matches!(poll_fn(|cx| passage.poll_fill(&pipes, &from, 100, cx)).await, Some(Ok(0))));
    }

    #[tokio::test]
    async fn there_are_only_so_many() {
        let pipes = Pipes::new(MOST);
        let taken: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), 2);
        let (mut sender, from) = pair().await;
        sender.write_all(b"x").await.expect("room");
        let mut passage = Passage::default();
        assert!(poll_fn(|cx| passage.poll_fill(&pipes, &from, 1, cx)).await.is_none());
        drop(taken);
        assert!(poll_fn(|cx| passage.poll_fill(&pipes, &from, 1, cx)).await.is_some());
    }
}
