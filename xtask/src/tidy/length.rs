//! Files and functions stay short enough to be read whole.
//!
//! A Rust file has at most 600 lines and a function at most 70, from `fn` to its closing brace. The length of
//! functions in tests is not measured: a table of cases is not hard to read for being long.

use super::lexer::{Token, closing, lex};
use super::{File, Finding, Tree};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// What may be longer, and why.
struct Exception {
    path: &'static str,
    /// A function's name; empty for the file itself.
    function: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 0] = [];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    with_exceptions(tree, &EXCEPTIONS)
}

fn with_exceptions(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        for Long { function, line, lines, most } in too_long(file) {
            let excused = |exception: &Exception| exception.path == file.path && exception.function == function;
            if let Some(index) = exceptions.iter().position(excused) {
                used[index] = true;
                continue;
            }
            let subject = if function.is_empty() { "the file".to_owned() } else { format!("`fn {function}`") };
            findings.push(file.at(line, format!("{subject} has {lines} lines, {most} at most: split it by concern")));
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        let Exception { path, function, reason } = exception;
        let message = format!("an exception (`{function}`, {reason}) excuses nothing any more: remove it");
        findings.push(Finding { path: (*path).to_owned(), line: None, message });
    }
    findings
}

struct Long<'a> {
    function: &'a str,
    line: usize,
    lines: usize,
    most: usize,
}

fn too_long(file: &File) -> Vec<Long<'_>> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES {
        found.push(Long { function: "", line: 1, lines, most: FILE_LINES });
    }
    if file.path.split('/').any(|part| part == "tests" || part == "tests.rs") {
        return found;
    }
    let tokens = lex(&file.text);
    let mut index = 0;
    while index < tokens.len() {
        if let Some(end) = test_item(&tokens, index) {
            index = end;
        } else if let Some((name, lines)) = function(&tokens, index)
            && lines > FUNCTION_LINES
        {
            found.push(Long { function: name, line: tokens[index].line, lines, most: FUNCTION_LINES });
        }
        index += 1;
    }
    found
}

/// The last token of an item that exists only in tests, where one begins at `index`.
fn test_item(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let begins =
        attribute.iter().enumerate().all(|(at, text)| tokens.get(index + at).is_some_and(|token| token.is(text)));
    if !begins {
        return None;
    }
    body(tokens, index + attribute.len())
        .map_or_else(|| Some(index + attribute.len()), |open| Some(closing(tokens, open)))
}

/// The name and the lines of a function with a body, where one begins at `index`.
fn function<'a>(tokens: &[Token<'a>], index: usize) -> Option<(&'a str, usize)> {
    if !tokens[index].is("fn") {
        return None;
    }
    let name = tokens
        .get(index + 1)
        .filter(|token| token.text.starts_with(|first: char| first == '_' || first.is_alphabetic()))?;
    let open = body(tokens, index + 2)?;
    Some((name.text, tokens[closing(tokens, open)].line - tokens[index].line + 1))
}

/// The brace that opens an item's body, unless a semicolon ends the item first.
fn body(tokens: &[Token<'_>], from: usize) -> Option<usize> {
    let mut index = from;
    while index < tokens.len() {
        if tokens[index].is("{") {
            return Some(index);
        }
        if tokens[index].is(";") {
            return None;
        }
        if tokens[index].is("(") || tokens[index].is("[") {
            index = closing(tokens, index);
        }
        index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;

    const PATH: &str = "crates/evenkeel-core/src/a.rs";

    fn of_lines(before: &str, lines: usize, after: &str) -> String {
        format!("{before}{}{after}", "    a();\n".repeat(lines))
    }

    #[test]
    fn a_long_function_is_found_and_one_at_the_bound_is_not() {
        assert_eq!(check(&tree_of(PATH, &of_lines("fn a() {\n", 68, "}\n"))), []);
        let found = check(&tree_of(PATH, &of_lines("mod b {\nfn a<T>(x: [u8; 2]) -> T where T: B {\n", 69, "}\n}\n")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, Some(2));
        assert!(found[0].message.starts_with("`fn a` has 71 lines, 70 at most"), "{found:?}");
    }

    #[test]
    fn braces_in_strings_and_declarations_without_bodies_do_not_confuse_it() {
        let text = of_lines(
            "trait T { fn a(&self); }\nconst F: fn() = b;\nfn b() { \"{\"; '{'; }\nconst C: [u8; 1] = [\n",
            90,
            "];\n",
        );
        assert_eq!(check(&tree_of(PATH, &text)), []);
    }

    #[test]
    fn functions_in_tests_are_not_measured() {
        let text = of_lines("#[cfg(test)]\nmod tests {\nfn a() {\n", 90, "}\n}\n");
        assert_eq!(check(&tree_of(PATH, &text)), []);
        assert_eq!(check(&tree_of("crates/evenkeel/tests/a.rs", &of_lines("fn a() {\n", 90, "}\n"))), []);
        let after = of_lines("#[cfg(test)]\nmod tests { fn t() {} }\nfn a() {\n", 90, "}\n");
        assert_eq!(check(&tree_of(PATH, &after)).len(), 1);
        let declared = of_lines("#[cfg(test)]\nmod tests;\nfn a() {\n", 90, "}\n");
        assert_eq!(check(&tree_of(PATH, &declared)).len(), 1);
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(check(&tree_of(PATH, &"// a\n".repeat(600))), []);
        let found = check(&tree_of(PATH, &"// a\n".repeat(601)));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("the file has 601 lines"));
        assert_eq!(check(&tree_of("docs/long.md", &"a\n".repeat(900))), []);
    }

    #[test]
    fn an_exception_excuses_one_thing_and_a_useless_one_is_found() {
        let tree = tree_of(PATH, &of_lines("fn a() {\n", 90, "}\n"));
        let exception = |function| [Exception { path: PATH, function, reason: "a table" }];
        assert_eq!(with_exceptions(&tree, &exception("a")), []);
        assert_eq!(with_exceptions(&tree, &exception("b")).len(), 2);
    }
}
