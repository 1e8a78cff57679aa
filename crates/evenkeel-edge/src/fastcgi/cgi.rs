//! The head of a script's answer (RFC 3875 section 6): from lines of fields to the head of an answer of HTTP.
//!
//! Lines may end with CRLF or LF. What concerns the connection is left out, since this side frames the body itself. Pure.

use crate::http::framing::{is_field_byte, is_token_byte};

/// A head that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Status, from 200 to 599.
    pub status: u16,
    /// Lines of fields for the client, each with its CRLF.
    pub lines: Vec<u8>,
    /// Length of the body, where the script says it.
    pub length: Option<u64>,
    /// Bytes of the input that it takes, the empty line included.
    pub taken: usize,
}

/// A head with no meaning, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHead(pub &'static str);

/// Reads a head; `None`: it is not complete.
pub fn parse(input: &[u8]) -> Result<Option<Head>, BadHead> {
    let Some(taken) = end(input) else { return Ok(None) };
    let mut head = Head { status: 200, lines: Vec::with_capacity(taken), length: None, taken };
    let (mut status, mut located) = (None, false);
    for line in input[..taken].split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(BadHead("a line without a colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
            return Err(BadHead("a field with no proper name"));
        }
        if !value.iter().all(|&byte| is_field_byte(byte)) {
            return Err(BadHead("a control character in a field"));
        }
        if name.eq_ignore_ascii_case(b"status") {
            let code = status_code(value)?;
            if status.replace(code).is_some_and(|former| former != code) {
                return Err(BadHead("more than one status"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value)?;
            if head.length.replace(length).is_some_and(|former| former != length) {
                return Err(BadHead("more than one length"));
            }
        } else if !concerns_connection(name) {
            located |= name.eq_ignore_ascii_case(b"location");
            head.lines.extend_from_slice(name);
            head.lines.extend_from_slice(b": ");
            head.lines.extend_from_slice(value);
            head.lines.extend_from_slice(b"\r\n");
        }
    }
    // A redirect need not say its status (section 6.2.3).
    head.status = status.unwrap_or(if located { 302 } else { 200 });
    Ok(Some(head))
}

/// Where the head ends: behind the first empty line.
fn end(input: &[u8]) -> Option<usize> {
    let mut start = 0;
    for (at, _) in input.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if matches!(&input[start..at], b"" | b"\r") {
            return Some(at + 1);
        }
        start = at + 1;
    }
    None
}

fn concerns_connection(name: &[u8]) -> bool {
    const THOSE: [&[u8]; 6] =
        [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"trailer", b"proxy-connection"];
    THOSE.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// `404 Not Found`, or `404` alone.
fn status_code(value: &[u8]) -> Result<u16, BadHead> {
    let digits = value.split(|&byte| byte == b' ').next().unwrap_or_default();
    let code = number(digits).ok().filter(|_| digits.len() == 3).and_then(|code| u16::try_from(code).ok());
    code.filter(|code| (200..=599).contains(code)).ok_or(BadHead("a status that no answer has"))
}

fn number(digits: &[u8]) -> Result<u64, BadHead> {
    let bad = BadHead("a length that is no number");
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (u16, String, Option<u64>, usize) {
        let head = parse(text.as_bytes()).unwrap().unwrap();
        (head.status, String::from_utf8(head.lines).unwrap(), head.length, head.taken)
    }

    #[test]
    fn heads_of_scripts() {
        assert_eq!(
            of("Status: 404 Not Found\r\nContent-type: text/html\r\n\r\nbody"),
            (404, "Content-type: text/html\r\n".to_owned(), None, 50)
        );
        assert_eq!(of("A: 1\nB:2 \n\nx"), (200, "A: 1\r\nB: 2\r\n".to_owned(), None, 11));
        assert_eq!(of("Location: /x\r\n\r\n").0, 302);
        assert_eq!(of("Location: /x\r\nStatus: 201\r\n\r\n").0, 201);
        assert_eq!(
            of(
                "Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
            ),
            (200, "Set-Cookie: a\r\nSet-Cookie: b\r\n".to_owned(), Some(5), 98)
        );
        assert_eq!(of("\r\n"), (200, String::new(), None, 2));
        assert_eq!(parse(b"A: 1\r\nB"), Ok(None));
    }

    #[test]
    fn heads_with_no_meaning() {
        for bad in [
            "no colon\n\n",
            " folded: 1\n\n",
            ": 1\n\n",
            "A b: 1\n\n",
            "Status: 99\n\n",
            "Status: 101\n\n",
            "Status: 200\nStatus: 404\n\n",
            "Content-Length: 1\nContent-Length: 2\n\n",
            "Content-Length: -1\n\n",
            "Content-Length: 9999999999999999999\n\n",
            "A: \x01\n\n",
            "A: 1\rB: 2\n\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// Whatever a script prints, what is passed on are whole lines without a line's end in their middle.
        #[test]
        fn lines_are_lines(input in "(Status|Location|A|:|: |404|\r|\n|\r\n|\n\n|\u{0}|x){0,16}") {
            if let Ok(Some(head)) = parse(input.as_bytes()) {
                let text = String::from_utf8(head.lines).unwrap();
                prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
                prop_assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
                prop_assert!(text.is_empty() || text.ends_with("\r\n"));
                prop_assert!(!text.contains("\r\n\r\n") && (200..=599).contains(&head.status));
                prop_assert!(head.taken <= input.len());
            }
        }
    }
}
