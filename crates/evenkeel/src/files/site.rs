//! From a request to an answer: which page, with which status, and how long it may be kept.
//!
//! A path leads to a file, a folder to its `index.html`. Where there is nothing the site's own `404.html` answers, or
//! the fallback of an application that routes in the browser. What may be cached for good is told by the file's name,
//! since build tools put a digest of the content there; everything else is asked for anew each time, which costs an
//! answer of 304. No state.

use std::io;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use tower_http::services::{ServeDir, fs::DefaultServeDirFallback};

use super::folder::Folder;

/// The page for what is not there.
const NOT_FOUND_PAGE: &str = "404.html";

/// Read from a file at once.
const CHUNK_BYTES: usize = 64 * 1024;

const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A folder and its rules.
#[derive(Clone)]
pub(super) struct Site {
    files: ServeDir<DefaultServeDirFallback, Folder>,
    fallback: Option<String>,
}

impl Site {
    /// The site in this folder.
    pub(super) fn new(folder: Folder, fallback: Option<String>) -> Self {
        let files = ServeDir::with_backend("", folder)
            .precompressed_br()
            .precompressed_gzip()
            .ignore_multi_range_requests(true)
            .with_buf_chunk_size(CHUNK_BYTES);
        Self { files, fallback }
    }

    /// The file at this request's path, or an answer that there is none.
    async fn file(&self, head: &Parts) -> Response {
        if has_encoded_slash(head.uri.path()) {
            return empty(StatusCode::NOT_FOUND);
        }
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        match self.files.clone().try_call(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty(StatusCode::NOT_FOUND),
            Err(error) => {
                tracing::error!(%error, path = head.uri.path(), "cannot serve this");
                empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Another file in place of the one that was asked for, whole.
    async fn instead(&self, head: &Parts, file: &str, status: StatusCode) -> Option<Response> {
        let mut head = head.clone();
        head.uri = uri_of(file)?;
        for name in [header::RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE] {
            head.headers.remove(name);
        }
        if status != StatusCode::OK {
            head.headers.remove(header::IF_NONE_MATCH);
            head.headers.remove(header::IF_MODIFIED_SINCE);
        }
        let mut answer = self.file(&head).await;
        if status != StatusCode::OK && answer.status() == StatusCode::OK {
            *answer.status_mut() = status;
            for name in [header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
                answer.headers_mut().remove(name);
            }
        }
        (answer.status() != StatusCode::NOT_FOUND || answer.headers().contains_key(header::CONTENT_TYPE))
            .then_some(answer)
    }
}

/// Answers one request.
pub(super) async fn answer(State(site): State<Site>, request: Request) -> Response {
    let (mut head, _) = request.into_parts();
    // Whether the part still fits is not judged here, and the whole is always right (RFC 9110, 13.1.5).
    if head.headers.contains_key(header::IF_RANGE) {
        head.headers.remove(header::RANGE);
    }
    let mut answer = site.file(&head).await;
    let mut for_good = is_named_by_digest(head.uri.path());
    let read = head.method == Method::GET || head.method == Method::HEAD;
    if answer.status() == StatusCode::NOT_FOUND && read {
        for_good = false;
        let page = site.fallback.as_deref().filter(|_| is_page(head.uri.path()));
        let other = match page {
            Some(file) => site.instead(&head, file, StatusCode::OK).await,
            None => site.instead(&head, NOT_FOUND_PAGE, StatusCode::NOT_FOUND).await,
        };
        answer = other.unwrap_or(answer);
    }
    finish(answer.headers_mut(), for_good);
    answer
}

fn finish(headers: &mut HeaderMap, for_good: bool) {
    headers.insert(header::CACHE_CONTROL, if for_good { FOR_GOOD } else { ASK_AGAIN });
    // A browser that guesses a type may run what was never meant to be a program.
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
}

fn empty(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// A file's name as a path that leads to it.
fn uri_of(file: &str) -> Option<Uri> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut path = String::from("/");
    for byte in file.bytes() {
        if plain(byte) { path.push(char::from(byte)) } else { path.push_str(&format!("%{byte:02X}")) }
    }
    path.parse().ok()
}

/// No file's name has a slash in it, and one that is encoded does not look into a folder: the routes of the edge do not take
/// it for a slash either, so what lies below another route stays there.
fn has_encoded_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a path names a page rather than a file: pictures and scripts have a dot in their names.
fn is_page(path: &str) -> bool {
    !last_part(path).contains('.')
}

/// Whether a name holds a digest of the content, as `app-BxK2d9aF.js` or `main.8f3a1c2d.css`: eight or more letters
/// and digits, both, that are hexadecimal or mix upper and lower case as no word does.
fn is_named_by_digest(path: &str) -> bool {
    let Some((stem, _)) = last_part(path).rsplit_once('.') else { return false };
    let digest = |part: &str| {
        let has = |is: fn(&u8) -> bool| part.bytes().any(|byte| is(&byte));
        let hexadecimal = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        part.len() >= 8
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
            && (hexadecimal || mixed)
    };
    stem.rsplit(['-', '.']).next().is_some_and(digest)
}
