//! One term for each concept: words that the project has a better term for appear nowhere.
//!
//! Code, configuration, output and documentation are all text here, and so are the names of files. A word is
//! found also as a part of a name (`snake_case`, `camelCase`, `kebab-case`) and in the plural, but not inside
//! a longer word. Where something foreign is spelled so and cannot be renamed, `EXCEPTIONS` says why.

use super::{File, Finding, Tree};

/// The word, and the term to use.
const BANNED: [(&str, &str); 7] = [
    ("master", "primary"),
    ("slave", "standby"),
    ("outlier", "eject"),
    ("lameduck", "drain"),
    ("lame duck", "drain"),
    ("entrypoint", "listener"),
    ("frontend", "listener"),
];

/// A word that a file may contain.
struct Exception {
    /// A file, or a folder that ends in `/`.
    path: &'static str,
    word: &'static str,
    /// What a line must contain for the exception to hold on it; empty for every line.
    line_has: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 3] = [
    Exception {
        path: "xtask/src/tidy/vocabulary.rs",
        word: "",
        line_has: "",
        reason: "the list itself, and its tests",
    },
    Exception {
        path: "xtask/src/setup.rs",
        word: "frontend",
        line_has: "DEBIAN_FRONTEND",
        reason: "the variable that debconf reads",
    },
    Exception {
        path: "crates/evenkeel/src/init/haproxy/",
        word: "frontend",
        line_has: "",
        reason: "what HAProxy's file calls a section, and configurations that have one",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    with_exceptions(tree, &EXCEPTIONS)
}

fn with_exceptions(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for file in tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (word, term) in banned(&file.path) {
            let message = format!("the file's name says `{word}`; the project's term is `{term}`");
            findings.push(Finding { path: file.path.clone(), line: None, message });
        }
        for (index, line) in file.text.lines().enumerate() {
            for (word, term) in banned(line) {
                match exceptions.iter().position(|exception| exception.covers(file, line, word)) {
                    Some(exception) => used[exception] = true,
                    None => findings.push(file.at(index + 1, format!("`{word}`: the project's term is `{term}`"))),
                }
            }
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        // An exception for what is not there at all yet harms nobody; one that nothing needs hides the next.
        if tree.files.iter().any(|file| exception.is_for(file)) {
            let message = format!("an exception ({}) excuses nothing any more: remove it", exception.reason);
            findings.push(Finding { path: exception.path.to_owned(), line: None, message });
        }
    }
    findings
}

impl Exception {
    fn covers(&self, file: &File, line: &str, word: &str) -> bool {
        self.is_for(file) && (self.word.is_empty() || self.word == word) && line.contains(self.line_has)
    }

    fn is_for(&self, file: &File) -> bool {
        file.path == self.path || (self.path.ends_with('/') && file.path.starts_with(self.path))
    }
}

/// The banned words of a line, each with the project's own term.
fn banned(line: &str) -> Vec<(&'static str, &'static str)> {
    let parts = parts(line);
    let mut found = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        found.extend(entry(&part.word));
        let Some(next) = parts.get(index + 1) else { continue };
        match next.gap {
            // `FrontThing` and `frontThing`: two parts that read as one word.
            0 => found.extend(entry(&format!("{}{}", part.word, next.word))),
            1 => found.extend(entry(&format!("{} {}", part.word, next.word))),
            _ => {}
        }
    }
    found
}

fn entry(word: &str) -> Option<(&'static str, &'static str)> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    BANNED.into_iter().find(|(banned, _)| *banned == word || *banned == singular)
}

/// A run of letters, cut where the case says that a new word begins; in lower case.
struct Part {
    word: String,
    /// How many characters lie between this part and the one before.
    gap: usize,
}

fn parts(line: &str) -> Vec<Part> {
    let characters: Vec<char> = line.chars().collect();
    let mut parts: Vec<Part> = Vec::new();
    let mut gap = 0;
    for (index, character) in characters.iter().enumerate() {
        if !character.is_alphabetic() {
            gap += 1;
            continue;
        }
        let before = index.checked_sub(1).map(|index| characters[index]).filter(|before| before.is_alphabetic());
        let after_is_lower = characters.get(index + 1).is_some_and(|after| after.is_lowercase());
        let begins = match before {
            None => true,
            Some(before) => character.is_uppercase() && (before.is_lowercase() || after_is_lower),
        };
        if begins {
            parts.push(Part { word: String::new(), gap });
            gap = 0;
        }
        if let Some(part) = parts.last_mut() {
            part.word.extend(character.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;

    #[test]
    fn every_word_is_found_in_every_spelling() {
        for line in [
            "the master",
            "Masters!",
            "is_master",
            "masterKey",
            "the MASTER_KEY",
            "HTTPMaster",
            "let slave = 1;",
            "slave_2",
            "\"outliers\"",
            "OutlierDetection",
            "lameduck",
            "lame duck",
            "lame-duck",
            "LameDuck",
            "LAME_DUCK",
            "entrypoint: x",
            "EntryPoint",
            "frontend-1",
            "FrontEnd",
            "# frontend",
        ] {
            let found = check(&tree_of("docs/a.md", line));
            assert_eq!(found.len(), 1, "{line}: {found:?}");
        }
    }

    #[test]
    fn longer_words_and_the_projects_own_terms_pass() {
        for line in [
            "postmaster.pid",
            "masterful",
            "entry points",
            "front ends",
            "a front, end",
            "enslaved",
            "lame, duck",
            "primary standby eject drain listener",
        ] {
            assert_eq!(check(&tree_of("docs/a.md", line)), [], "{line}");
        }
    }

    #[test]
    fn the_line_and_the_better_term_are_named() {
        let found = check(&tree_of("a.toml", "x = 1\nslave = 2\n"));
        assert_eq!(found[0].line, Some(2));
        assert!(found[0].message.contains("`standby`"));
        assert_eq!(check(&tree_of("docs/frontend.md", "")).len(), 1);
        assert_eq!(check(&tree_of("Cargo.lock", "name = \"slave\"")), []);
    }

    #[test]
    fn an_exception_is_as_narrow_as_it_says() {
        let exceptions = [Exception { path: "benches/", word: "frontend", line_has: "listen", reason: "a keyword" }];
        let findings = |path, text| with_exceptions(&tree_of(path, text), &exceptions).len();
        assert_eq!(findings("benches/a.cfg", "frontend listen\n"), 0);
        assert_eq!(findings("benches/a.cfg", "frontend listen\nfrontend\n"), 1);
        assert_eq!(findings("benches/a.cfg", "frontend listen\nslave listen\n"), 1);
        assert_eq!(findings("other/a.cfg", "frontend listen\n"), 1);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_found() {
        let exceptions = [Exception { path: "benches/", word: "frontend", line_has: "", reason: "a keyword" }];
        assert_eq!(with_exceptions(&tree_of("benches/a.cfg", "listen\n"), &exceptions).len(), 1);
        assert_eq!(with_exceptions(&tree_of("other/a.cfg", "listen\n"), &exceptions), []);
    }
}
