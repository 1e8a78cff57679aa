//! The project's own rules, checked as text and metadata: one file for each rule.
//!
//! A rule is a function from the tree to findings; it reads no files and runs nothing, so that each one is
//! tested on good and on bad input. The tree is every file that git tracks or would track. To add a rule,
//! add a file here and a line to `RULES`. Exceptions live with their rule, each with its reason, and one that
//! excuses nothing any more is itself a finding.

mod direction;
mod header;
mod leak;
mod length;
mod lexer;
mod proof;
mod purity;
mod vocabulary;

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::metadata::{self, Package};

/// What the rules look at.
#[derive(Debug, Default)]
struct Tree {
    /// Every text file, by its path from the root, with `/`.
    files: Vec<File>,
    /// The packages of the workspace with what their manifests ask for.
    packages: Vec<Package>,
}

#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; none where the whole file is meant.
    line: Option<usize>,
    message: String,
}

struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: [Rule; 7] = [
    Rule { name: "direction", check: direction::check },
    Rule { name: "purity", check: purity::check },
    Rule { name: "vocabulary", check: vocabulary::check },
    Rule { name: "length", check: length::check },
    Rule { name: "header", check: header::check },
    Rule { name: "leak", check: leak::check },
    Rule { name: "proof", check: proof::check },
];

/// Checks every rule. `Ok` says how much was looked at, `Err` lists the findings, one a line.
pub(crate) fn run(root: &Path) -> Result<String, String> {
    let tree = Tree { files: files(root)?, packages: metadata::declared(root)? };
    let findings = findings(&tree);
    if findings.is_empty() {
        Ok(format!("{} rules, {} files", RULES.len(), tree.files.len()))
    } else {
        Err(format!("{}\ntidy: {} findings", findings.join("\n"), findings.len()))
    }
}

fn findings(tree: &Tree) -> Vec<String> {
    let all = RULES.iter().flat_map(|rule| (rule.check)(tree).into_iter().map(|finding| (rule.name, finding)));
    all.map(|(rule, finding)| format!("{finding} [{rule}]")).collect()
}

fn files(root: &Path) -> Result<Vec<File>, String> {
    // A checkout that belongs to somebody else, as in a container, is still only read.
    let list = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root).output();
    let output =
        output.map_err(|error| format!("tidy asks git for the list of files, and git does not start: {error}"))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(format!("tidy asks git for the list of files, and git says: {problem}"));
    }
    let mut files = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).split_terminator('\0') {
        // Deleted but not yet committed, a link, or binary: nothing to read.
        let whole = root.join(path);
        if whole.is_symlink() || !whole.is_file() {
            continue;
        }
        let bytes = std::fs::read(&whole).map_err(|error| format!("{path}: {error}"))?;
        if let Some(text) = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

impl File {
    fn at(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line: Some(line), message: message.into() }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether this is source of a crate of the product or of an application, tests and examples left out.
    fn is_source(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        self.is_rust() && matches!(parts.as_slice(), ["crates" | "apps", _, "src", ..] | ["xtask", "src", ..])
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.path, self.message),
            None => write!(formatter, "{}: {}", self.path, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of one file, for the tests of the rules.
    pub(super) fn tree_of(path: &str, text: &str) -> Tree {
        Tree { files: vec![File { path: path.to_owned(), text: text.to_owned() }], packages: Vec::new() }
    }

    #[test]
    fn a_finding_names_place_and_rule() {
        let found = findings(&tree_of("crates/evenkeel-core/src/clock.rs", "//! Time.\nuse std::time::Instant;\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/evenkeel-core/src/clock.rs:2: "), "{found:?}");
        assert!(found[0].ends_with("[purity]"), "{found:?}");
    }

    #[test]
    fn the_list_of_files_has_this_one_and_nothing_ignored() {
        let files = files(&crate::root()).expect("the tests run in a checkout");
        assert!(files.iter().any(|file| file.path == "xtask/src/tidy.rs" && file.is_source()));
        assert!(!files.iter().any(|file| file.path.starts_with("target/")));
    }
}
