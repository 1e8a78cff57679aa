//! Redirects: the edge's answer that sends a client elsewhere (RFC 9110 section 15.4).
//!
//! What a client sends gets into `Location` only where the template says so, and only bytes that a host name or a request
//! target may have, none of which ends a line; which host the client is led to is settled by the template's own rules
//! ([`evenkeel_core::snapshot::Redirect::parts`]). Nothing is kept between two requests.

use evenkeel_core::snapshot::{BadRedirect, Redirect, RedirectPart};

use super::{
    errors::phrase,
    fields::{put, put_number},
};

/// A redirect, compiled.
#[derive(Clone, Debug)]
pub struct RedirectView {
    /// The answer's status.
    pub status: u16,
    parts: Vec<RedirectPart>,
}

impl RedirectView {
    /// Compiles a redirect of a snapshot.
    pub fn compile(redirect: &Redirect) -> Result<Self, BadRedirect> {
        Ok(Self { status: redirect.status, parts: redirect.parts()? })
    }

    /// Where a request for this host (without port) and target (path and query) is sent. `None`: the request names no
    /// host, and one is needed.
    pub fn location(&self, host: &[u8], target: &[u8]) -> Option<Vec<u8>> {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let mut location = Vec::with_capacity(64 + target.len());
        for part in &self.parts {
            location.extend_from_slice(match part {
                RedirectPart::Text(text) => text.as_bytes(),
                RedirectPart::Host if host.is_empty() => return None,
                RedirectPart::Host => host,
                RedirectPart::Path => path,
                RedirectPart::Uri => target,
            });
        }
        Some(location)
    }
}

/// The answer to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnRedirect<'a> {
    pub(crate) status: u16,
    pub(crate) location: &'a [u8],
    pub(crate) id: &'a [u8],
    /// The connection ends after it.
    pub(crate) close: bool,
    pub(crate) minor: u8,
    /// It answers a HEAD request.
    pub(crate) to_head: bool,
}

impl OwnRedirect<'_> {
    /// Appends the whole message. The body names no place: what a client sent would come back in it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let body = phrase(self.status).as_bytes();
        out.extend_from_slice(b"HTTP/1.1 ");
        put_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        put(out, b"Location", self.location);
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
        put_number(out, body.len() as u64 + 1);
        out.extend_from_slice(b"\r\n");
        put(out, b"X-Request-Id", self.id);
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.minor == 0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !self.to_head {
            out.extend_from_slice(body);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_request_is_sent() {
        let view = |to: &str| RedirectView::compile(&Redirect { to: to.into(), status: 308 }).unwrap();
        let to = |to: &str, host: &str, target: &str| {
            view(to).location(host.as_bytes(), target.as_bytes()).map(|location| String::from_utf8(location).unwrap())
        };
        assert_eq!(to("https://{host}{uri}", "a.example", "/x?y=1").as_deref(), Some("https://a.example/x?y=1"));
        assert_eq!(to("https://{host}:8443{path}", "[::1]", "/x?y=1").as_deref(), Some("https://[::1]:8443/x"));
        assert_eq!(to("/login?from={path}", "", "/x?y=1").as_deref(), Some("/login?from=/x"));
        assert_eq!(
            to("https://b.example{uri}", "", "//evil.example/").as_deref(),
            Some("https://b.example//evil.example/")
        );
        assert_eq!(to("https://{host}{uri}", "", "/"), None);
    }
}
