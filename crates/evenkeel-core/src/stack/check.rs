//! Checks of a service: which instances get requests, and which are restarted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Duration;
use crate::snapshot::Probe;

/// `check = { http = "/healthz" }`, `{ tcp = true }`, `{ grpc = "" }` or `{ exec = ["./check", "{port}"] }`: decides
/// whether an instance gets requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// `GET` this path; a status from 200 to 399 passes unless `status` says otherwise.
    #[serde(default)]
    pub http: Option<String>,
    /// Connecting passes.
    #[serde(default)]
    pub tcp: bool,
    /// An empty datagram is sent, and fails where the machine says (ICMP) that nobody listens; all that can be known of a
    /// service of datagrams without speaking its protocol. The default of services that only UDP listeners lead to.
    #[serde(default)]
    pub udp: bool,
    /// Asks the gRPC health service (`grpc.health.v1.Health/Check`, HTTP/2 without TLS) about this service, or about the
    /// whole server where it is `""`; `SERVING` passes.
    #[serde(default)]
    pub grpc: Option<String>,
    /// Runs this command, program and arguments, no shell, as the instance itself is run: its user, folder and
    /// environment. `{host}`, `{port}` and `{address}` stand for the instance's. Exit code 0 passes; what it printed last
    /// is the reason of a failure. The node process runs it: without one the last verdict stays.
    #[serde(default)]
    pub exec: Option<Vec<String>>,
    /// `Host` header of the probe. Default: the instance's address.
    #[serde(default)]
    pub host: Option<String>,
    /// Lowest and highest status that passes. Default: `[200, 399]`.
    #[serde(default)]
    pub status: Option<(u16, u16)>,
    /// Time between the starts of two probes.
    #[serde(default = "Check::default_interval")]
    pub interval: Duration,
    /// A probe that takes longer has failed.
    #[serde(default = "Check::default_timeout")]
    pub timeout: Duration,
    /// Probes in a row that must pass before an unhealthy instance gets requests again. A new one needs one.
    #[serde(default = "Check::default_rise")]
    #[schemars(range(min = 1, max = 1000))]
    pub rise: u16,
    /// Probes in a row that must fail before an instance gets no more requests.
    #[serde(default = "Check::default_fall")]
    #[schemars(range(min = 1, max = 1000))]
    pub fall: u16,
}

impl Check {
    /// `check = { http = PATH }` and nothing else.
    pub(super) fn of_path(path: &str) -> Self {
        Self {
            http: Some(path.to_owned()),
            tcp: false,
            udp: false,
            grpc: None,
            exec: None,
            host: None,
            status: None,
            interval: Self::default_interval(),
            timeout: Self::default_timeout(),
            rise: Self::default_rise(),
            fall: Self::default_fall(),
        }
    }

    /// `check = { udp = true }` and nothing else.
    pub(super) fn of_datagrams() -> Self {
        Self { http: None, udp: true, ..Self::of_path("/") }
    }

    const fn default_interval() -> Duration {
        Duration::s(1)
    }

    const fn default_timeout() -> Duration {
        Duration::s(1)
    }

    const fn default_rise() -> u16 {
        2
    }

    const fn default_fall() -> u16 {
        3
    }
}

/// `liveness = { http = "/healthz", after = "10s" }`: an instance that fails it for `after` is killed and
/// started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Liveness {
    /// `GET` this path; any answer below 500 passes.
    #[serde(default)]
    pub http: Option<String>,
    /// Connecting passes.
    #[serde(default)]
    pub tcp: bool,
    /// Asks the gRPC health service about this service (`""`: about the server); `SERVING` passes.
    #[serde(default)]
    pub grpc: Option<String>,
    /// Runs this command as `check.exec` does; exit code 0 passes.
    #[serde(default)]
    pub exec: Option<Vec<String>>,
    /// Time between the starts of two probes.
    #[serde(default = "Check::default_interval")]
    pub interval: Duration,
    /// A probe that takes longer has failed.
    #[serde(default = "Check::default_timeout")]
    pub timeout: Duration,
    /// How long it must fail without a pass in between.
    #[serde(default = "Liveness::default_after")]
    pub after: Duration,
}

impl Liveness {
    const fn default_after() -> Duration {
        Duration::s(10)
    }
}

impl Check {
    /// What one probe of it does.
    pub(super) fn probe(&self) -> Probe {
        if self.udp {
            return Probe::Udp;
        }
        let status = self.status.unwrap_or((200, 399));
        probe(self.http.as_deref(), self.grpc.as_deref(), self.exec.as_deref(), self.host.as_deref(), status)
    }
}

impl Liveness {
    /// What one probe of it does.
    pub(super) fn probe(&self) -> Probe {
        probe(self.http.as_deref(), self.grpc.as_deref(), self.exec.as_deref(), None, (100, 499))
    }
}

fn probe(
    http: Option<&str>,
    grpc: Option<&str>,
    exec: Option<&[String]>,
    host: Option<&str>,
    status: (u16, u16),
) -> Probe {
    match (http, grpc, exec) {
        (Some(path), ..) => Probe::Http { path: path.to_owned(), host: host.map(str::to_owned), status },
        (None, Some(service), _) => Probe::Grpc { service: service.to_owned() },
        (None, None, Some(command)) => Probe::Exec { digest: digest_of_command(command) },
        (None, None, None) => Probe::Tcp,
    }
}

/// Tells one command of an exec check from another (FNV-1a, 64 bits, over its words with their lengths).
pub fn digest_of_command(command: &[String]) -> u64 {
    let bytes = command.iter().flat_map(|word| (word.len() as u64).to_le_bytes().into_iter().chain(word.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest: u64, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is wrong with what a check asks: exactly one kind, and what goes with each. What, and what helps.
pub(super) fn fault_of_probe(
    part: &str,
    http: Option<&str>,
    (tcp, udp): (bool, bool),
    grpc: Option<&str>,
    exec: Option<&[String]>,
) -> Option<(String, Option<&'static str>)> {
    let kinds =
        [("http", http.is_some()), ("tcp", tcp), ("udp", udp), ("grpc", grpc.is_some()), ("exec", exec.is_some())];
    let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind).collect();
    match given[..] {
        [] => {
            let help = "http = \"/healthz\", tcp = true, grpc = \"\" or exec = [\"./check\", \"{port}\"]";
            return Some((format!("`{part}` says not what to probe"), Some(help)));
        }
        [_] => {}
        [first, second, ..] => return Some((format!("both `{first}` and `{second}`; it needs one of them"), None)),
    }
    match (http, grpc, exec) {
        (Some(target), ..) if !target.starts_with('/') || target.contains([' ', '\r', '\n']) => {
            Some((format!("`{target}` is not a path"), Some("a path starts with `/`")))
        }
        (_, Some(service), _) if service.len() > 256 || service.contains(char::is_control) => {
            Some((format!("`{service}` is not the name of a service of gRPC"), None))
        }
        (.., Some(command)) if command.first().is_none_or(String::is_empty) => {
            Some(("`exec` names no program".to_owned(), Some("as exec = [\"./check\", \"{port}\"]")))
        }
        (.., Some(command)) if command.iter().any(|word| word.contains('\0')) => {
            Some(("a word of `exec` has a zero byte".to_owned(), None))
        }
        _ => None,
    }
}
