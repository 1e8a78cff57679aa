//! One keep-alive connection of a drill's client, as strict as the least patient user.
//!
//! It never repeats a request: whatever does not end in one complete answer is trouble, and the drill counts it.
//! A connection may only go away between requests if the answer before said so with `Connection: close` (RFC
//! 9112, section 9.6); anything else is trouble too, since with a busy connection it is luck that nothing was on
//! its way. Its owner decides when to send; the connection is made anew when there is none.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

/// The longest a client waits for a complete answer. Above every bound that an edge keeps by default while it
/// holds a request for an instance.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read.
const MAX_BODY_BYTES: usize = 16 << 20;

/// A request of a drill.
#[derive(Clone, Debug)]
pub(super) enum Ask<'a> {
    /// `GET path`.
    Read(&'a str),
    /// `POST path` with a JSON body under a key of its own.
    Write { path: &'a str, body: &'a str, key: &'a str },
}

impl Ask<'_> {
    /// As people write it.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Read(path) => format!("GET {path}"),
            Self::Write { path, .. } => format!("POST {path}"),
        }
    }
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status code.
    pub(super) status: u16,
    /// Its whole body.
    pub(super) body: Bytes,
}

/// Why there is no complete answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The connection was not made.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// It was gone before the request was sent, and the answer before had not said so.
    #[error("the connection was closed between two requests, without `Connection: close`")]
    ClosedIdle,
    /// It broke before the head of the answer.
    #[error("the connection broke before an answer came: {0}")]
    BeforeAnswer(#[source] hyper::Error),
    /// It broke within the body.
    #[error("the answer was cut off: {0}")]
    CutOff(#[source] hyper::Error),
    /// The answer is larger than a drill reads.
    #[error("the answer has more than {} MiB", MAX_BODY_BYTES >> 20)]
    TooLarge,
    /// It took too long.
    #[error("no complete answer within {} s", PATIENCE.as_secs())]
    TooSlow(#[source] Elapsed),
    /// The request cannot be written.
    #[error("cannot write the request: {0}")]
    Malformed(#[source] hyper::http::Error),
}

impl Trouble {
    /// Whether a connection that had been made is gone.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, Self::ClosedIdle | Self::BeforeAnswer(_) | Self::CutOff(_))
    }
}

/// A client with at most one connection.
pub(super) struct Client {
    address: SocketAddr,
    host: String,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// When the connection of the last request was made.
    connected: Option<Instant>,
}

impl Client {
    /// A client of this address. `host` is the value of the `Host` header, by default the address.
    pub(super) fn new(address: SocketAddr, host: Option<&str>) -> Self {
        let host = host.map_or_else(|| address.to_string(), str::to_owned);
        Self { address, host, connection: None, connected: None }
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn send(&mut self, ask: &Ask<'_>) -> Result<Answer, Trouble> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            self.connected = None;
            let made = timeout(PATIENCE, connect(self.address)).await.map_err(Trouble::TooSlow)??;
            self.connected = Some(Instant::now());
            made
        };
        let answer = timeout(PATIENCE, exchange(&mut connection, self.request(ask)?)).await;
        let (answer, close) = answer.map_err(Trouble::TooSlow)??;
        if !close {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// When the connection of the last request was made; `None` if it was not.
    pub(super) fn connected(&self) -> Option<Instant> {
        self.connected
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Trouble> {
        let builder = Request::builder().header(HOST, &self.host).header("User-Agent", "keel-drill");
        let request = match ask {
            Ask::Read(path) => builder.method(Method::GET).uri(*path).body(Full::default()),
            Ask::Write { path, body, key } => builder
                .method(Method::POST)
                .uri(*path)
                .header(CONTENT_TYPE, "application/json")
                .header("Idempotency-Key", *key)
                .body(Full::new(Bytes::copy_from_slice(body.as_bytes()))),
        };
        request.map_err(Trouble::Malformed)
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let stream = TcpStream::connect(address).await.map_err(Trouble::Connect)?;
    stream.set_nodelay(true).map_err(Trouble::Connect)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Trouble::BeforeAnswer)?;
    // Its errors reach whoever sent a request; it ends when the sender is dropped.
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its answer, and whether the connection ends with it.
async fn exchange(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(Answer, bool), Trouble> {
    connection.ready().await.map_err(|_| Trouble::ClosedIdle)?;
    let answer = connection.send_request(request).await.map_err(Trouble::BeforeAnswer)?;
    let status = answer.status().as_u16();
    let close = answer.headers().get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
    });
    let mut body = answer.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Trouble::CutOff)?;
        whole.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if whole.len() > MAX_BODY_BYTES {
            return Err(Trouble::TooLarge);
        }
    }
    Ok((Answer { status, body: Bytes::from(whole) }, close))
}
