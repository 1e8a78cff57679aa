//! What a machine or a process has run out of when it cannot open one more connection.
//!
//! That is never the fault of whoever was to be connected to. The edge says which it is, and whoever reads it needs to
//! know what to do; nothing is measured here.

use serde::{Deserialize, Serialize};

/// What there is none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scarcity {
    /// Descriptors of this process (`EMFILE`).
    Descriptors,
    /// Descriptors of the whole machine (`ENFILE`).
    MachineDescriptors,
    /// Local ports to the address of an instance (`EADDRNOTAVAIL`, `EADDRINUSE`).
    Ports,
    /// Memory of the kernel (`ENOMEM`, `ENOBUFS`, `ENOSPC`, `EAGAIN`).
    Memory,
}

impl Scarcity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Descriptors, Self::MachineDescriptors, Self::Ports, Self::Memory];

    /// In words, as a sentence about the edge.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "the edge has no descriptor left for one more connection",
            Self::MachineDescriptors => "this machine has no descriptor left for one more connection",
            Self::Ports => "this machine has no local port left for one more connection to an instance",
            Self::Memory => "the kernel has no memory left for one more connection",
        }
    }

    /// What to do about it.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "raise the hard limit of open files of `keel up` (`LimitNOFILE=` of its unit, `ulimit -Hn`): each request \
                 in flight takes two; or lower `limits.connections` of the listener"
            }
            Self::MachineDescriptors => "raise `fs.file-max` (sysctl), or find with `lsof` who holds so many",
            Self::Ports => {
                "let the instance keep its connections open, widen `net.ipv4.ip_local_port_range` (sysctl), or bound \
                 `limits.in_flight` of the service"
            }
            Self::Memory => "raise `net.ipv4.tcp_mem` (sysctl), give the machine memory, or lower `limits.connections`",
        }
    }
}
