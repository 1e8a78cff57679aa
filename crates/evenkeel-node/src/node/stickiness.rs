//! The key by which clients are led back to their instances ([`TokenKey`]).
//!
//! It belongs to the state directory, where it is kept for this user alone, and to no edge, so that cookies outlive every
//! process of ours. Edges get it from the guard, in memory without a name, before they serve anything: one that starts
//! while there is no node process has it as well. It stands in no snapshot, no status and no log.

use evenkeel_core::{
    balance::TokenKey,
    guard::{Order, TOKENS_KEY},
};

use super::{Node, publish::in_memory};
use crate::state_dir::{StateDir, replace_private};

/// Its name in the state directory.
const FILE: &str = "cookies.json";

type Bytes = [u8; TokenKey::BYTES];

impl Node {
    /// Lets the guard hold the key, unless it does: then the edge that runs has it, whatever became of the file.
    pub(super) fn hold_token_key(&mut self, is_held: bool) {
        if is_held {
            return;
        }
        let (key, kept) = key_of(&self.dir);
        let given = in_memory("keel-cookies", &key).map(|fd| {
            let order = Order::Hold { key: TOKENS_KEY.to_owned() };
            self.orders.give_with(&order, fd).expect("a short order fits into a packet");
        });
        if let Err(error) = given.and(kept) {
            let problem = format!(
                "the key of sticky cookies cannot be kept ({error}): clients will have to be given new cookies, and \
                 may be led to other instances"
            );
            self.problems.insert("cookies", problem);
        }
    }
}

/// The key of a state directory, made where there is none; and whether it is on disk.
fn key_of(dir: &StateDir) -> (Bytes, std::io::Result<()>) {
    let path = dir.path(FILE);
    if let Some(kept) = dir.read_json(&path) {
        return (kept, Ok(()));
    }
    let mut fresh = Bytes::default();
    getrandom::fill(&mut fresh).expect("the kernel gives random bytes");
    // What is there and cannot be read now may be read the next time: nothing takes its place.
    if let Some(error) = std::fs::read(&path).err().filter(|error| error.kind() != std::io::ErrorKind::NotFound) {
        return (fresh, Err(error));
    }
    let text = serde_json::to_vec(&fresh).expect("numbers are JSON");
    (fresh, replace_private(&path, &text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_of_a_state_directory_stays_and_is_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("state")).unwrap();
        let (key, kept) = key_of(&dir);
        kept.unwrap();
        assert_eq!(key_of(&dir).0, key);
        let mode = std::fs::metadata(dir.path(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(key_of(&StateDir::open(&other.path().join("state")).unwrap()).0, key);
        // What is damaged is set aside and said, and another one takes its place.
        std::fs::write(dir.path(FILE), "[1,2]").unwrap();
        let (fresh, kept) = key_of(&dir);
        kept.unwrap();
        assert!(fresh != key && dir.damage().iter().any(|damage| damage.contains(FILE)), "{:?}", dir.damage());
        assert_eq!(key_of(&dir).0, fresh);
    }
}
