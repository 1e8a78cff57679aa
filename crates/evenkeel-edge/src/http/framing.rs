//! Where a body ends (RFC 9112 section 6 and 7): by length, by chunks, or with the connection.
//!
//! Bodies are passed on as they are framed, so these machines only walk over bytes: they say how many belong to
//! the body, whether it is complete, and refuse what could be read in more than one way. They keep no bytes. A trailer
//! field that would change what the message means, were it taken for one of the head, is refused as well.

/// Longest chunk-size line beyond its digits (chunk extensions are allowed but bounded), in bytes.
const EXTENSION_BYTES: u16 = 256;
/// Largest trailer section, in bytes.
const TRAILER_BYTES: u16 = 8192;
/// More hexadecimal digits than any real chunk needs; leading zeros included.
const SIZE_DIGITS: u8 = 15;

/// What remains of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunks, the last one and the trailer section.
    Chunked(Chunked),
    /// All until the connection ends; answers only.
    UntilClose,
}

/// A body that could be read in more than one way, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBody(pub &'static str);

/// How far a piece of input reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that belong to the body.
    pub taken: usize,
    /// The body is complete.
    pub done: bool,
}

impl Body {
    /// A body of this declared length.
    pub const fn of_length(length: u64) -> Self {
        if length == 0 { Self::Empty } else { Self::Length(length) }
    }

    /// Whether nothing is missing.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Empty | Self::Length(0) | Self::Chunked(Chunked { state: State::Done, .. }))
    }

    /// Walks over input.
    pub fn advance(&mut self, input: &[u8]) -> Result<Step, BadBody> {
        self.advance_with(input, |_| ())
    }

    /// Walks over input and shows the content in it, without chunk framing.
    pub fn advance_with(&mut self, input: &[u8], mut content: impl FnMut(&[u8])) -> Result<Step, BadBody> {
        match self {
            Self::Empty => Ok(Step { taken: 0, done: true }),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                content(&input[..taken]);
                Ok(Step { taken, done: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.advance(input, content),
            Self::UntilClose => {
                content(input);
                Ok(Step { taken: input.len(), done: false })
            }
        }
    }
}

/// A walk over the chunked coding (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// Size being read, or bytes left of the chunk; of a trailer field's name, the hash so far.
    left: u64,
    /// Digits of the size, then bytes of the extension, then bytes of the trailer section.
    count: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, left: 0, count: 0 }
    }
}

impl Chunked {
    fn advance(&mut self, input: &[u8], mut content: impl FnMut(&[u8])) -> Result<Step, BadBody> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let rest = &input[at..];
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                content(&rest[..taken]);
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.next(input[at])?;
                at += 1;
            }
        }
        Ok(Step { taken: at, done: self.state == State::Done })
    }

    /// The state after one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<State, BadBody> {
        match self.state {
            State::Size => self.size(byte),
            State::Extension => {
                self.count += 1;
                match byte {
                    b'\r' => Ok(State::SizeLf),
                    _ if self.count > EXTENSION_BYTES => Err(BadBody("chunk extension too long")),
                    _ if is_field_byte(byte) => Ok(State::Extension),
                    _ => Err(BadBody("control byte in a chunk extension")),
                }
            }
            State::SizeLf => {
                let next = if self.left == 0 { State::TrailerStart } else { State::Data };
                self.count = 0;
                expect(byte, b'\n', next)
            }
            State::DataCr => expect(byte, b'\r', State::DataLf),
            State::DataLf => {
                self.count = 0;
                expect(byte, b'\n', State::Size)
            }
            State::EndLf => expect(byte, b'\n', State::Done),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => self.trailer(byte),
            State::Data | State::Done => Err(BadBody("byte outside of the chunk framing")),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, BadBody> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.count > 0 => return Ok(State::SizeLf),
            b';' if self.count > 0 => {
                self.count = 0;
                return Ok(State::Extension);
            }
            _ => return Err(BadBody("chunk size is not a hexadecimal number")),
        };
        self.count += 1;
        if self.count > u16::from(SIZE_DIGITS) {
            return Err(BadBody("chunk size too long"));
        }
        self.left = (self.left << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, BadBody> {
        self.count += 1;
        if self.count > TRAILER_BYTES {
            return Err(BadBody("trailer section too long"));
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                let before = if self.state == State::TrailerStart { HASH_START } else { self.left };
                self.left = hash(before, byte);
                if BARRED_PREFIXES.contains(&self.left) { BARRED } else { Ok(State::TrailerName) }
            }
            (State::TrailerName, b':') => {
                if BARRED_NAMES.contains(&self.left) {
                    BARRED
                } else {
                    Ok(State::TrailerValue)
                }
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_field_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(BadBody("malformed trailer field")),
        }
    }
}

const BARRED: Result<State, BadBody> = Err(BadBody("a field that is not allowed in a trailer section"));

/// Names that must not stand in a trailer section, by their hash: what says how long a message is, whom it is for, who
/// sends it and how its content is read (RFC 9110 section 6.5.1), and what the edge itself says of the client. Whoever
/// puts trailer fields among the others would read another message than the edge did.
const BARRED_NAMES: [u64; 22] = [
    hash_of(b"content-length"),
    hash_of(b"transfer-encoding"),
    hash_of(b"trailer"),
    hash_of(b"host"),
    hash_of(b"connection"),
    hash_of(b"keep-alive"),
    hash_of(b"te"),
    hash_of(b"upgrade"),
    hash_of(b"http2-settings"),
    hash_of(b"expect"),
    hash_of(b"max-forwards"),
    hash_of(b"authorization"),
    hash_of(b"cookie"),
    hash_of(b"set-cookie"),
    hash_of(b"content-type"),
    hash_of(b"content-encoding"),
    hash_of(b"content-range"),
    hash_of(b"cache-control"),
    hash_of(b"forwarded"),
    hash_of(b"x-real-ip"),
    hash_of(b"x-request-id"),
    hash_of(b"idempotency-key"),
];

/// Beginnings of names that must not stand there either.
const BARRED_PREFIXES: [u64; 2] = [hash_of(b"proxy-"), hash_of(b"x-forwarded-")];

/// FNV-1a's first value and factor (draft-eastlake-fnv). Equal names have equal hashes, so nothing slips through; that
/// another name has one of them is as likely as guessing a number of 64 bits.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_FACTOR: u64 = 0x0100_0000_01b3;

/// The hash of a name with one more byte; upper case counts as lower case and an underscore as a dash.
const fn hash(before: u64, byte: u8) -> u64 {
    let byte = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    (before ^ byte as u64).wrapping_mul(HASH_FACTOR)
}

const fn hash_of(name: &[u8]) -> u64 {
    let (mut so_far, mut at) = (HASH_START, 0);
    while at < name.len() {
        so_far = hash(so_far, name[at]);
        at += 1;
    }
    so_far
}

fn expect(byte: u8, wanted: u8, next: State) -> Result<State, BadBody> {
    if byte == wanted { Ok(next) } else { Err(BadBody("chunk framing without CRLF")) }
}

/// A byte of a field value: visible, space, tab or obs-text (RFC 9110 section 5.5).
pub(crate) const fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}

/// A byte of a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked(input: &[u8]) -> Result<(Step, Vec<u8>), BadBody> {
        let mut content = Vec::new();
        let mut body = Body::Chunked(Chunked::default());
        body.advance_with(input, |part| content.extend_from_slice(part)).map(|step| (step, content))
    }

    #[test]
    fn chunks_extensions_and_trailers() {
        let input = b"5\r\nhello\r\n06;a=\"b\"\r\n world\r\n0\r\nX-Sum: 1 \r\nY:\r\n\r\nGET /";
        let (step, content) = chunked(input).unwrap();
        assert_eq!(step, Step { taken: input.len() - 5, done: true });
        assert_eq!(content, b"hello world");
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let refused: &[&[u8]] = &[
            b"\r\n",
            b";a\r\n",
            b"0x5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"-1\r\n",
            b"+5\r\n",
            b"g\r\n",
            b"5\n",
            b"5\rh",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1\r\na\rb",
            b"0000000000000000\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n\n",
            b"0\r\nbad header\r\n",
            b"0\r\n: x\r\n",
            b"0\r\nA: x\n\r\n",
            b"0\r\nA: \0\r\n",
            b"0\r\n folded\r\n",
            b"5;a\nb\r\n",
            b"5;\x01\r\n",
            b"0\r\n\rx",
        ];
        for input in refused {
            assert!(chunked(input).is_err(), "{:?}", String::from_utf8_lossy(input));
        }
        assert!(chunked(&[b"1;".as_slice(), &[b'a'; 300]].concat()).is_err());
        assert!(chunked(&[b"0\r\nA: ".as_slice(), &[b'a'; 9000]].concat()).is_err());
    }

    #[test]
    fn trailer_fields_that_would_change_the_message_are_refused() {
        for name in [
            "Content-Length",
            "transfer_encoding",
            "HOST",
            "X-Forwarded-For",
            "x_forwarded_proto",
            "Proxy-Authorization",
            "Authorization",
            "Cookie",
            "Trailer",
            "Upgrade",
            "Idempotency-Key",
        ] {
            let input = format!("0\r\nX-Sum: 1\r\n{name}: 5\r\n\r\n");
            assert!(chunked(input.as_bytes()).is_err(), "{name}");
        }
        for name in ["Content-Lengt", "Content-Lengths", "X-Host", "Host-X", "X-Forwarded", "Server-Timing", "Digest"] {
            let input = format!("0\r\n{name}: 5\r\n\r\n");
            assert!(chunked(input.as_bytes()).is_ok_and(|(step, _)| step.done), "{name}");
        }
    }

    proptest! {
        /// However the input is cut, the result is the same, and nothing panics.
        #[test]
        fn cuts_change_nothing(input in proptest::collection::vec(prop_oneof![
            Just(b'0'), Just(b'1'), Just(b'2'), Just(b'a'), Just(b'\r'), Just(b'\n'), Just(b';'), Just(b':'), any::<u8>(),
        ], 0..60), cut in 0usize..60) {
            let whole = chunked(&input);
            let cut = cut.min(input.len());
            let mut body = Body::Chunked(Chunked::default());
            let mut content = Vec::new();
            let pieces = body.advance_with(&input[..cut], |p| content.extend_from_slice(p)).and_then(|first| {
                if first.done { return Ok(first); }
                let second = body.advance_with(&input[cut..], |p| content.extend_from_slice(p))?;
                Ok(Step { taken: first.taken + second.taken, done: second.done })
            });
            prop_assert_eq!(whole, pieces.map(|step| (step, content)));
        }

        /// What was framed well is read back whole.
        #[test]
        fn well_framed(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6)) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            let (step, content) = chunked(&input).unwrap();
            prop_assert_eq!(step, Step { taken: input.len(), done: true });
            prop_assert_eq!(content, chunks.concat());
        }
    }
}
