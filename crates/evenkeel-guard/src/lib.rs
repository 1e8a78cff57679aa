//! The guard: parent of every process on a node.
//!
//! `keel up` is this and nothing else: it starts the node process and the edge and restarts them when they die,
//! starts instances below stubs of their own, holds duplicates of listeners and output pipes so that nothing is
//! refused and nothing gets EPIPE while a process is replaced, and keeps the table of deadlines by which a process
//! is killed. It decides nothing: the node process gives orders.
//!
//! It has one thread, no async runtime, no network and, once started, no files but `/proc` and cgroups. It never
//! waits for a peer: what a peer does not take is queued, and a peer whose queue overflows is killed and
//! restarted. What a peer sends cannot end it.
//!
//! When it is killed, instances live on below their stubs, and the next guard adopts them, unless it was told
//! otherwise. The node process and the edge die with it.
//!
//! Two entrances: [`run`] is the guard, [`stub()`] the process between the guard and one instance.
//!
//! | module | concern |
//! | --- | --- |
//! | `guard` | the guard's state and its loop |
//! | `stub` | the process that starts one instance and outlives all of its descendants |
//! | [`channel`] | packets and descriptors over a socket pair |
//! | `activation` | what the system's service manager hands over at the start |
//! | `launch`, `backoff` | starting the node process, the edge and stubs; how soon again |
//! | `os` | the few things that neither std nor rustix has, and what is read from `/proc` and cgroups |

pub mod channel;

mod activation;
mod backoff;
mod guard;
mod launch;
mod os;
mod stub;

pub use activation::{ACTIVATION_VARIABLES, Activation};
pub use guard::{End, GuardConfig, Stop, run};
pub use os::signals::outlive_file_limits;
pub use stub::stub;
