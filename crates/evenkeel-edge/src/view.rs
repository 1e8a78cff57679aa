//! The view: a snapshot compiled for serving. Immutable; every request sees exactly one.
//!
//! The control thread builds a view from each snapshot and hands it to the data threads. Instances and services
//! that stay keep their shared state, which the [`Registry`] finds again: an instance by identity and address,
//! a service by name. Building allocates; using a view does not.

use std::{collections::HashMap, sync::Arc};

use evenkeel_core::{
    snapshot::{Duty, FORMAT, Listener, Service, Snapshot},
    status::InstanceId,
};

use crate::{
    actions::ActionsView,
    routes::{RouteTable, RouteView},
    shared::{InstanceShared, ServiceShared},
};

/// A snapshot compiled for serving.
#[derive(Debug)]
pub struct View {
    /// [`Snapshot::version`].
    pub version: u64,
    /// Listeners with their routes, in the order of the snapshot.
    pub listeners: Vec<Arc<ListenerView>>,
    /// Services in the order of the snapshot; routes lead to them by index.
    pub services: Vec<ServiceView>,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerView {
    /// As in the snapshot.
    pub config: Listener,
    /// The routes of this listener and of all listeners.
    pub routes: RouteTable,
}

/// One service.
#[derive(Debug)]
pub struct ServiceView {
    /// As in the snapshot, without its instances.
    pub config: Service,
    /// Index of the service that answers when no instance of this one is healthy.
    pub fallback: Option<usize>,
    /// Counters, hold and budget.
    pub shared: Arc<ServiceShared>,
    /// Its instances in the order of the snapshot.
    pub instances: Vec<InstanceView>,
    /// Whether some of them are on trial.
    pub trials: bool,
}

/// One instance of a service.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// Health, address, counters.
    pub shared: Arc<InstanceShared>,
    /// Relative share, at least 1.
    pub weight: u16,
    /// What to do with it.
    pub duty: Duty,
    /// It must still prove itself.
    pub trial: bool,
    /// And gets only what could be repeated.
    pub sheltered: bool,
    /// It is in the preferred zone; everybody is where none is preferred.
    pub preferred: bool,
    /// Where it is.
    pub zone: Option<String>,
}

/// A snapshot that cannot be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ViewError {
    /// Made by another version of Evenkeel.
    #[error("the snapshot has format {found}, this edge reads {FORMAT}")]
    Format {
        /// The snapshot's.
        found: u32,
    },
    /// The number of threads is fixed from the edge's start on.
    #[error("the snapshot asks for {wanted} threads, this edge started with {running}")]
    Threads {
        /// The snapshot's.
        wanted: usize,
        /// This edge's.
        running: usize,
    },
    /// A route or fallback names a service that is not there.
    #[error("no service is named `{name}`")]
    NoService {
        /// The name.
        name: String,
    },
    /// A route names a listener that is not there.
    #[error("no listener is named `{name}`")]
    NoListener {
        /// The name.
        name: String,
    },
}

/// Finds the shared state of what a new snapshot keeps. Owned by the control thread.
#[derive(Debug)]
pub struct Registry {
    threads: usize,
    instances: HashMap<(InstanceId, String), Arc<InstanceShared>>,
    services: HashMap<String, Arc<ServiceShared>>,
}

impl Registry {
    /// An empty registry of an edge with this many data threads.
    pub fn new(threads: usize) -> Self {
        Self { threads, instances: HashMap::new(), services: HashMap::new() }
    }

    /// Compiles a snapshot. What it no longer names is forgotten, so a view that fails to compile must not be
    /// followed by a use of what it would have named; the former view stays whole in any case.
    pub fn compile(&mut self, snapshot: &Snapshot) -> Result<View, ViewError> {
        self.check(snapshot)?;
        let index: HashMap<&str, usize> =
            snapshot.services.iter().enumerate().map(|(i, service)| (service.name.as_str(), i)).collect();
        let find = |name: &str| index.get(name).copied().ok_or_else(|| ViewError::NoService { name: name.to_owned() });
        let mut routes = Vec::with_capacity(snapshot.routes.len());
        for route in &snapshot.routes {
            if let Some(name) = route.listener.as_ref().filter(|n| snapshot.listeners.iter().all(|l| l.name != **n)) {
                return Err(ViewError::NoListener { name: name.clone() });
            }
            let actions = ActionsView::compile(&route.actions, |name| index.get(name).copied());
            let actions = actions.map_err(|name| ViewError::NoService { name })?;
            // A redirect is the whole answer: its route has no service, and whichever stands there is never asked.
            let answered = actions.as_ref().is_some_and(|actions| actions.config.redirect.is_some());
            let service = if answered && route.service.is_empty() { 0 } else { find(&route.service)? };
            routes.push((route, Arc::new(RouteView::new(route, service, actions))));
        }
        let listeners = snapshot.listeners.iter().map(|listener| {
            let its = routes.iter().filter(|(r, _)| r.listener.as_ref().is_none_or(|name| *name == listener.name));
            let table = RouteTable::new(its.map(|(route, view)| (*route, Arc::clone(view))));
            Arc::new(ListenerView { config: listener.clone(), routes: table })
        });
        let listeners = listeners.collect();
        let fallbacks = snapshot.services.iter().map(|s| s.fallback.as_deref().map(find).transpose());
        let fallbacks: Vec<Option<usize>> = fallbacks.collect::<Result<_, _>>()?;
        let services = snapshot.services.iter().zip(fallbacks).map(|(s, fallback)| self.service(s, fallback)).collect();
        let view = View { version: snapshot.version, listeners, services };
        self.forget_others(&view);
        Ok(view)
    }

    fn check(&self, snapshot: &Snapshot) -> Result<(), ViewError> {
        if snapshot.format != FORMAT {
            return Err(ViewError::Format { found: snapshot.format });
        }
        let wanted = usize::from(snapshot.threads);
        if wanted != self.threads {
            return Err(ViewError::Threads { wanted, running: self.threads });
        }
        Ok(())
    }

    fn service(&mut self, service: &Service, fallback: Option<usize>) -> ServiceView {
        let threads = self.threads;
        let shared = self.services.entry(service.name.clone());
        let shared = Arc::clone(shared.or_insert_with_key(|name| Arc::new(ServiceShared::new(name.clone(), threads))));
        let instances = service.instances.iter().map(|instance| {
            let key = (instance.id.clone(), instance.address.clone());
            let shared = self.instances.entry(key).or_insert_with_key(|(id, address)| {
                Arc::new(InstanceShared::new(id.clone(), address.clone(), threads))
            });
            let preferred = service.prefer.is_none() || instance.zone == service.prefer;
            InstanceView {
                shared: Arc::clone(shared),
                weight: instance.weight.max(1),
                duty: instance.duty,
                trial: instance.trial,
                sheltered: instance.sheltered,
                preferred,
                zone: instance.zone.clone(),
            }
        });
        let instances: Vec<_> = instances.collect();
        let trials = instances.iter().any(|instance| instance.trial);
        let config = Service { instances: Vec::new(), ..service.clone() };
        ServiceView { config, fallback, shared, instances, trials }
    }

    fn forget_others(&mut self, view: &View) {
        let kept = view.services.iter().flat_map(|s| &s.instances).map(|i| Arc::as_ptr(&i.shared));
        let kept: std::collections::HashSet<_> = kept.collect();
        self.instances.retain(|_, shared| kept.contains(&Arc::as_ptr(shared)));
        let kept: std::collections::HashSet<_> = view.services.iter().map(|s| Arc::as_ptr(&s.shared)).collect();
        self.services.retain(|_, shared| kept.contains(&Arc::as_ptr(shared)));
    }
}

impl View {
    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerView>> {
        self.listeners.iter().find(|listener| listener.config.name == name)
    }
}
