//! Compression of answers: which of them, how the client is told, and the body on its way.
//!
//! Decided at the head of the final answer that goes to the client, so retries know nothing of it. A whole small answer
//! is coded at once and says its length; any other is coded while it comes, in chunks, and what the coder holds back is
//! passed on as soon as the instance pauses. An answer that is cut off is never ended as if it were whole.

mod accept;
mod coder;

use std::cell::Cell;

use evenkeel_core::snapshot::{Compress, Encoding};

pub use self::accept::Accepts;
pub(crate) use self::coder::Coder;
use super::{
    fields::{members, put_hex},
    head_response::ResponseHead,
};

/// Most bytes that are coded without a look at others of the thread.
pub(crate) const AT_ONCE: usize = 32 << 10;
/// Most memory that the coders of answers under way may take on one thread, in bytes. Clients decide how many answers are
/// under way and for how long, so whoever comes when it is used up gets an answer that is not compressed.
const MOST_BYTES: usize = 64 << 20;

thread_local! {
    /// How much of that is taken.
    static TAKEN_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What becomes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is none that is compressed, for anybody.
    Unfit,
    /// Others would get it compressed, this client does not.
    Plain,
    /// It is compressed.
    Coded(Encoding),
}

/// Decides about an answer to a client of HTTP/1.`minor`; `to_head` says that it answers a HEAD request, whose head says
/// what that of a GET would say.
pub(crate) fn choose(
    config: &Compress,
    accepts: Accepts,
    head: &ResponseHead<'_, '_>,
    minor: u8,
    to_head: bool,
) -> Choice {
    // A 304 stands for an answer whose kind it does not say.
    if head.status == 304 {
        return Choice::Plain;
    }
    if matches!(head.status, 0..=199 | 204..=206) || is_settled(head) || !is_of_kind(config, head) {
        return Choice::Unfit;
    }
    let length = if to_head { head.said_length() } else { head.declared() };
    if length.is_some_and(|length| length < config.min_bytes.max(1)) {
        return Choice::Unfit;
    }
    // A client of HTTP/1.0 takes no chunks, and there were some that took no coded body either whatever they said.
    match accepts.best(&config.encodings) {
        Some(encoding) if minor >= 1 => Choice::Coded(encoding),
        _ => Choice::Plain,
    }
}

/// Whether the instance has said that it is these bytes and no others: coded already, a part, with a digest (RFC 9530,
/// RFC 1864), with trailer fields that would be lost, or not to be transformed (RFC 9111 section 5.2.2.6).
fn is_settled(head: &ResponseHead<'_, '_>) -> bool {
    const SETTLED: [&[u8]; 7] = [
        b"content-encoding",
        b"content-range",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"trailer",
    ];
    let no_transform = |value: &[u8]| members(value).any(|member| member.eq_ignore_ascii_case(b"no-transform"));
    SETTLED.iter().any(|name| head.values(name).next().is_some()) || head.values(b"cache-control").any(no_transform)
}

/// Whether its media type is one that the stack names. A stream of events is passed on event by event, so it is none.
fn is_of_kind(config: &Compress, head: &ResponseHead<'_, '_>) -> bool {
    let mut kinds = head.values(b"content-type");
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    !head.is_event_stream() && config.types.iter().any(|pattern| fits(pattern.as_bytes(), kind))
}

/// Whether a media type fits a lower-case pattern in which `*` stands for any part.
fn fits(pattern: &[u8], kind: &[u8]) -> bool {
    let Some(star) = pattern.iter().position(|&byte| byte == b'*') else {
        return pattern.eq_ignore_ascii_case(kind);
    };
    let (start, end) = (&pattern[..star], &pattern[star + 1..]);
    kind.len() > start.len() + end.len()
        && kind[..start.len()].eq_ignore_ascii_case(start)
        && kind[kind.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// A body that is coded while it comes, as chunks (RFC 9112 section 7.1).
pub(crate) struct Stream {
    coder: Option<Coder>,
    /// Coded and not framed yet.
    made: Vec<u8>,
    /// Something was taken since the last flush.
    holds: bool,
    /// Bytes taken since others had their turn.
    turn: usize,
    /// Memory that counts as taken for it.
    bytes: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        TAKEN_BYTES.set(TAKEN_BYTES.get().saturating_sub(self.bytes));
    }
}

impl Stream {
    /// For a body of this length, if that is known. `None`: coders take all the memory of this thread that they may.
    pub(crate) fn begin(encoding: Encoding, length: Option<u64>) -> Option<Self> {
        let bytes = Coder::most_bytes(encoding);
        let taken = TAKEN_BYTES.get() + bytes;
        (taken <= MOST_BYTES).then(|| {
            TAKEN_BYTES.set(taken);
            Self { coder: Some(Coder::new(encoding, length)), made: Vec::new(), holds: false, turn: 0, bytes }
        })
    }

    /// Takes content.
    pub(crate) fn push(&mut self, content: &[u8]) {
        if let Some(coder) = self.coder.as_mut().filter(|_| !content.is_empty()) {
            coder.push(content, &mut self.made);
            self.holds = true;
            self.turn += content.len();
        }
    }

    /// Whether it is time for others of the thread; asks only once for each time.
    pub(crate) fn gives_way(&mut self) -> bool {
        let due = self.turn >= AT_ONCE;
        if due {
            self.turn = 0;
        }
        due
    }

    /// Appends what has come out so far, framed. Returns its length.
    pub(crate) fn emit(&mut self, out: &mut Vec<u8>) -> u64 {
        if self.made.is_empty() {
            return 0;
        }
        put_hex(out, self.made.len());
        for part in [b"\r\n", self.made.as_slice(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        let length = self.made.len() as u64;
        self.made.clear();
        length
    }

    /// The instance pauses: appends everything that was held back. Returns its length.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> u64 {
        if let Some(coder) = self.coder.as_mut().filter(|_| self.holds) {
            coder.flush(&mut self.made);
            self.holds = false;
        }
        self.emit(out)
    }

    /// The body is complete: appends the rest and the end. Returns the length without framing.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> u64 {
        let Some(coder) = self.coder.take() else { return 0 };
        coder.finish(&mut self.made);
        let length = self.emit(out);
        out.extend_from_slice(b"0\r\n\r\n");
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, kind, yes) in [
            ("text/*", "TEXT/html", true),
            ("text/*", "text/", false),
            ("application/*+json", "application/problem+json", true),
            ("application/*+json", "application/+json", false),
            ("application/json", "application/json", true),
            ("application/json", "application/jsonp", false),
            ("*", "image/png", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), kind.as_bytes()), yes, "{pattern} {kind}");
        }
    }
}
