//! Sections, lines and words of HAProxy's file format.
//!
//! Nothing is refused: an open quote ends with its line, and lines before the first section belong to none. Variables
//! of the environment stay as they are written, so that whoever meets one can say that it is not known.

/// Words that begin a section.
const SECTIONS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "program",
    "cache",
    "http-errors",
    "ring",
    "fcgi-app",
    "log-forward",
    "log-profile",
    "traces",
    "crt-store",
    "acme",
];

/// A line with its words, without comment and quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    /// Counted from 1.
    pub(super) number: usize,
}

impl Line {
    /// The word at this place, or nothing.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The line as it stands there, not too long.
    pub(super) fn text(&self) -> String {
        let text = self.words.join(" ");
        if text.chars().count() <= 120 { text } else { text.chars().take(119).chain(['…']).collect() }
    }

    /// Whether it begins with these words.
    pub(super) fn is(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(one, other)| one == other)
    }
}

/// A section with everything that holds in it: the lines of its defaults come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) line: usize,
    /// Its own lines.
    pub(super) lines: Vec<Line>,
    /// Those of its defaults.
    pub(super) defaults: Vec<Line>,
}

impl Section {
    /// All lines that hold in it.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.defaults.iter().chain(&self.lines)
    }

    /// The last line that begins so, which is the one that counts.
    pub(super) fn last(&self, words: &[&str]) -> Option<&Line> {
        self.all().rev().find(|line| line.is(words))
    }

    /// Whether an option is set and not taken back.
    pub(super) fn option(&self, name: &str) -> Option<&Line> {
        let last = self.all().rev().find(|line| line.is(&["option", name]) || line.is(&["no", "option", name]))?;
        (last.word(0) == "option").then_some(last)
    }

    /// Whether it is about connections rather than requests.
    pub(super) fn is_tcp(&self) -> bool {
        // "tcp" is what goes without saying: mode, chapter 4.2.
        self.last(&["mode"]).is_none_or(|line| line.word(1) != "http")
    }
}

/// All sections, each with the defaults that hold for it.
pub(super) fn sections(text: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = Line { words: words(line), number: at + 1 };
        let Some(first) = line.words.first() else { continue };
        if SECTIONS.contains(&first.as_str()) {
            found.push(opened(&found, &line));
        } else if let Some(section) = found.last_mut() {
            section.lines.push(line);
        }
    }
    found
}

fn opened(before: &[Section], line: &Line) -> Section {
    let (kind, mut name) = (line.word(0).to_owned(), line.word(1).to_owned());
    if name == "from" {
        name.clear();
    }
    let from = line.words.iter().position(|word| word == "from").map(|at| line.word(at + 1));
    let mut defaults = before.iter().rev().filter(|section| section.kind == "defaults");
    let base = match from {
        Some(from) => defaults.find(|section| section.name == from),
        // Sections of defaults stand for themselves unless they name another one.
        None if kind == "defaults" => None,
        None => defaults.next(),
    };
    let defaults = base.map(|base| base.all().cloned().collect()).unwrap_or_default();
    Section { kind, name, line: line.number, lines: Vec::new(), defaults }
}

/// The words of a line (chapter 2.2: quoting and escaping).
fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '#' => break,
            c if c.is_whitespace() => found.extend(word.take()),
            '\'' => word.get_or_insert_default().extend(rest.by_ref().take_while(|c| *c != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = rest.next().filter(|c| *c != '"') {
                    word.extend(if c == '\\' { rest.next() } else { Some(c) });
                }
            }
            '\\' => word.get_or_insert_default().extend(rest.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_that_are_not_quoted() {
        assert_eq!(words("  a b\\ c 'd # e' \"f \\\" g\"h # i"), ["a", "b c", "d # e", "f \" gh"]);
        assert_eq!(words("{ path_beg /a }"), ["{", "path_beg", "/a", "}"]);
        assert_eq!(words("# nothing"), [""; 0]);
        assert_eq!(words("open 'quote"), ["open", "quote"]);
    }

    #[test]
    fn the_last_defaults_hold_unless_others_are_named() {
        let all = sections(
            "lost\ndefaults a\n mode http\ndefaults\n mode tcp\nlisten x\n bind :1\nlisten y from a\n no option z\n",
        );
        let [_, _, x, y] = &all[..] else { panic!("{all:?}") };
        assert!(x.is_tcp() && !y.is_tcp());
        assert_eq!((x.name.as_str(), x.line, x.lines[0].number, y.lines.len()), ("x", 6, 7, 1));
        assert!(y.option("z").is_none());
    }
}
