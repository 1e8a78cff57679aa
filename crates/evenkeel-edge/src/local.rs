//! What one data thread keeps for itself about a view: pools, turns, queues.
//!
//! Made anew where a view changes it, except that an instance keeps its pool and a service its queue of held requests
//! as long as their shared state stays. A request holds on to the [`ServiceLocal`] it was routed to, so it sees one
//! view however long it takes; only where it has to choose an instance again does it look at the newest one.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use evenkeel_core::{
    balance::{Candidate, Draws, LeastConnections, PeakEwma, RoundRobin, TrialShare, WeightedRoundRobin},
    snapshot::Service,
};

use crate::{
    choosing,
    hold::Queue,
    pool::Pool,
    services::Services,
    shared::{InstanceCell, InstanceShared, ServiceCell},
    view::{ServiceView, View},
};

/// A view as one thread uses it.
#[derive(Debug)]
pub(crate) struct LocalView {
    pub(crate) view: Arc<View>,
    pub(crate) services: Services,
}

/// A service as one thread uses it.
#[derive(Debug)]
pub(crate) struct ServiceLocal {
    view: Arc<ServiceView>,
    thread: usize,
    pub(crate) instances: Vec<Rc<InstanceLocal>>,
    pub(crate) queue: Rc<Queue>,
    pub(crate) turns: RefCell<Turns>,
    /// Requests that the retry budget does not know of yet.
    pub(crate) unreported: Cell<u32>,
    bare: OnceCell<Rc<Self>>,
}

/// What the balancing algorithms remember between two requests.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) round_robin: RoundRobin,
    pub(crate) weighted: WeightedRoundRobin,
    pub(crate) least: LeastConnections,
    /// The same of those that have no more than their share.
    pub(crate) least_on_trial: LeastConnections,
    pub(crate) trial: TrialShare,
    pub(crate) draws: Draws,
}

/// An instance as one thread uses it.
#[derive(Debug)]
pub(crate) struct InstanceLocal {
    pub(crate) shared: Arc<InstanceShared>,
    pub(crate) pool: Pool,
    /// For balancing by hash: the same for every start of the instance and on every thread.
    pub(crate) key: u64,
    /// Of its answers on this thread, where its service is balanced by that.
    pub(crate) latency: Cell<PeakEwma>,
    thread: usize,
}

impl LocalView {
    /// Compiles a view for a thread, taking over what stays from the former one.
    pub(crate) fn new(view: Arc<View>, former: Option<&Self>, thread: usize) -> Self {
        let services = Services::new(Arc::clone(&view), thread);
        if let Some(former) = former {
            services.take_over(&former.services);
        }
        Self { view, services }
    }

    /// The service that shares its state with this one, if the view still has it.
    pub(crate) fn same_service(&self, service: &ServiceLocal) -> Option<&Rc<ServiceLocal>> {
        self.services.same(&service.view().shared)
    }
}

impl ServiceLocal {
    /// A service as this thread uses it, with what stays of the former one.
    pub(crate) fn new(view: Arc<ServiceView>, former: Option<&Self>, thread: usize) -> Self {
        let formers: &[Rc<InstanceLocal>] = former.map_or(&[], |former| &former.instances);
        let known: OnceCell<HashMap<*const InstanceShared, &Rc<InstanceLocal>>> = OnceCell::new();
        let known = || known.get_or_init(|| formers.iter().map(|one| (Arc::as_ptr(&one.shared), one)).collect());
        let its = view.instances.iter().enumerate().map(|(place, instance)| {
            // Mostly it is where it was.
            let here = formers.get(place).filter(|former| Arc::ptr_eq(&former.shared, &instance.shared));
            let found = here.or_else(|| known().get(&Arc::as_ptr(&instance.shared)).copied());
            found.map_or_else(|| Rc::new(InstanceLocal::new(Arc::clone(&instance.shared), thread)), Rc::clone)
        });
        let instances = its.collect();
        let queue = former.map(|former| Rc::clone(&former.queue)).unwrap_or_default();
        // Threads start their turns at different places, so that first requests spread.
        let draws = Draws::new(RandomState::new().build_hasher().finish());
        let (round_robin, least) = (RoundRobin::starting_at(thread), LeastConnections::starting_at(thread));
        let turns = Turns { round_robin, least, draws, ..Turns::default() };
        let unreported = Cell::new(former.map_or(0, |former| former.unreported.take()));
        Self { view, thread, instances, queue, turns: RefCell::new(turns), unreported, bare: OnceCell::new() }
    }

    /// The same without instances, for what has one and goes on for long: it counts and is bounded as before, and keeps no
    /// former view.
    pub(crate) fn bare(&self) -> Rc<Self> {
        let make = || {
            Rc::new(Self {
                view: self.view.bare(),
                thread: self.thread,
                instances: Vec::new(),
                queue: Rc::clone(&self.queue),
                turns: RefCell::default(),
                unreported: Cell::new(0),
                bare: OnceCell::new(),
            })
        };
        Rc::clone(self.bare.get_or_init(make))
    }

    /// As the view has it.
    pub(crate) fn view(&self) -> &ServiceView {
        &self.view
    }

    /// Whether it is what this view of it says.
    pub(crate) fn is_of(&self, view: &Arc<ServiceView>) -> bool {
        Arc::ptr_eq(&self.view, view)
    }

    /// Its settings.
    pub(crate) fn config(&self) -> &Service {
        &self.view().config
    }

    /// Its counters of this thread.
    pub(crate) fn cell(&self) -> &ServiceCell {
        &self.view().shared.threads[self.thread].0
    }
}

impl InstanceLocal {
    fn new(shared: Arc<InstanceShared>, thread: usize) -> Self {
        let pool = Pool::new(shared.resolved());
        Self { key: choosing::key(&shared.id), shared, pool, latency: Cell::default(), thread }
    }

    /// Its counters of this thread.
    pub(crate) fn cell(&self) -> &InstanceCell {
        &self.shared.threads[self.thread].0
    }
}
