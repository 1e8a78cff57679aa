//! A seeded world that runs the core under faults and checks invariants.
//!
//! One thread, one heap of events, one clock that jumps from event to event. What decides is the production core;
//! what surrounds it (processes, network, guard, the shells of edge and node process) is modelled here. A run is a
//! function of its seed: the same seed gives the same trace, so a failure that is found once can be looked at as
//! often as needed. Nothing here is part of the product, and nothing here decides what the product would decide.
//!
//! | module | concern |
//! | --- | --- |
//! | [`world`] | the loop: takes the next event, hands it on, lets the invariants judge what happened |
//! | [`scenario`], [`fault`] | what a seed asks for: settings, load, faults |
//! | [`fleet`] | processes of instances, and what the guard does with them |
//! | [`edge`], [`node`] | shells around the core, as the two processes have them |
//! | [`client`] | open-loop requests and the ledger of what became of them |
//! | [`invariants`] | one file for each |
//! | [`trace`], [`coverage`] | what happened, and how much of what can happen was seen |

pub mod client;
pub mod context;
pub mod coverage;
pub mod database;
pub mod edge;
pub mod fact;
pub mod fault;
pub mod fleet;
pub mod invariants;
pub mod node;
pub mod queue;
pub mod rng;
pub mod sabotage;
pub mod scenario;
pub mod trace;
pub mod world;

pub use crate::{
    coverage::Coverage,
    sabotage::Sabotage,
    world::{Options, Outcome, Violation, run},
};
