//! Cookies: three of them, all invisible to scripts and sent along only from our own pages.

use axum::http::{HeaderMap, header};

/// The token of a signed-in session.
pub(super) const SESSION: &str = "shop_session";
/// The cart in use.
pub(super) const CART: &str = "shop_cart";
/// What forms must carry as long as nobody is signed in.
pub(super) const CSRF: &str = "shop_csrf";

const THIRTY_DAYS_S: u32 = 30 * 24 * 3600;

/// The value of the cookie `name`, if the request has one of at most 64 plain characters.
pub(super) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
        .filter(|value| (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A `Set-Cookie` value (RFC 6265, section 4.1). `secure` where the browser speaks HTTPS.
pub(super) fn set(name: &str, value: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={THIRTY_DAYS_S}; HttpOnly; SameSite=Lax{secure}")
}

/// A `Set-Cookie` value that makes the browser forget the cookie `name`.
pub(super) fn forget(name: &str) -> String {
    format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}

/// Whether the browser speaks HTTPS, as the proxy in front of the shop says.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|protocol| protocol == "https")
}
