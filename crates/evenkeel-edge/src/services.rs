//! The services of one view as one thread uses them, each made when it is first asked for.
//!
//! A view may have a hundred thousand instances, of which a thread serves few, and its requests wait while it takes
//! a view over. So that is quick whatever the view is like: what did not change is kept as it is, what changed is made
//! anew in small portions between requests, or by the request that asks for it first, and what nobody ever asked for
//! is never made. Owned by its thread; it decides nothing.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, HashSet},
    ops::Index,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use evenkeel_core::snapshot::Duty;

use crate::{
    local::{InstanceLocal, ServiceLocal},
    shared::{InstanceShared, ServiceShared},
    view::View,
};

/// The services, by their place in the view.
#[derive(Debug)]
pub(crate) struct Services {
    view: Arc<View>,
    thread: usize,
    made: Box<[OnceCell<Rc<ServiceLocal>>]>,
    /// Places of those that are made, in the order in which they were.
    used: RefCell<Vec<usize>>,
    /// What the former view had of services that changed since and were not made anew yet.
    changed: RefCell<BTreeMap<usize, Rc<ServiceLocal>>>,
    /// Where tidying goes on.
    cursor: Cell<usize>,
}

impl Index<usize> for Services {
    type Output = Rc<ServiceLocal>;

    fn index(&self, place: usize) -> &Rc<ServiceLocal> {
        self.made[place].get_or_init(|| self.make(place))
    }
}

impl Services {
    /// Those of this view, none of them made.
    pub(crate) fn new(view: Arc<View>, thread: usize) -> Self {
        let made = std::iter::repeat_with(OnceCell::new).take(view.services.len()).collect();
        Self { view, thread, made, used: RefCell::default(), changed: RefCell::default(), cursor: Cell::new(0) }
    }

    /// Takes over what the former view had. What this one has no more keeps no connections.
    pub(crate) fn take_over(&self, former: &Self) {
        let left = former.changed.borrow();
        for service in former.used().chain(left.values().map(Rc::clone)) {
            let Some(place) = self.view.place_of(&service.view().shared) else {
                service.instances.iter().for_each(|instance| instance.pool.close());
                continue;
            };
            if !service.is_of(&self.view.services[place]) {
                self.changed.borrow_mut().insert(place, service);
            } else if self.made[place].set(service).is_ok() {
                self.used.borrow_mut().push(place);
            }
        }
    }

    /// The service at this place.
    pub(crate) fn get(&self, place: usize) -> Option<&Rc<ServiceLocal>> {
        (place < self.made.len()).then(|| &self[place])
    }

    /// The service that shares its state with this one.
    pub(crate) fn same(&self, shared: &Arc<ServiceShared>) -> Option<&Rc<ServiceLocal>> {
        self.get(self.view.place_of(shared)?)
    }

    /// Whether this is the very service that this view has.
    pub(crate) fn has(&self, service: &Rc<ServiceLocal>) -> bool {
        let place = self.view.place_of(&service.view().shared);
        place.and_then(|place| self.made[place].get()).is_some_and(|made| Rc::ptr_eq(made, service))
    }

    /// Those that are made.
    pub(crate) fn used(&self) -> impl Iterator<Item = Rc<ServiceLocal>> {
        self.used_from(0)
    }

    fn used_from(&self, first: usize) -> impl Iterator<Item = Rc<ServiceLocal>> {
        let at = |index: usize| self.used.borrow().get(index).copied();
        (first..).map_while(at).filter_map(|place| self.made[place].get().cloned())
    }

    /// Makes one of the services anew that changed; returns how many instances it has. `None`: that is done.
    pub(crate) fn make_changed(&self) -> Option<usize> {
        let place = *self.changed.borrow().first_key_value()?.0;
        Some(self[place].instances.len())
    }

    /// Lets the first held request of every service look again.
    pub(crate) fn wake_held(&self) {
        for service in self.used() {
            service.queue.wake_first();
        }
        for service in self.changed.borrow().values() {
            service.queue.wake_first();
        }
    }

    /// Some of those that are made, with about so many instances; all of them have been there after some calls.
    pub(crate) fn some(&self, instances: usize) -> impl Iterator<Item = Rc<ServiceLocal>> {
        let first = self.cursor.get();
        let mut seen = 0;
        let some = self.used_from(first).take_while(move |service| {
            let goes_on = seen < instances;
            seen += 1 + service.instances.len();
            goes_on
        });
        some.inspect(|_| self.cursor.set(self.cursor.get() + 1))
    }

    /// Tidying has come to the end of what is made and begins anew.
    pub(crate) fn rewind(&self) {
        if self.cursor.get() >= self.used.borrow().len() {
            self.cursor.set(0);
        }
    }

    /// The health or address of this instance changed: idle connections that are of no use any more are closed.
    pub(crate) fn refresh(&self, shared: &Arc<InstanceShared>) {
        let place = self.view.place_at(shared.home.load(Relaxed));
        let Some(service) = place.and_then(|place| self.made[place].get()) else { return };
        let is =
            |place: &usize| service.instances.get(*place).is_some_and(|instance| Arc::ptr_eq(&instance.shared, shared));
        let hint = usize::try_from(shared.position.load(Relaxed)).unwrap_or(usize::MAX);
        if let Some(place) = Some(hint).filter(is).or_else(|| (0..service.instances.len()).find(is)) {
            refresh(&service.instances[place], service.view().instances[place].duty);
        }
    }

    fn make(&self, place: usize) -> Rc<ServiceLocal> {
        let former = self.changed.borrow_mut().remove(&place);
        let view = &self.view.services[place];
        let made = ServiceLocal::new(Arc::clone(view), former.as_deref(), self.thread);
        if let Some(former) = former {
            for (instance, config) in made.instances.iter().zip(&view.instances) {
                refresh(instance, config.duty);
            }
            // Whoever saw a former view may remember those that are gone for long.
            let kept: HashSet<*const InstanceLocal> = made.instances.iter().map(Rc::as_ptr).collect();
            let gone = former.instances.iter().filter(|instance| !kept.contains(&Rc::as_ptr(instance)));
            gone.for_each(|instance| instance.pool.close());
        }
        self.used.borrow_mut().push(place);
        Rc::new(made)
    }
}

/// Idle connections to an instance that is not healthy, or not there under that address, are of no use.
fn refresh(instance: &InstanceLocal, duty: Duty) {
    instance.pool.readdress(instance.shared.resolved());
    if !instance.shared.takes_requests() || duty == Duty::Drain {
        instance.pool.clear();
    }
}
