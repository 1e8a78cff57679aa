//! Where things stand in a stack file: dotted paths to places in the text and back.
//!
//! Deserialising loses the places; this tree of the same text keeps them, so that every diagnostic can point.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The file as a tree that knows where each key and value stands.
pub(super) struct Tree<'a>(DeTable<'a>);

impl<'a> Tree<'a> {
    /// Reads the text as TOML, whatever its keys.
    pub(super) fn parse(text: &'a str) -> Result<Self, toml::de::Error> {
        Ok(Self(DeTable::parse(text)?.into_inner()))
    }

    /// Where the value at a dotted path stands, or else the nearest thing above it.
    pub(super) fn span(&self, path: &[&str]) -> Option<Range<usize>> {
        let (first, rest) = path.split_first()?;
        let (key, mut value) = self.0.get_key_value(*first)?;
        let mut span = key.span();
        for part in rest {
            let next = match value.get_ref() {
                DeValue::Table(table) => table.get_key_value(*part).map(|(key, value)| (key.span(), value)),
                DeValue::Array(array) => {
                    part.parse::<usize>().ok().and_then(|at| array.get(at)).map(|value| (value.span(), value))
                }
                _ => None,
            };
            let Some((next_span, next_value)) = next else { break };
            (span, value) = (next_span, next_value);
        }
        Some(if matches!(value.get_ref(), DeValue::Table(_)) { span } else { value.span() })
    }

    /// Whether the file itself has something at a dotted path.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else { return true };
        let mut value = self.0.get(*first);
        for part in rest {
            value = match value.map(toml::Spanned::get_ref) {
                Some(DeValue::Table(table)) => table.get(*part),
                Some(DeValue::Array(array)) => part.parse::<usize>().ok().and_then(|at| array.get(at)),
                _ => None,
            };
        }
        value.is_some()
    }

    /// The dotted path of the key or the innermost value that stands at `span`.
    pub(super) fn path_of(&self, span: &Range<usize>) -> String {
        let mut best = String::new();
        search(&self.0, span, "", &mut best);
        best
    }
}

fn search(table: &DeTable<'_>, span: &Range<usize>, path: &str, best: &mut String) {
    for (key, value) in table {
        let here = join(path, key.get_ref());
        if key.span() == *span {
            *best = here;
            return;
        }
        search_value(value, span, &here, best);
    }
}

fn search_value(value: &toml::Spanned<DeValue<'_>>, span: &Range<usize>, path: &str, best: &mut String) {
    let inside = value.span().start <= span.start && span.end <= value.span().end;
    if inside {
        path.clone_into(best);
    }
    match value.get_ref() {
        // The parts of a table may lie outside its own span: `[a]` and later `[a.b]`.
        DeValue::Table(table) => search(table, span, path, best),
        DeValue::Array(array) => {
            for (index, item) in array.iter().enumerate() {
                search_value(item, span, &join(path, &index.to_string()), best);
            }
        }
        _ => {}
    }
}

/// A dotted path with one more part.
pub(super) fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}
