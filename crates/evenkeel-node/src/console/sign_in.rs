//! Signing in by a link that works once, or by a token, and signing out.
//!
//! A link that was opened from a terminal or typed into the address bar signs in at once. Whatever else opens it, such
//! as a page elsewhere or a program that shows what a link leads to, gets a page with a button, so that neither can
//! use it up or sign somebody in unasked.

use std::{convert::Infallible, time::Duration};

use axum::{
    Form,
    extract::{FromRequestParts, Query, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{LOCATION, REFRESH, SET_COOKIE},
        request::Parts,
    },
    response::{Html, IntoResponse, Response},
};
use evenkeel_core::{
    journal::{Level, Reason},
    secret::Secret,
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::{SIGN_IN, Standing, assets, host, session};
use crate::{
    api::Api,
    clock::wall_now,
    tokens::{Shown, Token},
};

/// How long somebody waits whose code or token is not known, so that guessing is pointless.
const FAILURE_WAIT: Duration = Duration::from_millis(200);

/// What the request calls us, as `127.0.0.1:9400`: empty where it says nothing that can be understood.
#[derive(Clone, Debug)]
pub(crate) struct Called(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Called {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(host::authority(&parts.uri, &parts.headers).unwrap_or_default().to_owned()))
    }
}

/// What a link carries.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    code: String,
}

/// What a form sends: the one or the other.
#[derive(Deserialize)]
pub(super) struct Proof {
    code: Option<String>,
    token: Option<Secret>,
}

/// Opens a link, or shows how to sign in.
pub(super) async fn show(
    State(api): State<Api>,
    Called(called): Called,
    headers: HeaderMap,
    Query(Link { code }): Query<Link>,
) -> Response {
    if code.is_empty() {
        return form(None).into_response();
    }
    if is_opened_by_hand(&headers) {
        return by_code(&api, &called, &headers, &code).await;
    }
    button(&code).into_response()
}

/// Signs in by a form of ours.
pub(super) async fn sign_in(
    State(api): State<Api>,
    Called(called): Called,
    headers: HeaderMap,
    Form(Proof { code, token }): Form<Proof>,
) -> Response {
    // Somebody else's page could otherwise sign a visitor in as somebody else.
    if !host::is_our_page(&headers, &called) {
        return refused(StatusCode::FORBIDDEN, "This form was not sent by a page of this console.").await;
    }
    match (code, token) {
        (Some(code), None) => by_code(&api, &called, &headers, &code).await,
        (None, Some(token)) => by_token(&api, &called, &headers, token.expose().trim()).await,
        _ => refused(StatusCode::BAD_REQUEST, "Neither a code nor a token was sent.").await,
    }
}

/// Ends the session that is shown.
pub(super) async fn sign_out(State(api): State<Api>, Called(called): Called, headers: HeaderMap) -> Response {
    end_shown(&api, &called, &headers, "by themselves").await;
    (StatusCode::NO_CONTENT, [(SET_COOKIE, session::no_cookie(&called))]).into_response()
}

/// What stands at `/` for who is not signed in.
pub(super) fn not_signed_in(called: &Called, headers: &HeaderMap) -> Response {
    let mut response = form(None).into_response();
    // A browser that comes here from a page elsewhere keeps its cookie to itself (RFC 6265bis, section 5.2), so it may
    // well be signed in: asked once more by our own page, it shows the cookie.
    if host::is_foreign_page(headers, &called.0) {
        response.headers_mut().insert(REFRESH, HeaderValue::from_static("0"));
    }
    response
}

/// Ends whatever sessions a browser shows.
async fn end_shown(api: &Api, called: &str, headers: &HeaderMap, how: &str) {
    let (now, sessions) = (wall_now(), &api.door().sessions);
    let ids = session::shown(headers, called);
    for session in ids.iter().filter_map(|id| sessions.look_up(id, now)) {
        let message = format!("{} signed out of the console", session.standing.who);
        api.journal().note(Level::Info, "tokens", "sign-out", message, vec![Reason::seen(how)]);
    }
    sessions.end(&ids, now).await;
}

async fn by_code(api: &Api, called: &str, headers: &HeaderMap, code: &str) -> Response {
    match api.door().take_link(code, wall_now()) {
        Some(standing) => begin(api, called, headers, standing, "by a link of keel console").await,
        None => refused(StatusCode::UNAUTHORIZED, "This link was used already, or its time is over.").await,
    }
}

async fn by_token(api: &Api, called: &str, headers: &HeaderMap, text: &str) -> Response {
    match api.tokens().look_up(text, wall_now()) {
        Shown::Valid(token) => {
            let Token { name, role, .. } = &token;
            let standing = Standing { who: format!("token {name}"), role: *role, token: Some(token.clone()) };
            begin(api, called, headers, standing, "by showing the token").await
        }
        Shown::Expired(token) => {
            refused(StatusCode::UNAUTHORIZED, &format!("The token `{}` has ended.", token.name)).await
        }
        Shown::Unknown => refused(StatusCode::UNAUTHORIZED, "This token is not known. It may have been revoked.").await,
    }
}

async fn begin(api: &Api, called: &str, headers: &HeaderMap, standing: Standing, how: &str) -> Response {
    // A browser has one session: what it shows so far may have been planted, and is of no use from now on.
    end_shown(api, called, headers, "by signing in anew").await;
    let (who, role, now) = (standing.who.clone(), standing.role, wall_now());
    let message = format!("{who} signs in to the console, as {role}, until {}", session::end_of(now));
    api.journal().note(Level::Info, "tokens", "sign-in", message, vec![Reason::seen(how)]);
    let (_, id) = api.door().sessions.begin(standing, now).await;
    (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, session::cookie(called, &id))]).into_response()
}

async fn refused(status: StatusCode, why: &str) -> Response {
    tokio::time::sleep(FAILURE_WAIT).await;
    (status, form(Some(why))).into_response()
}

/// Whether a person opened this themselves, as browsers tell (Fetch Metadata Request Headers, W3C). A browser that
/// looks ahead says so in `Sec-Purpose`.
fn is_opened_by_hand(headers: &HeaderMap) -> bool {
    let is = |name: &'static str, wanted: &[u8]| {
        headers.get(HeaderName::from_static(name)).is_some_and(|value| value.as_bytes() == wanted)
    };
    let ahead = headers.contains_key("sec-purpose") || headers.contains_key("purpose");
    is("sec-fetch-site", b"none") && is("sec-fetch-mode", b"navigate") && is("sec-fetch-dest", b"document") && !ahead
}

fn form(problem: Option<&str>) -> Html<String> {
    frame(&html! {
        @if let Some(problem) = problem {
            p .problem role="alert" { (problem) }
        }
        p { "On the machine of the stack, as its user or as root, this prints a link that signs you in:" }
        pre { code { "keel console" } }
        form method="post" action=(SIGN_IN) {
            label for="token" { "Or show a token (" code { "keel token create NAME --role viewer" } " makes one)" }
            input #token name="token" type="password" required autocomplete="off" spellcheck="false" autofocus;
            button type="submit" { "Sign in" }
        }
    })
}

fn button(code: &str) -> Html<String> {
    frame(&html! {
        p { "This link signs you in once." }
        form method="post" action=(SIGN_IN) {
            input type="hidden" name="code" value=(code);
            button type="submit" autofocus { "Sign in" }
        }
    })
}

fn frame(content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Sign in – Evenkeel" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                link rel="icon" href=(assets::icon()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::css());
            }
            body .sign-in {
                main {
                    h1 { "Evenkeel" }
                    (content)
                }
            }
        }
    };
    Html(page.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_uses_a_link_up_by_opening_it() {
        let by_hand = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            fields.iter().map(field).collect()
        };
        assert!(is_opened_by_hand(&headers(&by_hand)));
        assert!(!is_opened_by_hand(&headers(&[])));
        for (name, value) in
            [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("sec-fetch-dest", "empty")]
        {
            let mut other = headers(&by_hand);
            other.insert(name, HeaderValue::from_static(value));
            assert!(!is_opened_by_hand(&other), "{name}: {value}");
        }
        let mut ahead = headers(&by_hand);
        ahead.insert("sec-purpose", HeaderValue::from_static("prefetch;prerender"));
        assert!(!is_opened_by_hand(&ahead));
    }

    #[test]
    fn what_a_link_carries_is_written_as_text() {
        let Html(page) = button("\"><script>alert(1)</script>");
        assert!(!page.contains("<script>"), "{page}");
    }
}
