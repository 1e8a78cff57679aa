//! Reading a stack file strictly.
//!
//! An unknown key, a wrong type or a dangling name is an error that shows file, line and cause and suggests the
//! nearest valid spelling. A key that the design describes but this version does not have is refused by name, so
//! that nobody believes in a protection that is not there.

use std::ops::Range;

use super::{
    Stack,
    diagnostics::{Diagnostic, Diagnostics, Severity},
    names::nearest,
    tree::{Tree, join},
    validate::validate,
};

/// Keys that are described but not built yet. `*` stands for a name or an index.
const PLANNED: [(&str, &str); 12] = [
    ("nodes", "clusters of several machines"),
    ("databases", "replicated databases"),
    ("caches", "caches"),
    ("queues", "message queues"),
    ("backups", "backups"),
    ("addresses", "floating addresses"),
    ("jobs", "jobs that run on exactly one node"),
    ("alerts", "alert rules"),
    ("mode", "observing without acting"),
    ("listeners.*.tls", "TLS"),
    ("services.*.image", "containers"),
    ("services.*.singleton", "services that run on exactly one node"),
];

/// Reads `text`, which came from `file`. On success everything that can be known without the machine is known to
/// be right: names exist, ranges hold, addresses have a port.
pub fn parse(text: &str, file: &str) -> Result<Stack, Diagnostics> {
    parse_with_warnings(text, file).map(|(stack, _)| stack)
}

/// The same with what its writer should be told although the file is accepted: keys that do nothing, services that nothing
/// leads to.
///
/// # Errors
/// Where something can never work.
pub fn parse_with_warnings(text: &str, file: &str) -> Result<(Stack, Diagnostics), Diagnostics> {
    read(text, file, Severity::Error)
}

/// The same for a start, and for what was in force before: what only does nothing is a warning here. Whatever a later version
/// finds useless in a stack, it ran, and comes up again.
///
/// # Errors
/// Where it cannot be carried out.
pub fn parse_leniently(text: &str, file: &str) -> Result<(Stack, Diagnostics), Diagnostics> {
    read(text, file, Severity::Warning)
}

fn read(text: &str, file: &str, useless: Severity) -> Result<(Stack, Diagnostics), Diagnostics> {
    let faults = |faults| Diagnostics { file: file.to_owned(), text: text.to_owned(), faults };
    let tree = Tree::parse(text).map_err(|error| faults(vec![plain(&error)]))?;
    let mut stack: Stack = toml::from_str(text).map_err(|error| faults(vec![explain(&error, &tree)]))?;
    let found = faults(validate(&mut stack, &tree, useless));
    if found.has_errors() { Err(found) } else { Ok((stack, found)) }
}

/// A syntax error, as the parser says it.
fn plain(error: &toml::de::Error) -> Diagnostic {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    Diagnostic { severity: Severity::Error, message, help: None, span: error.span() }
}

/// An error of type or key, in the words of the stack file.
fn explain(error: &toml::de::Error, tree: &Tree) -> Diagnostic {
    let span = error.span();
    let path = span.as_ref().map(|span| tree.path_of(span)).unwrap_or_default();
    let message = error.message();
    if let Some(key) = quoted(message, "unknown field ") {
        return unknown_key(key, message, &path, span);
    }
    if let Some(key) = quoted(message, "missing field ") {
        let place = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
        return Diagnostic {
            severity: Severity::Error,
            message: format!("{place} needs the key `{key}`"),
            help: None,
            span,
        };
    }
    if let Some(name) = quoted(message, "unknown variant ") {
        let valid = listed(message);
        let help = suggestion(name, &valid);
        return Diagnostic {
            severity: Severity::Error,
            message: format!("`{name}` is not a value of `{path}`"),
            help: Some(help),
            span,
        };
    }
    let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
    let message = in_plain_words(message, &path);
    let message = if may_be_secret(&path) { without_value(&message) } else { &message };
    Diagnostic { severity: Severity::Error, message: format!("{place}{message}"), help: None, span }
}

/// Whether somebody may have written the value of a secret at this place.
fn may_be_secret(path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    matches!(parts[..], ["secrets", ..] | ["services", _, "env", ..])
}

/// `expected …` of `invalid type: string "…", expected …`: messages go where the file itself does not.
fn without_value(message: &str) -> &str {
    message.rfind("expected ").map_or("what stands here is not valid", |at| &message[at..])
}

fn unknown_key(key: &str, message: &str, path: &str, span: Option<Range<usize>>) -> Diagnostic {
    let whole = if path == key || path.ends_with(&format!(".{key}")) { path.to_owned() } else { join(path, key) };
    let planned = PLANNED.iter().find(|(pattern, _)| matches(pattern, &whole));
    if let Some((pattern, what)) = planned {
        let message = format!("`{key}` is described but not built into this version ({what})");
        let help = match *pattern {
            "listeners.*.tls" => {
                "remove it, and put a proxy that has TLS in front for now; it is refused rather than ignored"
            }
            _ => "remove it; it is refused rather than ignored",
        };
        return Diagnostic { severity: Severity::Error, message, help: Some(help.into()), span };
    }
    let place = match whole.rsplit_once('.') {
        Some((parent, _)) => format!(" in `{parent}`"),
        None => String::new(),
    };
    let help = suggestion(key, &listed(message));
    Diagnostic { severity: Severity::Error, message: format!("unknown key `{key}`{place}"), help: Some(help), span }
}

fn suggestion(wrong: &str, valid: &[&str]) -> String {
    match nearest(wrong, valid.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if valid.is_empty() => "no key is valid here".to_owned(),
        None => format!("valid here: {}", valid.join(", ")),
    }
}

/// The first word in backquotes after `lead`, if the message starts with it.
fn quoted<'a>(message: &'a str, lead: &str) -> Option<&'a str> {
    message.strip_prefix(lead)?.strip_prefix('`')?.split('`').next()
}

/// The words in backquotes after "expected".
fn listed(message: &str) -> Vec<&str> {
    let Some((_, expected)) = message.split_once(", expected ") else {
        return Vec::new();
    };
    expected.split('`').skip(1).step_by(2).collect()
}

/// Replaces the names of Rust's types, which a stack file's writer need not know.
fn in_plain_words(message: &str, path: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("invalid socket address syntax", "expected an address with a port, as 127.0.0.1:8080 or 0.0.0.0:80"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number, not negative"),
        ("expected u64", "expected a whole number, not negative"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected an array, as [\"…\", \"…\"]"),
        ("expected a map", "expected a table"),
    ];
    let key = path.rsplit('.').next().unwrap_or_default();
    if (key.ends_with("percent") || key == "min_capacity") && message.contains("expected u8") {
        return message.replace("expected u8", "expected a whole number of percent, from 0 to 100");
    }
    if let Some((lead, _)) = message.split_once("expected struct ") {
        return format!("{lead}expected a table, as {{ key = value }}");
    }
    let found = WORDS.iter().find(|(from, _)| message.contains(from));
    found.map_or_else(|| message.to_owned(), |(from, to)| message.replace(from, to))
}

/// Whether a dotted path fits a pattern in which `*` stands for one part.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut want, mut have) = (pattern.split('.'), path.split('.'));
    loop {
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some(want), Some(have)) if want == "*" || want == have => {}
            _ => return false,
        }
    }
}
