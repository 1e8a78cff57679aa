//! The data plane: load balancing over HTTP.
//!
//! One control thread talks to the guard and the node process and decides about health; data threads, each with
//! its own runtime, listeners, pools and counters, serve requests. They share memory only through [`shared`] and
//! speak through [`messages`]. Each request sees one [`view`], which is a snapshot compiled for serving.
//!
//! | module | concern |
//! | --- | --- |
//! | [`run`] | the process: from the guard's channel to serving |
//! | `control`, [`probe`] | the control thread; one attempt to find out whether an instance is well |
//! | `sandbox` | what the process gives up before it serves |
//! | [`data`], `accept`, `thread`, `local`, `services` | the data threads, what one of them owns, what it keeps of a view |
//! | [`http`] | a request's life, from accept to record |
//! | [`routes`], [`actions`] | which service, and what is done on the way |
//! | [`stream`] | TCP and UDP listeners, PROXY headers |
//! | `pick`, `hold`, `pool` | which instance, waiting for one, connections to it |
//! | [`fastcgi`] | instances that speak it in place of HTTP |
//! | `slots`, `buffers`, `pipes`, [`clock`] | deadlines and wake-ups, memory, long bodies, time |
//! | [`view`], [`shared`], [`messages`] | what control thread and data threads have in common |

mod accept;
pub mod actions;
mod buffers;
pub mod choosing;
pub mod clients;
pub mod clock;
mod control;
pub mod data;
pub mod fastcgi;
mod hold;
pub mod http;
mod local;
pub mod messages;
mod pick;
mod pipes;
mod pool;
pub mod probe;
mod process;
pub mod routes;
mod sandbox;
mod scarce;
mod services;
pub mod shared;
mod slots;
pub mod stream;
mod thread;
pub mod view;

pub use self::{
    control::{ChannelError, End, serve},
    process::run,
};
