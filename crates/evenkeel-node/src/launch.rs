//! From a service of the stack file to the process of one instance.
//!
//! A [`Launch`] is everything a start needs apart from port and name. Its digest says whether two revisions need
//! different processes: it covers command, environment, directory, user and memory, and nothing that the edge or
//! the supervision alone act upon. Values of the environment are never printed.

use std::{
    env,
    path::{Path, PathBuf},
};

use evenkeel_core::{guard::ProcessSpec, secret::Secret, stack::Service};

use crate::users::{self, UserError};

/// Passed on from our own environment, unless the service says otherwise.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// `PATH` where we have none ourselves.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How instances of a service are started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    /// Identifies what a process is started with.
    pub(crate) digest: String,
    service: Service,
    dir: PathBuf,
}

impl Launch {
    /// How `service` is started from a stack file in `dir`; `None` for one with fixed instances.
    pub(crate) fn new(service: &Service, dir: &Path) -> Option<Self> {
        let argv = service.run.as_ref()?;
        let dir = service.dir.as_ref().map_or_else(|| dir.to_owned(), |own| dir.join(own));
        let mut digest = Digest::default();
        for part in argv {
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
        Some(Self { digest: format!("{:016x}", digest.0), service: service.clone(), dir })
    }

    /// The same under another digest: what a process was started from that cannot be made up again.
    pub(crate) fn known_as(self, digest: &str) -> Self {
        Self { digest: digest.to_owned(), ..self }
    }

    /// The service as it was when this was made.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// What the guard is to run as the instance `name` (`shop/1`) on `port`.
    pub(crate) fn spec(&self, service_name: &str, name: &str, port: u16) -> Result<ProcessSpec, UserError> {
        let user = self.service.user.as_deref().map(users::resolve).transpose()?;
        let fill = |text: &str| text.replace("{port}", &port.to_string());
        let mut env: Vec<(String, Secret)> = Vec::new();
        let mut set = |name: &str, value: String| {
            env.retain(|(known, _)| known != name);
            env.push((name.to_owned(), Secret::new(value)));
        };
        for passed in PASSED_ON {
            if let Ok(value) = env::var(passed) {
                set(passed, value);
            } else if passed == "PATH" {
                set(passed, DEFAULT_PATH.to_owned());
            }
        }
        if let Some(user) = &user {
            set("HOME", user.home.clone());
            set("USER", user.name.clone());
            set("LOGNAME", user.name.clone());
        }
        set("PORT", port.to_string());
        set("KEEL_INSTANCE", name.to_owned());
        set("KEEL_SERVICE", service_name.to_owned());
        for (name, value) in &self.service.env {
            set(name, fill(value));
        }
        Ok(ProcessSpec {
            argv: self.service.run.iter().flatten().map(|part| fill(part)).collect(),
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

    #[test]
    fn fills_in_port_name_and_environment() {
        let launch = launch(
            "run = [\"server\", \"--port={port}\"]\nenv = { URL = \"http://127.0.0.1:{port}/\" }\ndir = \"app\"",
        );
        let spec = launch.spec("shop", "shop/1", 20_001).unwrap();
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
