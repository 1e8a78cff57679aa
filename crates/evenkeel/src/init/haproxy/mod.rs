//! `haproxy.cfg`: listeners, routes and instances of a load balancer, as far as a stack file has them.
//!
//! `syntax` reads HAProxy's own file format (<https://docs.haproxy.org/3.0/configuration.html>, chapter 2) tolerantly.
//! `conditions` and `rules` say under which conditions a section answers what, `table` makes routes of it, `pool` makes
//! services of groups of servers, and `translate` puts them together. What is not understood becomes a note with its
//! line. A rule that refuses clients under a condition that routes do not know closes every place that it could mean.

mod conditions;
mod listeners;
mod pool;
mod rules;
mod syntax;
mod table;
mod translate;

#[cfg(test)]
mod tests;

use super::found::{Folder, Found};

/// Where it is looked for, the first one wins.
const PLACES: [&str; 3] = ["haproxy.cfg", "haproxy/haproxy.cfg", "conf/haproxy.cfg"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let (place, text) = PLACES.into_iter().find_map(|place| folder.read(place).map(|text| (place, text)))?;
    Some(translate::translate(place, &syntax::sections(&text)))
}
