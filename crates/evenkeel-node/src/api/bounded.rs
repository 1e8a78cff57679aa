//! A TCP listener whose connections are bounded in number and in what they may wait for.
//!
//! Anybody on the machine can connect to it, so somebody who opens connections and says nothing, sends a head byte by
//! byte or reads no answer must cost neither descriptors nor memory without end. A connection that gets no byte of an
//! answer out for [`Bounds::silence`] is closed, whatever it sends, unless whoever is at its other end has shown who it
//! is: then it has an hour, for uploads and for following what says little. Beyond [`Bounds::connections`] the kernel keeps
//! those that come until one of the others ends.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// How much is permitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Open connections.
    pub(super) connections: usize,
    /// How long a connection lives without getting any of an answer out: longer than whoever scrapes leaves between
    /// two requests on one connection.
    pub(super) silence: Duration,
}

/// How long the connection of somebody who is known lives without getting any of an answer out.
const KNOWN_SILENCE: Duration = Duration::from_hours(1);

/// The listener.
pub(super) struct Bounded {
    listener: TcpListener,
    silence: Duration,
    room: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Self { listener, silence: bounds.silence, room: Arc::new(Semaphore::new(bounds.connections)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(sleep(self.silence));
        (
            Connection { stream, silence: self.silence, end, known: Arc::default(), prolonged: false, _permit: permit },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub(super) struct Connection {
    stream: TcpStream,
    silence: Duration,
    end: Pin<Box<Sleep>>,
    known: Arc<AtomicBool>,
    /// Whether `end` is the later one already.
    prolonged: bool,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// To be set once it is known who is at the other end.
    pub(super) fn known(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.known)
    }

    /// What the stream says, unless it has to wait and its time is over.
    fn in_time<T>(&mut self, context: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_pending() && self.end.as_mut().poll(context).is_ready() {
            if self.prolonged || !self.known.load(Ordering::Relaxed) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.prolonged = true;
            self.end.as_mut().reset(Instant::now() + KNOWN_SILENCE);
            // Asked once more, so that its end wakes this task.
            let _ = self.end.as_mut().poll(context);
        }
        said
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.in_time(context, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(said, Poll::Ready(Ok(_))) {
            let end = Instant::now() + self.silence;
            self.end.as_mut().reset(end);
            self.prolonged = false;
        }
        self.in_time(context, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_or_drips_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { connections: 2, silence: Duration::from_millis(400) };
        let routes = Router::new().route("/", get(async || "hello"));
        tokio::spawn(async move { axum::serve(Bounded::new(listener, bounds), routes).await });

        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut dripping = TcpStream::connect(address).await.unwrap();
        let drip = async { while dripping.write_all(b"G").await.is_ok() && yield_a_little().await {} };
        let ask = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answers = async {
            let first = ask.await;
            // The one that said nothing was closed, not only left alone.
            assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
            first
        };
        let both = async { tokio::join!(answers, drip).0 };
        let answer = tokio::time::timeout(Duration::from_secs(20), both).await.expect("room is made in time");
        assert!(answer.ends_with("hello"), "{answer}");
    }

    async fn yield_a_little() -> bool {
        sleep(Duration::from_millis(5)).await;
        true
    }
}
