//! The project speaks of itself alone: no path or tool of a machine that it was built on.
//!
//! The needles are put together here, so that this file does not contain them.

use super::{Finding, Tree};

const NEEDLES: [&str; 3] = [concat!("/wo", "rk/"), concat!(".lib", "rary"), concat!("far", "m-")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (index, line) in file.text.lines().enumerate() {
            for needle in NEEDLES.iter().filter(|needle| line.contains(**needle)) {
                findings.push(file.at(index + 1, format!("`{needle}` belongs to a machine, not to the project")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;

    #[test]
    fn each_needle_is_found_on_its_line() {
        for needle in NEEDLES {
            let found = check(&tree_of("docs/a.md", &format!("fine\nsee {needle}x\n")));
            assert_eq!(found.len(), 1, "{needle}");
            assert_eq!(found[0].line, Some(2));
        }
    }

    #[test]
    fn ordinary_words_are_not_needles() {
        assert_eq!(check(&tree_of("docs/a.md", "the library works; network/host; a farm\n")), []);
    }
}
