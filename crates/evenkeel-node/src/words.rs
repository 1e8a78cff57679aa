//! Numbers of things in sentences.

use std::fmt::Display;

/// `1 request`, `2 requests`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    let what = if n == N::from(1) { one } else { many };
    format!("{n} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(0_u64, "request", "requests"), "0 requests");
        assert_eq!(counted(1_usize, "request", "requests"), "1 request");
        assert_eq!(counted(12_u32, "request", "requests"), "12 requests");
    }
}
