//! `[secrets.NAME]` and `secret:NAME`: where values come from that stand in no file of ours.
//!
//! A name that `[secrets]` does not know is looked for in the store that `keel secret set` writes, so a stack file
//! alone cannot tell whether it exists; whoever starts processes can. Here are the names, the sources and the
//! references, never a value.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stack;

/// What a value of the environment starts with that stands for a secret.
const PREFIX: &str = "secret:";

/// What a secret may be called, in words.
pub const SECRET_NAME_RULE: &str =
    "letters, digits, hyphens and underscores, starting with a letter, at most 64 characters";

/// `[secrets.NAME]`: exactly one source. A secret without a table here comes from the store that
/// `keel secret set NAME` writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// A file that holds the value; relative to the stack file. One newline at its end is left out.
    #[serde(default)]
    pub file: Option<String>,
    /// A variable in the environment of `keel up`, which takes it out of that environment as it starts.
    #[serde(default)]
    pub env: Option<String>,
    /// A credential that systemd passes (`LoadCredential=`, systemd.exec(5)), by its name.
    #[serde(default)]
    pub credential: Option<String>,
}

impl SecretSource {
    /// Where the value comes from, in words without the value.
    pub fn describe(&self) -> String {
        match (&self.file, &self.env, &self.credential) {
            (Some(file), _, _) => format!("file {file}"),
            (_, Some(env), _) => format!("environment {env}"),
            (_, _, Some(credential)) => format!("credential {credential}"),
            (None, None, None) => "nowhere".to_owned(),
        }
    }

    /// What is named as a source, with its key; right is one.
    fn sources(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("file", &self.file), ("env", &self.env), ("credential", &self.credential)];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }
}

/// The secret that a value of the environment stands for: `NAME` of `secret:NAME`. `None` for any other text.
pub fn secret_reference(value: &str) -> Option<&str> {
    value.strip_prefix(PREFIX)
}

/// Whether a secret may have this name; [`SECRET_NAME_RULE`] says it in words.
pub fn is_secret_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    name.len() <= 64 && name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(fits)
}

/// Every secret that the environment of a service stands for, with the names of those services.
pub fn secrets_used(stack: &Stack) -> BTreeMap<String, Vec<String>> {
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (service, of) in &stack.services {
        for name in of.env.values().filter_map(|value| secret_reference(value)) {
            let services = used.entry(name.to_owned()).or_default();
            if services.last() != Some(service) {
                services.push(service.clone());
            }
        }
    }
    used
}

/// Finds what is wrong with names, sources and references. The text of a reference is not repeated, since somebody may
/// have written the value itself there.
pub(super) fn check(stack: &Stack, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    let rule = || Some(SECRET_NAME_RULE.to_owned());
    for (name, source) in &stack.secrets {
        if !is_secret_name(name) {
            fault(&["secrets", name], format!("`{name}` is not a name of a secret"), rule());
        }
        check_source(name, source, fault);
    }
    for (service, of) in &stack.services {
        for (key, value) in &of.env {
            let Some(name) = secret_reference(value).filter(|name| !is_secret_name(name)) else { continue };
            let what =
                if name.is_empty() { "`secret:` names no secret" } else { "what follows `secret:` is not a name" };
            fault(&["services", service, "env", key], what.to_owned(), rule());
        }
    }
}

fn check_source(name: &str, source: &SecretSource, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    let mut sources = source.sources();
    let (first, second) = (sources.next(), sources.next());
    let Some((key, text)) = first else {
        let help = "file = \"…\", env = \"…\" or credential = \"…\"; for a value that keel keeps, remove the table and \
                    run `keel secret set`";
        return fault(&["secrets", name], format!("`secrets.{name}` has no source"), Some(help.to_owned()));
    };
    if let Some((other, _)) = second {
        let message = format!("`secrets.{name}` has several sources: `{key}` and `{other}`");
        return fault(&["secrets", name], message, Some("keep one of them".to_owned()));
    }
    let wrong = match key {
        _ if text.is_empty() || text.contains('\0') => Some(format!("`{key}` is empty")),
        "env" if text.contains('=') => Some(format!("`{text}` cannot be an environment variable")),
        "credential" if text.contains('/') || text.starts_with('.') => {
            Some(format!("`{text}` is not a credential's name"))
        }
        _ => None,
    };
    if let Some(message) = wrong {
        fault(&["secrets", name, key], message, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::parse;

    const HEAD: &str = "[stack]\nname = \"t\"\n[services.a]\nrun = [\"x\"]\n";

    fn faults(rest: &str) -> String {
        parse(&format!("{HEAD}{rest}"), "t.toml").map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn references_and_their_services() {
        let env = "env = { A = \"secret:stripe\", B = \"secret:Db_1\", C = \"plain\" }\n";
        let text = format!("{HEAD}{env}[services.b]\nrun = [\"y\"]\nenv = {{ A = \"secret:stripe\" }}\n");
        let text = format!("{text}[[routes]]\nservice = \"a\"\n[secrets.stripe]\nfile = \"/run/stripe\"\n");
        let stack = parse(&text, "t.toml").unwrap();
        let used = secrets_used(&stack);
        assert_eq!(used["stripe"], ["a", "b"]);
        assert_eq!(used["Db_1"], ["a"]);
        assert_eq!(stack.secrets["stripe"].describe(), "file /run/stripe");
    }

    /// A value in the wrong place is in the lines that are shown of the file, and in no message.
    #[test]
    fn no_message_repeats_what_may_be_a_value() {
        for rest in [
            "env = \"A=hunter22, expected x\"\n",
            "env = { A = [\"hunter22\"] }\n",
            "env = { A = 22334455 }\n",
            "env = { A = { b = \"hunter22\" } }\n",
            "[secrets]\nx = \"hunter22\"\n",
            "[secrets]\nx = 22334455\n",
            "[secrets.x]\nfile = 22334455\n",
            "secrets = \"hunter22\"\n",
            "env = { A = \"secret:hunter22!\" }\n",
        ] {
            let faults = parse(&format!("{HEAD}{rest}"), "t.toml").map(|_| ()).unwrap_err().faults;
            assert_eq!(faults.len(), 1, "{rest}: {faults:?}");
            for secret in ["hunter22", "22334455"] {
                assert!(!faults[0].message.contains(secret), "{rest}: {}", faults[0].message);
                assert!(!faults[0].help.iter().any(|help| help.contains(secret)), "{rest}");
            }
        }
    }

    #[test]
    fn wrong_ones_are_refused_in_place() {
        for (rest, said) in [
            ("env = { A = \"secret:\" }\n", "`secret:` names no secret"),
            ("env = { A = \"secret:a b\" }\n", "what follows `secret:` is not a name"),
            ("[secrets.x]\n", "`secrets.x` has no source"),
            ("[secrets.x]\nfile = \"/a\"\nenv = \"B\"\n", "`secrets.x` has several sources"),
            ("[secrets.x]\nenv = \"A=B\"\n", "cannot be an environment variable"),
            ("[secrets.x]\ncredential = \"../x\"\n", "is not a credential's name"),
            ("[secrets.\"1x\"]\nfile = \"/a\"\n", "`1x` is not a name"),
            ("[secrets.x]\nfile = \"\"\n", "`file` is empty"),
            ("[secrets.x]\nvalue = \"plain\"\n", "unknown key `value`"),
        ] {
            let text = faults(rest);
            assert!(text.contains(said), "{rest}: {text}");
        }
    }
}
