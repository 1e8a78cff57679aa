//! Calls to servers that are well, unwell, without a health service, and none of gRPC at all.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use bytes::Bytes;
use evenkeel_core::snapshot::Probe;
use proptest::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::super::{Failure, Target};
use super::*;

async fn ask(address: SocketAddr, service: &str, timeout_ms: u64) -> Result<(), Failure> {
    let probe = Probe::Grpc { service: service.to_owned() };
    let (address, resolved) = (address.to_string(), Some(address));
    Target { resolved, address, probe, timeout: Duration::from_millis(timeout_ms), introduces: None }.probe().await
}

/// What a server answers to every call.
#[derive(Clone, Copy)]
struct Answers {
    http: u16,
    kind: &'static str,
    /// `grpc-status` in the head, without a message.
    at_once: Option<&'static str>,
    message: &'static [u8],
    /// `grpc-status` in the trailers.
    status: &'static str,
}

const WELL: Answers =
    Answers { http: 200, kind: "application/grpc+proto", at_once: None, message: b"\0\0\0\0\x02\x08\x01", status: "0" };

async fn server(answers: Answers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["te"], "trailers");
            let head = http::Response::builder().status(answers.http).header("content-type", answers.kind);
            if let Some(status) = answers.at_once {
                respond.send_response(head.header("grpc-status", status).body(()).unwrap(), true).unwrap();
                continue;
            }
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(answers.message), false).unwrap();
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static(answers.status),
            )]);
            body.send_trailers(trailers).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn serving_passes_and_everything_else_says_what_it_is() {
    ask(server(WELL).await, "shop.Orders", 5_000).await.unwrap();
    let cases = [
        (Answers { message: b"\0\0\0\0\x02\x08\x02", ..WELL }, "NOT_SERVING"),
        (Answers { message: b"\0\0\0\0\0", ..WELL }, "UNKNOWN"),
        (Answers { message: b"\x01\0\0\0\x02\x08\x01", ..WELL }, "the answer is not gRPC over HTTP/2"),
        (Answers { message: &[b'x'; 10_000], ..WELL }, "the answer is not gRPC over HTTP/2"),
        (Answers { at_once: Some("12"), ..WELL }, "unimplemented: the server has no health service"),
        (Answers { at_once: Some("5"), ..WELL }, "not found: its health service knows no service `shop`"),
        (Answers { status: "14", ..WELL }, "unavailable"),
        (Answers { status: "99", ..WELL }, "grpc-status 99"),
        (Answers { http: 503, ..WELL }, "status 503"),
        (Answers { kind: "text/html", ..WELL }, "the answer is not gRPC over HTTP/2"),
    ];
    for (answers, expected) in cases {
        let failure = ask(server(answers).await, "shop", 5_000).await.unwrap_err();
        assert_eq!(failure.to_string(), expected);
        assert!(failure.is_answer());
    }
}

#[tokio::test]
async fn what_is_no_grpc_server_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mute = ask(address, "", 100).await.unwrap_err();
    assert_eq!(mute.to_string(), "timed out after 100 ms");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    // The first connection, which timed out above, is answered too.
    let wrong = ask(address, "", 5_000).await.unwrap_err();
    assert_eq!(wrong.to_string(), "the answer is not gRPC over HTTP/2");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    assert_eq!(ask(address, "", 5_000).await.unwrap_err().to_string(), "connect: refused");
}

/// A server by gRPC's own implementation: the service `down` is not serving, the whole server is, and it knows no other.
const REAL: &str = r#"
import sys, grpc
from concurrent import futures
def check(request, context):
    name = request[2:].decode()
    if name == "": return b"\x08\x01"
    if name == "down": return b"\x08\x02"
    context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
server = grpc.server(futures.ThreadPoolExecutor(2))
if sys.argv[1] == "healthy":
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"#;

#[tokio::test]
async fn a_real_server_is_understood() {
    let start = async |kind: &str| {
        let mut command = tokio::process::Command::new("/usr/bin/python3");
        let mut server = command.args(["-c", REAL, kind]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).await.unwrap();
        let port = port.trim().parse::<u16>().expect("python3-grpcio is there: `cargo xtask setup` installs it");
        (server, SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let (_server, address) = start("healthy").await;
    ask(address, "", 10_000).await.unwrap();
    assert_eq!(ask(address, "down", 10_000).await.unwrap_err().to_string(), "NOT_SERVING");
    let unknown = ask(address, "nobody", 10_000).await.unwrap_err().to_string();
    assert_eq!(unknown, "not found: its health service knows no service `nobody`");
    let (_server, address) = start("without").await;
    let none = ask(address, "", 10_000).await.unwrap_err().to_string();
    assert_eq!(none, "unimplemented: the server has no health service");
}

#[test]
fn questions_are_protobuf() {
    assert_eq!(question(""), [0, 0, 0, 0, 0]);
    assert_eq!(question("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    let long = question(&"x".repeat(300));
    assert_eq!((long[..8].to_vec(), long.len()), (vec![0, 0, 0, 1, 0x2f, 0x0a, 0xac, 2], 5 + 3 + 300));
}

#[test]
fn answers_are_protobuf() {
    let framed = |message: &[u8]| [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message].concat();
    assert_eq!(serving_status(&framed(&[8, 1])), Some(1));
    assert_eq!(serving_status(&framed(&[8, 1, 8, 2])), Some(2), "the last one counts");
    assert_eq!(serving_status(&framed(&[0x12, 3, 1, 2, 3, 8, 1, 0x1d, 0, 0, 0, 0])), Some(1), "others are passed over");
    for wrong in
        [&[8][..], &[8, 0x80], &[0x12, 9, 1], &[0, 1], &[0x0b], &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]]
    {
        assert_eq!(serving_status(&framed(wrong)), None, "{wrong:?}");
    }
    assert_eq!(serving_status(b""), None);
    assert_eq!(serving_status(b"\0\0\0\0\x01"), None);
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = serving_status(&bytes);
    }
}
