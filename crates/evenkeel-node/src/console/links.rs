//! Links to sign in with: each works once, for a few minutes.
//!
//! `keel console` asks for one over the control socket and prints it. They live in memory: whoever restarts the node
//! process between asks for another. Only the SHA-256 of a link's code is kept. A link gives on a right that somebody
//! has, so it works no longer than that: it knows the token and the session by which it was made, and whoever takes it
//! asks whether both last.

use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_core::{secret::Secret, time::WallTime};

use super::session::{Standing, random};
use crate::tokens::{equal, hash};

/// How long a link works.
pub(crate) const LASTS_MS: u64 = 5 * 60 * 1000;

/// How many links are kept that one made and nobody used; beyond that the oldest of those works no more.
const MOST: usize = 32;

/// What a link gives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// For whom whoever opens it stands.
    pub(super) standing: Standing,
    /// SHA-256 of the number of the session by which it was made, in hexadecimal; `None` where it was made without one.
    pub(super) session: Option<String>,
}

#[derive(Debug)]
struct Link {
    sha256: String,
    given: Given,
    ends: WallTime,
}

/// Links that nobody used yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Arc<Mutex<Vec<Link>>>);

impl Links {
    /// Makes one; its code and when it ends.
    pub(super) fn make(&self, given: Given, now: WallTime) -> (Secret, WallTime) {
        let code = random();
        let ends = WallTime::from_millis(now.as_millis().saturating_add(LASTS_MS));
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.ends > now);
        let own = |link: &Link| link.given.standing.is_of_the_same(&given.standing);
        if links.iter().filter(|link| own(link)).count() >= MOST
            && let Some(oldest) = links.iter().position(own)
        {
            links.remove(oldest);
        }
        links.push(Link { sha256: hash(code.expose()), given, ends });
        (code, ends)
    }

    /// Uses one up: what it gives on.
    pub(super) fn take(&self, code: &str, now: WallTime) -> Option<Given> {
        let wanted = hash(code);
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.ends > now);
        let found = links.iter().position(|link| equal(link.sha256.as_bytes(), wanted.as_bytes()))?;
        Some(links.remove(found).given)
    }

    /// Nobody signs in with any of those that there are.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::access::Role;

    use super::*;

    #[test]
    fn a_link_works_once_and_for_a_while() {
        let now = WallTime::from_millis(1_000_000);
        let links = Links::default();
        let given = |who: &str| Given {
            standing: Standing { who: who.to_owned(), role: Role::Viewer, token: None },
            session: None,
        };
        let (root, other) = (given("root (uid 0)"), given("keel (uid 7)"));
        let (code, ends) = links.make(root.clone(), now);
        assert_eq!(links.take("", now), None);
        assert_eq!(links.take(code.expose(), now), Some(root.clone()));
        assert_eq!(links.take(code.expose(), now), None);
        let (code, _) = links.make(root.clone(), now);
        assert_eq!(links.take(code.expose(), ends), None);
        let (first, _) = links.make(root.clone(), now);
        let (theirs, _) = links.make(other.clone(), now);
        for _ in 0..MOST {
            links.make(root.clone(), now);
        }
        assert_eq!(links.take(first.expose(), now), None);
        assert_eq!(links.take(theirs.expose(), now), Some(other), "nobody else's makes room");
        let (code, _) = links.make(root, now);
        links.forget();
        assert_eq!(links.take(code.expose(), now), None);
    }
}
