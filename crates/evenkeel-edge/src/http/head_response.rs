//! The head of an answer: parsed as strictly as a request's, then written anew for the client.
//!
//! An answer that could be read in more than one way is not passed on; the client gets 502 (RFC 9112 section
//! 6.3). What is passed on has no field that is meant for one connection only, at most one statement of its
//! length, and the request's identity.

use evenkeel_core::snapshot::ServiceLimits;
use httparse::{Header, ParserConfig, Status};

use super::{
    fields::{
        Framing, Known, MOST_FIELDS, classify, copy_fields, is_listed, lines_end_with_crlf, put, put_number,
        put_upgrade, upgrades,
    },
    framing::{Body, Chunked},
    head_request::FieldRoom,
};

/// An answer that cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAnswer(pub &'static str);

/// A head that was understood.
#[derive(Debug)]
pub struct ResponseHead<'b, 'f> {
    head: &'b [u8],
    fields: &'f [Header<'b>],
    framing: Framing,
    reason: &'b [u8],
    /// Bytes of the head.
    pub length: usize,
    /// 100 to 999.
    pub status: u16,
    /// How the body ends.
    pub body: Body,
    /// The instance takes another request on this connection after the body.
    pub keep_alive: bool,
}

/// Parses the head at the start of `input`; `to_head` says that it answers a HEAD request. `None`: more is needed.
pub fn parse<'b, 'f>(
    input: &'b [u8],
    room: &'f mut FieldRoom<'b>,
    limits: &ServiceLimits,
    to_head: bool,
) -> Result<Option<ResponseHead<'b, 'f>>, BadAnswer> {
    let mut response = httparse::Response::new(&mut []);
    let limit = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);
    if matches!(input, [b'\r' | b'\n', ..]) {
        return Err(BadAnswer("empty line before the status line"));
    }
    let length = match ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        input,
        &mut room[..MOST_FIELDS],
    ) {
        Ok(Status::Complete(length)) if length <= limit => length,
        Ok(Status::Partial) if input.len() < limit => return Ok(None),
        Ok(_) => return Err(BadAnswer("head too large")),
        Err(_) => return Err(BadAnswer("malformed head")),
    };
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(BadAnswer("malformed status line"));
    };
    let (head, reason) = (&input[..length], response.reason.unwrap_or_default().as_bytes());
    let fields: &'f [Header<'b>] = response.headers;
    if !lines_end_with_crlf(head, fields) || !status_line_ends_with_crlf(head) {
        return Err(BadAnswer("a line of the head does not end with CRLF"));
    }
    if status < 100 {
        return Err(BadAnswer("status not expected"));
    }
    let mut framing = Framing::default();
    for field in fields {
        let noted = framing.note(classify(field.name.as_bytes()), field.value);
        noted.map_err(|_| BadAnswer("contradictory framing"))?;
    }
    if status == 101 && !(framing.upgrade && minor >= 1 && upgrades(fields).next().is_some()) {
        return Err(BadAnswer("another protocol without its name"));
    }
    let body = body(framing, status, minor, to_head)?;
    // Some instances send a body all the same where none may be, and later than the head: it would be taken for the
    // next request's answer.
    let doubtful = body == Body::Empty && (framing.chunked || framing.content_length.is_some_and(|length| length > 0));
    let keep_alive = framing.persists(minor) && body != Body::UntilClose && !doubtful;
    Ok(Some(ResponseHead { head, fields, framing, reason, length, status, body, keep_alive }))
}

/// RFC 9112 section 6.3 without its leniences.
fn body(framing: Framing, status: u16, minor: u8, to_head: bool) -> Result<Body, BadAnswer> {
    if framing.chunked && (framing.content_length.is_some() || minor == 0) {
        return Err(BadAnswer("contradictory framing"));
    }
    if to_head || status < 200 || status == 204 || status == 304 {
        return Ok(Body::Empty);
    }
    Ok(match framing.content_length {
        _ if framing.chunked => Body::Chunked(Chunked::default()),
        Some(length) => Body::of_length(length),
        None => Body::UntilClose,
    })
}

fn status_line_ends_with_crlf(head: &[u8]) -> bool {
    head.iter().position(|&byte| byte == b'\n').is_some_and(|end| end > 0 && head[end - 1] == b'\r')
}

/// How the answer goes to the client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The request's identity.
    pub id: &'a [u8],
    /// The client's HTTP/1.x.
    pub minor: u8,
    /// The connection ends after this answer.
    pub close: bool,
}

impl ResponseHead<'_, '_> {
    /// Whether more answers to the same request follow (RFC 9110 section 15.2).
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_upgrade()
    }

    /// Whether the connection carries another protocol from here on (RFC 9110 section 15.2.2).
    pub const fn is_upgrade(&self) -> bool {
        self.status == 101
    }

    /// Whether it is a stream of server-sent events (WHATWG HTML section 9.2), which may be silent for long.
    pub fn is_event_stream(&self) -> bool {
        let types = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("content-type"));
        let mut kinds = types.map(|field| field.value.split(|&byte| byte == b';').next().unwrap_or_default());
        kinds.any(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
    }

    /// The declared length of the body that follows; `None` where it is not declared.
    pub const fn declared(&self) -> Option<u64> {
        match self.body {
            Body::Empty => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked(_) | Body::UntilClose => None,
        }
    }

    /// Appends the head that the client gets.
    pub fn write(&self, out: &mut Vec<u8>, delivery: &Delivery<'_>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        put_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(self.reason);
        out.extend_from_slice(b"\r\n");
        let lists = self.framing.lists;
        copy_fields(self.head, self.fields, out, |field| {
            let name = field.name.as_bytes();
            match classify(name) {
                Known::HopByHop
                | Known::Connection
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::RequestId => false,
                _ => !(lists && is_listed(self.fields, name)),
            }
        });
        if self.is_upgrade() {
            put_upgrade(out, self.fields);
            put(out, b"X-Request-Id", delivery.id);
        } else if !self.is_interim() {
            self.write_framing(out, delivery);
            put(out, b"X-Request-Id", delivery.id);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_framing(&self, out: &mut Vec<u8>, delivery: &Delivery<'_>) {
        // An answer to HEAD and a 304 may say what their body would have been; a 204 may not.
        match (self.framing.chunked, self.framing.content_length) {
            (true, _) if delivery.minor >= 1 && self.status != 204 => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            (false, Some(length)) if self.status != 204 => {
                out.extend_from_slice(b"Content-Length: ");
                put_number(out, length);
                out.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        if delivery.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if delivery.minor == 0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
}
