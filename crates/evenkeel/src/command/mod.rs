//! The commands, one file each: options, and what happens.
//!
//! A command gets a [`Context`](crate::context::Context) and returns how it ended; what it cannot do is a
//! [`Failure`](crate::failure::Failure) in words. Each ends with where to look and one command to try next.

pub(crate) mod apply;
pub(crate) mod completions;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod internal;
pub(crate) mod logs;
mod rollout;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod why;
