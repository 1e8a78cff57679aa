//! Colour, where a person looks: only on a terminal, and never under `NO_COLOR` (<https://no-color.org>) or on a
//! terminal that calls itself `dumb`.
//!
//! Words carry the meaning; colour only helps to find them. Callers pad first and paint afterwards, since escape
//! sequences have no width.

use std::io::{self, IsTerminal};

use evenkeel_core::status::Health;

/// Where text goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Paints text or leaves it plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    colours: bool,
}

impl Paint {
    /// As the stream and the environment want it.
    pub(crate) fn of(stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Output => io::stdout().is_terminal(),
            Stream::Error => io::stderr().is_terminal(),
        };
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colours: terminal && !unwanted && !dumb }
    }

    /// Whether colours are wanted, for those who paint by other means.
    pub(crate) const fn colours(self) -> bool {
        self.colours
    }

    /// Never any colour.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colours: false }
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// It changes, or was dealt with.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Somebody should look.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31;1", text)
    }

    /// Beside the point.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A verdict's word, padded or not.
    pub(crate) fn health(self, health: Health, text: &str) -> String {
        match health {
            Health::Healthy => self.good(text),
            Health::Unknown | Health::Draining => self.warn(text),
            Health::Unhealthy | Health::Silent | Health::Ejected => self.bad(text),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Makes text that came from elsewhere (output of instances, subjects) harmless for a terminal: control
/// characters other than a tab become `\u{fffd}`.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paints_only_where_wanted() {
        assert_eq!(Paint::plain().bad("x"), "x");
        assert_eq!(Paint { colours: true }.bad("x"), "\x1b[31;1mx\x1b[0m");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\x1b[2Jc"), "a\tb\u{fffd}[2Jc");
    }
}
