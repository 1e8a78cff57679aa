//! Masking: what instances print goes through here before anybody keeps, follows or shows it.
//!
//! Every known value of at least [`SHORTEST_MASKED`] becomes `[secret NAME]`, also in the forms that programs print it in:
//! percent-encoded, as in a JSON string, and each longer line of a value that has several. A stream keeps back what
//! may be the beginning of a value until more has come, so that it does not matter how the bytes arrive. All values
//! are looked for in one pass (Aho and Corasick, 1975), and a long one piece by piece, so that neither memory nor what is
//! kept back grows with its square.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use evenkeel_core::secret::Secret;

/// Shorter values would mask what has nothing to do with them.
pub const SHORTEST_MASKED: usize = 6;

/// A line of a value of several lines is looked for by itself from this length on.
const LEAST_LINE_BYTES: usize = 12;

/// A longer value is looked for in pieces of about equal length, at most so long.
const MOST_PIECE_BYTES: usize = 128;

/// All values to be masked. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Mask(Arc<RwLock<Arc<Needles>>>);

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask(…)")
    }
}

/// What is looked for, and what stands in its place.
#[derive(Default)]
struct Needles {
    /// By needle.
    known: BTreeMap<Vec<u8>, String>,
    /// `None` while there is nothing to look for.
    automaton: Option<AhoCorasick>,
    longest: usize,
}

impl Mask {
    /// Looks for these values too, from now on. A value that was known stays known: an instance may still have it.
    pub(crate) fn add<'a>(&self, values: impl Iterator<Item = (&'a str, &'a Secret)>) {
        let mut known = self.now().known.clone();
        let before = known.len();
        for (name, value) in values {
            for needle in forms(value.expose()) {
                known.entry(needle).or_insert_with(|| format!("[secret {name}]"));
            }
        }
        if known.len() == before {
            return;
        }
        let automaton = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(known.keys());
        // Values are bounded in length, and so is their number by what a stack has.
        let automaton = automaton.expect("the values of a stack fit into an automaton");
        let longest = known.keys().map(Vec::len).max().unwrap_or(0);
        let next = Arc::new(Needles { known, automaton: Some(automaton), longest });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// A whole text with every value masked.
    pub(crate) fn text(&self, text: impl Into<String>) -> String {
        let (needles, text) = (self.now(), text.into());
        if needles.automaton.is_none() {
            return text;
        }
        let mut masked = Vec::with_capacity(text.len());
        needles.replace(text.as_bytes(), true, &mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn now(&self) -> Arc<Needles> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Needles {
    /// Masks as much of `bytes` as can be told and appends it; returns how many bytes that was. What is left may be
    /// the beginning of a value, unless this is the end.
    fn replace(&self, bytes: &[u8], at_end: bool, masked: &mut Vec<u8>) -> usize {
        let Some(automaton) = &self.automaton else {
            masked.extend_from_slice(bytes);
            return bytes.len();
        };
        let mut done = 0;
        let mut open = if at_end { bytes.len() } else { self.open_from(bytes, 0) };
        for found in automaton.find_iter(bytes) {
            if found.start() >= open {
                break;
            }
            masked.extend_from_slice(&bytes[done..found.start()]);
            masked.extend_from_slice(self.name_of(&bytes[found.range()]).as_bytes());
            done = found.end();
            if done > open {
                open = self.open_from(bytes, done);
            }
        }
        masked.extend_from_slice(&bytes[done..open]);
        open
    }

    fn name_of(&self, needle: &[u8]) -> &str {
        self.known.get(needle).map_or("[secret]", String::as_str)
    }

    /// Where, at `from` or behind it, the first beginning of a value stands that the end of `bytes` cuts off.
    fn open_from(&self, bytes: &[u8], from: usize) -> usize {
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1)).max(from);
        let cut = |at: &usize| {
            let rest = &bytes[*at..];
            // Sorted: whatever begins with `rest` comes at once behind it.
            let mut behind = self.known.range::<[u8], _>((std::ops::Bound::Excluded(rest), std::ops::Bound::Unbounded));
            behind.next().is_some_and(|(needle, _)| needle.starts_with(rest))
        };
        (first..bytes.len()).find(cut).unwrap_or(bytes.len())
    }
}

/// One stream of bytes that is masked as it comes.
#[derive(Debug)]
pub(crate) struct Stream {
    mask: Mask,
    /// What may be the beginning of a value.
    kept: Vec<u8>,
    masked: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(mask: &Mask) -> Self {
        Self { mask: mask.clone(), kept: Vec::new(), masked: Vec::new() }
    }

    /// Takes bytes and returns what can be shown of them and of those before.
    pub(crate) fn push<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        let needles = self.mask.now();
        if needles.automaton.is_none() && self.kept.is_empty() {
            return bytes;
        }
        self.kept.extend_from_slice(bytes);
        self.masked.clear();
        let done = needles.replace(&self.kept, false, &mut self.masked);
        self.kept.drain(..done);
        &self.masked
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.masked.clear();
        let kept = std::mem::take(&mut self.kept);
        self.mask.now().replace(&kept, true, &mut self.masked);
        &self.masked
    }
}

/// The forms in which programs print a value.
fn forms(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    let mut add = |text: String| {
        if text.len() >= SHORTEST_MASKED {
            forms.insert(text.into_bytes());
        }
    };
    let lines =
        value.lines().map(str::trim).filter(|line| line.len() >= LEAST_LINE_BYTES && !line.starts_with("-----"));
    let several = value.contains('\n');
    for text in std::iter::once(value).chain(lines.filter(|_| several)).flat_map(pieces) {
        add(text.to_owned());
        let encoded = percent_encoded(text);
        add(encoded.replace("%20", "+"));
        add(lower_escapes(&encoded));
        add(encoded);
        let json = serde_json::to_string(text).expect("a text is JSON");
        add(json[1..json.len() - 1].to_owned());
    }
    forms
}

/// A text in pieces that follow one another, the whole where it is short.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let count = text.len().div_ceil(MOST_PIECE_BYTES).max(1);
    let bound = move |n: usize| text.floor_char_boundary(n * text.len() / count);
    (0..count).map(move |n| &text[bound(n)..bound(n + 1)])
}

/// Everything but unreserved characters as `%XX` (RFC 3986, sections 2.1 and 2.3).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// `%2F` as `%2f`.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escape, rest) = part.split_at(part.len().min(2));
        text.push('%');
        text.push_str(&escape.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(values: &[(&str, &str)]) -> Mask {
        let mask = Mask::default();
        let secrets: Vec<_> = values.iter().map(|(name, value)| (*name, Secret::new(*value))).collect();
        mask.add(secrets.iter().map(|(name, value)| (*name, value)));
        mask
    }

    fn stream(mask: &Mask, chunks: &[&[u8]]) -> String {
        let mut stream = Stream::new(mask);
        let mut all = Vec::new();
        for chunk in chunks {
            all.extend_from_slice(stream.push(chunk));
        }
        all.extend_from_slice(stream.finish());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn values_are_masked_however_they_arrive() {
        let mask = mask(&[("a", "hunter22"), ("b", "hunter22-and-more"), ("c", "22-and-x"), ("short", "abc")]);
        for (text, want) in [
            ("x hunter22 y\n", "x [secret a] y\n"),
            ("hunter22-and-more", "[secret b]"),
            ("hunter22-and-morX", "[secret a]-and-morX"),
            ("hunter22-and-x", "[secret a]-and-x"),
            ("hunhunter22hunter22", "hun[secret a][secret a]"),
            ("abc hunter2", "abc hunter2"),
            ("", ""),
        ] {
            assert_eq!(mask.text(text), want);
            for size in 1..=text.len().max(1) {
                let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                assert_eq!(stream(&mask, &chunks), want, "{text} by {size}");
            }
        }
    }

    #[test]
    fn only_what_may_be_the_beginning_of_a_value_is_kept_back() {
        let mask = mask(&[("a", "hunter22")]);
        let mut stream = Stream::new(&mask);
        assert_eq!(stream.push(b"a whole line\n"), b"a whole line\n");
        assert_eq!(stream.push(b"another one, hunt"), b"another one, ");
        assert_eq!(stream.push(b"ing\n"), b"hunting\n");
        let nothing = Mask::default();
        let mut stream = Stream::new(&nothing);
        assert_eq!(stream.push(b"hunter2"), b"hunter2");
        nothing.add([("a", &Secret::new("hunter22"))].into_iter());
        assert_eq!(stream.push(b"hunter22"), b"[secret a]", "also what became known later");
    }

    /// Of the length that a key file has, and of the greatest there is; nothing of either is shown, however it arrives.
    #[test]
    fn long_values_are_masked_piece_by_piece() {
        let line = |n: u32| format!("{:08x}\t\"{n:08x}\"/ü\n", n.wrapping_mul(0x9e37_79b9));
        let lines = |n: u32| (0..n).map(line).collect::<Vec<_>>().concat();
        let (file, largest) = (lines(100), lines(2_700));
        let mask = mask(&[("file", &file), ("largest", &largest), ("run", &"a".repeat(64 * 1024))]);
        for value in [&file, &largest] {
            let json = serde_json::to_string(value).unwrap();
            for text in [value, &percent_encoded(value), &json[1..json.len() - 1].to_owned()] {
                let text = format!("before {text} after");
                for size in [7, 80, 4096, text.len()] {
                    let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                    let shown = stream(&mask, &chunks);
                    let rest = shown.replace("[secret file]", "").replace("[secret largest]", "");
                    assert_eq!(rest, "before  after", "by {size}");
                }
            }
        }
        let needles = mask.now();
        assert!(needles.longest < 4 * MOST_PIECE_BYTES, "little is ever kept back: {}", needles.longest);
        assert!(needles.automaton.as_ref().unwrap().memory_usage() < 32 << 20);
    }

    #[test]
    fn the_forms_that_programs_print() {
        let mask =
            mask(&[("url", "p@ss/w ü\"d"), ("pem", "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n")]);
        for text in [
            "postgres://u:p%40ss%2Fw%20%C3%BC%22d@db",
            "q=p%40ss%2fw%20%c3%bc%22d&",
            "q=p%40ss%2Fw+%C3%BC%22d",
            r#"{"p":"p@ss/w ü\"d"}"#,
        ] {
            assert!(mask.text(text).contains("[secret url]"), "{text}: {}", mask.text(text));
        }
        assert_eq!(mask.text("line MIIEvQIBADANBgkq of it"), "line [secret pem] of it");
        assert_eq!(mask.text("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
        let json = serde_json::to_string("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n").unwrap();
        assert_eq!(mask.text(&json), "\"[secret pem]\"");
    }
}
