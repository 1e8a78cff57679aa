//! A module opens with `//!`: what its job is, who owns its state, what it never does.
//!
//! The rule sees only that there is an opening, not whether it is a good one.

use super::{Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.files.iter().filter(|file| file.is_source());
    let bare = sources.filter(|file| !file.text.trim_start().starts_with("//!"));
    bare.map(|file| file.at(1, "a module opens with `//!`: its job, who owns its state, what it never does")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;

    #[test]
    fn a_source_file_without_an_opening_is_found() {
        let bad = "use std::fmt;\n//! Too late.\n";
        for path in ["crates/evenkeel/src/main.rs", "apps/shop/src/a/b.rs", "xtask/src/x.rs"] {
            assert_eq!(check(&tree_of(path, bad)).len(), 1, "{path}");
            assert_eq!(check(&tree_of(path, "\n//! Its job.\nuse std::fmt;\n")), [], "{path}");
        }
    }

    #[test]
    fn tests_and_examples_may_open_as_they_like() {
        assert_eq!(check(&tree_of("crates/evenkeel/tests/demo.rs", "fn main() {}")), []);
    }
}
