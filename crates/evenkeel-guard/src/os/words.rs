//! Errors of the system in words that fit into a sentence.

use std::io;

/// As "no such file or directory": without the number, and not capitalised.
pub(crate) fn of(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_reads_as_part_of_a_sentence() {
        assert_eq!(of(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(of(&io::Error::from_raw_os_error(13)), "permission denied");
    }
}
