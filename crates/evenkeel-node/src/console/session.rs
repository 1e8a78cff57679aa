//! Sessions: what a browser has that signed in to the console.
//!
//! A session is a random number of 256 bits that the browser keeps in a cookie which no script can read. Here only its
//! SHA-256 is kept, with whom it stands for, so that neither a restart of the node process signs anybody out nor a
//! copy of the state directory lets anybody in. It ends after [`LASTS_MS`], when it is ended, and with the token that
//! it was begun by. The second secret, which a page shows to its own script and every change must repeat, is derived
//! from the first one in one direction: who has read a page has not got the cookie.
//!
//! The file `sessions.json` belongs to this module alone. Where it cannot be written, on a full disk for one, sessions
//! live in memory: a console that does not open then would be missing when it is needed.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header::COOKIE, request::Parts},
};
use evenkeel_core::{
    access::{Role, SESSION_COOKIE},
    secret::Secret,
    time::WallTime,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    secrets::hex,
    state_dir::replace_private,
    tokens::{Token, Tokens, equal, hash},
};

/// How long a session lasts at most.
pub(crate) const LASTS_MS: u64 = 12 * 3600 * 1000;

/// How many there are at most; whoever signs in beyond takes the place of the oldest.
const MOST: usize = 256;

/// On whose behalf something is asked, and with what right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Standing {
    /// As `root (uid 0)` or `token ci`.
    pub(crate) who: String,
    pub(crate) role: Role,
    /// The token whose end is also the end of this right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Token>,
}

/// One session, without the number that it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Session {
    #[serde(flatten)]
    pub(crate) standing: Standing,
    pub(crate) begun: WallTime,
    pub(crate) ends: WallTime,
}

/// A session as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    session: Session,
    /// SHA-256 of its number as text, in hexadecimal.
    sha256: String,
}

/// All sessions of a stack. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    path: PathBuf,
    tokens: Tokens,
    kept: Arc<RwLock<Vec<Kept>>>,
}

impl Sessions {
    /// Reads the file. One that is damaged costs everybody their session, and nothing else.
    pub(crate) fn open(path: &Path, tokens: Tokens) -> Self {
        let kept = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path: path.to_owned(), tokens, kept: Arc::new(RwLock::new(kept)) }
    }

    /// Begins a session and returns its number, which nobody can be told again.
    pub(crate) fn begin(&self, standing: Standing, now: WallTime) -> (Session, Secret) {
        let id = random();
        let ends = WallTime::from_millis(now.as_millis().saturating_add(LASTS_MS));
        let session = Session { standing, begun: now, ends };
        let kept = Kept { session: session.clone(), sha256: hash(id.expose()) };
        self.change(now, |sessions| {
            if sessions.len() >= MOST {
                sessions.remove(0);
            }
            sessions.push(kept);
        });
        (session, id)
    }

    /// The session of a number, while it lasts.
    pub(crate) fn look_up(&self, id: &str, now: WallTime) -> Option<Session> {
        let wanted = hash(id);
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for kept in kept.iter() {
            if equal(kept.sha256.as_bytes(), wanted.as_bytes()) {
                found = Some(&kept.session);
            }
        }
        found.filter(|session| self.lasts(session, now)).cloned()
    }

    /// Ends the session of a number, if there is one.
    pub(crate) fn end(&self, id: &str, now: WallTime) {
        let gone = hash(id);
        self.change(now, |sessions| sessions.retain(|kept| kept.sha256 != gone));
    }

    /// Ends all sessions and returns how many there were.
    pub(crate) fn end_all(&self, now: WallTime) -> usize {
        let mut ended = 0;
        self.change(now, |sessions| {
            ended = sessions.len();
            sessions.clear();
        });
        ended
    }

    /// Those that last, oldest first.
    pub(crate) fn list(&self, now: WallTime) -> Vec<Session> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|kept| &kept.session).filter(|session| self.lasts(session, now)).cloned().collect()
    }

    fn lasts(&self, session: &Session, now: WallTime) -> bool {
        session.ends > now && session.standing.token.as_ref().is_none_or(|token| self.tokens.is_valid(token, now))
    }

    /// Changes the list and keeps what lasts of it.
    fn change(&self, now: WallTime, change: impl FnOnce(&mut Vec<Kept>)) {
        let mut guard = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        guard.retain(|kept| self.lasts(&kept.session, now));
        change(&mut guard);
        let bytes = serde_json::to_vec_pretty(&*guard).expect("sessions are plain text");
        let Err(error) = replace_private(&self.path, &bytes) else { return };
        tracing::warn!(path = %self.path.display(), %error, "sessions of the console are only in memory");
        // Otherwise the next node process would believe sessions that were ended. To remove takes no space.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(path = %self.path.display(), %error, "ended sessions may come back with a restart");
        }
    }
}

/// 256 random bits as text.
pub(super) fn random() -> Secret {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    let text = Secret::new(hex(&bytes));
    bytes.fill(0);
    text
}

/// What a page must repeat in `X-Keel-Csrf` with every change, for the session of this number.
pub(crate) fn csrf_of(id: &str) -> String {
    hex(&Sha256::digest(format!("the page of a session\0{id}").as_bytes()))
}

/// Whether somebody repeats it, found out in a time that tells nothing.
pub(crate) fn is_csrf(id: &str, shown: &str) -> bool {
    equal(csrf_of(id).as_bytes(), shown.as_bytes())
}

/// The name of the cookie at an address, as `127.0.0.1:9400`. Browsers do not tell ports apart, so the port is part of it:
/// consoles of two stacks on one machine would sign each other out.
fn cookie_name(authority: &str) -> String {
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(80);
    format!("{SESSION_COOKIE}_{port}")
}

/// The number of the session that a browser shows (RFC 6265, section 4.2.1).
pub(crate) fn shown<'a>(headers: &'a HeaderMap, authority: &str) -> Option<&'a str> {
    let name = cookie_name(authority);
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| value)
}

/// The header field that gives a browser its session (RFC 6265, section 4.1).
pub(super) fn cookie(authority: &str, id: &Secret) -> String {
    let name = cookie_name(authority);
    format!("{name}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", id.expose(), LASTS_MS / 1000)
}

/// The one that takes it away.
pub(super) fn no_cookie(authority: &str) -> String {
    format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0", cookie_name(authority))
}

/// Who is signed in, as pages need it. Whoever showed a token has no session and so no `csrf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// As `root (uid 0)` or `token ci`.
    pub(crate) who: String,
    pub(crate) role: Role,
    /// What the page's script repeats in `X-Keel-Csrf`.
    pub(crate) csrf: String,
    /// When this ends, if it does.
    pub(crate) ends: Option<WallTime>,
}

impl<S: Sync> OptionalFromRequestParts<S> for Signed {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for Signed {
    type Rejection = axum::http::StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(axum::http::StatusCode::UNAUTHORIZED)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: WallTime = WallTime::from_millis(1_000_000);

    fn after(ms: u64) -> WallTime {
        WallTime::from_millis(NOW.as_millis() + ms)
    }

    fn of(who: &str, role: Role) -> Standing {
        Standing { who: who.to_owned(), role, token: None }
    }

    #[test]
    fn a_session_outlives_the_process_and_ends_in_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sessions.json");
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&path, tokens.clone());
        let (session, id) = sessions.begin(of("root (uid 0)", Role::Admin), NOW);
        let file = fs::read_to_string(&path).unwrap();
        assert!(!file.contains(id.expose()) && !file.contains(&csrf_of(id.expose())));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let sessions = Sessions::open(&path, tokens.clone());
        assert_eq!(sessions.look_up(id.expose(), NOW), Some(session));
        assert_eq!(sessions.look_up(id.expose(), after(LASTS_MS)), None);
        for wrong in ["", &id.expose()[1..], &format!("{}0", id.expose()), &hash(id.expose())] {
            assert_eq!(sessions.look_up(wrong, NOW), None);
        }
        sessions.end(id.expose(), NOW);
        assert_eq!(sessions.look_up(id.expose(), NOW), None);
        assert!(Sessions::open(&path, tokens).list(NOW).is_empty());
    }

    #[test]
    fn a_session_ends_with_its_token_also_when_another_gets_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&temp.path().join("sessions.json"), tokens.clone());
        let (token, _) = tokens.create("ops", Role::Operator, NOW, Some(after(5000))).unwrap();
        let standing = Standing { token: Some(token), ..of("token ops", Role::Operator) };
        let (_, id) = sessions.begin(standing, NOW);
        assert!(sessions.look_up(id.expose(), after(4999)).is_some());
        assert!(sessions.look_up(id.expose(), after(5000)).is_none());
        tokens.revoke("ops").unwrap();
        assert!(sessions.look_up(id.expose(), NOW).is_none());
        tokens.create("ops", Role::Operator, after(1), Some(after(5000))).unwrap();
        assert!(sessions.look_up(id.expose(), after(2)).is_none());
    }

    #[test]
    fn they_are_bounded_and_need_no_disk() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&temp.path().join("missing/sessions.json"), tokens);
        let (_, first) = sessions.begin(of("a", Role::Viewer), NOW);
        let others: Vec<Secret> = (0..MOST).map(|_| sessions.begin(of("b", Role::Viewer), NOW).1).collect();
        assert!(sessions.look_up(first.expose(), NOW).is_none());
        assert!(others.iter().all(|id| sessions.look_up(id.expose(), NOW).is_some()));
        assert_eq!((sessions.end_all(NOW), sessions.list(NOW).len()), (MOST, 0));
    }

    #[test]
    fn cookies_of_two_ports_are_two() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=b; keel_session_9400=x; keel_session_9401=y".parse().unwrap());
        assert_eq!(shown(&headers, "127.0.0.1:9400"), Some("x"));
        assert_eq!(shown(&headers, "localhost:9401"), Some("y"));
        assert_eq!(shown(&headers, "keel.internal"), None);
        let set = cookie("[::1]:9400", &Secret::new("x"));
        assert!(set.starts_with("keel_session_9400=x;") && set.contains("HttpOnly; SameSite=Strict"), "{set}");
    }

    #[test]
    fn what_a_page_shows_is_not_what_the_cookie_holds() {
        let (a, b) = (random(), random());
        assert!(is_csrf(a.expose(), &csrf_of(a.expose())) && !is_csrf(a.expose(), &csrf_of(b.expose())));
        assert!(!is_csrf(a.expose(), a.expose()) && !is_csrf(a.expose(), ""));
    }
}
