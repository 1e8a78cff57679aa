//! Overrides: what commands changed of the stack file while it stayed in force.
//!
//! A revision is a file plus its overrides: `deploy`, `scale` and `drain` make a new revision with the same file and
//! other overrides, so that a restart of anything finds them again, and `keel apply` can say what it would undo.
//! [`Overrides::lay_over`] makes the stack in force of both. Nothing here touches a disk or asks a machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    stack::{Replicas, Service, Stack},
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
    /// Who ordered it; empty where that was not kept.
    #[serde(default)]
    pub by: String,
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

    /// What is overridden, one line each, for people. `declared` is what the file says.
    pub fn in_words(&self, declared: &Stack) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, of) in &self.services {
            lines.extend(of.in_words(name, declared));
        }
        for (instance, Drained { reason, since, .. }) in &self.drained {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            lines.push(format!("{instance}: drained since {since}{why}"));
        }
        lines
    }

    /// The part that speaks of one service and its instances.
    #[must_use]
    pub fn of_service(&self, name: &str) -> Self {
        let mut part = self.clone();
        part.services.retain(|service, _| service == name);
        part.drained.retain(|instance, _| instance.split_once('/').is_some_and(|(service, _)| service == name));
        part
    }

    /// What stays of these overrides when a file that declares `next` follows one that declares `former`, given
    /// whether instances without a folder of their own would run in another one.
    ///
    /// A number of instances stays unless the file changed its own; a release stays unless the file changed what its
    /// service is started with, which would undo it.
    pub fn carry_over(&self, former: &Stack, next: &Stack, moved: bool) -> Carried {
        let mut carried = Carried { overrides: self.clone(), ..Carried::default() };
        for (name, of) in &self.services {
            let (was, is) = (former.services.get(name), next.services.get(name));
            let kept = carried.overrides.of(name);
            let Some(is) = is else {
                carried.dropped.extend(of.in_words(name, former));
                *kept = ServiceOverrides::default();
                continue;
            };
            if of.replicas.is_some() && (was.is_none_or(|was| was.replicas != is.replicas) || !is.is_run()) {
                carried.dropped.extend(of.replicas_in_words(name, former));
                kept.replicas = None;
            } else {
                carried.kept.extend(of.replicas_in_words(name, former));
            }
            let Some(release) = &of.release else { continue };
            let changed = launch_keys_changed(was, is, moved && release.dir.is_none() && is.dir.is_none());
            if changed.is_empty() {
                carried.kept.extend(of.release_in_words(name));
            } else {
                let (service, number, deployed) = (name.clone(), release.number, release.deployed);
                carried.undone.push(Undone { service, number, deployed, changed });
            }
        }
        carried.overrides.prune(next);
        for (instance, drained) in &self.drained {
            let one =
                Self { services: BTreeMap::new(), drained: BTreeMap::from([(instance.clone(), drained.clone())]) };
            let stays = carried.overrides.drained.contains_key(instance);
            if stays { &mut carried.kept } else { &mut carried.dropped }.extend(one.in_words(former));
        }
        carried
    }

    /// Drops everything that takes the place of what the file says. Drained instances stay so: a file says nothing
    /// about them.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self { services: BTreeMap::new(), drained: self.drained.clone() }
    }

    /// Drops what speaks of services or addresses that the stack does not have, or overrides nothing. Which numbered
    /// instances there are, no file says.
    pub fn prune(&mut self, stack: &Stack) {
        self.services.retain(|name, of| stack.services.contains_key(name) && *of != ServiceOverrides::default());
        self.drained.retain(|instance, _| {
            let Some((service, which)) = instance.split_once('/') else { return false };
            let has = |of: &Service| {
                of.is_run() || of.dns().is_some() || of.fixed().iter().any(|fixed| fixed.address == which)
            };
            stack.services.get(service).is_some_and(has)
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
                // What was deployed is the folder to serve, whatever its name was.
                if let Some(files) = &mut service.files {
                    ".".clone_into(&mut files.dir);
                }
            }
            service.env.extend(release.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        stack
    }
}

/// Overrides under another file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// What stays in force. A release that the file would undo is still in it.
    pub overrides: Overrides,
    /// What stays, in words.
    pub kept: Vec<String>,
    /// What the file takes the place of, in words.
    pub dropped: Vec<String>,
    /// Releases that the file would undo.
    pub undone: Vec<Undone>,
}

/// A release that a file would undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The service.
    pub service: String,
    /// The release's number.
    pub number: u64,
    /// When it was deployed.
    pub deployed: WallTime,
    /// Keys of the service that the file changes although the release stands on them.
    pub changed: Vec<&'static str>,
}

impl ServiceOverrides {
    fn in_words(&self, name: &str, declared: &Stack) -> Vec<String> {
        self.replicas_in_words(name, declared).into_iter().chain(self.release_in_words(name)).collect()
    }

    fn replicas_in_words(&self, name: &str, declared: &Stack) -> Option<String> {
        let count = self.replicas?;
        let declared = declared.services.get(name).map(|service| format!("; the file says {}", service.replicas));
        let instances = if count == 1 { "instance" } else { "instances" };
        Some(format!("{name}: {count} {instances} by `keel scale`{}", declared.unwrap_or_default()))
    }

    fn release_in_words(&self, name: &str) -> Option<String> {
        let Release { number, deployed, .. } = self.release.as_ref()?;
        Some(format!("{name}: release {number}, deployed {deployed}"))
    }
}

/// The keys of what a service is started with that a file changed.
fn launch_keys_changed(was: Option<&Service>, is: &Service, moved: bool) -> Vec<&'static str> {
    let Some(was) = was else { return vec!["run"] };
    let keys = [
        ("run", was.run != is.run),
        ("dir", was.dir != is.dir || moved),
        ("env", was.env != is.env),
        ("files", was.files != is.files),
        ("instances", was.instances != is.instances),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
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
    fn a_release_of_files_is_the_folder_that_is_served() {
        let text = "[stack]\nname = \"t\"\n[services.a]\nfiles = \"public\"\n";
        let declared = stack::parse(text, "t.toml").unwrap();
        let mut overrides = Overrides::default();
        overrides.of("a").release = Some(Release {
            number: 1,
            digest: "d".to_owned(),
            dir: Some("/releases/1".to_owned()),
            run: None,
            env: BTreeMap::new(),
            deployed: WallTime::from_millis(7),
        });
        let service = &overrides.lay_over(&declared).services["a"];
        assert_eq!(service.dir.as_deref(), Some("/releases/1"));
        assert_eq!(service.files.as_ref().unwrap().dir, ".");
    }

    fn release(number: u64) -> Release {
        let deployed = WallTime::from_millis(7);
        Release { number, digest: String::new(), dir: None, run: None, env: BTreeMap::new(), deployed }
    }

    fn parse(service: &str) -> Stack {
        stack::parse(&format!("[stack]\nname = \"t\"\n[services.a]\n{service}\n"), "t.toml").unwrap()
    }

    #[test]
    fn a_file_takes_the_place_of_what_it_changes_and_of_nothing_else() {
        let former = parse("run = [\"x\"]\nreplicas = 2");
        let mut overrides = Overrides::default();
        overrides.of("a").replicas = Some(5);
        overrides.of("a").release = Some(release(3));
        let drained = Drained { reason: "memory".to_owned(), by: String::new(), since: WallTime::from_millis(7) };
        overrides.drained.insert("a/2".to_owned(), drained);

        let same = overrides.carry_over(&former, &parse("run = [\"x\"]\nreplicas = 2\nstart_timeout = \"5s\""), false);
        assert_eq!((&same.overrides, same.dropped.len(), same.undone.len()), (&overrides, 0, 0));
        assert_eq!(
            same.kept,
            [
                "a: 5 instances by `keel scale`; the file says 2",
                "a: release 3, deployed 1970-01-01T00:00:00.007Z",
                "a/2: drained since 1970-01-01T00:00:00.007Z: memory"
            ]
        );

        let scaled = overrides.carry_over(&former, &parse("run = [\"x\"]\nreplicas = 3"), false);
        assert_eq!(scaled.overrides.services["a"].replicas, None);
        assert!(scaled.overrides.release("a").is_some() && scaled.dropped[0].contains("5 instances"));

        let undo = overrides.carry_over(&former, &parse("run = [\"y\"]\nenv = { A = \"1\" }"), false);
        assert_eq!((undo.undone[0].number, &undo.undone[0].changed[..]), (3, &["run", "env"][..]));
        let moved = overrides.carry_over(&former, &former, true);
        assert_eq!(moved.undone[0].changed, ["dir"], "its folder was the file's");

        let other = "[stack]\nname = \"t\"\n[services.b]\nrun = [\"x\"]\n";
        let gone = overrides.carry_over(&former, &stack::parse(other, "t.toml").unwrap(), false);
        assert_eq!((gone.overrides.is_empty(), gone.dropped.len(), gone.undone.len()), (true, 3, 0));

        let reset = overrides.reset();
        assert_eq!((reset.services.len(), reset.drained.len()), (0, 1));
    }

    #[test]
    fn what_speaks_of_nothing_is_dropped() {
        let mut overrides = Overrides::default();
        overrides.of("a");
        overrides.of("gone").replicas = Some(2);
        let drained = Drained { reason: String::new(), by: String::new(), since: WallTime::default() };
        overrides.drained.insert("gone/1".to_owned(), drained.clone());
        overrides.drained.insert("a/1".to_owned(), drained);
        overrides.prune(&declared());
        assert_eq!(overrides.services.len(), 0);
        assert_eq!(overrides.drained.keys().collect::<Vec<_>>(), ["a/1"]);

        let fixed = parse("instances = [\"10.0.0.5:80\", \"10.0.0.6:80\"]");
        for address in ["10.0.0.5:80", "10.0.0.7:80"] {
            let drained = Drained { reason: String::new(), by: String::new(), since: WallTime::default() };
            overrides.drained.insert(format!("a/{address}"), drained);
        }
        let carried = overrides.carry_over(&fixed, &fixed, false);
        assert_eq!(carried.overrides.drained.keys().collect::<Vec<_>>(), ["a/10.0.0.5:80"], "it has no other address");
        assert_eq!((carried.kept.len(), carried.dropped.len()), (1, 2));
    }
}
