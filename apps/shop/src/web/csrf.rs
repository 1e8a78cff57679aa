//! Protection of forms against other sites that make a browser send them.
//!
//! Every form carries a secret: of the session where somebody is signed in, else of a cookie that the same
//! browser holds. A form with another secret, or none, is refused. The middleware also refuses what a browser
//! itself marks as coming from elsewhere, and the API takes only JSON, which no form of another site can send.

use crate::domain::random_token;
use crate::error::ShopError;

/// A new secret.
pub(super) fn fresh() -> Result<String, ShopError> {
    random_token(32)
}

/// Fails unless a form carried the secret it was given.
pub(super) fn check(expected: &str, carried: &str) -> Result<(), ShopError> {
    if is_same(expected, carried) {
        return Ok(());
    }
    Err(ShopError::Forbidden("the form has expired; go back, reload the page and send it again"))
}

/// Compares without ending at the first difference, so that the time taken tells nothing about the secret.
pub(super) fn is_same(expected: &str, carried: &str) -> bool {
    let differences = expected.bytes().zip(carried.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b));
    expected.len() == carried.len() && !expected.is_empty() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn only_the_secret_itself_is_the_same() {
        assert!(is_same("abc", "abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!is_same("abc", other), "{other}");
        }
        assert!(!is_same("", ""), "no secret protects nothing");
    }
}
