//! Overrides: what commands changed of the stack file while it stayed in force.
//!
//! A revision is a file plus its overrides: `deploy`, `scale` and `drain` make a new revision with the same file and
//! other overrides, so that a restart of anything finds them again, and `keel apply` can say what it would undo.
//! [`Overrides::lay_over`] makes the stack in force of both. Nothing here touches a disk or asks a machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    stack::{Replicas, Stack},
    time::WallTime,
};

/// Everything that commands changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// By service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceOverrides>,
    /// Instances that an operator drains, by name (`shop/2`, `shop/10.0.0.5:8080`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drained: BTreeMap<String, Drained>,
}

/// What commands changed of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOverrides {
    /// By `keel scale`: so many instances in place of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// By `keel deploy`: what is run in place of what the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// One deployed version of a service's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Counts the deploys of this service, from 1; 0 is what the stack file says.
    pub number: u64,
    /// Identifies its content: SHA-256 of the artefact in hexadecimal; empty without an artefact.
    pub digest: String,
    /// Where the artefact lies unpacked, absolute: the instances' working directory. `None`: the stack file's.
    pub dir: Option<String>,
    /// The command, where the deploy named one.
    pub run: Option<Vec<String>>,
    /// Variables that are set beside, or in place of, those of the stack file.
    pub env: BTreeMap<String, String>,
    /// When it was deployed.
    pub deployed: WallTime,
}

/// An instance that gets no new requests because an operator said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// What the operator said; may be empty.
    pub reason: String,
    /// Since when.
    pub since: WallTime,
}

impl Overrides {
    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The release of a service, where one was deployed.
    pub fn release(&self, service: &str) -> Option<&Release> {
        self.services.get(service)?.release.as_ref()
    }

    /// The overrides of a service, to be changed.
    pub fn of(&mut self, service: &str) -> &mut ServiceOverrides {
        self.services.entry(service.to_owned()).or_default()
    }

    /// Drops what speaks of services that the stack does not have or that overrides nothing.
    pub fn prune(&mut self, stack: &Stack) {
        self.services.retain(|name, of| stack.services.contains_key(name) && *of != ServiceOverrides::default());
        self.drained.retain(|instance, _| {
            instance.split_once('/').is_some_and(|(service, _)| stack.services.contains_key(service))
        });
    }

    /// The stack in force: what the file declares with these overrides laid over it.
    pub fn lay_over(&self, declared: &Stack) -> Stack {
        let mut stack = declared.clone();
        for (name, of) in &self.services {
            let Some(service) = stack.services.get_mut(name) else { continue };
            if let Some(replicas) = of.replicas {
                service.replicas = Replicas::Fixed(replicas);
            }
            let Some(release) = &of.release else { continue };
            if let Some(run) = &release.run {
                service.run = Some(run.clone());
            }
            if let Some(dir) = &release.dir {
                service.dir = Some(dir.clone());
            }
            service.env.extend(release.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack;

    fn declared() -> Stack {
        let text = "[stack]\nname = \"t\"\n[services.a]\nrun = [\"x\"]\nenv = { A = \"1\", B = \"2\" }\n";
        stack::parse(text, "t.toml").unwrap()
    }

    #[test]
    fn overrides_are_laid_over_what_the_file_declares() {
        let mut overrides = Overrides::default();
        assert_eq!(overrides.lay_over(&declared()), declared());
        overrides.of("a").replicas = Some(5);
        overrides.of("a").release = Some(Release {
            number: 1,
            digest: "d".to_owned(),
            dir: Some("/releases/1".to_owned()),
            run: None,
            env: BTreeMap::from([("B".to_owned(), "3".to_owned())]),
            deployed: WallTime::from_millis(7),
        });
        let service = &overrides.lay_over(&declared()).services["a"];
        assert_eq!(service.replicas, Replicas::Fixed(5));
        assert_eq!(service.run, declared().services["a"].run);
        assert_eq!(service.dir.as_deref(), Some("/releases/1"));
        assert_eq!((service.env["A"].as_str(), service.env["B"].as_str()), ("1", "3"));
    }

    #[test]
    fn what_speaks_of_nothing_is_dropped() {
        let mut overrides = Overrides::default();
        overrides.of("a");
        overrides.of("gone").replicas = Some(2);
        let drained = Drained { reason: String::new(), since: WallTime::default() };
        overrides.drained.insert("gone/1".to_owned(), drained.clone());
        overrides.drained.insert("a/1".to_owned(), drained);
        overrides.prune(&declared());
        assert_eq!(overrides.services.len(), 0);
        assert_eq!(overrides.drained.keys().collect::<Vec<_>>(), ["a/1"]);
    }
}
