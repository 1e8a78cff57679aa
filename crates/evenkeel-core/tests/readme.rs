//! What the project's README shows of stack files is accepted as it stands.

use std::{fs, path::Path};

use evenkeel_core::stack::parse;

/// The text of every ```` ```toml ```` block, in order.
fn blocks(text: &str) -> Vec<&str> {
    let begun = text.split("\n```toml\n").skip(1);
    begun.map(|rest| rest.split_once("\n```").expect("a block is closed").0).collect()
}

#[test]
fn stack_files_of_the_readme_are_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(file).expect("README.md is there");
    let blocks = blocks(&text);
    assert!(blocks.len() >= 2, "{}", blocks.len());
    for block in blocks {
        if let Err(faults) = parse(block, "README.md") {
            panic!("{faults}");
        }
    }
}
