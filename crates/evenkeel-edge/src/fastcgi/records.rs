//! Records of FastCGI 1.0 (sections 3.3, 4 and 5 of its specification, by Open Market, 1996).
//!
//! One request on one connection, so its number is always 1. What is sent is appended to a buffer; what arrives is
//! walked over without being kept, so that memory stays bounded whatever lengths a record claims. Pure.

/// Largest content of a record that is written here: a multiple of eight, as the specification advises.
const MOST_CONTENT: usize = 65_528;

const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// The number of the only request of a connection.
const REQUEST: u16 = 1;

/// Bytes that are no records of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRecord(pub &'static str);

/// Something that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Of the answer.
    Stdout(&'a [u8]),
    /// Of what the application complains of.
    Stderr(&'a [u8]),
    /// The request is over.
    End {
        /// 0: it was completed; anything else: it was refused, and not begun.
        protocol_status: u8,
    },
}

/// A walk over the records of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Records {
    state: State,
    kind: u8,
    /// Bytes of content and padding to come.
    content: u16,
    padding: u8,
    /// The header, or the content of an `END_REQUEST`, as far as it is here.
    held: [u8; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the header are held.
    Header(u8),
    Content,
    Padding,
    Over,
}

impl Default for Records {
    fn default() -> Self {
        Self { state: State::Header(0), kind: 0, content: 0, padding: 0, held: [0; 8] }
    }
}

impl Records {
    /// Walks over input and shows what is in it. Nothing counts behind an end.
    pub fn advance(&mut self, mut input: &[u8], mut show: impl FnMut(Part<'_>)) -> Result<(), BadRecord> {
        while !input.is_empty() && self.state != State::Over {
            match self.state {
                State::Header(have) => {
                    self.held[usize::from(have)] = input[0];
                    input = &input[1..];
                    self.state = if have == 7 { self.header()? } else { State::Header(have + 1) };
                }
                State::Content => {
                    let (part, rest) = input.split_at(input.len().min(usize::from(self.content)));
                    self.content(part, &mut show)?;
                    input = rest;
                }
                State::Padding => {
                    let skipped = input.len().min(usize::from(self.padding));
                    self.padding -= u8::try_from(skipped).unwrap_or(u8::MAX);
                    input = &input[skipped..];
                }
                State::Over => {}
            }
            self.pass_on();
        }
        Ok(())
    }

    /// Whether the request is over.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn header(&mut self) -> Result<State, BadRecord> {
        let [version, kind, id_high, id_low, length_high, length_low, padding, _] = self.held;
        let request = u16::from_be_bytes([id_high, id_low]);
        self.kind = kind;
        self.content = u16::from_be_bytes([length_high, length_low]);
        self.padding = padding;
        if version != 1 {
            return Err(BadRecord("a record of another version of FastCGI"));
        }
        // Number 0 is for management records, which nobody asked for.
        if request != REQUEST && request != 0 {
            return Err(BadRecord("a record of another request"));
        }
        if request == 0 && matches!(kind, END_REQUEST | STDOUT | STDERR) {
            return Err(BadRecord("a record of no request"));
        }
        if kind == END_REQUEST && self.content != 8 {
            return Err(BadRecord("an end of another size"));
        }
        Ok(State::Content)
    }

    fn content(&mut self, part: &[u8], show: &mut impl FnMut(Part<'_>)) -> Result<(), BadRecord> {
        match self.kind {
            STDOUT if !part.is_empty() => show(Part::Stdout(part)),
            STDERR if !part.is_empty() => show(Part::Stderr(part)),
            END_REQUEST => {
                let from = 8 - usize::from(self.content);
                self.held[from..from + part.len()].copy_from_slice(part);
            }
            _ => {}
        }
        self.content -= u16::try_from(part.len()).map_err(|_| BadRecord("more content than a record has"))?;
        if self.content == 0 && self.kind == END_REQUEST {
            show(Part::End { protocol_status: self.held[4] });
            self.state = State::Over;
        }
        Ok(())
    }

    /// From what is complete to what comes next.
    fn pass_on(&mut self) {
        if self.state == State::Content && self.content == 0 {
            self.state = State::Padding;
        }
        if self.state == State::Padding && self.padding == 0 {
            self.state = State::Header(0);
        }
    }
}

/// Appends the beginning of a request: the role of a responder, on a connection that ends with it.
pub fn begin(out: &mut Vec<u8>) {
    record(out, BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
}

/// Appends all parameters and their end.
pub fn params(out: &mut Vec<u8>, pairs: &[(Vec<u8>, Vec<u8>)]) {
    let mut content = Vec::new();
    for (name, value) in pairs {
        length(&mut content, name.len());
        length(&mut content, value.len());
        content.extend_from_slice(name);
        content.extend_from_slice(value);
    }
    stream(out, PARAMS, &content);
    record(out, PARAMS, &[]);
}

/// Appends a part of the request's body.
pub fn stdin(out: &mut Vec<u8>, part: &[u8]) {
    stream(out, STDIN, part);
}

/// Appends the end of the request's body.
pub fn end_of_stdin(out: &mut Vec<u8>) {
    record(out, STDIN, &[]);
}

fn stream(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    for part in content.chunks(MOST_CONTENT) {
        record(out, kind, part);
    }
}

fn record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let [high, low] = u16::try_from(content.len()).expect("contents are cut to fit").to_be_bytes();
    let [id_high, id_low] = REQUEST.to_be_bytes();
    out.extend_from_slice(&[1, kind, id_high, id_low, high, low, 0, 0]);
    out.extend_from_slice(content);
}

/// One byte below 128, four with the top bit set otherwise (section 3.4).
fn length(out: &mut Vec<u8>, length: usize) {
    if let Ok(short @ 0..128) = u8::try_from(length) {
        out.push(short);
    } else {
        let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x7fff_ffff;
        out.extend_from_slice(&(length | 0x8000_0000).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answer, complaints, end.
    type Seen = (Vec<u8>, Vec<u8>, Option<u8>);

    /// Everything shown of input that comes in pieces of this size, neighbours of a kind joined.
    fn seen(input: &[u8], piece: usize) -> Result<Seen, BadRecord> {
        let (mut records, mut all) = (Records::default(), (Vec::new(), Vec::new(), None));
        for part in input.chunks(piece.max(1)) {
            records.advance(part, |part| match part {
                Part::Stdout(bytes) => all.0.extend_from_slice(bytes),
                Part::Stderr(bytes) => all.1.extend_from_slice(bytes),
                Part::End { protocol_status } => all.2 = Some(protocol_status),
            })?;
        }
        assert_eq!(records.is_over(), all.2.is_some());
        Ok(all)
    }

    fn padded(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = [1, kind, 0, 1, length[0], length[1], padding, 0];
        [&head[..], content, &vec![0xff; usize::from(padding)]].concat()
    }

    #[test]
    fn answers_are_read_whatever_the_pieces() {
        let input = [
            padded(STDOUT, b"Status: 200\r\n", 3),
            padded(STDERR, b"notice", 0),
            padded(STDOUT, b"", 5),
            padded(STDOUT, b"\r\nbody", 255),
            padded(99, b"whatever", 1),
            padded(END_REQUEST, &[0, 0, 0, 7, 2, 0, 0, 0], 0),
            b"beyond".to_vec(),
        ]
        .concat();
        for piece in 1..input.len() {
            let all = (b"Status: 200\r\n\r\nbody".to_vec(), b"notice".to_vec(), Some(2));
            assert_eq!(seen(&input, piece), Ok(all), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in [
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            [&[1, STDOUT, 0, 2, 0, 1, 0, 0][..], b"x"].concat(),
            [&[1, STDOUT, 0, 0, 0, 1, 0, 0][..], b"x"].concat(),
            [&[1, END_REQUEST, 0, 1, 0, 1, 0, 0][..], b"x"].concat(),
        ] {
            assert!(seen(&bad, 3).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn requests_are_written_as_specified() {
        let mut out = Vec::new();
        begin(&mut out);
        params(&mut out, &[(b"A".to_vec(), b"b".to_vec()), (b"L".to_vec(), vec![b'x'; 200])]);
        stdin(&mut out, b"hi");
        end_of_stdin(&mut out);
        let params_head = [1, PARAMS, 0, 1, 0, 210, 0, 0, 1, 1, b'A', b'b', 1, 0x80, 0, 0, 200, b'L'];
        let expected = [
            &[1, BEGIN_REQUEST, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            &params_head,
            &[b'x'; 200],
            &[1, PARAMS, 0, 1, 0, 0, 0, 0],
            &[1, STDIN, 0, 1, 0, 2, 0, 0, b'h', b'i'],
            &[1, STDIN, 0, 1, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(out, expected);
        let mut large = Vec::new();
        stdin(&mut large, &vec![b'x'; 200_000]);
        assert_eq!(large.len(), 200_000 + 4 * 8);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(6), any::<u8>()], 0..200), piece in 1_usize..20) {
            prop_assert_eq!(seen(&input, piece), seen(&input, usize::MAX));
        }
    }
}
