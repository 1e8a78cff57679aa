//! Against an implementation nobody here wrote: hyper as the client and as the instance.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use common::{Edge, snapshot};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::HeaderMap,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, net::TcpStream, sync::mpsc};

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// Sends parts as they come.
fn stream(parts: mpsc::Receiver<Frame<Bytes>>) -> Body {
    Parts(parts).boxed()
}

struct Parts(mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let collected = request.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let received = collected.to_bytes();
    Ok(match path.as_str() {
        "/stream" => {
            let (sender, parts) = mpsc::channel(1);
            tokio::spawn(async move {
                for n in 0..200u32 {
                    let _ = sender.send(Frame::data(Bytes::from(n.to_be_bytes().to_vec()))).await;
                }
            });
            Response::new(stream(parts))
        }
        "/trailers" => full_of(trailers.map(|t| format!("{:?}", t.get("x-in"))).unwrap_or_default()),
        "/none" => Response::builder().status(204).body(full("")).unwrap(),
        _ => full_of(format!("{method} {path} {}", received.len())),
    })
}

fn full_of(text: String) -> Response<Body> {
    Response::new(full(text))
}

/// An instance and a client on a runtime of this test; the edge has threads of its own.
fn with_hyper<F: Future<Output = ()>>(test: impl FnOnce(hyper::client::conn::http1::SendRequest<Body>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(socket), service_fn(respond)));
        }
    });
    let edge = Edge::start(snapshot(&[address]));
    runtime.block_on(async move {
        let socket = TcpStream::connect(edge.address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(common::PATIENCE, test(sender)).await.expect("the exchange ends");
        drop(edge);
    });
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "a").body(body).unwrap()
}

#[test]
fn bodies_of_every_kind_on_one_connection() {
    with_hyper(async |mut sender| {
        for size in [0, 1, 1000, 16_384, 65_536, 65_537, 3_000_000] {
            let answer = sender.send_request(request(Method::POST, "/x", full(vec![b'x'; size]))).await.unwrap();
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, format!("POST /x {size}"));
            sender.ready().await.unwrap();
        }
        let head = sender.send_request(request(Method::HEAD, "/x", full(""))).await.unwrap();
        assert_eq!((head.status().as_u16(), head.headers()["content-length"].as_bytes()), (200, b"9".as_slice()));
        sender.ready().await.unwrap();
        let none = sender.send_request(request(Method::DELETE, "/none", full(""))).await.unwrap();
        assert_eq!(none.status(), 204);
        sender.ready().await.unwrap();
        let answer = sender.send_request(request(Method::GET, "/stream", full(""))).await.unwrap();
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.to_bytes().len(), 800);
    });
}

#[test]
fn a_streamed_request_with_trailers() {
    with_hyper(async |mut sender| {
        let (parts, body) = mpsc::channel(1);
        let mut post = request(Method::POST, "/trailers", stream(body));
        post.headers_mut().insert("trailer", "x-in".parse().unwrap());
        tokio::spawn(async move {
            for _ in 0..50 {
                parts.send(Frame::data(Bytes::from(vec![b'y'; 5000]))).await.unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-in", "250000".parse().unwrap());
            parts.send(Frame::trailers(trailers)).await.unwrap();
        });
        let answer = sender.send_request(post).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "Some(\"250000\")");
    });
}
