//! API tokens: what programs and people elsewhere show instead of being this user.
//!
//! A token is shown once, when it is made; here only its SHA-256 is kept, with a name, a role and an end. A token has
//! 256 random bits, so its plain hash gives nothing away. Looking one up takes the same time whichever it is, and
//! whether it is there. The file `tokens.json` belongs to this module alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use evenkeel_core::{access::Role, secret::Secret, time::WallTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{secrets::hex, state_dir::replace_private};

/// What every token begins with, so that scanners of repositories find it.
const PREFIX: &str = "keel_";

/// One token, without what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) created: WallTime,
    /// From then on it is refused; `None`: never.
    pub(crate) expires: Option<WallTime>,
}

/// A token as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    token: Token,
    /// SHA-256 of the whole text, in hexadecimal.
    sha256: String,
}

/// What a text that somebody shows is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// This token.
    Valid(Token),
    /// One that has ended.
    Expired(Token),
    /// None of ours.
    Unknown,
}

/// Why a token was not made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("there is a token `{0}` already")]
    Taken(String),
    #[error("there is no token `{0}`")]
    Unknown(String),
    #[error("`{0}` is not a name of a token")]
    Name(String),
    #[error("the tokens cannot be kept in {path}: {source}")]
    Kept { path: PathBuf, source: io::Error },
    #[error("{0} is damaged, so no token is accepted")]
    Damaged(PathBuf),
}

/// All tokens of a stack. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    kept: Arc<RwLock<Option<Vec<Kept>>>>,
    /// Held by whoever changes the list, so that those who show a token never wait for the disk.
    changing: Arc<Mutex<()>>,
}

impl Tokens {
    /// Reads the file. One that is damaged lets nobody in until it is removed.
    pub(crate) fn open(path: &Path) -> Self {
        let kept = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
            Err(_) => None,
        };
        Self { path: path.to_owned(), kept: Arc::new(RwLock::new(kept)), changing: Arc::default() }
    }

    /// Whether a token of that name could be made.
    pub(crate) fn must_be_free(&self, name: &str) -> Result<(), TokenError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            return Err(TokenError::Name(name.to_owned()));
        }
        let taken = self.list()?.iter().any(|token| token.name == name);
        if taken { Err(TokenError::Taken(name.to_owned())) } else { Ok(()) }
    }

    /// Makes a token and returns its text, which nobody can be told again. Waits for the disk.
    pub(crate) fn create(
        &self,
        name: &str,
        role: Role,
        now: WallTime,
        expires: Option<WallTime>,
    ) -> Result<(Token, Secret), TokenError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the kernel gives random bytes");
        let text = Secret::new(format!("{PREFIX}{}", hex(&random)));
        random.fill(0);
        let token = Token { name: name.to_owned(), role, created: now, expires };
        let kept = Kept { token: token.clone(), sha256: hash(text.expose()) };
        self.change(|tokens| {
            self.must_be_free(name)?;
            tokens.push(kept);
            Ok(())
        })?;
        Ok((token, text))
    }

    /// Removes a token; from now on it is unknown. Waits for the disk.
    pub(crate) fn revoke(&self, name: &str) -> Result<(), TokenError> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|kept| kept.token.name != name);
            if tokens.len() == before { Err(TokenError::Unknown(name.to_owned())) } else { Ok(()) }
        })
    }

    /// All tokens in the order in which they were made.
    pub(crate) fn list(&self) -> Result<Vec<Token>, TokenError> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref().ok_or_else(|| TokenError::Damaged(self.path.clone()))?;
        Ok(kept.iter().map(|kept| kept.token.clone()).collect())
    }

    /// Which token a text is.
    pub(crate) fn look_up(&self, text: &str, now: WallTime) -> Shown {
        let wanted = hash(text);
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for kept in kept.iter().flatten() {
            if equal(kept.sha256.as_bytes(), wanted.as_bytes()) {
                found = Some(&kept.token);
            }
        }
        match found {
            None => Shown::Unknown,
            Some(token) if token.expires.is_some_and(|end| end <= now) => Shown::Expired(token.clone()),
            Some(token) => Shown::Valid(token.clone()),
        }
    }

    /// Whether a token that was found valid still is: neither revoked nor over.
    pub(crate) fn is_valid(&self, token: &Token, now: WallTime) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        token.expires.is_none_or(|end| end > now) && kept.iter().flatten().any(|kept| kept.token == *token)
    }

    /// Changes the list, on disk before in memory.
    fn change(&self, change: impl FnOnce(&mut Vec<Kept>) -> Result<(), TokenError>) -> Result<(), TokenError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut next = kept.ok_or_else(|| TokenError::Damaged(self.path.clone()))?;
        change(&mut next)?;
        let bytes = serde_json::to_vec_pretty(&next).expect("tokens are plain text");
        replace_private(&self.path, &bytes).map_err(|source| TokenError::Kept { path: self.path.clone(), source })?;
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
        Ok(())
    }
}

/// SHA-256 of a text, in hexadecimal.
pub(crate) fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Compares in a time that tells nothing of where the difference is.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: WallTime = WallTime::from_millis(1_000_000);

    #[test]
    fn nobody_who_shows_a_token_waits_for_one_that_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let (_, ci) = tokens.create("ci", Role::Operator, NOW, None).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let shown = tokens.clone();
        // As if the disk did not answer whoever makes one.
        tokens
            .change(|_| {
                std::thread::spawn(move || tell.send(matches!(shown.look_up(ci.expose(), NOW), Shown::Valid(_))));
                assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_token_is_known_until_it_ends_or_is_revoked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokens.json");
        let tokens = Tokens::open(&path);
        let (_, ci) = tokens.create("ci", Role::Operator, NOW, None).unwrap();
        let end = WallTime::from_millis(2_000_000);
        let (_, guest) = tokens.create("guest", Role::Viewer, NOW, Some(end)).unwrap();
        assert!(ci.expose().starts_with("keel_") && ci.expose().len() == 69);
        let file = fs::read_to_string(&path).unwrap();
        assert!(!file.contains(ci.expose()) && !file.contains(&ci.expose()[5..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let tokens = Tokens::open(&path);
        let role = |text: &Secret, now| match tokens.look_up(text.expose(), now) {
            Shown::Valid(token) => Some(token.role),
            _ => None,
        };
        assert_eq!((role(&ci, end), role(&guest, NOW)), (Some(Role::Operator), Some(Role::Viewer)));
        assert!(matches!(tokens.look_up(guest.expose(), end), Shown::Expired(token) if token.name == "guest"));
        for wrong in ["", "keel_", &ci.expose()[..60], &format!("{}0", ci.expose())] {
            assert_eq!(tokens.look_up(wrong, NOW), Shown::Unknown);
        }
        assert!(matches!(tokens.create("ci", Role::Admin, NOW, None), Err(TokenError::Taken(_))));
        assert!(matches!(tokens.create("a b", Role::Admin, NOW, None), Err(TokenError::Name(_))));
        tokens.revoke("ci").unwrap();
        assert!(matches!(tokens.revoke("ci"), Err(TokenError::Unknown(_))));
        assert_eq!(tokens.look_up(ci.expose(), NOW), Shown::Unknown);
        assert_eq!(Tokens::open(&path).list().unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokens.json");
        fs::write(&path, "[{").unwrap();
        let tokens = Tokens::open(&path);
        assert_eq!(tokens.look_up("keel_", NOW), Shown::Unknown);
        assert!(matches!(tokens.create("a", Role::Admin, NOW, None), Err(TokenError::Damaged(_))));
        assert_eq!(fs::read(&path).unwrap(), b"[{");
    }
}
