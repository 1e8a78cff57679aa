//! Answers that the edge makes itself: short plain text with the request's identity, or a page of the stack.

use evenkeel_core::snapshot::{ErrorPage, Page};

use super::{
    date::put_date,
    fields::{put, put_number},
};

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
    /// Appends the whole message: with the page that the first of `pages` has for such a status, otherwise with a plain
    /// line. Returns how many bytes of it are the body.
    pub(crate) fn write_or_page(&self, pages: &[&[ErrorPage]], out: &mut Vec<u8>) -> usize {
        let Self { status, id, close, minor, to_head, retry_after_s, .. } = *self;
        let mut found = pages.iter().filter_map(|of| page_for(of, status, false).map(|place| &of[place].page));
        if let Some(page) = found.next() {
            return OwnPage { page, status, id, close, minor, to_head, retry_after_s }.write(out);
        }
        self.write(out);
        if to_head { 0 } else { self.body_bytes() }
    }

    /// Appends the whole message.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let length = self.body_bytes();
        out.extend_from_slice(b"HTTP/1.1 ");
        put_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
        put_number(out, length as u64);
        out.extend_from_slice(b"\r\n");
        write_end(out, self.retry_after_s, self.id, self.close, self.minor);
        if !self.to_head {
            for part in [self.reason.as_bytes(), b"\nrequest ", self.id, b"\n"] {
                out.extend_from_slice(part);
            }
        }
    }

    const fn body_bytes(&self) -> usize {
        self.reason.len() + "\nrequest \n".len() + self.id.len()
    }
}

/// A page that the edge answers with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnPage<'a> {
    pub(crate) page: &'a Page,
    pub(crate) status: u16,
    pub(crate) id: &'a [u8],
    /// The connection ends after it.
    pub(crate) close: bool,
    pub(crate) minor: u8,
    /// It answers a HEAD request.
    pub(crate) to_head: bool,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after_s: Option<u64>,
}

impl OwnPage<'_> {
    /// Appends the whole message; returns how many bytes of it are the body. Where the status allows no body, none is
    /// declared either (RFC 9110 sections 8.6 and 15.3.5).
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> usize {
        let (status, Page { content_type, body, .. }) = (self.status, self.page);
        let bodiless = matches!(status, 204 | 304);
        out.extend_from_slice(b"HTTP/1.1 ");
        put_number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if !bodiless {
            // A line's end in it would begin another field.
            let line = content_type.split(['\r', '\n']).next().unwrap_or_default();
            put(out, b"Content-Type", line.as_bytes());
            out.extend_from_slice(b"Content-Length: ");
            put_number(out, body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        write_end(out, self.retry_after_s, self.id, self.close, self.minor);
        if self.to_head || bodiless {
            return 0;
        }
        out.extend_from_slice(body.as_bytes());
        body.len()
    }
}

/// The place of the page for a status: the first range that has it. `of_instances` asks for those that also take the
/// place of an instance's answer.
pub(crate) fn page_for(pages: &[ErrorPage], status: u16, of_instances: bool) -> Option<usize> {
    let fits = |page: &ErrorPage| (page.statuses.0..=page.statuses.1).contains(&status);
    pages.iter().position(|page| fits(page) && (page.of_instances || !of_instances))
}

/// The fields that every answer of the edge ends with, and the empty line.
fn write_end(out: &mut Vec<u8>, retry_after_s: Option<u64>, id: &[u8], close: bool, minor: u8) {
    if let Some(seconds) = retry_after_s {
        out.extend_from_slice(b"Retry-After: ");
        put_number(out, seconds);
        out.extend_from_slice(b"\r\n");
    }
    put_date(out);
    put(out, b"X-Request-Id", id);
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if minor == 0 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status that the edge uses (RFC 9110 section 15, RFC 6585).
pub(crate) const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
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
    fn a_page_declares_what_it_sends() {
        let page =
            Page { status: 503, content_type: "text/html\r\nX-Evil: 1".into(), body: "<p>zurück gleich</p>".into() };
        let own = OwnPage {
            page: &page,
            status: 503,
            id: b"0123",
            close: false,
            minor: 0,
            to_head: false,
            retry_after_s: Some(10),
        };
        let (mut out, mut head) = (Vec::new(), Vec::new());
        assert_eq!(own.write(&mut out), page.body.len());
        assert_eq!(OwnPage { to_head: true, ..own }.write(&mut head), 0);
        assert_eq!(out, [head.as_slice(), page.body.as_bytes()].concat());
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", page.body.len())), "{head}");
        assert!(head.contains("Retry-After: 10\r\n") && head.contains("Connection: keep-alive\r\n"), "{head}");
        assert!(!head.contains("Evil"), "{head}");
        let (empty, mut out) = (Page { status: 204, ..page.clone() }, Vec::new());
        assert_eq!(OwnPage { page: &empty, status: 204, ..own }.write(&mut out), 0);
        assert!(!String::from_utf8(out).unwrap().contains("Content-"));
    }

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
