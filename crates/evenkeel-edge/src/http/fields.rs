//! Field names the edge acts upon, and what they say (RFC 9110 sections 5 to 8, RFC 9112 sections 6 and 9).
//!
//! Shared by requests and answers. Nothing here allocates; a field is classified once by its length and name.

use httparse::Header;

use super::framing::is_token_byte;

/// Most fields of one head, whatever the limits say.
pub(crate) const MOST_FIELDS: usize = 256;

/// What a field means to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it is passed on, unless `Connection` names it.
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    IdempotencyKey,
    RequestId,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// Says something about the client that only a trusted peer may say.
    ForwardedOther,
    /// Meant for one connection only; never passed on.
    HopByHop,
    /// Says whether trailer fields are welcome.
    Te,
    /// Has an underscore, so that many applications take it for another name; it spells none that the edge acts upon.
    Underscored,
}

/// Classifies a field name. Every field of every head passes here, so nearly all names that mean nothing to the edge are
/// told by their first letter and their length.
pub(crate) fn classify(name: &[u8]) -> Known {
    match (name.first().map_or(0, |first| first | 0x20), name.len()) {
        (b't', 2) if is(name, b"te") => Known::Te,
        (b'h', 4) if is(name, b"host") => Known::Host,
        (b'p', 5) if is(name, b"proxy") => Known::HopByHop,
        (b'e', 6) if is(name, b"expect") => Known::Expect,
        (b'u', 7) if is(name, b"upgrade") => Known::HopByHop,
        (b'f', 9) if is(name, b"forwarded") => Known::ForwardedOther,
        (b'x', 9) if is(name, b"x-real-ip") => Known::ForwardedOther,
        (b'c', 10) if is(name, b"connection") => Known::Connection,
        (b'k', 10) if is(name, b"keep-alive") => Known::HopByHop,
        (b'x', 12) if is(name, b"x-request-id") => Known::RequestId,
        (b'c', 14) if is(name, b"content-length") => Known::ContentLength,
        (b'h', 14) if is(name, b"http2-settings") => Known::HopByHop,
        (b'x', 15) if is(name, b"x-forwarded-for") => Known::ForwardedFor,
        (b'i', 15) if is(name, b"idempotency-key") => Known::IdempotencyKey,
        (b'x', 16) if is(name, b"x-forwarded-host") => Known::ForwardedHost,
        (b't', 17) if is(name, b"transfer-encoding") => Known::TransferEncoding,
        (b'x', 17) if is(name, b"x-forwarded-proto") => Known::ForwardedProto,
        (b'p', 7..) if starts_with(name, b"proxy-") => Known::HopByHop,
        (b'x', 12..) if starts_with(name, b"x-forwarded-") => Known::ForwardedOther,
        _ if has_underscore(name) => classify_spelled_otherwise(name),
        _ => Known::Other,
    }
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether the name is this lower-case one in any case. Whole words are compared. Where the known name has a letter, which
/// are the only ones of its bytes with the bit 0x40, the other's byte is made lower-case first.
#[inline(always)]
#[allow(clippy::inline_always)] // The known name must become constants of the comparison.
fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    if N < 4 {
        return name.eq_ignore_ascii_case(known);
    }
    if N < 8 {
        return same_four(name, known, 0) && same_four(name, known, N - 4);
    }
    let mut at = 0;
    while at + 8 < N {
        if !same_eight(name, known, at) {
            return false;
        }
        at += 8;
    }
    same_eight(name, known, N - 8)
}

#[inline(always)]
#[allow(clippy::inline_always)] // As above.
fn same_four<const N: usize>(name: &[u8; N], known: &[u8; N], at: usize) -> bool {
    let name = u32::from_ne_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    let known = u32::from_ne_bytes([known[at], known[at + 1], known[at + 2], known[at + 3]]);
    name | (known & 0x4040_4040) >> 1 == known
}

#[inline(always)]
#[allow(clippy::inline_always)] // As above.
fn same_eight<const N: usize>(name: &[u8; N], known: &[u8; N], at: usize) -> bool {
    let (Some(name), Some(known)) = (name[at..].first_chunk(), known[at..].first_chunk()) else { return false };
    let (name, known) = (u64::from_ne_bytes(*name), u64::from_ne_bytes(*known));
    name | (known & 0x4040_4040_4040_4040) >> 1 == known
}

/// Eight bytes at a time, since most names have none.
fn has_underscore(name: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let Some(last) = name.last_chunk::<8>() else { return name.contains(&b'_') };
    // A byte that is `_` becomes zero, and the subtraction borrows into the highest bit of a byte only from zero.
    let has = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word) ^ (EACH * u64::from(b'_'));
        word.wrapping_sub(EACH) & !word & (EACH << 7) != 0
    };
    for word in name.as_chunks::<8>().0 {
        if has(word) {
            return true;
        }
    }
    has(last)
}

/// A name with underscores. Many applications get names in a form in which `-` and `_` are one (RFC 3875 section
/// 4.1.18), so one that then means something to the edge would get around it.
fn classify_spelled_otherwise(name: &[u8]) -> Known {
    const LONGEST: usize = 32;
    let mut dashes = [b'-'; LONGEST];
    let start = &mut dashes[..name.len().min(LONGEST)];
    start.iter_mut().zip(name).filter(|(_, byte)| **byte != b'_').for_each(|(to, byte)| *to = *byte);
    if classify(start) == Known::Other { Known::Underscored } else { Known::HopByHop }
}

/// Whether all lines of the head end with CRLF. httparse also takes a
/// bare LF as a line's end, which others may read differently (RFC 9112 section 2.2).
pub(crate) fn lines_end_with_crlf(head: &[u8], fields: &[Header<'_>]) -> bool {
    fields.iter().all(|field| {
        let start = offset(head, field.name.as_bytes());
        start >= 2 && head.get(start - 2..start) == Some(b"\r\n")
    }) && head.ends_with(b"\r\n\r\n")
}

/// Where `part`, a slice of `whole`, begins in it.
pub(crate) fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// Which fields of a head mean something to the edge, by their places: remembered when they are first looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks([u64; MOST_FIELDS / 64]);

impl Marks {
    /// Remembers this one.
    pub(crate) fn set(&mut self, place: usize) {
        self.0[place / 64 % (MOST_FIELDS / 64)] |= 1 << (place % 64);
    }

    /// Whether this one means something.
    pub(crate) fn has(&self, place: usize) -> bool {
        self.0[place / 64 % (MOST_FIELDS / 64)] >> (place % 64) & 1 != 0
    }
}

/// Copies the lines of the fields that `keep` accepts, asked by place. Neighbours are copied together.
pub(crate) fn copy_fields(
    head: &[u8],
    fields: &[Header<'_>],
    out: &mut Vec<u8>,
    mut keep: impl FnMut(usize, &Header<'_>) -> bool,
) {
    let mut run: Option<usize> = None;
    for (place, field) in fields.iter().enumerate() {
        let start = offset(head, field.name.as_bytes());
        if keep(place, field) {
            run.get_or_insert(start);
        } else if let Some(from) = run.take() {
            out.extend_from_slice(&head[from..start]);
        }
    }
    if let Some(from) = run {
        // The last field's line ends where the empty line begins.
        out.extend_from_slice(&head[from..head.len() - 2]);
    }
}

/// Appends one field line.
pub(crate) fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a hexadecimal number.
pub(crate) fn put_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    let digit = |place: u32| b"0123456789abcdef"[number >> (place * 4) & 15];
    out.extend((0..digits).rev().map(digit));
}

/// The members of a comma-separated list, trimmed.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a `Connection` field names this field.
pub(crate) fn is_listed(fields: &[Header<'_>], name: &[u8]) -> bool {
    let connection = fields.iter().filter(|field| classify(field.name.as_bytes()) == Known::Connection);
    connection.flat_map(|field| members(field.value)).any(|member| member.eq_ignore_ascii_case(name))
}

/// What the fields say about framing and the connection's future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub(crate) struct Framing {
    pub(crate) content_length: Option<u64>,
    /// It is said more than once, each time the same.
    pub(crate) repeated_length: bool,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    /// `Connection` names other fields.
    pub(crate) lists: bool,
    /// `Connection` names `Upgrade`.
    pub(crate) upgrade: bool,
}

/// Fields that contradict each other or themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFraming {
    Length(&'static str),
    /// A length beyond what can be counted.
    TooLong,
    Coding(&'static str),
    /// A transfer coding that is well named but not known here.
    UnknownCoding,
}

impl Framing {
    /// Takes note of one field.
    pub(crate) fn note(&mut self, known: Known, value: &[u8]) -> Result<(), BadFraming> {
        match known {
            Known::Connection => self.connection(value),
            Known::ContentLength => {
                let length = content_length(value)?;
                if self.content_length.is_some_and(|former| former != length) {
                    return Err(BadFraming::Length("differing Content-Length fields"));
                }
                self.repeated_length |= self.content_length.is_some();
                self.content_length = Some(length);
            }
            Known::TransferEncoding => {
                if self.chunked {
                    return Err(BadFraming::Coding("more than one Transfer-Encoding field"));
                }
                transfer_coding(value)?;
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for member in members(value) {
            if member.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if member.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                self.upgrade |= member.eq_ignore_ascii_case(b"upgrade");
                self.lists |= !member.is_empty();
            }
        }
    }

    /// Whether the connection may carry another message after this one (RFC 9112 section 9.3).
    pub(crate) const fn persists(&self, minor: u8) -> bool {
        !self.close && (minor >= 1 || self.keep_alive)
    }
}

/// The protocols of an `Upgrade` field that may be passed on (RFC 9110 section 7.8). Not other versions of HTTP and not
/// TLS: what followed would be requests that the edge neither sees nor routes.
pub(crate) fn protocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    members(value).filter(|member| {
        let mut parts = member.split(|&byte| byte == b'/');
        let name = parts.next().unwrap_or_default();
        let is_token = |part: &[u8]| !part.is_empty() && part.iter().all(|&byte| is_token_byte(byte));
        let barred = [b"h2c".as_slice(), b"h2", b"http", b"tls"].iter().any(|no| name.eq_ignore_ascii_case(no));
        is_token(name) && parts.next().is_none_or(is_token) && parts.next().is_none() && !barred
    })
}

/// Appends the fields that ask for another protocol on this connection, or agree to it: the protocols that may be passed
/// on of all `Upgrade` fields.
pub(crate) fn put_upgrade(out: &mut Vec<u8>, fields: &[Header<'_>]) {
    out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
    for (place, protocol) in upgrades(fields).enumerate() {
        out.extend_from_slice(if place > 0 { b", " } else { b"" });
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// The protocols that may be passed on of all `Upgrade` fields.
pub(crate) fn upgrades<'b>(fields: &[Header<'b>]) -> impl Iterator<Item = &'b [u8]> {
    let its = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("upgrade"));
    its.flat_map(|field| protocols(field.value))
}

/// Whether a `TE` field says that trailer fields are welcome (RFC 9110 section 10.1.4).
pub(crate) fn welcomes_trailers(value: &[u8]) -> bool {
    members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

fn content_length(value: &[u8]) -> Result<u64, BadFraming> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadFraming::Length("Content-Length is not a number"));
    }
    let mut length = 0u64;
    for digit in value {
        // The top bit stays free, so that sums of lengths cannot overflow.
        let next = length.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
        length = next.filter(|&length| length <= u64::MAX >> 1).ok_or(BadFraming::TooLong)?;
    }
    Ok(length)
}

/// Only exactly `chunked` is understood.
fn transfer_coding(value: &[u8]) -> Result<(), BadFraming> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_token = |member: &[u8]| !member.is_empty() && member.iter().all(|&byte| is_token_byte(byte));
    let chunked =
        members(value).filter(|member| member.to_ascii_lowercase().windows(7).any(|w| w == b"chunked")).count();
    if !members(value).all(is_token) || chunked > 1 {
        return Err(BadFraming::Coding("malformed Transfer-Encoding"));
    }
    let last_is_chunked = members(value).last().is_some_and(|member| member.eq_ignore_ascii_case(b"chunked"));
    if chunked == 1 && !last_is_chunked {
        return Err(BadFraming::Coding("Transfer-Encoding does not end with chunked"));
    }
    Err(BadFraming::UnknownCoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(classify(b"HOST"), Known::Host);
        assert_eq!(classify(b"Proxy-Whatever"), Known::HopByHop);
        assert_eq!(classify(b"X-Forwarded-Port"), Known::ForwardedOther);
        assert_eq!(classify(b"x-forwarded"), Known::Other);
        assert_eq!(classify(b"Content-Type"), Known::Other);
        assert_eq!(classify(b"X_Forwarded_For"), Known::HopByHop);
        assert_eq!(classify(&[b"x-forwarded_".as_slice(), &[b'a'; 100]].concat()), Known::HopByHop);
        assert_eq!(classify(b"Content_Type"), Known::Underscored);
        assert_eq!(classify(b"api_key"), Known::Underscored);
        assert_eq!(classify(b"Content_Length"), Known::HopByHop);
        assert_eq!(classify(b"TE"), Known::Te);
        for other in [b"Content\rLength".as_slice(), b"http\x12-settings", b"H\x0fst", b"x-real^ip"] {
            assert_eq!(classify(other), Known::Other, "{other:?}");
        }
        for place in 0..24 {
            let mut name = [b'a'; 24];
            name[place] = b'_';
            assert_eq!(classify(&name), Known::Underscored);
            name[place] = b'^';
            assert_eq!(classify(&name), Known::Other);
        }
    }

    #[test]
    fn lengths_are_digits_only() {
        assert_eq!(content_length(b"007"), Ok(7));
        for bad in ["", "+1", "-1", "1 ", "1,1", "0x1", "١"] {
            assert!(matches!(content_length(bad.as_bytes()), Err(BadFraming::Length(_))), "{bad:?}");
        }
        assert_eq!(content_length(b"99999999999999999999999"), Err(BadFraming::TooLong));
        assert_eq!(content_length(b"9223372036854775808"), Err(BadFraming::TooLong));
    }

    #[test]
    fn codings() {
        assert_eq!(transfer_coding(b"Chunked"), Ok(()));
        for unknown in ["gzip", "gzip, chunked", "identity"] {
            assert_eq!(transfer_coding(unknown.as_bytes()), Err(BadFraming::UnknownCoding), "{unknown}");
        }
        for bad in
            ["", "chunked, chunked", "chunked, gzip", "xchunked", "\x0bchunked", "chunked;q=1", "chun ked", "chunked,"]
        {
            let result = transfer_coding(bad.as_bytes());
            assert!(matches!(result, Err(BadFraming::Coding(_))), "{bad:?}: {result:?}");
        }
    }

    #[test]
    fn only_protocols_that_are_not_http_are_passed_on() {
        let left = |value: &'static [u8]| protocols(value).map(|one| String::from_utf8_lossy(one)).collect::<Vec<_>>();
        assert_eq!(left(b"h2c, WebSocket , HTTP/2.0, TLS/1.0,IRC/6.9"), ["WebSocket", "IRC/6.9"]);
        assert!(left(b"H2C").is_empty() && left(b"").is_empty());
        assert!(left(b"web socket, a/b/c, a/, /b, a;b, \"x\"").is_empty());
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
        for number in [0, 9, 10, 15, 16, 0x1f00, usize::MAX] {
            let mut out = Vec::new();
            put_hex(&mut out, number);
            assert_eq!(out, format!("{number:x}").into_bytes());
        }
    }
}
