//! The commands, one file each: options, and what happens.
//!
//! A command gets a [`Context`](crate::context::Context) and returns how it ended; what it cannot do is a
//! [`Failure`](crate::failure::Failure) in words. Each ends with where to look and one command to try next.

pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod console;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod internal;
pub(crate) mod logs;
mod ordered;
pub(crate) mod pause;
pub(crate) mod restart;
pub(crate) mod resume;
pub(crate) mod rollback;
mod rollout;
pub(crate) mod scale;
pub(crate) mod secret;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod why;
