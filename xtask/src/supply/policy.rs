//! The part of `deny.toml` that this program checks by itself.
//!
//! Source: the configuration chapters of `cargo deny` (`graph`, `licenses`, `bans`, `sources`). What is
//! required here must be present: a missing list is an error and not a list that allows everything.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// What may be in the graph of dependencies.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Target triples that the product is built for.
    pub(crate) targets: Vec<String>,
    /// SPDX identifiers that may be relied upon.
    pub(crate) licences: Vec<String>,
    /// Crates that must not be there at all, and why.
    pub(crate) banned: BTreeMap<String, String>,
    /// Crates of which there must be one version at most, and why.
    pub(crate) single: BTreeMap<String, String>,
    /// Addresses of the registries that packages may come from.
    pub(crate) registries: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
        let mut policy = Self {
            targets: strings(&table, "graph", "targets")?,
            licences: strings(&table, "licenses", "allow")?,
            banned: BTreeMap::new(),
            single: BTreeMap::new(),
            registries: strings(&table, "sources", "allow-registry")?,
        };
        for entry in list(&table, "bans", "deny")? {
            let name = entry.get("crate").and_then(Value::as_str);
            let reason = entry.get("reason").and_then(Value::as_str);
            let (Some(name), Some(reason)) = (name, reason) else {
                return Err(format!("deny.toml: bans.deny: `{entry}` needs a crate and a reason"));
            };
            let single = entry.get("deny-multiple-versions").and_then(Value::as_bool).unwrap_or(false);
            let into = if single { &mut policy.single } else { &mut policy.banned };
            into.insert(name.to_owned(), reason.to_owned());
        }
        Ok(policy)
    }
}

fn list<'a>(table: &'a Table, section: &str, key: &str) -> Result<&'a Vec<Value>, String> {
    let value = table.get(section).and_then(|section| section.get(key)).and_then(Value::as_array);
    value.ok_or_else(|| format!("deny.toml: {section}.{key} must be a list"))
}

fn strings(table: &Table, section: &str, key: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all: Option<Vec<String>> = list(table, section, key)?.iter().map(text).collect();
    all.filter(|all| !all.is_empty()).ok_or_else(|| format!("deny.toml: {section}.{key} must be a list of strings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_list_is_an_error() {
        let whole = "graph.targets = ['t']\nlicenses.allow = ['MIT']\nbans.deny = []\nsources.allow-registry = ['r']";
        assert!(Policy::parse(whole).is_ok());
        for line in whole.lines() {
            let without = whole.replace(line, "");
            assert!(Policy::parse(&without).is_err(), "{line}");
        }
        assert!(Policy::parse(&whole.replace("'MIT'", "")).is_err());
    }

    #[test]
    fn a_ban_without_a_reason_is_refused() {
        let text = "graph.targets = ['t']\nlicenses.allow = ['MIT']\nsources.allow-registry = ['r']\n";
        assert!(Policy::parse(&format!("{text}bans.deny = [{{ crate = 'ring' }}]")).is_err());
        assert!(Policy::parse(&format!("{text}bans.deny = [{{ crate = 'ring', reason = 'x' }}]")).is_ok());
    }
}
