//! `nginx.conf`: listeners, routes and instances of a reverse proxy, as far as a stack file has them.
//!
//! `tokens` and `syntax` read nginx's own file format (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>)
//! tolerantly: what is cut off or unknown is no error. `translate` makes a stack of it and lists with line numbers
//! what it left out, so that nobody believes in a setting that is gone. Included files are not followed.

mod address;
mod choice;
mod rails;
mod syntax;
mod tokens;
mod transform;
mod translate;

use super::found::{Folder, Found};

/// Where it is looked for, the first one wins.
const PLACES: [&str; 3] = ["nginx.conf", "nginx/nginx.conf", "conf/nginx.conf"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let (place, text) = PLACES.into_iter().find_map(|place| folder.read(place).map(|text| (place, text)))?;
    Some(translate::translate(place, &syntax::parse(tokens::tokens(&text))))
}
