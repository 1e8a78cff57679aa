//! A folder of finished pages: a site that was built, or written by hand, and is served as it is.
//!
//! It is looked for only where nothing can be run, since most applications have such a folder beside their code.
//! What a build tool would write there is not guessed: the folder must have an `index.html`.

use super::found::{Folder, Found, Service};

/// Where builds leave their pages, and last the folder itself.
const PLACES: [&str; 9] = ["public", "dist", "build", "_site", "out", "www", "htdocs", "site", "."];

/// Libraries that route in the browser: their paths have no files.
const ROUTERS: [&str; 6] =
    ["react-router", "vue-router", "@angular/router", "wouter", "@tanstack/react-router", "page.js"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let index = |place: &&str| if *place == "." { "index.html".to_owned() } else { format!("{place}/index.html") };
    let place = PLACES.into_iter().find(|place| folder.has(&index(place)))?;
    let package = folder.read("package.json").unwrap_or_default();
    let routed = ROUTERS.iter().any(|router| package.contains(&format!("\"{router}")));
    let mut service = Service::files(place, routed.then_some("index.html"));
    if routed {
        service = service.comment("It routes in the browser: index.html answers for paths that have no file.");
    }
    let mut notes = Vec::new();
    if package.contains("\"build\"") {
        notes.push("package.json has a build script: run it before `keel up`.".to_owned());
    }
    if place == "." {
        notes.push(
            "Everything in this folder is served but hidden files, also keel.toml: a folder below it is the better place."
                .to_owned(),
        );
    }
    Some(Found {
        source: index(&place),
        what: "pages that are served as they are".to_owned(),
        services: vec![service],
        notes,
        ..Found::default()
    })
}
