//! What is done with a route's requests beside leading them to its service, compiled for serving.
//!
//! Most routes have none of it: then [`crate::routes::RouteView::actions`] is empty, and that is all a request asks.

use evenkeel_core::snapshot::Actions;

/// The actions of one route, with the services that they name as places in the view.
#[derive(Debug)]
pub struct ActionsView {
    /// As in the snapshot.
    pub config: Actions,
    /// Other services with their part in percent.
    pub split: Vec<(usize, u8)>,
    /// A service that gets copies, and of how many percent.
    pub mirror: Option<(usize, u8)>,
}

impl ActionsView {
    /// Compiles the actions of a route; `place` finds a service. `None`: there are none. `Err`: no service has this name.
    pub fn compile(config: &Actions, place: impl Fn(&str) -> Option<usize>) -> Result<Option<Self>, String> {
        if config.is_empty() {
            return Ok(None);
        }
        let find = |name: &String| place(name).ok_or_else(|| name.clone());
        let split = config.split.iter().map(|split| Ok((find(&split.service)?, split.percent)));
        let split = split.collect::<Result<Vec<_>, String>>()?;
        let mirror = config.mirror.as_ref();
        let mirror = mirror.map(|mirror| Ok::<_, String>((find(&mirror.service)?, mirror.percent))).transpose()?;
        Ok(Some(Self { config: config.clone(), split, mirror }))
    }
}
