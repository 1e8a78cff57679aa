//! Directives and blocks of nginx's file format.
//!
//! Tolerant: a block that is not closed ends with the file, and a brace that closes nothing is passed over. Depth
//! is bounded, since the file may be anything. It knows no directive by name.

use super::tokens::{Kind, Token};

/// Blocks deeper than this are read as if they were empty.
const MAX_DEPTH: usize = 32;

/// `name args…;` or `name args… { block }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its name.
    pub(super) name: String,
    /// What follows the name.
    pub(super) args: Vec<String>,
    /// What stands between its braces; `None` for one that ends with a semicolon.
    pub(super) block: Option<Vec<Directive>>,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
}

impl Directive {
    /// Its first argument, or nothing.
    pub(super) fn arg(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The directive as it stands in the file, without its block.
    pub(super) fn words(&self) -> String {
        self.args.iter().fold(self.name.clone(), |words, arg| words + " " + arg)
    }

    /// The directives in its block.
    pub(super) fn inside(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Reads all tokens.
pub(super) fn parse(tokens: Vec<Token>) -> Vec<Directive> {
    let mut tokens = tokens.into_iter();
    let mut found = Vec::new();
    // `block` also ends at a brace that closes nothing here; what follows it is read all the same.
    while tokens.len() > 0 {
        found.extend(block(&mut tokens, 0));
    }
    found
}

fn block(tokens: &mut std::vec::IntoIter<Token>, depth: usize) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut words: Vec<(String, usize)> = Vec::new();
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Word(word) => words.push((word, token.line)),
            Kind::End => found.extend(directive(std::mem::take(&mut words), None)),
            Kind::Open => {
                let inside = if depth < MAX_DEPTH { block(tokens, depth + 1) } else { skip(tokens) };
                found.extend(directive(std::mem::take(&mut words), Some(inside)));
            }
            Kind::Close => break,
        }
    }
    found.extend(directive(words, None));
    found
}

fn directive(words: Vec<(String, usize)>, block: Option<Vec<Directive>>) -> Option<Directive> {
    let mut words = words.into_iter();
    let (name, line) = words.next()?;
    Some(Directive { name, args: words.map(|(word, _)| word).collect(), block, line })
}

/// Passes over a block and everything in it.
fn skip(tokens: &mut std::vec::IntoIter<Token>) -> Vec<Directive> {
    let mut open = 1;
    for token in tokens {
        match token.kind {
            Kind::Open => open += 1,
            Kind::Close => open -= 1,
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    Vec::new()
}
