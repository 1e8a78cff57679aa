//! Bytes into lines: split at newlines, and at [`MAX_LINE_BYTES`] where none comes.

/// The longest line; a longer one continues as the next.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// Keeps the unfinished line between reads.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes bytes and hands on every line that is complete, without its end.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE_BYTES - self.rest.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.emit(&bytes[..end], &mut line);
                bytes = &bytes[end + 1..];
            } else if bytes.len() > room {
                self.emit(&bytes[..room], &mut line);
                bytes = &bytes[room..];
            } else {
                self.rest.extend_from_slice(bytes);
                return;
            }
        }
    }

    /// Hands on what is left at the end of the stream.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            self.emit(&[], &mut line);
        }
    }

    fn emit(&mut self, end: &[u8], line: &mut impl FnMut(&[u8])) {
        let whole = if self.rest.is_empty() {
            end
        } else {
            self.rest.extend_from_slice(end);
            &self.rest
        };
        line(whole.strip_suffix(b"\r").unwrap_or(whole));
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_do_not_depend_on_how_bytes_arrive() {
        let text = b"one\r\n\ntwo\nthree";
        let whole = split(&[text]);
        assert_eq!(whole, [&b"one"[..], b"", b"two", b"three"]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&bytes), whole);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; MAX_LINE_BYTES * 2 + 5];
        for size in [1000, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, long.len()] {
            let chunks: Vec<&[u8]> = long.chunks(size).collect();
            let lengths: Vec<usize> = split(&chunks).iter().map(Vec::len).collect();
            assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
        }
        let exact = [&long[..MAX_LINE_BYTES], b"\nnext\n"].concat();
        assert_eq!(split(&[&exact]).len(), 2);
    }
}
