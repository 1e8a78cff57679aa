//! Secrets of the stack in force: where each value comes from, what it is now, and whether it has changed.
//!
//! The owner of the world holds [`Secrets`] and asks it while it plans, from memory; the disk is read where something
//! may have changed: at a start, an `apply`, a change of the store, and before a process is started. A value leaves
//! here in two directions only: into the environment of a process that is started, and into the [`Mask`] that takes it
//! out of whatever that process prints. A change is told by a keyed hash, never by the value.

mod error;
mod hash;
mod key;
mod mask;
mod source;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use evenkeel_core::{
    secret::Secret,
    stack::{SecretSource, Service, Stack, nearest, secret_reference, secrets_used},
    time::WallTime,
};

use self::source::Handed;
pub use self::{
    error::SecretError,
    key::key_path,
    mask::SHORTEST_MASKED,
    source::HANDED_VARIABLE,
    store::{SecretStore, Stored},
};
pub(crate) use self::{
    hash::hex,
    mask::{Mask, Stream},
};
use crate::state_dir::replace_private;

/// What is known of the secrets of the stack in force.
#[derive(Debug)]
pub(crate) struct Secrets {
    store: SecretStore,
    fingerprints_file: std::path::PathBuf,
    handed: Handed,
    /// What fingerprints are made with; read once something needs it.
    hash_key: Option<Secret>,
    values: BTreeMap<String, Secret>,
    /// Of the last value that was seen, also where it cannot be read at the moment.
    fingerprints: BTreeMap<String, String>,
    mask: Mask,
}

/// What reading everything anew showed.
#[derive(Debug, Default)]
pub(crate) struct Refreshed {
    /// Names whose value differs from the one that was known.
    pub(crate) changed: Vec<String>,
    /// What is used and cannot be had.
    pub(crate) missing: Vec<SecretError>,
    /// A key that was made.
    pub(crate) new_key: Option<std::path::PathBuf>,
    /// The file of a key that everybody may read.
    pub(crate) shared_key: Option<std::path::PathBuf>,
}

/// One secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Where it comes from, in words.
    pub(crate) source: String,
    /// When it was set, where it is kept in the store.
    pub(crate) set: Option<WallTime>,
    /// The services that use it.
    pub(crate) services: Vec<String>,
    /// Why it cannot be had, if so.
    pub(crate) problem: Option<String>,
}

impl Secrets {
    /// Of a stack whose state lies in `state_dir`. Nothing is read yet, except what the guard holds for us.
    pub(crate) fn open(stack: &str, state_dir: &Path, guard_pid: u32, mask: Mask) -> Self {
        let handed = source::handed(guard_pid).unwrap_or_else(|error| {
            tracing::warn!(%error, "variables that keel up took out of its environment cannot be read");
            Handed::new()
        });
        let fingerprints_file = state_dir.join("secrets/fingerprints.json");
        let fingerprints = std::fs::read(&fingerprints_file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            store: SecretStore::new(stack, state_dir, key_path(stack)),
            fingerprints_file,
            handed,
            hash_key: None,
            values: BTreeMap::new(),
            fingerprints: fingerprints.unwrap_or_default(),
            mask,
        }
    }

    /// These values, with fingerprints made from them.
    #[cfg(test)]
    pub(crate) fn known(state_dir: &Path, values: &[(&str, &str)]) -> Self {
        let mut secrets = Self::open("t", state_dir, 0, Mask::default());
        secrets.hash_key = Some(Secret::new("a key for tests"));
        for (name, value) in values {
            secrets.take(name, Secret::new(*value), &mut Refreshed::default()).expect("the key is there");
        }
        secrets
    }

    pub(crate) fn store(&self) -> &SecretStore {
        &self.store
    }

    /// Whether every secret that `stack` uses can be had, before anything of it is put in force. `needed` says of which
    /// ones that is asked.
    pub(crate) fn check(&self, stack: &Stack, dir: &Path, needed: impl Fn(&str) -> bool) -> Result<(), SecretError> {
        let used = secrets_used(stack);
        used.keys().filter(|name| needed(name)).try_for_each(|name| self.look_up(name, stack, dir).map(drop))
    }

    /// Reads every secret of the stack in force anew.
    pub(crate) fn refresh(&mut self, stack: &Stack, dir: &Path) -> Refreshed {
        let used = secrets_used(stack);
        let mut refreshed = Refreshed::default();
        let mut names: BTreeSet<String> = used.keys().chain(stack.secrets.keys()).cloned().collect();
        match self.store.names() {
            Ok(kept) => names.extend(kept.into_iter().map(|(name, _)| name)),
            Err(error) => refreshed.missing.push(error),
        }
        let forgotten = |name: &String| !names.contains(name);
        self.values.retain(|name, _| !forgotten(name));
        let known = self.fingerprints.len();
        self.fingerprints.retain(|name, _| !forgotten(name));
        let mut dirty = self.fingerprints.len() != known;
        for name in names {
            match self.look_up(&name, stack, dir).and_then(|value| self.take(&name, value, &mut refreshed)) {
                Ok(changed) => dirty |= changed,
                Err(error) if used.contains_key(&name) => refreshed.missing.push(error),
                Err(error) => tracing::warn!(%name, %error, "a secret that nobody uses cannot be read"),
            }
        }
        if dirty {
            self.keep_fingerprints();
        }
        refreshed.shared_key = self.store.is_key_shared().then(|| self.store.key_path().to_owned());
        refreshed
    }

    /// Reads those secrets anew that a service uses; what changed of them.
    pub(crate) fn refresh_for(&mut self, service: &Service, stack: &Stack, dir: &Path) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let mut dirty = false;
        for name in service.env.values().filter_map(|value| secret_reference(value)) {
            match self.look_up(name, stack, dir).and_then(|value| self.take(name, value, &mut refreshed)) {
                Ok(changed) => dirty |= changed,
                Err(error) => refreshed.missing.push(error),
            }
        }
        if dirty {
            self.keep_fingerprints();
        }
        refreshed
    }

    /// What stands for the present value of a secret in a digest.
    pub(crate) fn fingerprint(&self, name: &str) -> &str {
        self.fingerprints.get(name).map_or("", String::as_str)
    }

    /// A value, for the environment of a process.
    pub(crate) fn value(&self, name: &str) -> Option<&Secret> {
        self.values.get(name)
    }

    /// Masks what a process has that runs already. Its values may be known nowhere else any more: a source may have
    /// changed or gone away while no node process ran.
    pub(crate) fn mask_values_of(&self, pid: u32, service: &Service) {
        // Another user's environment can be read by root only; then what is known otherwise has to do.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let variables =
            environment.split(|byte| *byte == 0).filter_map(|one| std::str::from_utf8(one).ok()?.split_once('='));
        let values: Vec<(&str, Secret)> = variables
            .filter_map(|(variable, value)| Some((secret_reference(service.env.get(variable)?)?, Secret::new(value))))
            .collect();
        self.mask.add(values.iter().map(|(name, value)| (*name, value)));
    }

    /// All secrets there are, without their values.
    pub(crate) fn list(&self, stack: &Stack, dir: &Path) -> Result<Vec<Listed>, SecretError> {
        let mut used = secrets_used(stack);
        let kept = BTreeMap::from_iter(self.store.names()?);
        let names: BTreeSet<&String> = stack.secrets.keys().chain(kept.keys()).chain(used.keys()).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let listed = names.into_iter().map(|name| {
            let source = stack.secrets.get(&name).map(SecretSource::describe);
            let set = kept.get(&name).copied().filter(|_| source.is_none());
            let problem = self.look_up(&name, stack, dir).err().map(|error| error.split().0);
            let missing = || if set.is_some() { "store" } else { "nowhere" }.to_owned();
            let services = used.remove(&name).unwrap_or_default();
            Listed { source: source.unwrap_or_else(missing), set, services, problem, name }
        });
        Ok(listed.collect())
    }

    /// Takes a value; whether it differs from the one known before.
    fn take(&mut self, name: &str, value: Secret, refreshed: &mut Refreshed) -> Result<bool, SecretError> {
        let key = if let Some(key) = &self.hash_key {
            key
        } else {
            let (key, new_key) = self.store.hash_key()?;
            refreshed.new_key = refreshed.new_key.take().or(new_key);
            self.hash_key.insert(key)
        };
        let parts = [name.as_bytes(), b"\0", value.expose().as_bytes()];
        let fingerprint = hash::hex(&hash::hmac(key.expose().as_bytes(), &parts)[..16]);
        if self.values.get(name) != Some(&value) {
            let former = self.store.former(name).ok().flatten();
            let values = std::iter::once(&value).chain(&former);
            self.mask.add(values.map(|value| (name, value)));
            self.values.insert(name.to_owned(), value);
        }
        let before = self.fingerprints.insert(name.to_owned(), fingerprint.clone());
        if before.as_ref().is_some_and(|before| *before != fingerprint) {
            refreshed.changed.push(name.to_owned());
        }
        Ok(before != Some(fingerprint))
    }

    fn look_up(&self, name: &str, stack: &Stack, dir: &Path) -> Result<Secret, SecretError> {
        if let Some(source) = stack.secrets.get(name) {
            return source::read(name, source, dir, &self.handed);
        }
        if let Some(value) = self.store.get(name)? {
            return Ok(value);
        }
        let kept = self.store.names()?;
        let known = stack.secrets.keys().chain(kept.iter().map(|(name, _)| name)).map(String::as_str);
        let services = secrets_used(stack).remove(name).unwrap_or_default();
        let used = if services.is_empty() { String::new() } else { format!(", which {} asks for", of(&services)) };
        Err(SecretError::Unknown { name: name.to_owned(), used, nearest: nearest(name, known).map(str::to_owned) })
    }

    /// Fingerprints of sources that cannot be read for a while must outlive this process, or else its successor would
    /// take an unchanged secret for a changed one.
    fn keep_fingerprints(&self) {
        let bytes = serde_json::to_vec(&self.fingerprints).expect("texts are JSON");
        if let Err(error) = replace_private(&self.fingerprints_file, &bytes) {
            tracing::warn!(%error, "fingerprints of secrets cannot be kept");
        }
    }
}

/// `service a`, `services a and b`.
pub(crate) fn of(services: &[String]) -> String {
    match services {
        [one] => format!("service `{one}`"),
        [all @ .., last] => {
            let all: Vec<String> = all.iter().map(|name| format!("`{name}`")).collect();
            format!("services {} and `{last}`", all.join(", "))
        }
        [] => "no service".to_owned(),
    }
}

#[cfg(test)]
mod tests;
