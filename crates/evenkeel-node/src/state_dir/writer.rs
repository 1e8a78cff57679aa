//! Writing a file that is replaced often, on a thread: only the newest content counts, and a slow or full disk is
//! nobody's delay. The owner learns of a failure by asking.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use super::replace;

/// Writes the newest content of one file.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<(Mutex<Slot>, Condvar)>,
}

#[derive(Debug, Default)]
struct Slot {
    newest: Option<Vec<u8>>,
    failure: Option<String>,
    closed: bool,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(path: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Slot::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("keel-snapshot".to_owned()).spawn(move || write_newest(&path, &theirs))?;
        Ok(Self { shared })
    }

    /// Has `bytes` written, in place of whatever still waits.
    pub(crate) fn write(&self, bytes: Vec<u8>) {
        let (slot, wake) = &*self.shared;
        slot.lock().unwrap_or_else(PoisonError::into_inner).newest = Some(bytes);
        wake.notify_one();
    }

    /// Why the last attempt failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (slot, wake) = &*self.shared;
        slot.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        wake.notify_one();
    }
}

fn write_newest(path: &std::path::Path, shared: &(Mutex<Slot>, Condvar)) {
    let (slot, wake) = shared;
    loop {
        let mut guard = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = loop {
            if let Some(bytes) = guard.newest.take() {
                break bytes;
            }
            if guard.closed {
                return;
            }
            guard = wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        let failure = replace(path, &bytes).err().map(|error| error.to_string());
        slot.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }
}
