//! What the edge gives up before it serves, and the one thing it takes.
//!
//! The edge reads bytes from strangers. It needs no privilege: its sockets come from the guard and all else is
//! connecting and reading. So it gives up gaining privileges by `execve`, every capability, dumping its memory,
//! and raises its bound on open files as far as permitted. A step that the kernel refuses is reported, never
//! fatal: a container may have taken the right to give rights up.
//!
//! Called once, before any other thread exists, since capabilities belong to threads.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};

/// A step that was not permitted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{step}: {cause}")]
pub(crate) struct NotPermitted {
    /// What was tried.
    pub(crate) step: &'static str,
    /// What the kernel said.
    #[source]
    pub(crate) cause: Errno,
}

type Step = fn() -> Result<(), Errno>;

/// Takes all steps and returns those that were not permitted (`prctl(2)`, `capabilities(7)`, `getrlimit(2)`).
pub(crate) fn enter() -> Vec<NotPermitted> {
    let steps: [(&'static str, Step); 7] = [
        ("raise the bound on open files", raise_open_files),
        ("forbid core dumps", forbid_core_dumps),
        ("forbid gaining privileges", || set_no_new_privs(true)),
        ("empty the ambient capabilities", clear_ambient_capability_set),
        ("empty the bounding set of capabilities", empty_bounding_set),
        ("drop all capabilities", drop_capabilities),
        ("forbid reading this process's memory", || set_dumpable_behavior(DumpableBehavior::NotDumpable)),
    ];
    let failed = steps.into_iter().map(|(step, take)| (step, take()));
    failed.filter_map(|(step, result)| result.err().map(|cause| NotPermitted { step, cause })).collect()
}

fn raise_open_files() -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}

fn forbid_core_dumps() -> Result<(), Errno> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

/// Only a process with `CAP_SETPCAP` may; without that one the set does not matter, since nothing can be gained
/// from it under "no new privileges".
fn empty_bounding_set() -> Result<(), Errno> {
    for (_, capability) in CapabilitySet::all().iter_names() {
        match remove_capability_from_bounding_set(capability) {
            // An older kernel does not know the newest ones, and who may not remove any has none to lose.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn drop_capabilities() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
