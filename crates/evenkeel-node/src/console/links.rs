//! Links to sign in with: each works once, for a few minutes.
//!
//! `keel console` asks for one over the control socket and prints it. They live in memory: whoever restarts the node
//! process between asks for another. Only the SHA-256 of a link's code is kept.

use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_core::{secret::Secret, time::WallTime};

use super::session::{Standing, random};
use crate::tokens::{equal, hash};

/// How long a link works.
pub(crate) const LASTS_MS: u64 = 5 * 60 * 1000;

/// How many links that nobody used are kept; beyond that the oldest works no more.
const MOST: usize = 32;

#[derive(Debug)]
struct Link {
    sha256: String,
    standing: Standing,
    ends: WallTime,
}

/// Links that nobody used yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Arc<Mutex<Vec<Link>>>);

impl Links {
    /// Makes one; its code and when it ends.
    pub(crate) fn make(&self, standing: Standing, now: WallTime) -> (Secret, WallTime) {
        let code = random();
        let ends = WallTime::from_millis(now.as_millis().saturating_add(LASTS_MS));
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.ends > now);
        if links.len() >= MOST {
            links.remove(0);
        }
        links.push(Link { sha256: hash(code.expose()), standing, ends });
        (code, ends)
    }

    /// Uses one up: with what right it signs in.
    pub(crate) fn take(&self, code: &str, now: WallTime) -> Option<Standing> {
        let wanted = hash(code);
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.ends > now);
        let found = links.iter().position(|link| equal(link.sha256.as_bytes(), wanted.as_bytes()))?;
        Some(links.remove(found).standing)
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
        let standing = Standing { who: "root (uid 0)".to_owned(), role: Role::Viewer, token: None };
        let (code, ends) = links.make(standing.clone(), now);
        assert_eq!(links.take("", now), None);
        assert_eq!(links.take(code.expose(), now), Some(standing.clone()));
        assert_eq!(links.take(code.expose(), now), None);
        let (code, _) = links.make(standing.clone(), now);
        assert_eq!(links.take(code.expose(), ends), None);
        let (first, _) = links.make(standing.clone(), now);
        for _ in 0..MOST {
            links.make(standing.clone(), now);
        }
        assert_eq!(links.take(first.expose(), now), None);
        let (code, _) = links.make(standing, now);
        links.forget();
        assert_eq!(links.take(code.expose(), now), None);
    }
}
