//! From a service of the stack file to the process of one instance.
//!
//! A [`Launch`] is everything a start needs apart from port and name. Its digest says whether two revisions need
//! different processes: it covers command, environment, directory, user and memory, and nothing that the edge or
//! the supervision alone act upon. A secret stands in it by its fingerprint. Values of the environment are never
//! printed, and those of secrets are looked up only when a process is started.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    guard::ProcessSpec,
    secret::Secret,
    stack::{Service, secret_reference},
};

use crate::{
    secrets::Secrets,
    users::{self, UserError},
};

/// Passed on from our own environment, unless the service says otherwise.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// The variable by which an instance knows the number of its release. It also makes two releases of the same content
/// differ.
pub(crate) const RELEASE_VARIABLE: &str = "KEEL_RELEASE";

/// `PATH` where we have none ourselves.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why nothing can be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Its user cannot be had.
    #[error(transparent)]
    User(#[from] UserError),
    /// A secret of its environment cannot be had.
    #[error("the secret `{0}` of its environment cannot be had: see `keel secret list`")]
    Secret(String),
}

/// How instances of a service are started.
#[derive(Clone, PartialEq)]
pub(crate) struct Launch {
    /// Identifies what a process is started with.
    pub(crate) digest: String,
    /// The digest as far as the stack file alone makes it.
    plain: String,
    /// The digest as it was last made here: `digest` unless it was given another one.
    made: String,
    service: Service,
    dir: PathBuf,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").field("digest", &self.digest).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Launch {
    /// How `service` is started from a stack file in `dir`; `None` for one with fixed instances.
    pub(crate) fn new(service: &Service, dir: &Path) -> Option<Self> {
        let argv = service.command()?;
        let dir = service.dir.as_ref().map_or_else(|| dir.to_owned(), |own| dir.join(own));
        let mut digest = Digest::default();
        for part in &argv {
            digest.text(part);
        }
        digest.text("env");
        for (name, value) in &service.env {
            digest.text(name);
            digest.text(value);
        }
        digest.text(&dir.to_string_lossy());
        digest.text(service.user.as_deref().unwrap_or_default());
        digest.text(&service.memory.map_or(0, evenkeel_core::stack::Size::as_bytes).to_string());
        let digest = format!("{:016x}", digest.0);
        Some(Self { plain: digest.clone(), made: digest.clone(), digest, service: service.clone(), dir })
    }

    /// The same with the secrets as they are now in its digest, unless it is known under another one.
    pub(crate) fn with_secrets(self, secrets: &Secrets) -> Self {
        let mut names = self.service.env.values().filter_map(|value| secret_reference(value)).peekable();
        if names.peek().is_none() || self.digest != self.made {
            return self;
        }
        let mut digest = Digest::default();
        digest.text(&self.plain);
        for name in names {
            digest.text(name);
            digest.text(secrets.fingerprint(name));
        }
        let digest = format!("{:016x}", digest.0);
        Self { made: digest.clone(), digest, ..self }
    }

    /// The same under another digest: what a process was started from that cannot be made up again.
    pub(crate) fn known_as(self, digest: &str) -> Self {
        Self { digest: digest.to_owned(), ..self }
    }

    /// Another command, started as the instance is.
    pub(crate) fn instead(&self, command: Vec<String>) -> Self {
        let service = Service { run: Some(command), files: None, ..self.service.clone() };
        Self { service, ..self.clone() }
    }

    /// The number of the release that it stems from; 0 is what the stack file says.
    pub(crate) fn release(&self) -> u64 {
        self.service.env.get(RELEASE_VARIABLE).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The folder in which it runs.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The service as it was when this was made.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// What the guard is to run as the instance `name` (`shop/1`) on `port`.
    pub(crate) fn spec(
        &self,
        service_name: &str,
        name: &str,
        port: u16,
        secrets: &Secrets,
    ) -> Result<ProcessSpec, LaunchError> {
        let user = self.service.user.as_deref().map(users::resolve).transpose()?;
        let fill = |text: &str| text.replace("{port}", &port.to_string());
        let mut env: Vec<(String, Secret)> = Vec::new();
        let mut set = |name: &str, value: Secret| {
            env.retain(|(known, _)| known != name);
            env.push((name.to_owned(), value));
        };
        for passed in PASSED_ON {
            if let Ok(value) = env::var(passed) {
                set(passed, Secret::new(value));
            } else if passed == "PATH" {
                set(passed, Secret::new(DEFAULT_PATH));
            }
        }
        if let Some(user) = &user {
            set("HOME", Secret::new(&user.home));
            set("USER", Secret::new(&user.name));
            set("LOGNAME", Secret::new(&user.name));
        }
        set("PORT", Secret::new(port.to_string()));
        set("KEEL_INSTANCE", Secret::new(name));
        set("KEEL_SERVICE", Secret::new(service_name));
        for (name, value) in &self.service.env {
            let value = match secret_reference(value) {
                Some(secret) => secrets.value(secret).cloned().ok_or_else(|| LaunchError::Secret(secret.to_owned()))?,
                None => Secret::new(fill(value)),
            };
            set(name, value);
        }
        Ok(ProcessSpec {
            argv: self.service.command().iter().flatten().map(|part| fill(part)).collect(),
            env,
            cwd: self.dir.to_string_lossy().into_owned(),
            user: user.as_ref().map(|user| (user.uid, user.gid)),
            groups: user.map(|user| user.groups).unwrap_or_default(),
            memory_bytes: self.service.memory.map(evenkeel_core::stack::Size::as_bytes),
        })
    }
}

/// FNV-1a over length-prefixed texts: stable over versions and platforms, and nobody tries to forge it.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn text(&mut self, text: &str) {
        for byte in (text.len() as u64).to_le_bytes().iter().chain(text.as_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::stack;

    use super::*;

    fn launch(body: &str) -> Launch {
        let text = format!("[stack]\nname = \"t\"\n[services.shop]\n{body}\n");
        let stack = stack::parse(&text, "t.toml").unwrap();
        Launch::new(&stack.services["shop"], Path::new("/srv/shop")).unwrap()
    }

    fn none() -> Secrets {
        Secrets::open("t", Path::new("/nonexistent"), 0, crate::secrets::Mask::default())
    }

    #[test]
    fn a_secret_is_looked_up_at_the_start_and_its_change_is_another_digest() {
        let temp = tempfile::tempdir().unwrap();
        let plain = launch("run = [\"a\"]\nenv = { KEY = \"secret:key\" }");
        let secrets = |value: &str| Secrets::known(temp.path(), &[("key", value)]);
        let one = plain.clone().with_secrets(&secrets("one"));
        assert_ne!(one.digest, plain.digest);
        assert!(!format!("{:?}", launch("run = [\"a\"]\nenv = { A = \"hunter22\" }")).contains("hunter22"));
        assert_eq!(one.clone().with_secrets(&secrets("one")).digest, one.digest);
        assert_ne!(one.clone().with_secrets(&secrets("two")).digest, one.digest);
        assert_eq!(one.clone().known_as("stale").with_secrets(&secrets("two")).digest, "stale");
        let spec = one.spec("shop", "shop/1", 1, &secrets("{port} stays")).unwrap();
        let key = spec.env.iter().find(|(name, _)| name == "KEY").unwrap();
        assert_eq!(key.1.expose(), "{port} stays");
        assert!(!format!("{spec:?}").contains("stays"));
        let error = one.spec("shop", "shop/1", 1, &none()).unwrap_err().to_string();
        assert!(error.contains("`key`"), "{error}");
    }

    #[test]
    fn fills_in_port_name_and_environment() {
        let launch = launch(
            "run = [\"server\", \"--port={port}\"]\nenv = { URL = \"http://127.0.0.1:{port}/\" }\ndir = \"app\"",
        );
        let spec = launch.spec("shop", "shop/1", 20_001, &none()).unwrap();
        assert_eq!(spec.argv, ["server", "--port=20001"]);
        assert_eq!(spec.cwd, "/srv/shop/app");
        let get = |name: &str| spec.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.expose().to_owned());
        assert_eq!(get("PORT").as_deref(), Some("20001"));
        assert_eq!(get("URL").as_deref(), Some("http://127.0.0.1:20001/"));
        assert_eq!(get("KEEL_INSTANCE").as_deref(), Some("shop/1"));
        assert_eq!(get("KEEL_SERVICE").as_deref(), Some("shop"));
        assert_eq!(get("PATH"), env::var("PATH").ok());
        assert_eq!(get("CARGO"), None, "our own environment is not passed on");
    }

    #[test]
    fn the_digest_follows_what_needs_a_new_process() {
        let base = launch("run = [\"a\", \"b\"]").digest;
        assert_eq!(launch("run = [\"a\", \"b\"]\nreplicas = 7\nstart_timeout = \"5s\"").digest, base);
        for other in
            ["run = [\"ab\"]", "run = [\"a\", \"b\"]\nenv = { A = \"1\" }", "run = [\"a\", \"b\"]\ndir = \"x\""]
        {
            assert_ne!(launch(other).digest, base, "{other}");
        }
    }
}
