//! What one data thread keeps for itself about a view: pools, turns, queues.
//!
//! Made anew for each view, except that an instance keeps its pool and a service its queue of held requests as
//! long as their shared state stays. A request holds on to the [`ServiceLocal`] it was routed to, so it sees one
//! view however long it takes; only where it has to choose an instance again does it look at the newest one.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
};

use evenkeel_core::{
    balance::{Candidate, RoundRobin, TrialShare, WeightedRoundRobin},
    snapshot::Service,
};

use crate::{
    hold::Queue,
    pool::Pool,
    shared::{InstanceCell, InstanceShared, ServiceCell, ServiceShared},
    view::{ServiceView, View},
};

/// A view as one thread uses it.
#[derive(Debug)]
pub(crate) struct LocalView {
    pub(crate) view: Arc<View>,
    pub(crate) services: Vec<Rc<ServiceLocal>>,
}

/// A service as one thread uses it.
#[derive(Debug)]
pub(crate) struct ServiceLocal {
    view: Arc<View>,
    place: usize,
    thread: usize,
    pub(crate) instances: Vec<Rc<InstanceLocal>>,
    pub(crate) queue: Rc<Queue>,
    pub(crate) turns: RefCell<Turns>,
    /// Requests that the retry budget does not know of yet.
    pub(crate) unreported: Cell<u32>,
}

/// What the balancing algorithms remember between two requests.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) round_robin: RoundRobin,
    pub(crate) weighted: WeightedRoundRobin,
    pub(crate) next: usize,
    pub(crate) trial: TrialShare,
}

/// An instance as one thread uses it.
#[derive(Debug)]
pub(crate) struct InstanceLocal {
    pub(crate) shared: Arc<InstanceShared>,
    pub(crate) pool: Pool,
    /// For balancing by hash: the same for every start of the instance and on every thread.
    pub(crate) key: u64,
    thread: usize,
}

impl LocalView {
    /// Compiles a view for a thread, taking over what stays from the former one.
    pub(crate) fn new(view: Arc<View>, former: Option<&Self>, thread: usize) -> Self {
        let mut instances: HashMap<*const InstanceShared, Rc<InstanceLocal>> = HashMap::new();
        let mut queues: HashMap<*const ServiceShared, Rc<Queue>> = HashMap::new();
        for service in former.iter().flat_map(|former| &former.services) {
            queues.insert(Arc::as_ptr(&service.view().shared), Rc::clone(&service.queue));
            for instance in &service.instances {
                instances.insert(Arc::as_ptr(&instance.shared), Rc::clone(instance));
            }
        }
        let services = view.services.iter().enumerate().map(|(place, service)| {
            let its = service.instances.iter().map(|instance| {
                let known = instances.entry(Arc::as_ptr(&instance.shared));
                Rc::clone(known.or_insert_with(|| Rc::new(InstanceLocal::new(Arc::clone(&instance.shared), thread))))
            });
            let instances = its.collect();
            let queue = queues.get(&Arc::as_ptr(&service.shared)).cloned().unwrap_or_default();
            // Threads start their turns at different places, so that first requests spread.
            let turns = Turns { round_robin: RoundRobin::starting_at(thread), next: thread, ..Turns::default() };
            Rc::new(ServiceLocal {
                view: Arc::clone(&view),
                place,
                thread,
                instances,
                queue,
                turns: RefCell::new(turns),
                unreported: Cell::new(0),
            })
        });
        Self { services: services.collect(), view }
    }

    /// The service that shares its state with this one, if the view still has it.
    pub(crate) fn same_service(&self, service: &ServiceLocal) -> Option<&Rc<ServiceLocal>> {
        let shared = &service.view().shared;
        self.services.iter().find(|other| Arc::ptr_eq(&other.view().shared, shared))
    }
}

impl ServiceLocal {
    /// As the view has it.
    pub(crate) fn view(&self) -> &ServiceView {
        &self.view.services[self.place]
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
        // Fixed keys: every thread and every edge must come to the same number.
        let mut hasher = DefaultHasher::new();
        shared.id.name.hash(&mut hasher);
        let pool = Pool::new(shared.resolved());
        Self { key: hasher.finish(), shared, pool, thread }
    }

    /// Its counters of this thread.
    pub(crate) fn cell(&self) -> &InstanceCell {
        &self.shared.threads[self.thread].0
    }
}
