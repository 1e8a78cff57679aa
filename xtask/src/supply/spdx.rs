//! Licence expressions: `MIT`, `MIT OR Apache-2.0`, `(MIT OR Apache-2.0) AND Unicode-3.0`,
//! `Apache-2.0 WITH LLVM-exception`.
//!
//! AND binds tighter than OR, WITH tighter than both. The older Cargo spelling `MIT/Apache-2.0` means OR. An
//! expression is evaluated to the identifiers that stand in the way, not to a bare no.
//!
//! Source: SPDX specification 2.3, annex D; the Cargo book, "The `license` field".

/// The identifiers because of which an expression is not satisfied by what is allowed; none when it is.
/// An error means that it is not an expression.
pub(crate) fn refused(expression: &str, allowed: &[String]) -> Result<Vec<String>, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let refused = parser.either()?;
    match parser.words.first() {
        None => Ok(refused),
        Some(word) => Err(format!("`{word}` is not expected there")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn either(&mut self) -> Result<Vec<String>, String> {
        let mut refused = self.both()?;
        while self.take("OR") {
            let other = self.both()?;
            if refused.is_empty() || other.is_empty() {
                refused.clear();
            } else {
                refused.extend(other);
            }
        }
        Ok(refused)
    }

    fn both(&mut self) -> Result<Vec<String>, String> {
        let mut refused = self.single()?;
        while self.take("AND") {
            refused.extend(self.single()?);
        }
        Ok(refused)
    }

    fn single(&mut self) -> Result<Vec<String>, String> {
        if self.take("(") {
            let inner = self.either()?;
            return if self.take(")") { Ok(inner) } else { Err("a parenthesis is not closed".to_owned()) };
        }
        let mut licence = self.identifier()?;
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.identifier()?);
        }
        Ok(if self.allowed.contains(&licence) { Vec::new() } else { vec![licence] })
    }

    fn identifier(&mut self) -> Result<String, String> {
        let (word, rest) = self.words.split_first().ok_or("it ends where a licence is expected")?;
        if ["AND", "OR", "WITH", "(", ")"].contains(word) {
            return Err(format!("`{word}` stands where a licence is expected"));
        }
        self.words = rest;
        Ok((*word).to_owned())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(expression: &str) -> Result<Vec<String>, String> {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
        refused(expression, &allowed.map(str::to_owned))
    }

    #[test]
    fn one_side_of_or_suffices_and_and_needs_both() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 AND ISC OR MIT",
            "MIT AND (GPL-3.0 OR Apache-2.0)",
        ] {
            assert_eq!(refuses(good), Ok(vec![]), "{good}");
        }
        for (bad, because) in [
            ("GPL-3.0", vec!["GPL-3.0"]),
            ("MIT AND GPL-3.0", vec!["GPL-3.0"]),
            ("GPL-3.0 OR AGPL-3.0", vec!["GPL-3.0", "AGPL-3.0"]),
            ("(MIT OR GPL-3.0) AND ISC", vec!["ISC"]),
            ("MIT WITH Other-exception", vec!["MIT WITH Other-exception"]),
            ("MIT AND GPL-3.0 OR ISC", vec!["GPL-3.0", "ISC"]),
        ] {
            assert_eq!(refuses(bad), Ok(because.into_iter().map(str::to_owned).collect()), "{bad}");
        }
    }

    #[test]
    fn what_is_not_an_expression_is_an_error() {
        for bad in ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH", "()"] {
            assert!(refuses(bad).is_err(), "{bad}");
        }
    }
}
