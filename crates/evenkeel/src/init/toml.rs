//! Values written as TOML (<https://toml.io/en/v1.0.0>), by hand, so that comments stand where they belong.
//!
//! Only what a stack file made by `keel init` needs. Nothing here reads TOML.

/// A basic string.
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.extend([format!("\\u{:04X}", u32::from(c))]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An array on one line.
pub(super) fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A key, quoted where it must be.
pub(super) fn key(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { string(text) }
}

/// Text as comment lines of at most about a hundred characters; what must not stand in a comment is replaced.
pub(super) fn comment(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.len() + word.len() > 100 && line.len() > 2 {
                lines.push(format!("{}\n", line.trim_end()));
                line = String::from("#");
            }
            line.push(' ');
            line.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        }
        lines.push(format!("{}\n", line.trim_end()));
    }
    lines.concat()
}
