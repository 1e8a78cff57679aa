//! Secrets as the owner of the world uses them: refused where one is missing, read anew where one may have changed.
//!
//! A changed value gives the instances that use it another digest, and the ordinary rollout replaces them one by one.

use evenkeel_core::{
    journal::{Level, Reason},
    secret::Secret,
    stack::{Stack, secret_reference, secrets_used},
    supervise::Event,
};

use super::Node;
use crate::{
    NodeError,
    secrets::{Listed, Refreshed, SecretError},
};

/// What a change of the secrets did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Changed {
    /// Services whose instances are replaced because of it.
    pub(crate) services: Vec<String>,
    /// Whether there was a value before.
    pub(crate) replaced: bool,
    /// The file of a key that was made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new_key: Option<std::path::PathBuf>,
}

/// What is asked of the secrets.
#[derive(Debug)]
pub(crate) enum Order {
    /// Keep a value.
    Set { name: String, value: Secret },
    /// Another value for a secret that there is; without one, read its source again.
    Rotate { name: String, value: Option<Secret> },
    /// Forget it.
    Remove { name: String },
    /// Another key.
    RotateKey,
}

impl Node {
    /// Refuses a stack that asks for a secret which cannot be had.
    pub(super) fn check_secrets(&self, stack: &Stack, dir: &std::path::Path) -> Result<(), NodeError> {
        self.secrets.check(stack, dir, |_| true).map_err(|error| NodeError::Secret(Box::new(error)))
    }

    /// The same for the secrets of one service: a deploy or a rollback of it is not kept from anybody because another
    /// service misses one.
    pub(super) fn check_secrets_of(&self, service: &str, stack: &Stack) -> Result<(), NodeError> {
        let env = stack.services.get(service).map(|service| &service.env);
        let needs = |name: &str| env.is_some_and(|env| env.values().any(|value| secret_reference(value) == Some(name)));
        let checked = self.secrets.check(stack, &self.revision.dir, needs);
        checked.map_err(|error| NodeError::Secret(Box::new(error)))
    }

    /// The same for secrets that the stack in force does not ask for already: one of those that is missing for a while
    /// must not keep anybody from draining an instance, from deploying or from going back to a former release.
    pub(super) fn check_more_secrets(&self, stack: &Stack) -> Result<(), NodeError> {
        let known = secrets_used(&self.revision.stack);
        let checked = self.secrets.check(stack, &self.revision.dir, |name| !known.contains_key(name));
        checked.map_err(|error| NodeError::Secret(Box::new(error)))
    }

    /// Reads all secrets of the revision in force anew; what changed goes to the journal, the rest follows from the
    /// digests of instances.
    pub(super) fn refresh_secrets(&mut self, why: &str) -> Vec<String> {
        let refreshed = self.secrets.refresh(&self.revision.stack, &self.revision.dir);
        self.problems.remove("secrets");
        let shared = refreshed.shared_key.as_ref().map(|path| {
            let path = path.display();
            let fix = "afterwards `keel secret rotate --key` makes another one";
            format!("everybody on this machine may read the key of the secrets: chmod 600 {path}; {fix}")
        });
        match shared {
            Some(problem) => drop(self.problems.insert("secrets-key", problem)),
            None => drop(self.problems.remove("secrets-key")),
        }
        self.say_refreshed(&refreshed, why);
        refreshed.changed
    }

    /// Reads those of one service anew, since one of its processes is about to be started.
    pub(super) fn refresh_secrets_of(&mut self, service: &str) {
        let Some(of) = self.revision.stack.services.get(service) else { return };
        let refreshed = self.secrets.refresh_for(of, &self.revision.stack, &self.revision.dir);
        if refreshed.missing.is_empty() && refreshed.changed.is_empty() {
            return;
        }
        self.say_refreshed(&refreshed, "an instance is being started");
    }

    fn say_refreshed(&mut self, refreshed: &Refreshed, why: &str) {
        if let Some(path) = &refreshed.new_key {
            self.say_new_key(path);
        }
        let used = secrets_used(&self.revision.stack);
        for name in &refreshed.changed {
            let Some(services) = used.get(name) else { continue };
            let message = format!("the secret `{name}` has another value: instances that use it are replaced");
            for service in services {
                let reasons = vec![Reason::seen(why), Reason::rule("a process has the value it was started with")];
                self.note(Level::Info, service, "secret", message.clone(), reasons);
            }
        }
        if let Some(error) = refreshed.missing.first() {
            let (what, fix) = error.split();
            let problem = format!("{what}; instances that need it cannot be started. {fix}");
            if self.problems.insert("secrets", problem).is_none() {
                self.note(Level::Error, "secrets", "secret", what, vec![Reason::seen(fix)]);
            }
        }
    }

    fn say_new_key(&self, path: &std::path::Path) {
        let message = format!("the key of the secrets was made: {}", path.display());
        let reasons = vec![Reason::rule("back it up: without it the secrets cannot be read")];
        self.note(Level::Warning, "secrets", "secret", message, reasons);
    }

    /// All secrets, without their values.
    pub(super) fn list_secrets(&self) -> Result<Vec<Listed>, SecretError> {
        self.secrets.list(&self.revision.stack, &self.revision.dir)
    }

    /// Carries out what an operator asked for.
    pub(super) fn order_secret(&mut self, order: Order, who: Reason) -> Result<Changed, SecretError> {
        if self.shutdown.is_some() {
            return Err(SecretError::Stopping);
        }
        let of = match &order {
            Order::Set { name, .. } | Order::Rotate { name, .. } | Order::Remove { name } => name.clone(),
            Order::RotateKey => String::new(),
        };
        let (message, mut changed) = match order {
            Order::Set { name, value } => self.set_secret(&name, &value)?,
            Order::Rotate { name, value } => {
                let sourced = self.revision.stack.secrets.contains_key(&name);
                match value {
                    Some(value) if !sourced => {
                        self.must_be_kept(&name)?;
                        self.set_secret(&name, &value)?
                    }
                    Some(_) => return Err(self.is_sourced(&name)),
                    None if sourced => {
                        (format!("the source of the secret `{name}` was read again"), Changed::default())
                    }
                    None => return Err(SecretError::Value { why: "it is empty" }),
                }
            }
            Order::Remove { name } => {
                self.remove_secret(&name)?;
                (format!("the secret `{name}` was removed"), Changed::default())
            }
            Order::RotateKey => {
                self.secrets.store().rotate_key()?;
                let path = self.secrets.store().key_path().display().to_string();
                (format!("the secrets were encrypted with another key, at {path}; back it up"), Changed::default())
            }
        };
        self.note(Level::Info, "secrets", "secret", message.clone(), vec![who]);
        let used = secrets_used(&self.revision.stack);
        let names = self.refresh_secrets(&message);
        let mut services: Vec<String> = names.iter().filter_map(|name| used.get(name)).flatten().cloned().collect();
        services.sort();
        services.dedup();
        // An instance that gave up for want of it, or with a wrong one, is started again.
        let users = used.get(&of).map(Vec::as_slice).unwrap_or_default();
        for place in self.slots.keys().filter(|(service, _)| users.contains(service)).cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::TryAgain { reason: message.clone() });
        }
        changed.services = services;
        Ok(changed)
    }

    fn set_secret(&mut self, name: &str, value: &Secret) -> Result<(String, Changed), SecretError> {
        if self.revision.stack.secrets.contains_key(name) {
            return Err(self.is_sourced(name));
        }
        let stored = self.secrets.store().set(name, value)?;
        if let Some(path) = &stored.new_key {
            self.say_new_key(path);
        }
        let changed = Changed { services: Vec::new(), replaced: stored.replaced, new_key: stored.new_key };
        Ok((format!("the secret `{name}` was set"), changed))
    }

    fn remove_secret(&mut self, name: &str) -> Result<(), SecretError> {
        let users = secrets_used(&self.revision.stack).remove(name).unwrap_or_default();
        if !users.is_empty() {
            return Err(SecretError::Used { name: name.to_owned(), by: crate::secrets::of(&users) });
        }
        if self.secrets.store().remove(name)? { Ok(()) } else { self.must_be_kept(name) }
    }

    fn must_be_kept(&self, name: &str) -> Result<(), SecretError> {
        let kept = self.secrets.store().names()?;
        if kept.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let nearest = evenkeel_core::stack::nearest(name, kept.iter().map(|(known, _)| known.as_str()));
        Err(SecretError::Unknown { name: name.to_owned(), used: String::new(), nearest: nearest.map(str::to_owned) })
    }

    fn is_sourced(&self, name: &str) -> SecretError {
        let place = self.revision.stack.secrets.get(name).map(evenkeel_core::stack::SecretSource::describe);
        SecretError::Sourced { name: name.to_owned(), place: place.unwrap_or_default() }
    }
}
