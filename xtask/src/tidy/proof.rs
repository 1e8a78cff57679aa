//! What the table of features says of this project is shown by tests that exist.
//!
//! In `docs/features.md` the second cell of a row, which is about Evenkeel, begins with `no`, or with `yes` or `partly` and
//! then names at least one test, as a link to its file with the test's name as its text. The rule sees that the test is
//! there, not that it shows what it should. Links elsewhere are not its business.

use super::{File, Finding, Tree};

/// The page that is held to this.
const PAGE: &str = "docs/features.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in tree.files.iter().filter(|file| file.path == PAGE) {
        let lines: Vec<&str> = page.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let is_heading = lines.get(index + 1).is_some_and(|next| next.starts_with("| ---"));
            if line.starts_with("| ") && !line.starts_with("| ---") && !is_heading {
                let faults = faults(tree, line);
                findings.extend(faults.into_iter().map(|fault| page.at(index + 1, fault)));
            }
        }
    }
    findings
}

/// Everything that is wrong with one row.
fn faults(tree: &Tree, row: &str) -> Vec<String> {
    let cell = row.split(" | ").nth(1).unwrap_or_default();
    let verdict = cell.split([' ', ':', ',']).next().unwrap_or_default();
    match verdict {
        "no" => return Vec::new(),
        "yes" | "partly" => {}
        _ => return vec![format!("`{verdict}` is neither yes, no nor partly")],
    }
    let links = links(cell);
    if links.is_empty() {
        return vec![format!("a `{verdict}` without a test that shows it")];
    }
    links.into_iter().filter_map(|(name, path)| fault_of_link(tree, name, path)).collect()
}

fn fault_of_link(tree: &Tree, name: &str, path: &str) -> Option<String> {
    let Some(path) = path.strip_prefix("../") else {
        return Some(format!("`{path}` does not lead from docs/ into the project"));
    };
    let Some(file) = tree.files.iter().find(|file| file.path == path) else {
        return Some(format!("there is no file {path}"));
    };
    (!has_test(file, name)).then(|| format!("there is no test `{name}` in {path}"))
}

/// Names and targets of all links whose text is code.
fn links(cell: &str) -> Vec<(&str, &str)> {
    let after = cell.split("[`").skip(1);
    after
        .filter_map(|rest| rest.split_once("`]("))
        .filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0)))
        .collect()
}

/// Whether this function stands there below an attribute that makes it a test.
fn has_test(file: &File, name: &str) -> bool {
    let lines: Vec<&str> = file.text.lines().map(str::trim_start).collect();
    let head = format!("fn {name}(");
    let is_it = |line: &str| ["", "async "].iter().any(|kind| line.starts_with(&format!("{kind}{head}")));
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(index, _)| {
        let above = lines[..index].iter().rev();
        let mut attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        attributes.any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "/// Says more.\n#[test]\nfn a_thing() {}\n\nfn helper() {}\n";

    fn findings(row: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let page = format!("# Features\n\n| feature | Evenkeel | other |\n| --- | --- | --- |\n{row}\n");
        let files = vec![file(PAGE, &page), file("crates/a/tests/t.rs", TESTS)];
        check(&Tree { files, packages: Vec::new() }).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_yes_with_its_test_and_a_no_pass() {
        for row in [
            "| x | yes: [`a_thing`](../crates/a/tests/t.rs) | no |",
            "| x | partly, without y: [`a_thing`](../crates/a/tests/t.rs) | yes |",
            "| x | no | yes |",
            "| x | no: comes later | yes |",
        ] {
            assert_eq!(findings(row), [""; 0], "{row}");
        }
    }

    #[test]
    fn what_no_test_shows_is_found() {
        for (row, said) in [
            ("| x | yes | no |", "without a test"),
            ("| x | perhaps | no |", "`perhaps` is neither"),
            ("| x | yes: [`other`](../crates/a/tests/t.rs) | no |", "no test `other` in crates/a/tests/t.rs"),
            ("| x | yes: [`helper`](../crates/a/tests/t.rs) | no |", "no test `helper`"),
            ("| x | yes: [`a_thing`](../crates/b.rs) | no |", "no file crates/b.rs"),
            ("| x | yes: [`a_thing`](crates/a/tests/t.rs) | no |", "does not lead from docs/"),
        ] {
            let found = findings(row);
            assert_eq!(found.len(), 1, "{row}: {found:?}");
            assert!(found[0].starts_with("docs/features.md:5: ") && found[0].contains(said), "{row}: {found:?}");
        }
    }
}
