//! Sessions: what a browser has that signed in to the console.
//!
//! A session is a random number of 256 bits that the browser keeps in a cookie which no script can read. Here only its
//! SHA-256 is kept, with whom it stands for, so that neither a restart of the node process signs anybody out nor a
//! copy of the state directory lets anybody in. It ends after [`LASTS_MS`], when it is ended, and with the token that
//! it was begun by. The second secret, which a page shows to its own script and every change must repeat, is derived
//! from the first one in one direction: who has read a page has not got the cookie.
//!
//! The file `sessions.json` belongs to this module alone. Nobody who shows a session waits for it: it is written on
//! another thread, from what is in memory. Where it cannot be written, on a full disk for one, sessions live in memory:
//! a console that does not open then would be missing when it is needed.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
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

/// How many are begun by one token; whoever signs in beyond ends the oldest of that token, and nobody else's.
const MOST_OF_A_TOKEN: usize = 8;

/// How many stand for one user of this machine, who gives links to others.
const MOST_OF_A_USER: usize = 64;

/// How many numbers of sessions a browser may show at once.
const MOST_SHOWN: usize = 16;

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

impl Standing {
    /// Whether both stand for the same one, be it with another role.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.who, &self.token) == (&other.who, &other.token)
    }
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

/// All sessions, and how often they were changed.
#[derive(Debug, Default)]
struct List {
    kept: Vec<Kept>,
    changes: u64,
}

/// All sessions of a stack. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    path: PathBuf,
    tokens: Tokens,
    list: Arc<RwLock<List>>,
    /// The number of changes that the file has; held while it is written.
    written: Arc<Mutex<u64>>,
}

impl Sessions {
    /// Reads the file. One that is damaged costs everybody their session, and nothing else.
    pub(crate) fn open(path: &Path, tokens: Tokens) -> Self {
        let kept = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let list = Arc::new(RwLock::new(List { kept, changes: 0 }));
        Self { path: path.to_owned(), tokens, list, written: Arc::default() }
    }

    /// Begins a session and returns its number, which nobody can be told again.
    pub(crate) async fn begin(&self, standing: Standing, now: WallTime) -> (Session, Secret) {
        let id = random();
        let session = Session { standing, begun: now, ends: end_of(now) };
        let kept = Kept { session: session.clone(), sha256: hash(id.expose()) };
        let most = if kept.session.standing.token.is_some() { MOST_OF_A_TOKEN } else { MOST_OF_A_USER };
        self.change(now, |sessions| {
            let own = |other: &Kept| other.session.standing.is_of_the_same(&kept.session.standing);
            if sessions.iter().filter(|other| own(other)).count() >= most
                && let Some(oldest) = sessions.iter().position(own)
            {
                sessions.remove(oldest);
            }
            sessions.push(kept);
        });
        self.keep().await;
        (session, id)
    }

    /// The session of a number, while it lasts.
    pub(crate) fn look_up(&self, id: &str, now: WallTime) -> Option<Session> {
        self.find(&hash(id), now)
    }

    /// The session that a browser shows, which may send several numbers: any application on this host can have given it
    /// a cookie of the same name (RFC 6265, section 8.6). `None` where none of them lasts, and where two do: one of
    /// those is somebody else's.
    pub(crate) fn look_up_shown<'a>(&self, ids: &[&'a str], now: WallTime) -> Option<(&'a str, Session)> {
        let mut lasting = ids.iter().filter_map(|id| self.look_up(id, now).map(|session| (*id, session)));
        let only = lasting.next()?;
        lasting.next().is_none().then_some(only)
    }

    /// Whether the session lasts whose number has this SHA-256, in hexadecimal.
    pub(crate) fn is_lasting(&self, sha256: &str, now: WallTime) -> bool {
        self.find(sha256, now).is_some()
    }

    /// Ends the sessions of these numbers, as far as there are any. They stay ended after a restart.
    pub(crate) async fn end(&self, ids: &[&str], now: WallTime) -> Vec<Session> {
        let gone: Vec<String> = ids.iter().map(|id| hash(id)).collect();
        let mut ended = Vec::new();
        self.change(now, |sessions| {
            let found = sessions.extract_if(.., |kept| gone.contains(&kept.sha256));
            ended = found.map(|kept| kept.session).collect();
        });
        if !ended.is_empty() {
            self.keep().await;
        }
        ended
    }

    /// Ends all sessions and returns how many there were.
    pub(crate) async fn end_all(&self, now: WallTime) -> usize {
        let mut ended = 0;
        self.change(now, |sessions| {
            ended = sessions.len();
            sessions.clear();
        });
        self.keep().await;
        ended
    }

    /// Those that last, oldest first.
    pub(crate) fn list(&self, now: WallTime) -> Vec<Session> {
        let list = self.read();
        list.kept.iter().map(|kept| &kept.session).filter(|session| self.lasts(session, now)).cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, sha256: &str, now: WallTime) -> Option<Session> {
        let list = self.read();
        let mut found = None;
        for kept in &list.kept {
            if equal(kept.sha256.as_bytes(), sha256.as_bytes()) {
                found = Some(&kept.session);
            }
        }
        found.filter(|session| self.lasts(session, now)).cloned()
    }

    fn lasts(&self, session: &Session, now: WallTime) -> bool {
        session.ends > now && session.standing.token.as_ref().is_none_or(|token| self.tokens.is_valid(token, now))
    }

    /// Changes the list in memory; whoever calls this keeps it.
    fn change(&self, now: WallTime, change: impl FnOnce(&mut Vec<Kept>)) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.kept.retain(|kept| self.lasts(&kept.session, now));
        change(&mut list.kept);
        list.changes += 1;
    }

    /// Waits until the file has every change that was made so far, or the list lives in memory only.
    async fn keep(&self) {
        let this = self.clone();
        // Only a panic ends it without an answer, and then it is as if the disk were full.
        let _ = tokio::task::spawn_blocking(move || this.write()).await;
    }

    fn write(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, bytes) = {
            let list = self.read();
            (list.changes, serde_json::to_vec_pretty(&list.kept).expect("sessions are plain text"))
        };
        // Somebody who changed it later was here before.
        if *written == changes {
            return;
        }
        *written = changes;
        let Err(error) = replace_private(&self.path, &bytes) else { return };
        tracing::warn!(path = %self.path.display(), %error, "sessions of the console are only in memory");
        // Otherwise the next node process would believe sessions that were ended.
        if let Err(error) = without(&self.path) {
            tracing::error!(path = %self.path.display(), %error, "ended sessions may come back with a restart");
        }
    }
}

/// Takes a file away, or what it says where its folder does not let it go. Neither takes space.
fn without(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop),
        Ok(()) => Ok(()),
    }
}

/// Until when a session lasts that is begun now.
pub(super) fn end_of(now: WallTime) -> WallTime {
    WallTime::from_millis(now.as_millis().saturating_add(LASTS_MS))
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

/// The numbers of sessions that a browser shows, each once (RFC 6265, section 4.2.1); see [`Sessions::look_up_shown`].
pub(crate) fn shown<'a>(headers: &'a HeaderMap, authority: &str) -> Vec<&'a str> {
    let name = cookie_name(authority);
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    let mut ids: Vec<&str> = values.map(|(_, value)| value).take(MOST_SHOWN).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
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
    /// SHA-256 of the session's number, in hexadecimal; `None` where a token was shown.
    pub(crate) session: Option<String>,
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

    #[tokio::test]
    async fn a_session_outlives_the_process_and_ends_in_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sessions.json");
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&path, tokens.clone());
        let (session, id) = sessions.begin(of("root (uid 0)", Role::Admin), NOW).await;
        let file = fs::read_to_string(&path).unwrap();
        assert!(!file.contains(id.expose()) && !file.contains(&csrf_of(id.expose())));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let sessions = Sessions::open(&path, tokens.clone());
        assert_eq!(sessions.look_up(id.expose(), NOW), Some(session.clone()));
        assert_eq!(sessions.look_up(id.expose(), after(LASTS_MS)), None);
        for wrong in ["", &id.expose()[1..], &format!("{}0", id.expose()), &hash(id.expose())] {
            assert_eq!(sessions.look_up(wrong, NOW), None);
        }
        assert_eq!(sessions.end(&[id.expose(), "another"], NOW).await, [session]);
        assert_eq!(sessions.look_up(id.expose(), NOW), None);
        assert!(Sessions::open(&path, tokens).list(NOW).is_empty());
    }

    #[tokio::test]
    async fn a_session_ends_with_its_token_also_when_another_gets_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&temp.path().join("sessions.json"), tokens.clone());
        let (token, _) = tokens.create("ops", Role::Operator, NOW, Some(after(5000))).unwrap();
        let standing = Standing { token: Some(token), ..of("token ops", Role::Operator) };
        let (_, id) = sessions.begin(standing, NOW).await;
        assert!(sessions.look_up(id.expose(), after(4999)).is_some());
        assert!(sessions.look_up(id.expose(), after(5000)).is_none());
        tokens.revoke("ops").unwrap();
        assert!(sessions.look_up(id.expose(), NOW).is_none());
        tokens.create("ops", Role::Operator, after(1), Some(after(5000))).unwrap();
        assert!(sessions.look_up(id.expose(), after(2)).is_none());
    }

    #[tokio::test]
    async fn whoever_begins_too_many_ends_their_own() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        // They need no disk.
        let sessions = Sessions::open(&temp.path().join("missing/sessions.json"), tokens.clone());
        let token = |name: &str| {
            let (token, _) = tokens.create(name, Role::Viewer, NOW, None).unwrap();
            Standing { token: Some(token), ..of(&format!("token {name}"), Role::Viewer) }
        };
        let (quiet, busy) = (token("quiet"), token("busy"));
        let (_, root) = sessions.begin(of("root (uid 0)", Role::Admin), NOW).await;
        let (_, first) = sessions.begin(quiet, NOW).await;
        let mut begun = Vec::new();
        for _ in 0..300 {
            begun.push(sessions.begin(busy.clone(), NOW).await.1);
        }
        let lasting = begun.iter().filter(|id| sessions.look_up(id.expose(), NOW).is_some()).count();
        assert_eq!(lasting, MOST_OF_A_TOKEN);
        assert!(sessions.look_up(begun.last().unwrap().expose(), NOW).is_some(), "the newest of them");
        assert!([root, first].iter().all(|id| sessions.look_up(id.expose(), NOW).is_some()), "nobody else's");
        assert_eq!((sessions.end_all(NOW).await, sessions.list(NOW).len()), (MOST_OF_A_TOKEN + 2, 0));
    }

    /// A folder in place of the file that is to be written aside, so that not even root can write it.
    #[tokio::test]
    async fn what_was_ended_stays_so_where_the_file_cannot_be_written() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sessions.json");
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&path, tokens.clone());
        let (_, id) = sessions.begin(of("root (uid 0)", Role::Admin), NOW).await;
        let (_, other) = sessions.begin(of("root (uid 0)", Role::Viewer), NOW).await;
        fs::create_dir(temp.path().join("sessions.json.new")).unwrap();
        sessions.end(&[id.expose()], NOW).await;
        assert!(sessions.look_up(other.expose(), NOW).is_some(), "the others live in memory");
        assert!(Sessions::open(&path, tokens).look_up(id.expose(), NOW).is_none());
    }

    #[tokio::test]
    async fn nobody_who_shows_a_session_waits_for_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&temp.path().join("sessions.json"), tokens);
        let (_, id) = sessions.begin(of("root (uid 0)", Role::Admin), NOW).await;
        // As if somebody was writing it and the disk did not answer.
        let written = Arc::clone(&sessions.written);
        let (held, is_held) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let disk = std::thread::spawn(move || {
            let _slow = written.lock();
            held.send(()).unwrap();
            let _ = answered.recv();
        });
        is_held.recv().unwrap();
        let ending = {
            let sessions = sessions.clone();
            async move { sessions.end_all(NOW).await }
        };
        let ending = tokio::spawn(ending);
        while sessions.look_up(id.expose(), NOW).is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!ending.is_finished(), "it is not said before it is kept");
        drop(answer);
        assert_eq!(ending.await.unwrap(), 1);
        disk.join().unwrap();
    }

    #[tokio::test]
    async fn a_cookie_of_somebody_elses_counts_for_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&temp.path().join("tokens.json"));
        let sessions = Sessions::open(&temp.path().join("sessions.json"), tokens);
        let (_, own) = sessions.begin(of("root (uid 0)", Role::Admin), NOW).await;
        let (_, evil) = sessions.begin(of("token evil", Role::Viewer), NOW).await;
        let shown_with = |before: &str| {
            let mut headers = HeaderMap::new();
            let text = format!("keel_session_9400={before}; keel_session_9400={}", own.expose());
            headers.insert(COOKIE, text.parse().unwrap());
            let ids = shown(&headers, "127.0.0.1:9400");
            sessions.look_up_shown(&ids, NOW).map(|(_, session)| session.standing.role)
        };
        assert_eq!(shown_with("planted"), Some(Role::Admin), "one that does not last is passed over");
        assert_eq!(shown_with(own.expose()), Some(Role::Admin), "the same twice is one");
        assert_eq!(shown_with(evil.expose()), None, "of two that last, one is not this browser's");
    }

    #[test]
    fn cookies_of_two_ports_are_two() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=b; keel_session_9400=x; keel_session_9401=y".parse().unwrap());
        assert_eq!(shown(&headers, "127.0.0.1:9400"), ["x"]);
        assert_eq!(shown(&headers, "localhost:9401"), ["y"]);
        assert!(shown(&headers, "keel.internal").is_empty());
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
