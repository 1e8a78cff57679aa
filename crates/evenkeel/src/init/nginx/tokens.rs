//! Words, braces and semicolons of nginx's file format.
//!
//! Quotes join words, `#` begins a comment where a word could begin, a backslash keeps the next character. Nothing
//! is refused: an open quote ends with the file. `${name}` within a word is part of it. A block of Lua is passed over:
//! its quotes and comments are not nginx's.

/// A piece of the file and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// What.
    pub(super) kind: Kind,
    /// Where, counted from 1.
    pub(super) line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a value, without its quotes.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    End,
}

/// All tokens.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let single = match c {
            '{' => Some(Kind::Open),
            '}' => Some(Kind::Close),
            ';' => Some(Kind::End),
            _ => None,
        };
        match (single, c) {
            (Some(kind), _) => found.push(Token { kind, line }),
            (None, '\n') => line += 1,
            (None, '#') => while rest.next_if(|c| *c != '\n').is_some() {},
            (None, c) if c.is_whitespace() => {}
            (None, c) => {
                let began = line;
                let mut word = String::new();
                let lines =
                    if c == '"' || c == '\'' { quoted(c, &mut rest, &mut word) } else { bare(c, &mut rest, &mut word) };
                line += lines;
                let is_lua = word.ends_with("_by_lua_block");
                found.push(Token { kind: Kind::Word(word), line: began });
                if is_lua && let Some(lines) = lua(&mut rest) {
                    found.extend([Kind::Open, Kind::Close].map(|kind| Token { kind, line }));
                    line += lines;
                }
            }
        }
    }
    found
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Passes over a block of Lua, up to the brace that closes it; returns how many lines it went on. `None`: none begins here.
fn lua(rest: &mut Rest<'_>) -> Option<usize> {
    let ahead = rest.clone().take(1 << 10).take_while(|c| !";}".contains(*c)).any(|c| c == '{');
    if !ahead {
        return None;
    }
    let (mut lines, mut depth) = (0, 0usize);
    while let Some(c) = rest.next() {
        match c {
            '\n' => lines += 1,
            '{' => depth += 1,
            '}' if depth <= 1 => break,
            '}' => depth -= 1,
            '-' if rest.peek() == Some(&'-') => while rest.next_if(|c| *c != '\n').is_some() {},
            // A string ends with its line at the latest.
            '"' | '\'' if depth > 0 => {
                while let Some(other) = rest.next_if(|other| *other != '\n').filter(|other| *other != c) {
                    if other == '\\' {
                        let _ = rest.next_if(|escaped| *escaped != '\n');
                    }
                }
            }
            _ => {}
        }
    }
    Some(lines)
}

/// Reads up to the closing quote; returns how many lines it went on.
fn quoted(quote: char, rest: &mut Rest<'_>, word: &mut String) -> usize {
    let mut lines = 0;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(c) if c == quote || c == '\\' => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => {}
            },
            c if c == quote => break,
            c => {
                lines += usize::from(c == '\n');
                word.push(c);
            }
        }
    }
    lines
}

/// Reads a word without quotes, which begins with `first`; returns how many lines it went on.
fn bare(first: char, rest: &mut Rest<'_>, word: &mut String) -> usize {
    let mut lines = 0;
    let mut next = Some(first);
    while let Some(c) = next {
        word.push(c);
        if c == '\\' {
            let escaped = rest.next();
            lines += usize::from(escaped == Some('\n'));
            word.extend(escaped);
        }
        let in_variable = c == '$' && rest.peek() == Some(&'{');
        next = if in_variable { rest.next() } else { rest.next_if(|c| !c.is_whitespace() && !";{".contains(*c)) };
    }
    lines
}
