//! The view: a snapshot compiled for serving. Immutable; every request sees exactly one.
//!
//! The control thread builds a view from each snapshot and hands it to the data threads. Instances and services
//! that stay keep their shared state, which the [`Registry`] finds again: an instance by identity and address,
//! a service by name. A service of which nothing changed is the very same value in both views, so that whoever takes
//! a view over passes it by: what a change costs depends on what changed. Building allocates; using a view does not.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use evenkeel_core::{
    snapshot::{BadRedirect, Duty, FORMAT, Instance, Listener, Protocol, Route, Service, Snapshot},
    status::InstanceId,
};

use crate::{
    actions::{ActionsView, Rails},
    choosing::Choosing,
    clients::Connections,
    http::{rates::Limit, redirect::RedirectView},
    routes::{Destination, RouteTable, RouteView},
    shared::{InstanceShared, ServiceShared},
};

/// A snapshot compiled for serving.
#[derive(Debug)]
pub struct View {
    /// [`Snapshot::version`].
    pub version: u64,
    /// Listeners with their routes, in the order of the snapshot.
    pub listeners: Vec<Arc<ListenerView>>,
    /// Services in the order of the snapshot; routes lead to them by index. Those that the former view had just so are
    /// shared with it.
    pub services: Vec<Arc<ServiceView>>,
    /// Where a service is, by the address of its shared state; compared, never followed.
    places: HashMap<usize, usize>,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerView {
    /// As in the snapshot.
    pub config: Listener,
    /// The routes of this listener and of all listeners. Listeners without routes of their own share one table.
    pub routes: Arc<RouteTable>,
    /// Of TCP and UDP: index of the service that everything leads to.
    pub service: Option<usize>,
    /// The connections of each client, where they are bounded.
    pub connections: Option<Arc<Connections>>,
    bare: OnceLock<Arc<Self>>,
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
    /// How one of them is chosen.
    pub choosing: Choosing,
    bare: OnceLock<Arc<Self>>,
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
    /// The folder in which it runs, where its service's FastCGI counts from it.
    pub folder: Option<Box<str>>,
    /// The process that was started for it.
    pub pid: Option<u32>,
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
    /// A redirect leads nowhere.
    #[error("a route's redirect: {0}")]
    Redirect(#[from] BadRedirect),
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
    /// As the newest view has them.
    services: HashMap<String, Arc<ServiceView>>,
    rails: Rails,
}

impl Registry {
    /// An empty registry of an edge with this many data threads.
    pub fn new(threads: usize) -> Self {
        Self { threads, instances: HashMap::new(), services: HashMap::new(), rails: Rails::default() }
    }

    /// The rate limits of the newest view, and of former ones that somebody still uses.
    pub fn limits(&self) -> impl Iterator<Item = Arc<Limit>> {
        self.rails.limits.live()
    }

    /// Compiles a snapshot. What it no longer names is forgotten, so a view that fails to compile must not be
    /// followed by a use of what it would have named; the former view stays whole in any case.
    pub fn compile(&mut self, snapshot: &Snapshot) -> Result<View, ViewError> {
        self.compile_owned(snapshot.clone())
    }

    /// As [`Self::compile`], without copying what the view can take over.
    pub fn compile_owned(&mut self, snapshot: Snapshot) -> Result<View, ViewError> {
        self.check(&snapshot)?;
        let index: HashMap<&str, usize> =
            snapshot.services.iter().enumerate().map(|(i, service)| (service.name.as_str(), i)).collect();
        let find = |name: &str| index.get(name).copied().ok_or_else(|| ViewError::NoService { name: name.to_owned() });
        let fallbacks = snapshot.services.iter().map(|s| s.fallback.as_deref().map(find).transpose());
        let fallbacks: Vec<Option<usize>> = fallbacks.collect::<Result<_, _>>()?;
        let listeners = listeners(&snapshot.listeners, &snapshot.routes, &index, &mut self.rails)?;
        let services = snapshot.services.into_iter().zip(fallbacks).map(|(s, fallback)| self.service(s, fallback));
        let services: Vec<_> = services.collect();
        let places = services.iter().enumerate().map(|(place, service)| (address(&service.shared), place)).collect();
        let view = View { version: snapshot.version, listeners, services, places };
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

    fn service(&mut self, mut service: Service, fallback: Option<usize>) -> Arc<ServiceView> {
        let instances = std::mem::take(&mut service.instances);
        let former = self.services.get(&service.name);
        if let Some(former) = former.filter(|former| former.is_made_of(&service, &instances, fallback)) {
            return Arc::clone(former);
        }
        let threads = self.threads;
        let shared = former.map(|former| Arc::clone(&former.shared));
        let shared = shared.unwrap_or_else(|| Arc::new(ServiceShared::new(service.name.clone(), threads)));
        let prefer = service.prefer.as_ref();
        let home = address(&shared);
        let instances = instances.into_iter().zip(0..).map(|(instance, position)| {
            let key = (instance.id, instance.address);
            let known = self.instances.entry(key).or_insert_with_key(|(id, address)| {
                Arc::new(InstanceShared::new(id.clone(), address.clone(), threads))
            });
            known.home.store(home, Relaxed);
            known.position.store(position, Relaxed);
            InstanceView {
                shared: Arc::clone(known),
                weight: instance.weight.max(1),
                duty: instance.duty,
                trial: instance.trial,
                sheltered: instance.sheltered,
                preferred: prefer.is_none() || instance.zone.as_ref() == prefer,
                zone: instance.zone,
                folder: instance.folder.map(Into::into),
                pid: instance.pid,
            }
        });
        let instances: Vec<_> = instances.collect();
        let trials = instances.iter().any(|instance| instance.trial);
        let choosing = Choosing::new(&service, &instances, former.map(|former| &**former));
        Arc::new(ServiceView { config: service, fallback, shared, instances, trials, choosing, bare: OnceLock::new() })
    }

    fn forget_others(&mut self, view: &View) {
        let changed = |service: &&Arc<ServiceView>| {
            !self.services.get(&service.config.name).is_some_and(|former| Arc::ptr_eq(former, service))
        };
        if view.services.len() == self.services.len() && !view.services.iter().any(|service| changed(&service)) {
            return;
        }
        let kept = view.services.iter().flat_map(|s| &s.instances).map(|i| Arc::as_ptr(&i.shared));
        let kept: HashSet<_> = kept.collect();
        if kept.len() < self.instances.len() {
            self.instances.retain(|_, shared| kept.contains(&Arc::as_ptr(shared)));
        }
        self.services =
            view.services.iter().map(|service| (service.config.name.clone(), Arc::clone(service))).collect();
    }
}

/// Each listener with the routes that hold for it.
fn listeners(
    listeners: &[Listener],
    routes: &[Route],
    services: &HashMap<&str, usize>,
    rails: &mut Rails,
) -> Result<Vec<Arc<ListenerView>>, ViewError> {
    rails.limits.sweep();
    let names: HashSet<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let compiled = routes.iter().map(|route| {
        if let Some(name) = route.listener.as_ref().filter(|name| !names.contains(name.as_str())) {
            return Err(ViewError::NoListener { name: name.clone() });
        }
        let actions = ActionsView::compile(route, &mut rails.limits, |name| services.get(name).copied());
        let actions = actions.map_err(|name| ViewError::NoService { name })?;
        let destination = match (&route.actions.redirect, services.get(route.service.as_str())) {
            (Some(redirect), _) => Destination::Elsewhere(RedirectView::compile(redirect)?),
            (None, Some(&service)) => Destination::Service(service),
            (None, None) => return Err(ViewError::NoService { name: route.service.clone() }),
        };
        Ok((route, Arc::new(RouteView::new(route, destination, actions))))
    });
    let compiled: Vec<(&Route, Arc<RouteView>)> = compiled.collect::<Result<_, _>>()?;
    let owned: HashSet<&str> = routes.iter().filter_map(|route| route.listener.as_deref()).collect();
    let table = |name: Option<&str>| {
        let its = compiled.iter().filter(|(route, _)| route.listener.is_none() || route.listener.as_deref() == name);
        Arc::new(RouteTable::new(its.map(|(route, view)| (*route, Arc::clone(view)))))
    };
    let common = std::cell::OnceCell::new();
    let listeners = listeners.iter().map(|listener| {
        let own = owned.contains(listener.name.as_str());
        let routes = if own { table(Some(&listener.name)) } else { Arc::clone(common.get_or_init(|| table(None))) };
        let service = listener.service.as_ref().map(|name| {
            let place = services.get(name.as_str()).copied();
            place.ok_or_else(|| ViewError::NoService { name: name.clone() })
        });
        let bounded = listener.limits.connections_per_client > 0;
        let connections = bounded.then(|| rails.connections.of(&listener.name));
        let (config, service, bare) = (listener.clone(), service.transpose()?, OnceLock::new());
        Ok(Arc::new(ListenerView { config, routes, service, connections, bare }))
    });
    listeners.collect()
}

fn address(service: &Arc<ServiceShared>) -> usize {
    Arc::as_ptr(service).addr()
}

impl ListenerView {
    /// Whether what this address says about others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.config.trusted.iter().any(|network| network.contains(address))
    }

    /// The same without routes, for what goes on for long: a former view must not be kept for its sake.
    pub(crate) fn bare(&self) -> Arc<Self> {
        let make = || {
            let (config, connections) = (self.config.clone(), self.connections.clone());
            Arc::new(Self { config, routes: Arc::default(), service: None, connections, bare: OnceLock::new() })
        };
        Arc::clone(self.bare.get_or_init(make))
    }

    /// Whether it is one of HTTP without anything in front: nothing but requests comes.
    pub fn is_plain(&self) -> bool {
        self.config.protocol == Protocol::Http && !self.config.accepts_proxy
    }
}

impl ServiceView {
    /// The same without instances, for what goes on for long: there may be very many of them.
    pub(crate) fn bare(&self) -> Arc<Self> {
        let make = || {
            Arc::new(Self {
                config: self.config.clone(),
                fallback: None,
                shared: Arc::clone(&self.shared),
                instances: Vec::new(),
                trials: false,
                choosing: Choosing::default(),
                bare: OnceLock::new(),
            })
        };
        Arc::clone(self.bare.get_or_init(make))
    }

    /// Whether it would come out the same.
    fn is_made_of(&self, service: &Service, instances: &[Instance], fallback: Option<usize>) -> bool {
        let same = |(one, other): (&InstanceView, &Instance)| {
            one.shared.id == other.id
                && one.shared.address == other.address
                && (one.weight, one.duty, one.trial, one.sheltered)
                    == (other.weight.max(1), other.duty, other.trial, other.sheltered)
                && one.zone == other.zone
                && one.folder.as_deref() == other.folder.as_deref()
                && one.pid == other.pid
        };
        self.fallback == fallback
            && self.config == *service
            && self.instances.len() == instances.len()
            && self.instances.iter().zip(instances).all(same)
    }
}

impl View {
    /// Where the service is that shares its state with this one.
    pub fn place_of(&self, service: &Arc<ServiceShared>) -> Option<usize> {
        self.place_at(address(service))
    }

    /// The same by the address of that state.
    pub(crate) fn place_at(&self, address: usize) -> Option<usize> {
        self.places.get(&address).copied()
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerView>> {
        self.listeners.iter().find(|listener| listener.config.name == name)
    }
}
