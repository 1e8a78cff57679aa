//! Answers that the edge makes itself: short plain text with the request's identity.

use super::fields::{put, put_number};

/// An answer of the edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnAnswer<'a> {
    pub(crate) status: u16,
    /// What happened, in words.
    pub(crate) reason: &'a str,
    pub(crate) id: &'a [u8],
    /// The connection ends after it.
    pub(crate) close: bool,
    pub(crate) minor: u8,
    /// It answers a HEAD request.
    pub(crate) to_head: bool,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after_s: Option<u64>,
}

impl OwnAnswer<'_> {
    /// Appends the whole message.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let before = "request ".len() + self.id.len() + 1;
        let length = self.reason.len() + 1 + before;
        out.extend_from_slice(b"HTTP/1.1 ");
        put_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
        put_number(out, length as u64);
        out.extend_from_slice(b"\r\n");
        if let Some(seconds) = self.retry_after_s {
            out.extend_from_slice(b"Retry-After: ");
            put_number(out, seconds);
            out.extend_from_slice(b"\r\n");
        }
        put(out, b"X-Request-Id", self.id);
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.minor == 0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !self.to_head {
            for part in [self.reason.as_bytes(), b"\nrequest ", self.id, b"\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// The reason phrase of a status that the edge uses (RFC 9110 section 15, RFC 6585).
pub(crate) const fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_right() {
        let answer = OwnAnswer {
            status: 503,
            reason: "nobody is there",
            id: b"0123",
            close: true,
            minor: 1,
            to_head: false,
            retry_after_s: Some(3),
        };
        let mut out = Vec::new();
        answer.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "nobody is there\nrequest 0123\n");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("Retry-After: 3\r\n") && head.ends_with("Connection: close"), "{head}");
    }
}
