//! A small HTTP/1.1 client: one connection, kept alive, one request at a time.
//!
//! The API's client speaks through it over the control socket, and the demo's visitors over TCP. It never
//! repeats a request and never follows a redirect: what a caller asked is what happened.

use std::{io, path::Path, time::Duration};

use evenkeel_core::secret::Secret;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderValue},
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::timeout,
};

/// The largest answer that is read whole.
const ANSWER_BYTES: usize = 64 << 20;
/// How long a connection may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The request cannot be written as HTTP.
    #[error("cannot ask for this: {0}")]
    Request(#[from] hyper::http::Error),
    /// The connection ended or did not speak HTTP.
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    /// The answer's body ended early or is too large.
    #[error("the answer could not be read: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Further header fields.
    pub(crate) headers: &'a [(&'static str, String)],
    /// The body; JSON unless it is empty.
    pub(crate) body: Vec<u8>,
}

impl<'a> Ask<'a> {
    /// `GET` this target.
    pub(crate) const fn get(target: &'a str) -> Self {
        Self { method: Method::GET, target, headers: &[], body: Vec::new() }
    }

    /// `POST` this JSON document.
    pub(crate) const fn post(target: &'a str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, target, headers: &[], body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Bytes,
}

/// A body that is sent.
type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Sent>,
    host: String,
    token: Option<Secret>,
}

impl Connection {
    /// Connects to an address.
    #[cfg(feature = "demo")]
    pub(crate) async fn tcp(address: std::net::SocketAddr) -> Result<Self, HttpError> {
        let stream =
            within(CONNECT_WAIT, tokio::net::TcpStream::connect(address)).await?.map_err(HttpError::Connect)?;
        // Requests are small and written whole; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        Self::over(stream, address.to_string()).await
    }

    /// Connects to `host:port` and shows a token with each request.
    pub(crate) async fn with_token(authority: &str, token: &Secret) -> Result<Self, HttpError> {
        let stream =
            within(CONNECT_WAIT, tokio::net::TcpStream::connect(authority)).await?.map_err(HttpError::Connect)?;
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        Ok(Self { token: Some(token.clone()), ..Self::over(stream, authority.to_owned()).await? })
    }

    /// Connects to a Unix socket.
    pub(crate) async fn unix(path: &Path) -> Result<Self, HttpError> {
        let stream = within(CONNECT_WAIT, UnixStream::connect(path)).await?.map_err(HttpError::Connect)?;
        Self::over(stream, "localhost".to_owned()).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        host: String,
    ) -> Result<Self, HttpError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error comes to the sender too, which tells whoever asked.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host, token: None })
    }

    /// Whether a request can be sent: the other side has not closed the connection.
    #[cfg(feature = "demo")]
    pub(crate) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Asks and reads the whole answer within `wait`.
    pub(crate) async fn ask(&mut self, ask: Ask<'_>, wait: Duration) -> Result<Answer, HttpError> {
        within(wait, async {
            let response = self.open(ask).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(HttpError::Body)?;
            Ok(Answer { status, body: body.to_bytes() })
        })
        .await?
    }

    /// Asks and returns the answer's head; its body follows as it comes.
    pub(crate) async fn open(&mut self, ask: Ask<'_>) -> Result<Response<Incoming>, HttpError> {
        let mut request = self.request(ask.method, ask.target)?;
        for (name, value) in ask.headers {
            request = request.header(*name, value);
        }
        if !ask.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(ask.body)).map_err(|never| match never {});
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(body.boxed_unsync())?).await?)
    }

    /// `POST`s a body as it comes, however long that takes, and reads the whole answer.
    pub(crate) async fn send<B>(&mut self, target: &str, body: B) -> Result<Answer, HttpError>
    where
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        let request = self.request(Method::POST, target)?.header(header::CONTENT_TYPE, "application/x-tar");
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(body.boxed_unsync())?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(HttpError::Body)?;
        Ok(Answer { status, body: body.to_bytes() })
    }

    fn request(&self, method: Method, target: &str) -> Result<Builder, HttpError> {
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, &self.host);
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(hyper::http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Result<T, HttpError> {
    timeout(wait, work).await.map_err(|_| HttpError::Timeout(wait))
}
