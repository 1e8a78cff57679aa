//! The stylesheet and the icon: compiled in, named by their content, cached for good.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::App;

const STYLE: &str = concat!(include_str!("style/base.css"), include_str!("style/shop.css"));
const ICON: &str = include_str!("style/icon.svg");

/// The stylesheet's address. It changes with the content, so that a new release is seen at once.
pub(super) static STYLE_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/shop.css?v={:016x}", fnv1a(STYLE)));

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/assets/shop.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .route("/favicon.ico", get(|| async { asset("image/svg+xml", ICON) }))
}

fn asset(kind: &'static str, content: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")], content)
}

/// The FNV-1a hash (<http://www.isthe.com/chongo/tech/comp/fnv/>): to name a content, not to protect it.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
