//! HAProxy, from Debian's package.

use std::{error::Error, fs, path::Path};

use super::{Peer, free_port, version};

impl Peer {
    /// One thread, least connections, active checks, connections to the instances shared, and kept also where most
    /// descriptors are in use; with a process that can be asked to reload.
    pub fn haproxy(folder: &Path, instances: &[u16]) -> Result<Self, Box<dyn Error>> {
        let port = free_port()?;
        let servers: String = instances
            .iter()
            .enumerate()
            .map(|(index, port)| format!("  server app{index} 127.0.0.1:{port} check\n"))
            .collect();
        let configuration = format!(
            "global\n  nbthread 1\n  maxconn 8000\n  tune.pool-low-fd-ratio 80\n  tune.pool-high-fd-ratio 90\n\
             defaults\n  mode http\n  timeout connect 1s\n  timeout client 75s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\nlisten app\n  \
             bind 127.0.0.1:{port} backlog 4096\n  balance leastconn\n  option httpchk GET /\n{servers}"
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, &configuration)?;
        let file = file.display().to_string();
        Self::start(
            "haproxy",
            version("haproxy", "-v"),
            configuration,
            port,
            Path::new("haproxy"),
            &["-W", "-db", "-q", "-f", &file],
        )
    }
}
