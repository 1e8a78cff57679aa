//! The request target (RFC 9112 section 3.2) and the authority it or `Host` names.

use super::head_request::Reject;

/// A target that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// Path and query, `*`, or host and port of CONNECT.
    pub(crate) path: &'b [u8],
    /// Host and port of an absolute-form target and of CONNECT.
    pub(crate) authority: Option<&'b [u8]>,
}

impl<'b> Target<'b> {
    /// Origin-form, absolute-form, `*` for OPTIONS, and host and port for CONNECT, which few routes allow.
    pub(crate) fn parse(method: &[u8], target: &'b [u8]) -> Result<Self, Reject> {
        if method == b"CONNECT" {
            return Self::of_connect(target);
        }
        // All visible ASCII but `#`. Looked at as a whole, which the compiler does many bytes at a time.
        if !target.iter().fold(true, |good, &byte| good & matches!(byte, b'!'..=b'"' | b'$'..=b'~')) {
            return Err(Reject::new(400, "a byte of the request target is not allowed there"));
        }
        match target {
            [b'/', ..] => Ok(Self { path: target, authority: None }),
            b"*" if method == b"OPTIONS" => Ok(Self { path: target, authority: None }),
            _ => Self::absolute(method, target),
        }
    }

    /// Authority-form (RFC 9112 section 3.2.3): a host and a port, neither of them left out.
    fn of_connect(target: &'b [u8]) -> Result<Self, Reject> {
        let has_port = target.last().is_some_and(u8::is_ascii_digit) && target.contains(&b':');
        if !is_authority(target) || !has_port {
            return Err(Reject::new(400, "CONNECT names no host and port"));
        }
        Ok(Self { path: target, authority: Some(target) })
    }

    fn absolute(method: &[u8], target: &'b [u8]) -> Result<Self, Reject> {
        let bad = Reject::new(400, "malformed request target");
        let (scheme, rest) = target.split_at_checked(7).ok_or(bad)?;
        if !scheme.eq_ignore_ascii_case(b"http://") {
            return Err(bad);
        }
        let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !is_authority(authority) {
            return Err(bad);
        }
        let path = match path {
            [] if method == b"OPTIONS" => b"*",
            [] => b"/",
            // A query without a path could only be passed on by making a path up.
            [b'?', ..] => return Err(bad),
            _ => path,
        };
        Ok(Self { path, authority: Some(authority) })
    }
}

/// Which bytes a name has: every request asks this of every byte of its `Host`.
const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let allowed = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
        table[byte as usize] = allowed;
        byte += 1;
    }
    table
};

/// Whether this is a host, with a port or without: a name, an IPv4 address or a bracketed IPv6 address. Stricter
/// than RFC 3986 section 3.2.2, which allows characters that no host name has.
pub(crate) fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = match authority {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let address = &rest[..end];
            if address.is_empty() || !address.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
                return false;
            }
            (address, &rest[end + 1..])
        }
        _ => authority.split_at(authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len())),
    };
    let in_brackets = authority.first() == Some(&b'[');
    let host_ok = in_brackets || host.iter().all(|&byte| HOST_BYTES[usize::from(byte)]);
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && host_ok && port_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |method: &str, target: &'static str| {
            let target = Target::parse(method.as_bytes(), target.as_bytes());
            target.map(|t| (std::str::from_utf8(t.path).unwrap(), t.authority.map(|a| std::str::from_utf8(a).unwrap())))
        };
        assert_eq!(parse("GET", "/a?b"), Ok(("/a?b", None)));
        assert_eq!(parse("GET", "http://a.example:80/x"), Ok(("/x", Some("a.example:80"))));
        assert_eq!(parse("GET", "HTTP://a"), Ok(("/", Some("a"))));
        assert_eq!(parse("OPTIONS", "*"), Ok(("*", None)));
        assert_eq!(parse("OPTIONS", "http://a"), Ok(("*", Some("a"))));
        for bad in [
            "*",
            "a",
            "a/b",
            "ftp://a/",
            "https://a/",
            "http:///x",
            "http://u@a/",
            "http://a?x",
            "/a#b",
            "/a\\\x7f",
            "/é",
        ] {
            assert_eq!(parse("GET", bad).map_err(|r| r.status), Err(400), "{bad}");
        }
        assert_eq!(parse("CONNECT", "a:443"), Ok(("a:443", Some("a:443"))));
        assert_eq!(parse("CONNECT", "[::1]:443"), Ok(("[::1]:443", Some("[::1]:443"))));
        for bad in ["a", "a:", "/", "http://a:443/", "[::1]", "a:443/", "u@a:443", ":443", "*"] {
            assert_eq!(parse("CONNECT", bad).map_err(|r| r.status), Err(400), "{bad}");
        }
    }

    #[test]
    fn authorities() {
        for good in ["a", "a.example", "A-b_c.example:8080", "127.0.0.1:80", "[::1]", "[::1]:80", "a:", "xn--e1a"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in
            ["", ":80", "a b", "a,b", "a/b", "a@b", "a:b", "a:1:2", "[]", "[::1", "[::1]x", "a:123456", "a\"", "[a b]"]
        {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
