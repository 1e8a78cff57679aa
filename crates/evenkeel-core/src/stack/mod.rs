//! The stack file `keel.toml`: its fields, their defaults and how they become a snapshot.
//!
//! Each key is one documented field of a struct in this folder; the reference page and the JSON schema are made
//! from those docstrings, so what a field's comment says is what users read. Parsing is strict: see [`parse()`].
//! Nothing here touches the file system or resolves a name.

mod check;
mod choice;
mod compile;
mod console;
mod deploy;
mod diagnostics;
mod drills;
mod fastcgi;
mod files;
mod instances;
mod journal;
mod listener;
mod mode;
mod names;
mod objectives;
mod order;
mod parse;
mod rails;
mod reach;
pub mod reference;
mod replicas;
mod returning;
mod route;
mod secrets;
mod service;
mod stream;
mod textual;
mod transform;
mod tree;
mod units;
mod useless;
mod validate;
mod week;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{Check, Liveness, digest_of_command},
    choice::{HashBy, NotAHashBy, PlainSticky, Sticky, StickyCookie},
    compile::{compile_listeners, compile_routes, compile_service},
    console::Console,
    deploy::Deploy,
    diagnostics::{Diagnostic, Diagnostics, Severity},
    drills::{Abort, DrillObjectives, Drills, ScheduledDrill, When, Write},
    fastcgi::FastCgi,
    files::Files,
    instances::{Dns, Instances, UNIX},
    journal::Journal,
    listener::{Cidr, ClientLimits, Listener},
    mode::Mode,
    names::nearest,
    objectives::{Objective, Percent},
    parse::{parse, parse_leniently, parse_with_warnings},
    rails::{By, Mirror, Rate, Rates, Redirect, Split},
    reach::{led_to, speaks, unreached},
    replicas::{Backlog, Elastic, Replicas, Target},
    returning::{NotAReturn, Page, Return, Window},
    route::Route,
    secrets::{SECRET_NAME_RULE, SecretSource, is_secret_name, secret_reference, secrets_used},
    service::{Eject, Hold, InstanceAddress, Limits, Restart, Retries, Service, Stop},
    transform::{Compress, ErrorPage, HeaderChanges, Rewrite},
    units::{Duration, Size},
    week::{Blackout, WeekTime},
};

/// Everything one file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The stack itself.
    pub stack: Head,
    /// Bound addresses, by name. Without one there is `web` on `127.0.0.1:8080`.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// Matches and the services they lead to. Without one, and with a single service, everything leads to it.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Named destinations, by name.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Sources of secrets, by name. `secret:NAME` as a value of a service's `env` stands for one; a name that is not
    /// here comes from the store that `keel secret set NAME` writes.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
    /// The data plane.
    #[serde(default)]
    pub edge: Edge,
    /// The page on which the stack is seen and steered, with metrics and the API beside it.
    #[serde(default)]
    pub console: Console,
    /// How output of instances is kept.
    #[serde(default)]
    pub logs: Logs,
    /// How much of what happened and was decided is kept.
    #[serde(default)]
    pub journal: Journal,
    /// What drills send and check.
    #[serde(default)]
    pub drills: Drills,
    /// How well services must answer, by service.
    #[serde(default)]
    pub objectives: BTreeMap<String, Objective>,
}

/// `[stack]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The stack's name: lower-case letters, digits and hyphens, starting with a letter, at most 40 characters.
    pub name: String,
    /// Whether decisions are carried out: `"act"`, or `"observe"` to see for a while what would be restarted, killed,
    /// ejected and scaled before it is done. What an operator orders is done in either.
    #[serde(default)]
    pub mode: Mode,
}

/// `[edge]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// How many threads serve. Default: one for each core. Takes effect when the edge starts.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub threads: Option<u16>,
    /// The user the edge runs as when `keel` runs as root. Default: `nobody`. Takes effect when `keel` starts.
    #[serde(default)]
    pub user: Option<String>,
}

/// `[logs]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Size at which an instance's log file is rotated.
    pub size: Size,
    /// How many files are kept for each instance, the current one included.
    #[schemars(range(min = 1, max = 100))]
    pub files: u8,
}

impl Default for Logs {
    fn default() -> Self {
        Self { size: Size::mib(16), files: 4 }
    }
}
