//! The value of a secret: from standard input, or typed at a prompt that shows nothing.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use evenkeel_core::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::{
    context::Context,
    failure::{Exit, Failure},
};

/// More is refused anyway.
const MOST_BYTES: u64 = 1 << 20;

/// Asks for a value and says what was left out of it.
pub(super) fn ask(name: &str, context: &Context) -> Result<Secret, Failure> {
    let stdin = io::stdin();
    let read = if stdin.is_terminal() { typed(name) } else { piped(stdin.lock()) };
    let text = read.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::new("nothing was changed").because("it was interrupted"),
        io::ErrorKind::InvalidData => Failure::usage("the value is not text in UTF-8").fix("encode it, as by base64"),
        _ => Failure::new("the value cannot be read").because(error),
    })?;
    let (value, newline) = without_newline(&text);
    if value.is_empty() {
        let fix =
            format!("as in: printf %s VALUE | keel secret set {name}, or type it where standard input is a terminal");
        return Err(Failure::usage("there is no value on standard input").fix(fix).exit(Exit::Usage));
    }
    if newline && !stdin.is_terminal() && !context.json {
        context.line("  one newline at the end of the value was left out")?;
    }
    Ok(Secret::new(value))
}

fn piped(input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    input.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// One line of the terminal, not shown. Signals are off meanwhile, so that Ctrl-C cannot leave it silent.
fn typed(name: &str) -> io::Result<String> {
    const CTRL_C: char = '\u{3}';
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    eprint!("value of `{name}` (not shown): ");
    io::stderr().flush()?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    eprintln!();
    read?;
    restored?;
    if line.contains(CTRL_C) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(line) }
}

/// Without one newline at the end, and whether there was one.
fn without_newline(text: &str) -> (&str, bool) {
    match text.strip_suffix('\n') {
        Some(rest) => (rest.strip_suffix('\r').unwrap_or(rest), true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_left_out() {
        assert_eq!(without_newline("a\n"), ("a", true));
        assert_eq!(without_newline("a\r\n"), ("a", true));
        assert_eq!(without_newline("a\n\n"), ("a\n", true));
        assert_eq!(without_newline("a"), ("a", false));
        assert!(piped(&b"\xff"[..]).is_err());
    }
}
