//! The head of an answer: parsed as strictly as a request's, then written anew for the client.
//!
//! An answer that could be read in more than one way is not passed on; the client gets 502 (RFC 9112 section
//! 6.3). What is passed on has no field that is meant for one connection only, at most one statement of its
//! length, and the request's identity.

use evenkeel_core::snapshot::ServiceLimits;
use httparse::{Header, ParserConfig, Status};

use super::{
    date::put_date,
    dress::Changes,
    fields::{
        Framing, Known, MOST_FIELDS, Marks, classify, copy_fields, is_listed, lines_end_with_crlf, protocols, put,
        put_number, put_upgrade, upgrades,
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
    marks: Marks,
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
    // What stands before the first field, or before the empty line, is the status line.
    if !lines_end_with_crlf(head, fields) {
        return Err(BadAnswer("a line of the head does not end with CRLF"));
    }
    if status < 100 {
        return Err(BadAnswer("status not expected"));
    }
    let (mut framing, mut marks) = (Framing::default(), Marks::default());
    for (place, field) in fields.iter().enumerate() {
        let known = classify(field.name.as_bytes());
        if known != Known::Other {
            marks.set(place);
            framing.note(known, field.value).map_err(|_| BadAnswer("contradictory framing"))?;
        }
    }
    if status == 101 && !(framing.upgrade && minor >= 1 && upgrades(fields).next().is_some()) {
        return Err(BadAnswer("another protocol without its name"));
    }
    let body = body(framing, status, minor, to_head)?;
    // Some instances send a body all the same where none may be, and later than the head: it would be taken for the
    // next request's answer. That a length is said in an answer to HEAD is as it should be (RFC 9110 section 9.3.2).
    let says_length = framing.chunked || framing.content_length.is_some_and(|length| length > 0);
    let doubtful = body == Body::Empty && says_length && !(to_head && status != 204);
    let keep_alive = framing.persists(minor) && body != Body::UntilClose && !doubtful;
    Ok(Some(ResponseHead { head, fields, framing, marks, reason, length, status, body, keep_alive }))
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

/// How the answer goes to the client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The request's identity.
    pub id: &'a [u8],
    /// The client's HTTP/1.x.
    pub minor: u8,
    /// The connection ends after this answer.
    pub close: bool,
    /// Whole field lines of the edge's own to append; not to an interim answer.
    pub more: &'a [u8],
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

    /// Whether every protocol of this 101 was asked for by `request`, the head that was sent (RFC 9110 section 7.8).
    pub fn chooses_from(&self, request: &[u8]) -> bool {
        const NAME: &[u8] = b"\r\nUpgrade: ";
        let Some(start) = request.windows(NAME.len()).position(|window| window == NAME) else {
            return false;
        };
        let asked = request[start + NAME.len()..].split(|&byte| byte == b'\r').next().unwrap_or_default();
        upgrades(self.fields).all(|chosen| protocols(asked).any(|one| one.eq_ignore_ascii_case(chosen)))
    }

    /// It answers a CONNECT: whatever follows is the tunnel's, and no length is said (RFC 9110 section 9.3.6).
    pub fn opens_tunnel(&mut self) {
        self.framing.chunked = false;
        self.framing.content_length = None;
        self.body = Body::Empty;
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

    /// The length that it says, also where no body follows because it answers a HEAD request.
    pub(crate) const fn said_length(&self) -> Option<u64> {
        self.framing.content_length
    }

    /// The values of the fields of this lower-case name.
    pub(crate) fn values(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.as_bytes().eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Appends the head that the client gets.
    pub fn write(&self, out: &mut Vec<u8>, delivery: &Delivery<'_>) {
        self.write_changed(out, delivery, None);
    }

    /// The same where it differs from the instance's.
    pub(crate) fn write_changed(&self, out: &mut Vec<u8>, delivery: &Delivery<'_>, changes: Option<&Changes<'_>>) {
        let digit = |place: u16| b"0123456789"[usize::from(self.status / place % 10)];
        out.extend_from_slice(&[
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'1',
            b' ',
            digit(100),
            digit(10),
            digit(1),
            b' ',
        ]);
        out.extend_from_slice(self.reason);
        out.extend_from_slice(b"\r\n");
        let (lists, mut dated) = (self.framing.lists, false);
        copy_fields(self.head, self.fields, out, |place, field| {
            let name = field.name.as_bytes();
            let known = if self.marks.has(place) { classify(name) } else { Known::Other };
            match known {
                Known::HopByHop
                | Known::Te
                | Known::Connection
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::RequestId => false,
                _ => {
                    dated |= name.eq_ignore_ascii_case(b"date");
                    let listed = lists && is_listed(self.fields, name);
                    !listed && changes.is_none_or(|changes| !changes.drops(name, field.value))
                }
            }
        });
        if self.is_upgrade() {
            put_upgrade(out, self.fields);
            if let Some(changes) = changes {
                changes.write(out, self);
            }
            put(out, b"X-Request-Id", delivery.id);
            out.extend_from_slice(delivery.more);
        } else if !self.is_interim() {
            if !dated {
                put_date(out);
            }
            if self.status == 426 {
                self.write_required_protocols(out);
            }
            if let Some(changes) = changes {
                changes.write(out, self);
            }
            self.write_framing(out, delivery, changes);
            put(out, b"X-Request-Id", delivery.id);
            out.extend_from_slice(delivery.more);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Which protocols the client has to ask for (RFC 9110 section 15.5.22), as far as they may be passed on.
    fn write_required_protocols(&self, out: &mut Vec<u8>) {
        if upgrades(self.fields).next().is_some() {
            put_upgrade(out, self.fields);
        }
    }

    fn write_framing(&self, out: &mut Vec<u8>, delivery: &Delivery<'_>, changes: Option<&Changes<'_>>) {
        // An answer to HEAD and a 304 may say what their body would have been; a 204 may not.
        let said = changes.is_some_and(|changes| changes.write_framing(out));
        match (self.framing.chunked, self.framing.content_length) {
            _ if said => {}
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
