//! The style sheet, the script and the icon of the console: parts of this binary, named by their contents.
//!
//! Since a name changes with what it names, a browser may keep each for as long as it likes, and never mixes the page
//! of one version with the script of another.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::secrets::hex;

/// Where they are.
const FOLDER: &str = "/console/assets";

/// The script, part by part: one concern each, and one answer for all.
const SCRIPT: &str = concat!(
    include_str!("assets/console.js"),
    include_str!("assets/morph.js"),
    include_str!("assets/live.js"),
    include_str!("assets/ask.js"),
    include_str!("assets/acts.js"),
    include_str!("assets/logs.js"),
    include_str!("assets/admin.js"),
    include_str!("assets/keys.js"),
);

/// One file.
#[derive(Debug)]
struct Asset {
    /// Its path, with 64 bits of its SHA-256 in it.
    path: String,
    content_type: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(ending: &str, content_type: &'static str, text: &'static str) -> Self {
        let hash = hex(&Sha256::digest(text.as_bytes())[..8]);
        Self { path: format!("{FOLDER}/{hash}.{ending}"), content_type, text }
    }
}

static CSS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", "text/css; charset=utf-8", include_str!("assets/console.css")));
static JS: LazyLock<Asset> = LazyLock::new(|| Asset::new("js", "text/javascript; charset=utf-8", SCRIPT));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// The path of the style sheet.
pub(super) fn css() -> &'static str {
    &CSS.path
}

/// The path of the script.
pub(super) fn js() -> &'static str {
    &JS.path
}

/// The path of the icon.
pub(super) fn icon() -> &'static str {
    &ICON.path
}

/// Serves one of them.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let is_it = |asset: &&Asset| asset.path.strip_prefix(FOLDER).is_some_and(|path| path[1..] == name);
    match [&*CSS, &*JS, &*ICON].into_iter().find(is_it) {
        Some(Asset { content_type, text, .. }) => {
            let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
            ([(CONTENT_TYPE, HeaderValue::from_static(content_type)), (CACHE_CONTROL, forever)], *text).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_asset_is_found_by_its_name_and_kept() {
        let name = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
        for (path, content_type) in [(css(), "text/css"), (js(), "text/javascript"), (icon(), "image/svg+xml")] {
            let response = serve(Path(name(path))).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with(content_type));
            assert!(response.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        }
        for wrong in ["", "console.css", "../session.rs", &name(css()).replace("css", "js")] {
            assert_eq!(serve(Path(wrong.to_owned())).await.status(), StatusCode::NOT_FOUND, "{wrong}");
        }
    }
}
