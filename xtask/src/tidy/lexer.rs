//! A small lexer of Rust, enough to tell code from comments and strings.
//!
//! It yields words, punctuation and literals with their lines, and drops comments. It does not parse, and on
//! text that does not compile it yields something rather than an error: the compiler is the judge of that.
//!
//! Source: the Rust reference, "Lexical structure".

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword; `r#` is left out.
    Word,
    /// One character of punctuation, or `::`.
    Punct,
    /// A string, character or number.
    Literal,
    /// `'a`
    Lifetime,
}

/// A token of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// The line it begins on, counted from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Punct) && self.text == text
    }
}

/// The tokens of a source file.
pub(super) fn lex(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, position: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

/// The index of the token that closes what is opened at `open`, or the last index.
pub(super) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|bracket| token.is(bracket)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|bracket| token.is(bracket)) {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len().saturating_sub(1)
}

struct Lexer<'a> {
    source: &'a str,
    /// In bytes, always at the start of a character.
    position: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '"' => (Kind::Literal, quoted(rest, 0, '"')),
            '\'' => character_or_lifetime(rest),
            _ if prefixed_string(rest).is_some() => (Kind::Literal, prefixed_string(rest)?),
            _ if first.is_ascii_digit() => (Kind::Literal, number(rest)),
            _ if is_word(first) => (Kind::Word, word(rest)),
            _ if rest.starts_with("::") => (Kind::Punct, 2),
            _ => (Kind::Punct, first.len_utf8()),
        };
        let line = self.line;
        let text = self.advance(length);
        Some(Token { kind, text: if kind == Kind::Word { text.trim_start_matches("r#") } else { text }, line })
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn advance(&mut self, length: usize) -> &'a str {
        let text = &self.source[self.position..self.position + length];
        self.position += length;
        self.line += text.matches('\n').count();
        text
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let length = match &rest[blank..] {
                comment if comment.starts_with("//") => comment.find('\n').unwrap_or(comment.len()),
                comment if comment.starts_with("/*") => block_comment(comment),
                _ => 0,
            };
            self.advance(blank + length);
            if length == 0 {
                return;
            }
        }
    }
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The end of a string or character whose opening quote is at `open`.
fn quoted(text: &str, open: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip_while(|(at, _)| *at <= open) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `b"…"`, `c"…"`, `b'…'`, `r"…"`, `br#"…"#` and the like.
fn prefixed_string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let rest = &text[prefix.len()..];
    if prefix == "b" && rest.starts_with('\'') {
        return Some(quoted(text, 1, '\''));
    }
    if !prefix.ends_with('r') {
        return rest.starts_with('"').then(|| quoted(text, prefix.len(), '"'));
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opened = prefix.len() + hashes + 1;
    Some(body.find(&end).map_or(text.len(), |at| opened + at + end.len()))
}

fn character_or_lifetime(text: &str) -> (Kind, usize) {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), _) => (Kind::Literal, quoted(text, 0, '\'')),
        (_, Some((at, '\''))) => (Kind::Literal, at + 1),
        _ => (Kind::Lifetime, 1 + word(&text[1..])),
    }
}

/// Digits, then whatever hangs on them; a point only where a digit follows, so that `0..9` is three tokens.
fn number(text: &str) -> usize {
    let whole = word(text);
    let fraction = text[whole..].strip_prefix('.').filter(|rest| rest.starts_with(|next: char| next.is_ascii_digit()));
    fraction.map_or(whole, |rest| whole + 1 + word(rest))
}

fn word(text: &str) -> usize {
    let raw = if text.starts_with("r#") { 2 } else { 0 };
    let rest = &text[raw..];
    raw + rest.find(|character| !is_word(character)).unwrap_or(rest.len())
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        lex(source).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_dropped_and_lines_counted() {
        let tokens = lex("a // b\n/* c /* d */\n e */ f\n/// g\nh");
        let seen: Vec<(&str, usize)> = tokens.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(seen, [("a", 1), ("f", 3), ("h", 5)]);
    }

    #[test]
    fn strings_of_every_kind_are_one_literal() {
        for literal in [
            r#""a \" { b""#,
            r#"r"a \""#,
            r##"r#"a " b"#"##,
            r#"b"x{""#,
            r##"br#"{"#"##,
            r#"c"x""#,
            r"b'{'",
            r"'{'",
            r"'\''",
            r"'\u{7b}'",
            "'é'",
            "\"two\nlines\"",
        ] {
            let tokens = lex(literal);
            assert_eq!(tokens.len(), 1, "{literal}: {tokens:?}");
            assert_eq!(tokens[0].kind, Kind::Literal, "{literal}");
        }
    }

    #[test]
    fn lifetimes_raw_words_paths_and_ranges() {
        assert_eq!(texts("&'a str"), ["&", "'a", "str"]);
        assert_eq!(texts("r#async::b"), ["async", "::", "b"]);
        assert_eq!(texts("0..9"), ["0", ".", ".", "9"]);
        assert_eq!(texts("1.5e3_f64 x.0"), ["1.5e3_f64", "x", ".", "0"]);
        assert_eq!(texts("crate rust bit"), ["crate", "rust", "bit"]);
    }

    #[test]
    fn unfinished_text_ends() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'", "b'", "{"] {
            let _ = lex(text);
        }
    }

    #[test]
    fn brackets_close_where_they_should() {
        let tokens = lex("{ a(b[c]) '}' \"}\" } d");
        assert_eq!(tokens[closing(&tokens, 0) + 1].text, "d");
    }
}
