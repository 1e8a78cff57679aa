//! `keel` itself.

use std::{error::Error, fs, path::Path};

use super::{Peer, free_port, version};

impl Peer {
    /// `keel up` with one edge thread; checks, ejection, retries, limits, metrics and request ids as by default.
    pub fn keel(binary: &Path, folder: &Path, instances: &[u16]) -> Result<Self, Box<dyn Error>> {
        Self::keel_with(binary, folder, instances, "")
    }

    /// The same with more lines for the service.
    pub fn keel_with(binary: &Path, folder: &Path, instances: &[u16], service: &str) -> Result<Self, Box<dyn Error>> {
        let binary = binary.canonicalize().map_err(|error| {
            format!("there is no {} (`cargo build --profile dist` makes it): {error}", binary.display())
        })?;
        let (port, metrics) = (free_port()?, free_port()?);
        let addresses: Vec<String> = instances.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let configuration = format!(
            "[stack]\nname = \"bench\"\n\n[edge]\nthreads = 1\n\n[console]\nbind = \"127.0.0.1:{metrics}\"\n\n\
             [listeners.web]\nbind = \"127.0.0.1:{port}\"\n\n[services.app]\ninstances = [{}]\n\
             check = {{ http = \"/\" }}\n{service}\n",
            addresses.join(", ")
        );
        let file = folder.join("keel.toml");
        fs::write(&file, &configuration)?;
        let state = folder.join("state");
        let arguments =
            ["up", &file.display().to_string(), "--state-dir", &state.display().to_string()].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let version = version(&binary.display().to_string(), "--version");
        Self::start("keel", version, configuration, port, &binary, &arguments)
    }
}
