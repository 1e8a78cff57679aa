//! The trace: what happened, for people; and its hash, for the test that a seed replays exactly.
//!
//! The hash is always kept and costs little: it takes in the moment, the word and the numbers of each line. The
//! text is made only for a replay.

use std::fmt::{self, Write as _};

use evenkeel_core::time::Moment;

/// Most lines kept of one run.
const BOUND: usize = 2_000_000;

/// What happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace, with text if `text`.
    pub fn new(text: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: text.then(Vec::new) }
    }

    /// `word` happened to `a`; `b` is what else tells it from similar events.
    pub fn line(&mut self, now: Moment, word: &'static str, a: u64, b: u64, text: impl FnOnce() -> String) {
        for value in [now.as_nanos(), a, b] {
            self.mix(value);
        }
        for byte in word.bytes() {
            self.mix(u64::from(byte));
        }
        if let Some(lines) = &mut self.lines
            && lines.len() < BOUND
        {
            let mut line = String::new();
            write!(line, "{} {word:<12} {}", Stamp(now), text()).expect("a String takes everything");
            lines.push(line);
        }
    }

    /// Lines below the last one, as reasons of a decision. Not part of the hash.
    pub fn below(&mut self, text: impl FnOnce() -> Vec<String>) {
        if let Some(lines) = &mut self.lines {
            lines.extend(text().into_iter().map(|line| format!("{:>25}{line}", "")));
        }
    }

    /// Equal for equal traces.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The text, empty without one.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    /// FNV-1a by words (Fowler, Noll, Vo), with a shift so that high bits count too.
    fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 32;
    }
}

/// A moment as seconds since the beginning.
pub struct Stamp(pub Moment);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_nanos() / 1_000;
        write!(f, "{:>3}.{:06}", us / 1_000_000, us % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_part() {
        let of = |ms, word, a, b| {
            let mut trace = Trace::new(false);
            trace.line(Moment::from_millis(ms), word, a, b, String::new);
            trace.hash()
        };
        let all = [of(1, "x", 1, 2), of(2, "x", 1, 2), of(1, "y", 1, 2), of(1, "x", 2, 2), of(1, "x", 1, 1)];
        for (at, hash) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(hash));
        }
    }
}
