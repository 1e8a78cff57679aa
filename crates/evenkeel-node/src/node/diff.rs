//! What a file would change, found out before anything is: the first half of an apply, and all of `apply --diff`.
//!
//! A file is laid under the overrides that survive it. Where it would undo a release that was deployed after the
//! former file, it is refused, unless the operator says that the file is to count. Values of environments are never
//! shown, only their names.

use std::path::PathBuf;

use evenkeel_core::{
    overrides::Carried,
    stack::{self, Diagnostics, Stack},
};
use serde_json::Value;

use super::{File, Node, Refused, changes};
use crate::state_dir::Revision;

/// What a file would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Difference {
    /// The revision in force, with which the file was compared.
    pub(crate) revision: u64,
    /// Whether anything in force would change.
    pub(crate) differs: bool,
    /// By clauses, as an apply would answer.
    pub(crate) changes: Vec<String>,
    /// By keys, former and next value.
    pub(crate) keys: Vec<String>,
    /// Overrides that would stay in force.
    pub(crate) kept: Vec<String>,
    /// Overrides that the file would take the place of.
    pub(crate) dropped: Vec<String>,
    /// Why an apply would be refused, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<(String, String)>,
}

/// A file that was understood, and what would be in force with it.
#[derive(Debug)]
pub(super) struct Considered {
    /// The next revision.
    pub(super) revision: Revision,
    /// What becomes of the overrides.
    pub(super) carried: Carried,
}

impl Node {
    /// Reads a file and finds out what becomes of the overrides. With `reset` it takes the place of all that speak
    /// of what a file says.
    pub(super) fn consider(
        &self,
        text: &str,
        file: &str,
        dir: Option<PathBuf>,
        reset: bool,
    ) -> Result<Considered, Box<Diagnostics>> {
        let declared = stack::parse(text, file).map_err(Box::new)?;
        let dir = dir.unwrap_or_else(|| self.revision.dir.clone());
        Ok(considered(&self.revision, text, file, dir, declared, reset))
    }

    /// What a file would change. Nothing is.
    pub(super) fn difference(&self, file: File) -> Result<Difference, Refused> {
        let File { text, name, dir, reset, expect } = file;
        self.must_be_in_force(expect)?;
        let Considered { revision, carried } = self.consider(&text, &name, dir, reset).map_err(Refused::Stack)?;
        let keys = keys(&self.revision.stack, &revision.stack);
        let moved = self.revision.dir != revision.dir;
        let changes = changes::between(&self.revision, &revision);
        let differs = !keys.is_empty() || moved || !carried.dropped.is_empty() || !carried.undone.is_empty();
        let refused = (!carried.undone.is_empty()).then(|| Refused::undo(&carried));
        Ok(Difference {
            revision: self.revision.number,
            differs,
            changes: if differs { changes } else { Vec::new() },
            keys,
            kept: carried.kept,
            dropped: carried.dropped,
            refused,
        })
    }
}

/// What would be in force after `former` with this file.
pub(super) fn considered(
    former: &Revision,
    text: &str,
    file: &str,
    dir: PathBuf,
    declared: Stack,
    reset: bool,
) -> Considered {
    let mut carried = former.overrides.carry_over(&former.declared, &declared, dir != former.dir);
    if reset {
        let mut overrides = former.overrides.reset();
        overrides.prune(&declared);
        let (kept, mut dropped) = (overrides.in_words(&declared), former.overrides.in_words(&former.declared));
        dropped.retain(|line| !kept.contains(line));
        carried = Carried { overrides, kept, dropped, undone: Vec::new() };
    }
    let (text, file) = (text.to_owned(), file.to_owned());
    let revision = Revision::new(former.number + 1, text, file, dir, declared).with(carried.overrides.clone());
    Considered { revision, carried }
}

/// Every key whose value differs, with both values where they may be shown.
fn keys(former: &Stack, next: &Stack) -> Vec<String> {
    let value = |stack: &Stack| serde_json::to_value(stack).expect("a stack is plain data");
    let mut lines = Vec::new();
    walk(&mut Vec::new(), &value(former), &value(next), &mut lines);
    lines
}

fn walk(path: &mut Vec<String>, former: &Value, next: &Value, lines: &mut Vec<String>) {
    if former == next {
        return;
    }
    if let (Value::Object(former), Value::Object(next)) = (former, next) {
        let names: std::collections::BTreeSet<&String> = former.keys().chain(next.keys()).collect();
        for name in names {
            path.push(name.clone());
            walk(path, former.get(name).unwrap_or(&Value::Null), next.get(name).unwrap_or(&Value::Null), lines);
            path.pop();
        }
        return;
    }
    // A whole service or listener that is new or gone is told by name; its keys would say nothing more.
    let what = match (former, next) {
        (Value::Null, _) if path.len() <= 2 => "new".to_owned(),
        (_, Value::Null) if path.len() <= 2 => "removed".to_owned(),
        _ if is_environment(path, former, next) => secretly(path, former, next),
        _ => format!("{} → {}", shown(former), shown(next)),
    };
    lines.push(format!("{}: {what}", path.join(".")));
}

/// `services.NAME.env` and what is below it.
fn is_environment(path: &[String], former: &Value, next: &Value) -> bool {
    let below = |key: &str| path.get(2).is_some_and(|part| part == key);
    below("env") || [former, next].iter().any(|value| value.get("env").is_some())
}

/// A difference without its values.
fn secretly(path: &[String], former: &Value, next: &Value) -> String {
    let what = match (former, next) {
        (Value::Null, _) => "new",
        (_, Value::Null) => "removed",
        _ => "changed",
    };
    if path.len() > 3 { format!("{what} (values are not shown)") } else { what.to_owned() }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Stack {
        stack::parse(&format!("[stack]\nname = \"t\"\n{body}"), "t.toml").unwrap()
    }

    #[test]
    fn keys_are_named_and_values_of_the_environment_are_not_shown() {
        let a = parse("[services.a]\nrun = [\"x\"]\nenv = { KEY = \"hunter1\", OLD = \"hunter2\" }\nreplicas = 2\n");
        let b = parse(
            "[services.a]\nrun = [\"y\"]\nenv = { KEY = \"hunter3\", NEW = \"hunter4\" }\nreplicas = 3\n\
             [services.b]\nrun = [\"z\"]\nenv = { K = \"hunter5\" }\n[[routes]]\nservice = \"a\"\n",
        );
        let lines = keys(&a, &b);
        let text = lines.join("\n");
        for line in [
            "services.a.run: [\"x\"] → [\"y\"]",
            "services.a.replicas: 2 → 3",
            "services.a.env.KEY: changed (values are not shown)",
            "services.a.env.NEW: new (values are not shown)",
            "services.a.env.OLD: removed (values are not shown)",
            "services.b: new",
        ] {
            assert!(lines.iter().any(|one| one == line), "{line} is missing from\n{text}");
        }
        assert!(!text.contains("hunter"), "{text}");
        assert_eq!(keys(&a, &a), [""; 0]);
        assert!(!keys(&b, &a).join("\n").contains("hunter"));
    }
}
