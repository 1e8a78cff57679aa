//! `[console]`: where the console is served, and under which names browsers may open it.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stack;

/// `[console]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Address of the console, of `/metrics`, and of the API for those who have a token. Where another process has
    /// it, it is tried again every few seconds, and `keel status` says so.
    #[serde(default = "Console::default_bind")]
    pub bind: SocketAddr,
    /// Names under which browsers may open the console, as `["keel.internal"]`, beside addresses and `localhost`, which
    /// they always may. A page elsewhere could otherwise let its own name lead here.
    #[serde(default)]
    pub hosts: Vec<String>,
}

impl Console {
    fn default_bind() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9400))
    }
}

impl Default for Console {
    fn default() -> Self {
        Self { bind: Self::default_bind(), hosts: Vec::new() }
    }
}

/// Finds names that no browser could call us by (RFC 1123, section 2.1).
pub(super) fn check(stack: &Stack, fault: &mut impl FnMut(&[&str], String, Option<String>)) {
    let is_label = |label: &str| {
        let fits = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        fits && (1..=63).contains(&label.len())
    };
    for host in &stack.console.hosts {
        if host.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok() {
            let help = "leave it out: by an address the console may always be opened".to_owned();
            fault(&["console", "hosts"], format!("`{host}` is an address, not a name"), Some(help));
        } else if !host.split('.').all(is_label) || host.len() > 253 {
            let help = "a name alone, without http:// and without a port, as \"keel.internal\"".to_owned();
            fault(&["console", "hosts"], format!("`{host}` is no name of a host"), Some(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::stack::parse;

    #[test]
    fn hosts_are_names() {
        let stack = |host: &str| {
            let text =
                format!("[stack]\nname = \"t\"\n[services.shop]\nrun = [\"shop\"]\n[console]\nhosts = [\"{host}\"]\n");
            parse(&text, "keel.toml")
        };
        for host in ["keel.internal", "web-1", "WEB1.example.com"] {
            assert_eq!(stack(host).unwrap().console.hosts, [host]);
        }
        for (host, said) in [
            ("http://keel.internal", "no name of a host"),
            ("keel.internal:9400", "no name of a host"),
            ("*.internal", "no name of a host"),
            ("", "no name of a host"),
            ("10.0.0.1", "is an address"),
            ("[::1]:9400", "is an address"),
        ] {
            let faults = stack(host).unwrap_err().to_string();
            assert!(faults.contains(said), "{host}: {faults}");
        }
    }
}
