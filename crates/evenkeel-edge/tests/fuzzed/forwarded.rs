//! What the edge forwards, read by other means: lines and chunks are taken apart here without any of its code, and have
//! to say the same. Shared by the fuzzer and by the tests that replay its corpora.
#![allow(unreachable_pub)] // Who includes it decides who sees it.

use std::mem::MaybeUninit;

use evenkeel_edge::http::{
    framing::Body,
    head_request::{self, FieldRoom, Forwarding, RequestHead},
    head_response::{self, Delivery},
    lenient::{Amended, amend},
};

use super::limits::{CLIENT, SERVICE};

/// Reads a request as a strict listener does, and as one that reports. Says which of them forward it.
pub fn request(input: &[u8]) -> (bool, bool) {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    match head_request::parse(input, &mut room, &CLIENT) {
        Ok(Some(head)) => {
            let forwarded = forward(&head, input).is_some();
            (forwarded, forwarded)
        }
        Ok(None) => (false, false),
        Err(_) => (false, put_right(input)),
    }
}

/// What is put right is a head by the strict rules, with what followed the bad one behind it.
fn put_right(input: &[u8]) -> bool {
    let Amended::Head { head, length, found } = amend(input, &CLIENT) else {
        return false;
    };
    assert!(!found.is_empty(), "what is put right has a reason");
    assert!(head.ends_with(b"\r\n\r\n") && input[..length].ends_with(b"\n"));
    let amended = [head.as_slice(), &input[length..]].concat();
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let Ok(Some(mut parsed)) = head_request::parse(&amended, &mut room, &CLIENT) else {
        return false;
    };
    assert_eq!(parsed.length, head.len(), "nothing else is its head");
    assert!(!matches!(amend(&amended, &CLIENT), Amended::Head { .. }), "once is enough");
    parsed.keeps_underscored = true;
    forward(&parsed, &amended).is_some()
}

/// Writes it for the instance and reads that again. `None`: its body is refused.
fn forward(head: &RequestHead<'_, '_>, input: &[u8]) -> Option<()> {
    let mut out = Vec::new();
    head.write(&mut out, &Forwarding { client: b"192.0.2.1", trusted: false, id: b"id", expect: false });
    let (mut body, mut content) = (head.body, Vec::new());
    let step = body.advance_with(&input[head.length..], |part| content.extend_from_slice(part)).ok()?;
    out.extend_from_slice(&input[head.length..head.length + step.taken]);

    let (start, fields, rest) = split(&out);
    let [method, target, version]: [&[u8]; 3] =
        start.split(|&byte| byte == b' ').collect::<Vec<_>>().try_into().expect("a request line has three parts");
    assert_eq!((method, target, version), (head.method, head.path, b"HTTP/1.1".as_slice()));
    assert_eq!(values(&fields, b"host"), [head.authority], "one host");
    assert_eq!(values(&fields, b"x-forwarded-for"), [b"192.0.2.1".as_slice()], "the client that is known");
    for barred in [b"keep-alive".as_slice(), b"proxy-connection", b"x-real-ip", b"forwarded", b"http2-settings"] {
        assert!(values(&fields, barred).is_empty(), "{}", String::from_utf8_lossy(barred));
    }
    let names = fields.iter().filter(|(name, _)| !head.keeps_underscored && name.contains(&b'_'));
    assert_eq!(names.count(), 0, "no name that might pass for another");
    same_body(&fields, rest, step.done, &content, None);
    Some(())
}

/// Reads an answer to a GET or a HEAD request. Says whether it is passed on.
pub fn answer(input: &[u8], to_head: bool) -> bool {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let Ok(Some(head)) = head_response::parse(input, &mut room, &SERVICE, to_head) else {
        return false;
    };
    let mut out = Vec::new();
    head.write(&mut out, &Delivery { id: b"id", minor: 1, close: false, more: b"" });
    let (mut body, mut content) = (head.body, Vec::new());
    let Ok(step) = body.advance_with(&input[head.length..], |part| content.extend_from_slice(part)) else {
        return false;
    };
    let body_is_there = !matches!(head.body, Body::Empty | Body::UntilClose);
    if body_is_there {
        out.extend_from_slice(&input[head.length..head.length + step.taken]);
    }
    let (start, fields, rest) = split(&out);
    assert_eq!(start.get(..13), Some(format!("HTTP/1.1 {} ", head.status).as_bytes()));
    same_body(&fields, rest, step.done, &content, Some(body_is_there));
    true
}

/// Whether lines and chunks say what the edge understood. `bodied`: of an answer, whether a body follows whatever the
/// fields say.
fn same_body(fields: &[Field<'_>], rest: &[u8], done: bool, content: &[u8], bodied: Option<bool>) {
    let lengths = values(fields, b"content-length");
    let codings = values(fields, b"transfer-encoding");
    assert!(lengths.len() + codings.len() <= 1, "one statement of its length");
    if bodied == Some(false) {
        assert!(rest.is_empty());
        return;
    }
    let read = match (lengths.first(), codings.first()) {
        (Some(length), _) => {
            let length: usize = String::from_utf8_lossy(length).parse().expect("a number");
            (rest.len() >= length).then(|| (rest[..length].to_vec(), &rest[length..]))
        }
        (_, Some(coding)) => {
            assert_eq!(*coding, b"chunked");
            chunks(rest)
        }
        _ => Some((Vec::new(), rest)),
    };
    assert_eq!(read.is_some(), done, "both know whether it is complete");
    if let Some((whole, behind)) = read {
        assert_eq!((whole.as_slice(), behind), (content, b"".as_slice()), "the same content, and no second message");
    }
}

type Field<'a> = (Vec<u8>, &'a [u8]);

/// First line, fields and what follows the head. There is no CR and no LF but in line ends.
fn split(message: &[u8]) -> (&[u8], Vec<Field<'_>>, &[u8]) {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
    let (head, rest) = (&message[..end + 2], &message[end + 4..]);
    let breaks = head.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
    let mut lines: Vec<&[u8]> =
        head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    assert_eq!(lines.pop(), Some(b"".as_slice()));
    assert_eq!(breaks, lines.len() * 2, "every line ends with CRLF");
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && !name.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()));
        fields.push((name.to_ascii_lowercase(), value));
    }
    (lines[0], fields, rest)
}

fn values<'a>(fields: &[Field<'a>], name: &[u8]) -> Vec<&'a [u8]> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
}

/// Content of chunks and what follows the trailer section; `None` where that has not ended.
fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("a size");
        if size == 0 {
            break;
        }
        content.extend_from_slice(rest.get(..size)?);
        let end = rest.get(size..size.checked_add(2)?)?;
        assert_eq!(end, b"\r\n");
        rest = &rest[size + 2..];
    }
    loop {
        let line = take_line(&mut rest)?;
        if line.is_empty() {
            return Some((content, rest));
        }
        let name = line.split(|&byte| byte == b':').next()?.to_ascii_lowercase();
        for barred in [b"content-length".as_slice(), b"transfer-encoding", b"host", b"connection", b"authorization"] {
            assert_ne!(name, barred, "not in a trailer section");
        }
    }
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = &rest[..end];
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    *rest = &rest[end + 2..];
    Some(line)
}
