//! A command line as words, the way a POSIX shell splits it (POSIX.1-2017, Shell Command Language, 2.2 and 2.6.5).
//!
//! What only a shell can do is recognised and left to one. `$PORT` is what a stack file calls `{port}`. Nothing is
//! run here, and no variable but `PORT` is looked at.

use std::collections::BTreeMap;

/// A command line as the stack file wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Program and arguments.
    pub(super) words: Vec<String>,
    /// Assignments in front of it.
    pub(super) env: BTreeMap<String, String>,
    /// Whether the program is a shell, and stays one while the command runs: then signals end the shell first.
    pub(super) shell_stays: bool,
}

/// Splits a command line; `None` for an empty one.
pub(super) fn command(line: &str) -> Option<Command> {
    let line = line.trim();
    let Some(mut words) = split(line) else {
        return Some(through_shell(line));
    };
    let mut env = BTreeMap::new();
    while let Some((name, value)) = words.first().and_then(|word| assignment(word)) {
        env.insert(name, value);
        words.remove(0);
    }
    (!words.is_empty()).then_some(Command { words, env, shell_stays: false })
}

/// A command that needs a shell. `exec` in front of the last part lets the program take the shell's place, where
/// that is sure not to change the meaning.
fn through_shell(line: &str) -> Command {
    let parts: Vec<&str> = line.split("&&").collect();
    let last = parts.last().map_or("", |part| part.trim());
    // An `&&` within quotes would be taken for an operator; any other operator could mean a second process.
    let sure = parts.len() == 1 || !line.contains(['\'', '"', '\\']);
    let operator = without_expansions(line).contains(['|', ';', '(', ')', '{', '}', '`', '\n']);
    let background = parts.iter().any(|part| part.contains('&'));
    let assigns = assignment(last.split(' ').next().unwrap_or_default()).is_some();
    let takes_place = sure && !operator && !background && !assigns;
    let text = if takes_place {
        let before: Vec<&str> = parts[..parts.len() - 1].iter().map(|part| part.trim()).collect();
        let before = if before.is_empty() { String::new() } else { format!("{} && ", before.join(" && ")) };
        let exec = if last.starts_with("exec ") { "" } else { "exec " };
        format!("{before}{exec}{last}")
    } else {
        line.to_owned()
    };
    let words = vec!["sh".to_owned(), "-c".to_owned(), text];
    Command { words, env: BTreeMap::new(), shell_stays: !takes_place }
}

/// The line without `${NAME}`.
fn without_expansions(line: &str) -> String {
    let mut rest = line;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        match after.split_once('}') {
            Some((name, after)) if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => rest = after,
            _ => return line.to_owned(),
        }
    }
    text + rest
}

/// The words of a line; `None` if it takes a shell to know them.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => match rest.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        '$' => port(&mut rest, word)?,
                        '`' => return None,
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next()?),
            '$' => port(&mut rest, word.get_or_insert_default())?,
            '#' | '~' if word.is_none() => return None,
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' | '*' | '?' | '[' | '\n' | '!' => return None,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    Some(words)
}

/// `$PORT`, `${PORT}` or `${PORT:-3000}` after its dollar sign; `None` for any other variable.
fn port(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, word: &mut String) -> Option<()> {
    let mut name = String::new();
    if rest.next_if_eq(&'{').is_some() {
        loop {
            match rest.next()? {
                '}' => break,
                c => name.push(c),
            }
        }
        let default = name.strip_prefix("PORT:-").is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if default {
            name.truncate("PORT".len());
        }
    } else {
        while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
    }
    (name == "PORT").then(|| word.push_str("{port}"))
}

/// `NAME=value` (2.9.1 of the standard: before the command's name).
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        command(line).unwrap().words
    }

    #[test]
    fn splits_like_a_shell() {
        assert_eq!(words("node server.js"), ["node", "server.js"]);
        assert_eq!(words(r#"a 'b c' "d \"e\" \x" f\ g"#), ["a", "b c", r#"d "e" \x"#, "f g"]);
        assert_eq!(words("serve '' x"), ["serve", "", "x"]);
        assert_eq!(
            words("gunicorn -b :$PORT \"${PORT}\" ${PORT:-3000}"),
            ["gunicorn", "-b", ":{port}", "{port}", "{port}"]
        );
        assert_eq!(command("  "), None);
    }

    #[test]
    fn assignments_become_the_environment() {
        let found = command("NODE_ENV=production A='b c' node x.js C=d").unwrap();
        assert_eq!(found.words, ["node", "x.js", "C=d"]);
        assert_eq!(found.env["A"], "b c");
        assert_eq!(found.env.len(), 2);
    }

    #[test]
    fn what_needs_a_shell_gets_one() {
        let cases = [
            ("java $JAVA_OPTS -jar x.jar", "exec java $JAVA_OPTS -jar x.jar", false),
            ("java ${JAVA_OPTS} -jar x.jar", "exec java ${JAVA_OPTS} -jar x.jar", false),
            ("cd app && node x.js", "cd app && exec node x.js", false),
            ("node x.js | tee log", "node x.js | tee log", true),
            ("a & b", "a & b", true),
            ("(cd x; y)", "(cd x; y)", true),
            ("x 'a && b' && y", "x 'a && b' && y", true),
            ("a && B=c d", "a && B=c d", true),
        ];
        for (line, text, stays) in cases {
            let found = command(line).unwrap();
            assert_eq!((found.words[2].as_str(), found.shell_stays), (text, stays), "{line}");
        }
    }
}
