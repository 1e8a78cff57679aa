//! A TCP listener whose connections are bounded in number and in what they may wait for.
//!
//! Anybody on the machine can connect to it, so somebody who opens connections and says nothing, sends a head byte by
//! byte or reads no answer must cost neither descriptors nor memory without end, and keep nobody else out. How many
//! there are, of whom, is decided by `seats`; this module closes connections whose place was taken, and those that let
//! us wait: [`Patience`] says for what how long. Whoever is known and is being answered has an hour without a byte, for
//! uploads and for following what says little.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};

use super::seats::{Guest, Room, Seats};

/// How much is permitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) room: Room,
    pub(super) patience: Patience,
}

/// How long a connection may let us wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without getting any of an answer out, unless whoever is known is being answered: longer than whoever scrapes
    /// leaves between two requests on one connection.
    pub(super) silence: Duration,
    /// From the first byte of a request to the last one of its head.
    pub(super) head: Duration,
    /// Without taking any of what is to be written.
    pub(super) stuck: Duration,
}

/// How long somebody who is known is answered without getting any of the answer.
const KNOWN_SILENCE: Duration = Duration::from_hours(1);

/// The listener.
pub(super) struct Bounded {
    listener: TcpListener,
    patience: Patience,
    seats: Seats,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, Bounds { room, patience }: Bounds) -> Self {
        Self { listener, patience, seats: Seats::new(room) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let (guest, until) = self.seats.enter(peer.ip());
        let (patience, now) = (self.patience, Instant::now());
        let end = Box::pin(sleep(patience.silence));
        (Connection { stream, patience, guest, until, written: now, head: None, stuck: None, end }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub(super) struct Connection {
    stream: TcpStream,
    patience: Patience,
    guest: Arc<Guest>,
    /// Resolves when its place is somebody else's.
    until: oneshot::Receiver<Infallible>,
    /// When the last byte of an answer went out, or it began.
    written: Instant,
    /// When the head of a request began that is not answered yet.
    head: Option<Instant>,
    /// Since when nothing of what is to be written is taken.
    stuck: Option<Instant>,
    end: Pin<Box<Sleep>>,
}

impl Connection {
    /// To be told who is at the other end.
    pub(super) fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.guest)
    }

    /// When this has let us wait for too long, as things stand.
    fn deadline(&self) -> Instant {
        let Patience { silence, head, stuck } = self.patience;
        if let Some(since) = self.stuck {
            return since + stuck;
        }
        match (self.guest.standing(), self.head) {
            ((true, true), _) => self.written + KNOWN_SILENCE,
            ((true, false), _) | ((false, _), None) => self.written + silence,
            ((false, _), Some(since)) => since + head,
        }
    }

    /// What the stream says, unless it has to wait and its time is over.
    fn in_time<T>(&mut self, context: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            return said;
        }
        if Pin::new(&mut self.until).poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let deadline = self.deadline();
        if deadline <= Instant::now() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.end.deadline() != deadline {
            self.end.as_mut().reset(deadline);
        }
        // So that its end wakes this task; where it has come since, that is soon.
        if self.end.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
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
        let before = buffer.filled().len();
        let said = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && !self.guest.standing().0 {
            self.head.get_or_insert_with(Instant::now);
        }
        self.in_time(context, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(context, bytes);
        match said {
            Poll::Ready(Ok(_)) => (self.written, self.head, self.stuck) = (Instant::now(), None, None),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => drop(self.stuck.get_or_insert_with(Instant::now)),
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
    use axum::{
        Router,
        body::{Body, Bytes},
        extract::ConnectInfo,
        routing::get,
    };
    use evenkeel_core::access::Role;
    use http_body_util::channel::Channel;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(400);
    static FLOOD: &[u8] = &[b'x'; 1 << 14];
    const ROOM: Room = Room { strangers: 2, strangers_of_one: 2, known: [8; 3], known_of_one: 8 };

    #[derive(Clone)]
    struct Known(Arc<Guest>);

    impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Bounded>> for Known {
        fn connect_info(stream: axum::serve::IncomingStream<'_, Bounded>) -> Self {
            Self(stream.io().guest())
        }
    }

    /// Serves `/`, which strangers may ask, and `/flood`, which never ends and is for somebody who is known.
    async fn serve(patience: Patience) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flood = async |ConnectInfo(Known(guest)): ConnectInfo<Known>| {
            guest.admit("somebody", Role::Viewer).unwrap();
            let answering = guest.answer();
            let (mut to, body) = Channel::<Bytes>::new(1);
            tokio::spawn(async move {
                let _answering = answering;
                while to.send_data(Bytes::from_static(FLOOD)).await.is_ok() {}
            });
            Body::new(body)
        };
        let routes = Router::new().route("/", get(async || "hello")).route("/flood", get(flood));
        let service = routes.into_make_service_with_connect_info::<Known>();
        let bounded = Bounded::new(listener, Bounds { room: ROOM, patience });
        tokio::spawn(async move { axum::serve(bounded, service).await });
        address
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Until the other end closes or resets it.
    async fn closed(stream: &mut TcpStream) {
        let end = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("it is closed in time");
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_out() {
        let address = serve(Patience { silence: LONG, head: LONG, stuck: LONG }).await;
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(Duration::from_secs(20), ask(address)).await.expect("there is room");
        assert!(answer.ends_with("hello"), "{answer}");
        closed(&mut silent[0]).await;
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_head_is_closed_in_time() {
        let address = serve(Patience { silence: SHORT, head: LONG, stuck: LONG }).await;
        closed(&mut TcpStream::connect(address).await.unwrap()).await;
        let address = serve(Patience { silence: LONG, head: SHORT, stuck: LONG }).await;
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let drip = async {
            while write.write_all(b"G").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let mut answer = Vec::new();
        let end = async { tokio::join!(read.read_to_end(&mut answer), drip) };
        let _ = tokio::time::timeout(Duration::from_secs(20), end).await.expect("it is closed in time");
    }

    #[tokio::test]
    async fn who_reads_no_answer_is_closed_in_time_although_they_are_known() {
        let address = serve(Patience { silence: LONG, head: LONG, stuck: SHORT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // Whatever was sent is in the way of what says that it is closed, so this end asks the kernel, which says so
        // by an error of what is written.
        let end = async {
            while stream.write_all(b"G").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("it is closed in time");
    }
}
