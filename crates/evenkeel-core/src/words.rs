//! Numbers and sentences as people read them, the same in the terminal, in reports and in the console.
//!
//! Pure text: nothing here knows where it is shown, so that a colour or an element is never in it. What is said with a
//! word of its own stands with the thing that is counted.

/// `12304` as `12,304`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds as a latency: `0.4 ms`, `12 ms`, `1.2 s`.
pub fn latency(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// A number with its noun: `1 entry waits`, `3 entries wait`.
pub fn counted<N: Copy + std::fmt::Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    format!("{n} {}", if n == N::from(1) { one } else { many })
}

/// A sentence in parts, and whether each is code: what stands between two backticks is. One backtick that is left open is
/// what somebody wrote, and then nothing is code.
pub fn code_parts(text: &str) -> Vec<(bool, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return vec![(false, text)];
    }
    parts.into_iter().enumerate().map(|(index, part)| (!index.is_multiple_of(2), part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_304, "12,304"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn latencies_keep_two_digits() {
        for (ms, text) in [(0.04, "0.0 ms"), (1.24, "1.2 ms"), (9.96, "10 ms"), (812.0, "812 ms"), (1234.0, "1.2 s")] {
            assert_eq!(latency(ms), text);
        }
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!((counted(1_u64, "day", "days"), counted(0_usize, "day", "days")), ("1 day".into(), "0 days".into()));
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(code_parts("try `keel top` now"), [(false, "try "), (true, "keel top"), (false, " now")]);
        assert_eq!(code_parts("one ` left open"), [(false, "one ` left open")]);
        assert_eq!(code_parts(""), [(false, "")]);
    }
}
