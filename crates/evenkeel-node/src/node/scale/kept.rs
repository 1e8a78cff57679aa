//! Small facts that a restart depends on, one JSON file each in the state directory.

use std::{io, path::Path};

use serde::Serialize;

use crate::state_dir::replace;

/// Replaces it whole.
pub(in crate::node) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}
