//! What is done with a route's requests beside leading them to its service, compiled for serving.
//!
//! Most routes have none of it: then [`crate::routes::RouteView::actions`] is empty, and that is all a request asks.
//! What limits know of clients outlives a view: [`Rails`] finds it again for the next one.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use evenkeel_core::snapshot::{Actions, Route};

use crate::{
    clients::KnownConnections,
    http::rates::{KnownLimits, Limit},
};

/// What stays when a new snapshot comes. Owned by whoever compiles views.
#[derive(Debug, Default)]
pub struct Rails {
    /// Rate limits of routes.
    pub limits: KnownLimits,
    /// Connections of clients at listeners.
    pub connections: KnownConnections,
}

/// The actions of one route, with the services that they name as places in the view.
#[derive(Debug)]
pub struct ActionsView {
    /// As in the snapshot.
    pub config: Actions,
    /// Bounds on how often a client may ask.
    pub limits: Vec<Arc<Limit>>,
    /// Other services with their part in percent.
    pub split: Vec<(usize, u8)>,
    /// A service that gets copies, and of how many percent.
    pub mirror: Option<(usize, u8)>,
    split_turn: AtomicU32,
    mirror_turn: AtomicU32,
}

impl ActionsView {
    /// Compiles the actions of a route; `place` finds a service. `None`: there are none. `Err`: no service has this name.
    pub fn compile(
        route: &Route,
        limits: &mut KnownLimits,
        place: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<Self>, String> {
        let config = &route.actions;
        if config.is_empty() {
            return Ok(None);
        }
        let find = |name: &String| place(name).ok_or_else(|| name.clone());
        let split = config.split.iter().map(|split| Ok((find(&split.service)?, split.percent)));
        let split = split.collect::<Result<Vec<_>, String>>()?;
        let mirror = config.mirror.as_ref();
        let mirror = mirror.map(|mirror| Ok::<_, String>((find(&mirror.service)?, mirror.percent))).transpose()?;
        let (split_turn, mirror_turn) = (AtomicU32::new(0), AtomicU32::new(0));
        let limits = limits.of(route);
        Ok(Some(Self { config: config.clone(), limits, split, mirror, split_turn, mirror_turn }))
    }

    /// The service at this of a hundred places, unless it is the route's own.
    pub(crate) fn split_at(&self, place: u8) -> Option<usize> {
        let mut end = 0u16;
        self.split.iter().find_map(|&(service, percent)| {
            end += u16::from(percent);
            (u16::from(place) < end).then_some(service)
        })
    }

    /// The place of the next request in turn.
    pub(crate) fn next_split_place(&self) -> u8 {
        place_in_turn(&self.split_turn)
    }

    /// Where the copy of the next request goes, if there is one.
    pub(crate) fn next_mirror(&self) -> Option<usize> {
        let (service, percent) = self.mirror?;
        (place_in_turn(&self.mirror_turn) < percent).then_some(service)
    }
}

/// Each of a hundred places once in a hundred turns, and those of a small part far from one another: steps of 61, which
/// has no divisor in common with 100 and is near the golden section.
fn place_in_turn(turn: &AtomicU32) -> u8 {
    let turn = turn.fetch_add(1, Relaxed) % 100;
    u8::try_from(turn * 61 % 100).expect("it is below 100")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_exact_and_spread() {
        let turn = AtomicU32::new(0);
        let places: Vec<u8> = (0..100).map(|_| place_in_turn(&turn)).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..100), "each place once");
        let ten: Vec<usize> = (0..100).filter(|&at| places[at] < 10).collect();
        assert!(ten.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{ten:?}");
    }
}
