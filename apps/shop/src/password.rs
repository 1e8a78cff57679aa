//! Passwords: argon2id with the parameters that OWASP's Password Storage Cheat Sheet gives as a minimum
//! (19 MiB, two passes, one lane), which are the library's defaults.
//!
//! One hash takes tens of milliseconds of a core and 19 MiB, so hashing runs on threads of its own, few at a
//! time, with a bounded queue: a flood of sign-ins costs sign-ins their speed and the rest of the shop nothing.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::error::ShopError;

/// Hashes computed at the same time.
const AT_ONCE: usize = 2;
/// Hashes that may be computed or waited for.
const QUEUE: usize = 32;

/// Hashes and verifies passwords. Clones share the bounds.
#[derive(Clone)]
pub(crate) struct Passwords {
    working: Arc<Semaphore>,
    queued: Arc<Semaphore>,
    /// A hash of no password, verified against where there is no account, so that the time to an answer does not
    /// tell which addresses have one.
    nobody: Arc<str>,
}

impl Passwords {
    /// Blocks for the time of one hash.
    pub(crate) fn new() -> Result<Self, ShopError> {
        let nobody = hash(&crate::domain::random_token(32)?)?;
        Ok(Self {
            working: Arc::new(Semaphore::new(AT_ONCE)),
            queued: Arc::new(Semaphore::new(QUEUE)),
            nobody: nobody.into(),
        })
    }

    /// The hash of `password` with a new salt, as a PHC string.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ShopError> {
        self.work(move || hash(&password)).await
    }

    /// Whether `password` has the hash `expected`. Without one the answer is no, after the same work.
    pub(crate) async fn verify(&self, password: String, expected: Option<String>) -> Result<bool, ShopError> {
        let known = expected.is_some();
        let expected = expected.unwrap_or_else(|| self.nobody.to_string());
        self.work(move || {
            let expected = PasswordHash::new(&expected)
                .map_err(|error| ShopError::Damaged(format!("a stored password hash: {error}")))?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &expected).is_ok() && known)
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ShopError> + Send + 'static,
    ) -> Result<T, ShopError> {
        let busy = || ShopError::Unavailable("too many people are signing in");
        let _queued = self.queued.try_acquire().map_err(|_| busy())?;
        let working = Arc::clone(&self.working).acquire_owned().await.map_err(|_| busy())?;
        let work = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller that goes away does not make room before the work is done.
            let _working = working;
            work()
        });
        work.await.unwrap_or(Err(ShopError::Unavailable("the password's task failed")))
    }
}

fn hash(password: &str) -> Result<String, ShopError> {
    Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|error| {
        ShopError::System { what: "a password hash", source: std::io::Error::other(error.to_string()) }
    })
}

#[cfg(test)]
mod tests {
    use super::Passwords;

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct hors".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned(), None).await.unwrap());
    }
}
