//! Every type and every decision of Evenkeel.
//!
//! This crate is pure: it takes what was observed and the present moment as arguments and returns what to do.
//! It never opens a socket or a file, never starts a thread, never reads a clock and has no randomness of its
//! own, so that the simulator runs exactly the code that production runs. `cargo xtask tidy` checks that.
//!
//! | module | concern |
//! | --- | --- |
//! | [`stack`] | the file `keel.toml`: fields, parsing, diagnostics, reference |
//! | [`overrides`] | what commands changed of the file |
//! | [`pause`] | for how long nothing is decided without an order |
//! | [`snapshot`] | what the edge needs to know, immutable and versioned |
//! | [`path`] | the normal form of a request's path, in which routes are found |
//! | [`link`] | what node process and edge say to each other |
//! | [`guard`] | what the guard and its processes say to each other, and its wire format |
//! | [`health`], [`ejection`], [`silence`] | which instances may get traffic |
//! | [`discovery`] | which addresses of a name are instances |
//! | [`slow_start`], [`capacity`] | how much of it they get, and who helps where too few are left |
//! | [`balance`], [`retry`] | which instance gets a request, and whether another one may get it again |
//! | [`deploy`] | whether a new release proves itself, and what follows |
//! | [`supervise`], [`rollout`] | which processes should run |
//! | [`scale`] | how many of them |
//! | [`away`] | when a service returns to what it prefers |
//! | [`ambiguity`] | kinds of ambiguous requests, and whose are told |
//! | [`watchdog`] | whether a process that should speak has stopped |
//! | [`failover`], [`engine`] | which instance of a database is primary; how far each is |
//! | [`status`] | what the API and the command line show |
//! | [`doctor`] | what is wrong with a machine or a stack, and the way out |
//! | [`journal`], [`why`] | events and decisions with their reasons |
//! | [`words`] | numbers as people read them |
//! | [`objectives`] | how much may still go wrong |
//! | [`drill`] | rehearsals and their verdicts |
//! | [`secret`], [`access`] | values that cannot be printed; who may do what |

pub mod access;
pub mod ambiguity;
pub mod away;
pub mod balance;
pub mod capacity;
pub mod deploy;
pub mod discovery;
pub mod doctor;
pub mod drill;
pub mod ejection;
pub mod engine;
pub mod failover;
pub mod guard;
pub mod health;
pub mod journal;
pub mod link;
pub mod objectives;
pub mod overrides;
pub mod path;
pub mod pause;
pub mod retry;
pub mod rollout;
pub mod scale;
pub mod scarcity;
pub mod secret;
pub mod silence;
pub mod slow_start;
pub mod snapshot;
pub mod stack;
pub mod status;
pub mod supervise;
pub mod time;
pub mod watchdog;
pub mod why;
pub mod words;
