//! The control plane of one node: it observes, decides by the core, and acts.
//!
//! The guard starts this process with its channel at descriptor 3 and starts it again when it dies. [`run`] reads
//! the guard's inventory, so that after a restart every instance is known under the process it has, and then
//! loops: events in, observation updated, plan made by the core, steps carried out, snapshot and status
//! published. One task owns the whole world (the `node` module); everything else here is a tool that it uses or a
//! task that talks to it over a channel. Nothing here serves clients' requests: the edge does, and it goes on
//! with its last snapshot whatever happens to this process.
//!
//! | module | concern |
//! | --- | --- |
//! | `node` | the owner of the world: inputs, reconciling, publishing, answers |
//! | `channel` | the guard's channel: packets with descriptors |
//! | `edge_link` | the link to the edge: snapshots out, events and counters in |
//! | `listeners`, `ports`, `users`, `launch` | what the machine must give: sockets, ports, users, commands |
//! | `state_dir` | what is kept on disk: revisions, records of instances, the snapshot |
//! | `secrets` | values that stand in no stack file: store, sources, masking |
//! | `tokens` | who may use the API from elsewhere |
//! | `logs` | output of instances: files, last lines, searching, following |
//! | `journal` | events and decisions, on a thread of its own |
//! | `traffic` | counters of the edge: totals over its restarts, rates and percentiles |
//! | [`drills`] | runs of drills: folders, reading, starting |
//! | `history` | what was counted of each service over the last day, and of its objective |
//! | `api`, `metrics` | what is told to people and programs |

mod api;
mod channel;
mod clock;
mod config;
mod console;
pub mod drills;
mod edge_link;
mod error;
mod history;
mod journal;
mod launch;
mod listeners;
mod logs;
mod metrics;
mod node;
mod ports;
mod secrets;
mod sqlite;
mod state_dir;
mod tokens;
mod traffic;
mod users;

use evenkeel_core::words;

pub use self::{
    config::{NodeConfig, StackSource},
    error::NodeError,
    listeners::port_holder,
    node::{read_page, run},
    secrets::{HANDED_VARIABLE, SHORTEST_MASKED, SecretError, SecretStore, Stored, key_path},
    state_dir::VERSION as STATE_VERSION,
};

/// The name of the API's socket below [`NodeConfig::runtime_dir`].
pub const CONTROL_SOCKET: &str = "control.sock";
