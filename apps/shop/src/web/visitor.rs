//! Who asks: the session, the cart and the form secret that a request's cookies name.
//!
//! A request without cookies costs no query. Nothing is written here: a cart or a session begins with a form.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{App, cookies, csrf};
use crate::domain::{Account, CartId};
use crate::error::ShopError;

/// The one who made a request.
pub(super) struct Visitor {
    /// Who is signed in.
    pub(super) account: Option<Account>,
    /// The token of the session, if there is one.
    pub(super) token: Option<String>,
    /// The cart in use.
    pub(super) cart: Option<CartId>,
    /// Pieces in that cart.
    pub(super) pieces: i64,
    /// What forms on the page must carry.
    pub(super) csrf: String,
    /// Whether `csrf` is new and must be given to the browser with the page.
    pub(super) csrf_is_new: bool,
    /// Whether the browser speaks HTTPS.
    pub(super) secure: bool,
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = ShopError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ShopError> {
        let token = cookies::get(&parts.headers, cookies::SESSION).map(str::to_owned);
        let cart = cookies::get(&parts.headers, cookies::CART).and_then(CartId::parse);
        let (session, pieces) = if token.is_some() || cart.is_some() {
            app.store.visitor(token.clone(), cart.clone()).await?
        } else {
            (None, 0)
        };
        let cookie = cookies::get(&parts.headers, cookies::CSRF).map(str::to_owned);
        let csrf_is_new = session.is_none() && cookie.is_none();
        let token = token.filter(|_| session.is_some());
        let (account, csrf) = match (session, cookie) {
            (Some(session), _) => (Some(session.account), session.csrf),
            (None, Some(cookie)) => (None, cookie),
            (None, None) => (None, csrf::fresh()?),
        };
        let secure = cookies::is_secure(&parts.headers);
        Ok(Self { account, token, cart, pieces, csrf, csrf_is_new, secure })
    }
}

impl Visitor {
    /// Fails unless a form carried the secret of this visitor.
    pub(super) fn check_form(&self, carried: &str) -> Result<(), ShopError> {
        if self.csrf_is_new {
            return Err(ShopError::Forbidden("the form needs cookies; allow them, go back and reload the page"));
        }
        csrf::check(&self.csrf, carried)
    }
}

/// Sends the browser to `path` with a GET, and gives it cookies.
pub(super) fn go_to(path: &str, set_cookies: &[String]) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(path) {
        headers.insert(header::LOCATION, location);
    }
    for cookie in set_cookies {
        if let Ok(cookie) = HeaderValue::from_str(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    response
}
