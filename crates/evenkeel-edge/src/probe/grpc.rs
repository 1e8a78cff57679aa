//! gRPC: asks `grpc.health.v1.Health/Check` (the gRPC health checking protocol); `SERVING` passes.
//!
//! HTTP/2 with prior knowledge (RFC 9113 section 3.3) on a connection of its own, one call, unary as "gRPC over HTTP/2"
//! has it. The two messages are so small that they are written and read here by hand: a request with the field `service`
//! (1, a string), an answer with the field `status` (1, an enumeration). Nothing of an answer is kept beyond its first
//! message, and its size is bounded.

use std::pin::pin;

use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use tokio::net::TcpStream;

use super::Failure;

/// Most bytes of an answer that are looked at.
const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// Largest list of header fields that is taken.
const MAX_FIELDS_BYTES: u32 = 16 * 1024;

/// `grpc.health.v1.HealthCheckResponse.ServingStatus` 1.
const SERVING: u64 = 1;

/// Asks once over this new connection. The caller bounds the time. `authority` is what stands in `:authority`.
pub(super) async fn probe(stream: TcpStream, authority: &str, service: &str) -> Result<(), Failure> {
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_FIELDS_BYTES);
    let (client, connection) = builder.handshake(stream).await.map_err(broken)?;
    let mut connection = pin!(connection);
    let mut call = pin!(call(client, authority, service));
    // The connection is driven here, so that it ends with the probe whatever happens.
    tokio::select! {
        biased;
        result = &mut call => result,
        // What has arrived before its end is there to be read.
        _ = &mut connection => call.await,
    }
}

async fn call(client: SendRequest<bytes::Bytes>, authority: &str, service: &str) -> Result<(), Failure> {
    let mut client = client.ready().await.map_err(broken)?;
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "keel-check")
        .body(())
        .map_err(|_| Failure::NotGrpc)?;
    let (answer, mut body) = client.send_request(request, false).map_err(broken)?;
    body.send_data(question(service).into(), true).map_err(broken)?;
    let (head, body) = answer.await.map_err(broken)?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Failure::Status(head.status.as_u16()));
    }
    let is_grpc = head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return Err(Failure::NotGrpc);
    }
    // Without a message the status stands in the head ("Trailers-Only").
    code(&head.headers, service)?;
    let message = receive(body, service).await?;
    match serving_status(&message) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(Failure::NotServing(status_name(status))),
        None => Err(Failure::NotGrpc),
    }
}

/// The whole body, and what its trailers say.
async fn receive(mut body: RecvStream, service: &str) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(broken)?;
        // An answer larger than the window could not be one of ours.
        let _ = body.flow_control().release_capacity(part.len());
        message.extend_from_slice(&part);
        if message.len() > MAX_ANSWER_BYTES {
            return Err(Failure::NotGrpc);
        }
    }
    if let Some(trailers) = body.trailers().await.map_err(broken)? {
        code(&trailers, service)?;
    }
    Ok(message)
}

/// What `grpc-status` says, if it is there and not 0.
fn code(fields: &http::HeaderMap, service: &str) -> Result<(), Failure> {
    let Some(status) = fields.get("grpc-status") else { return Ok(()) };
    match status.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(0_u32) => Ok(()),
        Some(code) => Err(Failure::Grpc(in_words(code, service))),
        None => Err(Failure::NotGrpc),
    }
}

/// The status codes of gRPC, with what they mean for a health check.
fn in_words(code: u32, service: &str) -> String {
    const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid argument",
        "deadline exceeded",
        "not found",
        "already exists",
        "permission denied",
        "resource exhausted",
        "failed precondition",
        "aborted",
        "out of range",
        "unimplemented",
        "internal",
        "unavailable",
        "data loss",
        "unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code).copied());
    match (code, name) {
        (5, Some(name)) => format!("{name}: its health service knows no service `{service}`"),
        (12, Some(name)) => format!("{name}: the server has no health service"),
        (_, Some(name)) => name.to_owned(),
        (_, None) => format!("grpc-status {code}"),
    }
}

const fn status_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that the protocol does not have",
    }
}

/// A `HealthCheckRequest` behind the five bytes that begin every message: not compressed, length.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.append(&mut message);
    framed
}

/// The field `status` of the one `HealthCheckResponse` in these bytes; `None` where they are none. A field that is not
/// there has its zero, `UNKNOWN`; of several the last counts, and fields of later versions are passed over.
pub fn serving_status(bytes: &[u8]) -> Option<u64> {
    let (prefix, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || u32::try_from(message.len()) != Ok(length) {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let (field, wire) = (tag >> 3, tag & 7);
        match (field, wire) {
            (0, _) => return None,
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => {
                take_varint(&mut rest)?;
            }
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

/// A number of at most ten bytes, seven bits in each, the lowest first.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// What a failure of HTTP/2 says of the instance.
fn broken(error: h2::Error) -> Failure {
    if error.is_io() {
        return error.into_io().map_or(Failure::Closed, |error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Broken(error),
        });
    }
    Failure::NotGrpc
}

#[cfg(test)]
mod tests;
