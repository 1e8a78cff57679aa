//! Cookies: the little of RFC 6265 that the edge needs to know a client again.
//!
//! A `Cookie` field is `name=value` pairs between semicolons, and a value has no semicolon in it, quoted or not
//! (section 4.1.1). Names are compared exactly. What does not look so is no pair of anybody's, and passes on as it came.
//! Nothing here allocates or fails, whatever the bytes; work is linear in their number.

use std::ops::Range;

use evenkeel_core::access::SESSION_COOKIE;

/// Digits of a token.
const DIGITS: usize = 16;

/// The value of the first pair of this name in the value of a `Cookie` field.
pub fn value<'b>(field: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    field.split(|&byte| byte == b';').find_map(|pair| value_of(pair, name))
}

fn value_of<'b>(pair: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")
}

/// The token in the value of a cookie that the edge has set; `None` for whatever it would not have written itself.
pub fn token(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if value.len() != DIGITS || !value.iter().all(digit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

/// The whole field line that sets a cookie: for scripts out of reach, and sent along by links from elsewhere, but not by
/// what other sites post (RFC 6265bis section 5.7). `max_age_s` 0: until the browser ends.
pub fn set(name: &str, token: u64, max_age_s: u64, secure: bool) -> String {
    let max_age = if max_age_s > 0 { format!("; Max-Age={max_age_s}") } else { String::new() };
    let secure = if secure { "; Secure" } else { "" };
    format!("Set-Cookie: {name}={token:016x}; Path=/; HttpOnly; SameSite=Lax{max_age}{secure}\r\n")
}

/// Takes every pair of this name out of the `Cookie` fields of a head whose lines end with CRLF, the first of them being
/// the request line. A field that has no other pair goes as a whole. Other bytes stay as they are.
pub fn strip(head: &mut Vec<u8>, name: &[u8]) {
    strip_those(head, |pair| value_of(pair, name).is_some());
}

/// Takes every session of a console out, as [`strip`] does, if these values of `Cookie` fields have any: whoever has it
/// can do what its owner may.
pub fn strip_sessions<'b>(mut values: impl Iterator<Item = &'b [u8]>, head: &mut Vec<u8>) {
    if values.any(|value| value.split(|&byte| byte == b';').any(is_session)) {
        strip_those(head, is_session);
    }
}

fn is_session(pair: &[u8]) -> bool {
    pair.trim_ascii_start().starts_with(SESSION_COOKIE.as_bytes())
}

fn strip_those(head: &mut Vec<u8>, goes: impl Fn(&[u8]) -> bool) {
    let mut at = next_line(head, 0);
    while at < head.len() {
        let end = next_line(head, at);
        let is_cookie = head[at..end].get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"cookie:"));
        at = if is_cookie { strip_line(head, at..end, &goes) } else { end };
    }
}

/// Where the line after the one at `at` begins.
fn next_line(head: &[u8], at: usize) -> usize {
    head[at..].iter().position(|&byte| byte == b'\n').map_or(head.len(), |end| at + end + 1)
}

/// Returns where the next line begins.
fn strip_line(head: &mut Vec<u8>, line: Range<usize>, goes: impl Fn(&[u8]) -> bool) -> usize {
    let start = line.start + b"cookie:".len();
    let end = line.end - head[line.clone()].iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let (mut kept, mut from, mut any) = (start, start, false);
    while from <= end {
        let until = head[from..end].iter().position(|&byte| byte == b';').map_or(end, |semicolon| from + semicolon);
        if !goes(&head[from..until]) {
            if any {
                head[kept] = b';';
                kept += 1;
            }
            head.copy_within(from..until, kept);
            kept += until - from;
            any = true;
        }
        from = until + 1;
    }
    let gone = if any { kept..end } else { line };
    let at = gone.start;
    head.drain(gone);
    if any { next_line(head, at) } else { at }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found_by_their_exact_name() {
        let field = b"a=1; Keel=x; keel=00ff; keel=later; b";
        assert_eq!(value(field, b"keel"), Some(&b"00ff"[..]));
        assert_eq!(value(field, b"kee"), None);
        assert_eq!(value(field, b"b"), None);
        assert_eq!(value(b"keel=", b"keel"), Some(&b""[..]));
        assert_eq!(value(b"x=\"; keel=1\"", b"keel"), Some(&b"1\""[..]), "a quote hides no semicolon");
    }

    #[test]
    fn only_what_the_edge_writes_is_a_token() {
        assert_eq!(token(b"00000000000000ff"), Some(255));
        for foreign in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000ff0", "0x000000000000ff"] {
            assert_eq!(token(foreign.as_bytes()), None, "{foreign}");
        }
        let line = set("keel", 0xabc, 60, true);
        let set = "Set-Cookie: keel=0000000000000abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure\r\n";
        assert_eq!(line, set);
    }

    fn stripped(head: &str) -> String {
        let mut head = head.as_bytes().to_vec();
        strip(&mut head, b"keel");
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn the_others_stay() {
        let start = "GET / HTTP/1.1\r\nHost: a\r\n";
        for (before, after) in [
            ("Cookie: keel=1\r\n", ""),
            ("cookie: keel=1; keel=2;keel=3\r\n", ""),
            ("COOKIE: a=1; keel=1; b=2\r\n", "COOKIE: a=1; b=2\r\n"),
            ("Cookie: keel=1; a=1\r\n", "Cookie: a=1\r\n"),
            ("Cookie: a=1; keel=1\r\nCookie: keel=2\r\n", "Cookie: a=1\r\n"),
            ("Cookie: keel\r\n", "Cookie: keel\r\n"),
            ("X-Cookie: keel=1\r\n", "X-Cookie: keel=1\r\n"),
        ] {
            let whole = |part: &str| format!("{start}{part}Accept: x\r\n\r\n");
            assert_eq!(stripped(&whole(before)), whole(after), "{before}");
        }
    }

    proptest! {
        /// Whatever the fields are: afterwards none has the name, every other pair is there in its order, and the rest of
        /// the head is untouched.
        #[test]
        fn nothing_else_is_lost(fields in proptest::collection::vec("[a-b;= ]{0,12}", 0..4), name in "[ab]{1,2}") {
            let head = |fields: &[String]| {
                let lines = fields.iter().map(|field| format!("Cookie: {field}\r\n")).collect::<Vec<_>>().concat();
                format!("GET / HTTP/1.1\r\nA: b\r\n{lines}Z: keel=1\r\n\r\n").into_bytes()
            };
            let mut out = head(&fields);
            strip(&mut out, name.as_bytes());
            let text = String::from_utf8(out).unwrap();
            prop_assert!(text.starts_with("GET / HTTP/1.1\r\nA: b\r\n") && text.ends_with("\r\nZ: keel=1\r\n\r\n"));
            let pairs = |lines: Vec<&str>| -> Vec<String> {
                let all = lines.iter().flat_map(|line| line.split(';'));
                all.map(|pair| pair.trim().to_owned()).filter(|pair| !pair.is_empty()).collect()
            };
            let left: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Cookie:")).collect();
            let wanted: Vec<String> = pairs(fields.iter().map(String::as_str).collect());
            let wanted: Vec<String> = wanted.into_iter().filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
            prop_assert_eq!(pairs(left), wanted);
        }

        /// Whatever the bytes: nothing of that name is left, and every other line stays as it is.
        #[test]
        fn any_bytes(pieces in proptest::collection::vec(prop_oneof![
            3 => prop::sample::select(vec!["Cookie:", "cookie: ", "k=", "k=1", ";", "; ", "\r\n", "\n", "\r", "=", "a=b", " "])
                .prop_map(|piece| piece.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..3),
        ], 0..20)) {
            let head = [b"GET / HTTP/1.1\r\n", pieces.concat().as_slice(), b"\r\n\r\n"].concat();
            let mut out = head.clone();
            strip(&mut out, b"k");
            let is_cookie = |line: &&[u8]| line.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"cookie:"));
            for line in out.split(|&byte| byte == b'\n').filter(is_cookie) {
                prop_assert_eq!(value(&line[7..], b"k"), None);
            }
            let others = |head: &[u8]| -> Vec<Vec<u8>> {
                let all = head.split(|&byte| byte == b'\n').filter(|line| !is_cookie(line));
                all.map(<[u8]>::to_vec).collect()
            };
            prop_assert_eq!(others(&out), others(&head));
        }
    }
}
