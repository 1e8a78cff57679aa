//! Small facts that a restart depends on, one JSON file each in the state directory.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::state_dir::replace;

/// What was written last; `None` if nothing was, or if it cannot be understood, which is logged.
pub(in crate::node) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot be read");
            }
            return None;
        }
    };
    let value = serde_json::from_slice(&bytes);
    value.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "is damaged and is not used")).ok()
}

/// Replaces it whole.
pub(in crate::node) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}
