//! `nginx.conf`: listeners, routes and instances of a reverse proxy, as far as a stack file has them.
//!
//! `tokens` and `syntax` read nginx's own file format (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>)
//! tolerantly: what is cut off or unknown is no error. `translate` makes a stack of it and lists with line numbers
//! what it left out, so that nobody believes in a setting that is gone. `guards` knows what protects a place, `patterns`
//! which places a location takes, `plan` how those of a server bear on each other, and `server` closes what was protected.
//! Included files are not followed.

mod address;
mod choice;
mod guards;
mod patterns;
mod plan;
mod rails;
mod server;
mod stream;
mod syntax;
mod tokens;
mod transform;
mod translate;
mod trust;

#[cfg(test)]
mod tests;

pub(super) use self::{
    address::is_host,
    patterns::is_normal,
    transform::{Changes, Header, is_free},
};
use super::found::{Folder, Found};

/// Where it is looked for, the first one wins.
const PLACES: [&str; 3] = ["nginx.conf", "nginx/nginx.conf", "conf/nginx.conf"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let (place, text) = PLACES.into_iter().find_map(|place| folder.read(place).map(|text| (place, text)))?;
    Some(translate::translate(place, &syntax::parse(tokens::tokens(&text))))
}
