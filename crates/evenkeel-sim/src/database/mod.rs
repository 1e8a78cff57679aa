//! A seeded world of one replicated database: instances with logs on disks, agents that run the core's failover, a store,
//! a network, edges and writing clients.
//!
//! Each member has a node of its own with an agent, an instance and a guard. What decides is [`evenkeel_core::failover`]; what is
//! modelled here is everything around it, as unkind as the real thing: a configuration that takes effect process by
//! process, processes that outlive their parent, answers that come after they mattered, timelines, disks that stall,
//! machines that stop for seconds and go on as if nothing had been.
//!
//! | module | concern |
//! | --- | --- |
//! | [`world`] | the loop: takes the next event and hands it on |
//! | [`scenario`] | what a seed asks for |
//! | [`instance`] | an engine: its log, who receives from whom, what it acknowledges |
//! | [`agent`] | the shell around the core's decisions |
//! | [`store`], [`network`] | compare-and-swap, and who reaches whom |
//! | [`clients`] | edges, writers and readers, and the ledger of what they were told |
//! | [`checks`] | what must hold |

mod agent;
mod checks;
mod clients;
mod cycle;
mod engine;
mod event;
mod instance;
mod network;
mod scenario;
mod steps;
mod store;
mod storing;
mod striking;
mod traffic;
mod words;
mod world;

pub use checks::Violation;
pub use world::{Options, Outcome, run};
