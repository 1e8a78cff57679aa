//! What is wrong with a stack file, where, why, and what would be right.

use std::{fmt, ops::Range};

use super::tree::Tree;

/// How much a fault matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It can never work: the file is refused.
    Error,
    /// It does nothing, or not what it seems to do: the file is accepted, and its writer is told.
    Warning,
}

impl Severity {
    /// As a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One fault, pointing at the place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong, in one clause.
    pub message: String,
    /// What would be right, if it can be told.
    pub help: Option<String>,
    /// Byte range in the text; `None` where it concerns the file as a whole.
    pub span: Option<Range<usize>>,
}

/// All faults of one file, with its text, so that they can be shown in place. `Display` renders them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file's name as the user gave it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The faults, in the order of the file.
    pub faults: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.render(fault, f)?;
        }
        Ok(())
    }
}

impl Diagnostics {
    /// None for this file yet.
    pub fn none(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned(), faults: Vec::new() }
    }

    /// Adds one that was found by looking at the machine, at the dotted path that means it. A part of the path that the file
    /// does not have leads to what is above it.
    pub fn add(&mut self, severity: Severity, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let span = Tree::parse(&self.text).ok().and_then(|tree| tree.span(path));
        self.faults.push(Diagnostic { severity, message: message.into(), help: Some(help.into()), span });
    }

    /// Takes over what else was found in the same file, in the order of the file.
    #[must_use]
    pub fn and(mut self, others: Vec<Diagnostic>) -> Self {
        self.faults.extend(others);
        self.faults.sort_by_key(|fault| fault.span.as_ref().map_or(0, |span| span.start));
        self
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.faults.iter().any(|fault| fault.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// One line and column, both from 1, of a byte offset. Columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn render(&self, fault: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", fault.severity.as_str(), fault.message)?;
        let Some(span) = &fault.span else {
            writeln!(f, "  --> {}", self.file)?;
            return self.render_help("  ", fault, f);
        };
        let (line, column) = self.position(span.start);
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let gutter = " ".repeat(line.to_string().len());
        let room = source.chars().count().saturating_sub(column - 1).max(1);
        let marked = self.text.get(span.clone()).map_or(1, |text| text.chars().count());
        writeln!(f, "{gutter} --> {}:{line}:{column}", self.file)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{line} | {source}")?;
        writeln!(f, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(marked.clamp(1, room)))?;
        self.render_help(&format!("{gutter} "), fault, f)
    }

    #[expect(clippy::unused_self, reason = "belongs to the rendering")]
    fn render_help(&self, indent: &str, fault: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &fault.help {
            Some(help) => writeln!(f, "{indent}= help: {help}"),
            None => Ok(()),
        }
    }
}
