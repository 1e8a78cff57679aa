//! A request head that is refused, put right where it has one meaning for all who would take it (`strict = "report"`).
//!
//! Used once a head was refused, on listeners that say so, for the time in which clients are found that send such heads.
//! What comes out is a head that is parsed as strictly as any: nothing here decides what is forwarded. What is put right:
//! lines that all end with a bare LF (RFC 9112 section 2.2), values continued on another line (section 5.2), one
//! `Content-Length` said several times (RFC 9110 section 8.6), bytes of a target that should have been escaped, and a
//! `Host` that differs from an absolute target, which counts (RFC 9112 section 3.2.2). Never what says how long a
//! message is in two ways, bare CR, NUL, a mixture of line ends, spaces around names, or a bare LF in chunk framing.

use evenkeel_core::{ambiguity::Ambiguity, snapshot::ClientLimits};

use super::{
    fields::{Known, classify, members},
    target::is_authority,
};

/// What became of a refused head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amended {
    /// Nothing: it stays refused.
    No,
    /// It is not complete; nothing so far keeps it from being put right.
    More,
    /// It was put right.
    Head {
        /// The head to be parsed instead.
        head: Vec<u8>,
        /// Bytes of the input in whose place it comes.
        length: usize,
        /// What was wrong.
        found: Vec<Ambiguity>,
    },
}

/// Puts the head at the start of `input` right, which the parser has refused.
pub fn amend(input: &[u8], limits: &ClientLimits) -> Amended {
    let mut lines = Lines { rest: input, bare: 0, crlf: 0 };
    let mut start = lines.next_line();
    for _ in 0..2 {
        if start == Line::Is(b"") {
            start = lines.next_line();
        }
    }
    let mut head = Amending::default();
    let mut line = match start {
        Line::Is(first) if head.request_line(first) => lines.next_line(),
        Line::Missing => return more(input, limits),
        _ => return Amended::No,
    };
    loop {
        match line {
            Line::Is(b"") => break,
            Line::Is(field) if head.field(field) => line = lines.next_line(),
            Line::Missing => return more(input, limits),
            _ => return Amended::No,
        }
    }
    if lines.bare > 0 {
        head.found.push(Ambiguity::BareLf);
    }
    let length = input.len() - lines.rest.len();
    match head.finish() {
        Some((head, found)) if !found.is_empty() => Amended::Head { head, length, found },
        _ => Amended::No,
    }
}

fn more(input: &[u8], limits: &ClientLimits) -> Amended {
    if input.len() < usize::try_from(limits.head_bytes).unwrap_or(usize::MAX) { Amended::More } else { Amended::No }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'b> {
    Is(&'b [u8]),
    /// It has not come as a whole.
    Missing,
    Bad,
}

/// The lines of a head, which end in one way.
struct Lines<'b> {
    rest: &'b [u8],
    bare: usize,
    crlf: usize,
}

impl<'b> Lines<'b> {
    /// A mixture of line ends is what somebody makes who wants two readers to see different lines.
    fn next_line(&mut self) -> Line<'b> {
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            return Line::Missing;
        };
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        let line = if let Some(line) = line.strip_suffix(b"\r") {
            self.crlf += 1;
            line
        } else {
            self.bare += 1;
            line
        };
        let mixed = self.bare > 0 && self.crlf > 0;
        if mixed || line.contains(&b'\r') { Line::Bad } else { Line::Is(line) }
    }
}

#[derive(Debug, Default)]
struct Amending {
    method_and_target: Vec<u8>,
    version: Vec<u8>,
    /// Of an absolute target.
    authority: Option<Vec<u8>>,
    lines: Vec<Vec<u8>>,
    found: Vec<Ambiguity>,
}

impl Amending {
    /// Takes the request line. `false`: it stays refused.
    fn request_line(&mut self, line: &[u8]) -> bool {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        self.method_and_target = [method, b" "].concat();
        for &byte in target {
            if byte >= 0x80 {
                self.method_and_target.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else {
                self.method_and_target.push(byte);
            }
        }
        if !target.is_ascii() {
            self.found.push(Ambiguity::RawTarget);
        }
        self.version = version.to_vec();
        if target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://")) {
            let authority = target[7..].split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
            self.authority = is_authority(authority).then(|| authority.to_vec());
        }
        true
    }

    /// Takes one more line. `false`: the head stays refused.
    fn field(&mut self, line: &[u8]) -> bool {
        let folded = matches!(line, [b' ' | b'\t', ..]);
        if !folded {
            self.lines.push(line.to_vec());
            return true;
        }
        let continued = line.trim_ascii();
        let Some(before) = self.lines.last_mut() else {
            return false;
        };
        // A line of spaces ends the head for some, and nobody needs to fold what says where a message ends. Some take a line
        // with spaces in front for a field of its own: what would then say where a message ends, or whose it is, hides.
        let harmless =
            |line: &[u8]| matches!(classify(name_of(line)), Known::Other | Known::Underscored | Known::ForwardedOther);
        let hides = continued.contains(&b':') && !harmless(name_of(continued).trim_ascii_end());
        if continued.is_empty() || hides || !harmless(before) || !before.contains(&b':') {
            return false;
        }
        before.truncate(before.trim_ascii_end().len());
        before.push(b' ');
        before.extend_from_slice(continued);
        if !self.found.contains(&Ambiguity::Folded) {
            self.found.push(Ambiguity::Folded);
        }
        true
    }

    /// The head, and what was wrong with it. `None`: it stays refused.
    fn finish(mut self) -> Option<(Vec<u8>, Vec<Ambiguity>)> {
        self.merge_lengths()?;
        self.settle_host();
        let mut head = [self.method_and_target.as_slice(), b" ", &self.version, b"\r\n"].concat();
        for line in &self.lines {
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Some((head, self.found))
    }

    /// Makes one `Content-Length` of several that are the same, letter by letter.
    fn merge_lengths(&mut self) -> Option<()> {
        let is_length = |line: &Vec<u8>| classify(name_of(line)) == Known::ContentLength;
        let lengths: Vec<&[u8]> =
            self.lines.iter().filter(|line| is_length(line)).flat_map(|line| members(value_of(line))).collect();
        let Some((first, others)) = lengths.split_first() else {
            return Some(());
        };
        if others.is_empty() {
            return Some(());
        }
        if others.iter().any(|other| other != first) {
            return None;
        }
        let one = [b"Content-Length: ", *first].concat();
        self.lines.retain(|line| !is_length(line));
        self.lines.push(one);
        self.found.push(Ambiguity::RepeatedLength);
        Some(())
    }

    fn settle_host(&mut self) {
        let Some(authority) = &self.authority else {
            return;
        };
        let mut hosts = self.lines.iter_mut().filter(|line| classify(name_of(line)) == Known::Host);
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return;
        };
        if is_authority(value_of(host)) && !value_of(host).eq_ignore_ascii_case(authority) {
            *host = [b"Host: ", authority.as_slice()].concat();
            self.found.push(Ambiguity::OtherHost);
        }
    }
}

/// What stands before the colon, just as it is.
fn name_of(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b':').next().unwrap_or_default()
}

fn value_of(line: &[u8]) -> &[u8] {
    line.iter().position(|&byte| byte == b':').map_or(&[], |colon| line[colon + 1..].trim_ascii())
}
