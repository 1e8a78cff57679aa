//! What the guard needs of Linux that is a little more than one call.

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod log;
pub(crate) mod proctree;
pub(crate) mod rehearsal;
pub(crate) mod setup;
pub(crate) mod signals;
pub(crate) mod timer;
pub(crate) mod words;
