//! `keel up -- COMMAND`: a stack for somebody's own program, without a file.
//!
//! The text is a stack file like any other, so that `keel status`, `keel apply` and the journal know it; it can be
//! the beginning of one's own.

use std::fmt::Write;

/// What is known of the program.
#[derive(Clone, Debug)]
pub(crate) struct Inline {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Environment beside what every instance gets.
    pub(crate) env: Vec<(String, String)>,
    /// How many copies.
    pub(crate) replicas: u32,
    /// Port of the listener on 127.0.0.1.
    pub(crate) port: u16,
    /// Port of the console on 127.0.0.1.
    pub(crate) console_port: u16,
}

/// Programs that run somebody else's: the name lies in what they run.
const INTERPRETERS: [&str; 14] =
    ["node", "nodejs", "deno", "bun", "python", "python3", "ruby", "perl", "php", "java", "sh", "bash", "env", "npx"];

impl Inline {
    /// The stack file's text.
    pub(crate) fn text(&self) -> String {
        let name = name_of(&self.command);
        let run: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        let mut text = format!(
            "[stack]\nname = {name}\n\n[listeners.web]\nbind = \"127.0.0.1:{}\"\n\n[console]\nbind = \"127.0.0.1:{}\"\n\n\
             [services.{name}]\nrun = [{}]\nreplicas = {}\n",
            self.port,
            self.console_port,
            run.join(", "),
            self.replicas,
            name = quoted(&name),
        );
        if !self.env.is_empty() {
            let _ = write!(text, "\n[services.{}.env]\n", quoted(&name));
            for (key, value) in &self.env {
                let _ = writeln!(text, "{} = {}", quoted(key), quoted(value));
            }
        }
        text
    }
}

/// A name for a command: its program, or what an interpreter runs.
pub(crate) fn name_of(command: &[String]) -> String {
    let stem = |word: &String| {
        let file = word.rsplit('/').next().unwrap_or(word);
        let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
        stem.to_ascii_lowercase()
    };
    let program = command.first().map(stem).unwrap_or_default();
    let script = || command.iter().skip(1).find(|word| !word.starts_with('-') && !word.contains('=')).map(stem);
    let name = if INTERPRETERS.contains(&program.as_str()) { script().unwrap_or(program) } else { program };
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(fits).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    if name.is_empty() { "app".to_owned() } else { name.chars().take(40).collect() }
}

/// A TOML string. What JSON escapes, TOML reads alike; JSON leaves DEL as it is, which TOML does not.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string serialises").replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_come_from_what_is_run() {
        for (line, name) in [
            ("node server.js", "server"),
            ("python3 -m http.server {port}", "http"),
            ("./bin/Shop --port {port}", "shop"),
            ("java -jar /srv/app-1.2.jar", "app-1"),
            ("node", "node"),
            ("env A=b ./my_app", "my-app"),
            ("/usr/bin/7z", "z"),
            ("???", "app"),
        ] {
            assert_eq!(name_of(&words(line)), name, "{line}");
        }
    }

    #[test]
    fn the_text_is_a_valid_stack() {
        let inline = Inline {
            command: vec!["node".into(), "a \"b\"\\\u{7f}\n.js".into(), "{port}".into()],
            env: vec![("NODE_ENV".into(), "production".into()), ("ODD.KEY".into(), "x".into())],
            replicas: 3,
            port: 8081,
            console_port: 9401,
        };
        let stack = evenkeel_core::stack::parse(&inline.text(), "x").unwrap();
        let service = &stack.services[&stack.stack.name];
        assert_eq!(service.run.as_ref().unwrap()[1], "a \"b\"\\\u{7f}\n.js");
        assert_eq!(service.env["ODD.KEY"], "x");
        assert_eq!((service.replicas.min(), stack.listeners["web"].bind.port()), (3, 8081));
        assert!(service.check.is_none());
    }
}
