//! Who has a connection to the console, and who makes room where there are too many.
//!
//! Strangers, those who have shown nothing valid yet, and those who are known have room apart, so that nobody who only
//! connects keeps somebody out who may come in. Among strangers, whoever comes takes the place of the oldest. Whoever is
//! known has a bounded number of connections, of which an idle one makes room for the next; and those of a lower role
//! never fill the room of a higher one. [`Seats`] owns the list; it never waits, reads no request, and decides nothing
//! about what somebody may do.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use evenkeel_core::access::Role;
use tokio::sync::oneshot;

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Of strangers.
    pub(super) strangers: usize,
    /// Of strangers at one address of another machine.
    pub(super) strangers_of_one: usize,
    /// Of all who are known, up to which there is room for one more of each role, the lowest first.
    pub(super) known: [usize; Role::ALL.len()],
    /// Of one who is known: a token with all sessions begun by it, or a session begun without one.
    pub(super) known_of_one: usize,
}

/// Why somebody who is known has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// They have too many connections themselves.
    #[error("too many connections are answered at once by this token or session")]
    OfOne,
    /// All together have too many.
    #[error("too many connections are answered at once")]
    OfAll,
}

/// What names a token or a session, and its role.
type Holder = (String, Role);

/// One connection.
#[derive(Debug)]
struct Seat {
    address: IpAddr,
    /// Whose it is; `None` for a stranger's.
    holder: Option<Holder>,
    is_answering: Arc<AtomicBool>,
    /// Dropped to have it closed.
    _open: oneshot::Sender<Infallible>,
}

/// All connections, by numbers that only grow. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    room: Room,
    list: Arc<Mutex<(u64, BTreeMap<u64, Seat>)>>,
}

impl Seats {
    pub(super) fn new(room: Room) -> Self {
        Self { room, list: Arc::default() }
    }

    /// Somebody connects from this address. What is returned resolves when the connection is to be closed.
    pub(super) fn enter(&self, address: IpAddr) -> (Arc<Guest>, oneshot::Receiver<Infallible>) {
        let (open, until) = oneshot::channel();
        let mut list = self.lock();
        let (next, seats) = &mut *list;
        let strangers = |seats: &BTreeMap<u64, Seat>, of: Option<IpAddr>| -> Vec<u64> {
            let is = |seat: &Seat| seat.holder.is_none() && of.is_none_or(|address| seat.address == address);
            seats.iter().filter(|(_, seat)| is(seat)).map(|(number, _)| *number).collect()
        };
        // On this machine everybody has the same address.
        let elsewhere = Some(address).filter(|address| !address.to_canonical().is_loopback());
        let of_one = elsewhere.map(|address| (Some(address), self.room.strangers_of_one));
        for (of, most) in of_one.into_iter().chain([(None, self.room.strangers)]) {
            let there = strangers(seats, of);
            if there.len() >= most {
                seats.remove(&there[0]);
            }
        }
        let (number, is_answering) = (*next, Arc::<AtomicBool>::default());
        *next += 1;
        seats.insert(number, Seat { address, holder: None, is_answering: Arc::clone(&is_answering), _open: open });
        (Arc::new(Guest { number, is_answering, is_known: AtomicBool::new(false), seats: self.clone() }), until)
    }

    /// A connection turns out to be theirs.
    fn admit(&self, number: u64, key: &str, role: Role) -> Result<(), Full> {
        let mut list = self.lock();
        let seats = &mut list.1;
        let Room { known, known_of_one, .. } = self.room;
        let own = |(other, _): &Holder| other == key;
        make_room(seats, number, known_of_one, own, own).ok_or(Full::OfOne)?;
        let most = known[Role::ALL.iter().position(|one| *one == role).unwrap_or(0)];
        make_room(seats, number, most, |_| true, |(_, other)| *other <= role).ok_or(Full::OfAll)?;
        if let Some(seat) = seats.get_mut(&number) {
            seat.holder = Some((key.to_owned(), role));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Seat>)> {
        // Each change of it is one insertion or removal.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the oldest idle connection of those that may go closed, where as many as may be there are there beside this one;
/// `None` where none may go.
fn make_room(
    seats: &mut BTreeMap<u64, Seat>,
    number: u64,
    most: usize,
    counts: impl Fn(&Holder) -> bool,
    may_go: impl Fn(&Holder) -> bool,
) -> Option<()> {
    let others = || seats.iter().filter(|(other, _)| **other != number);
    if others().filter(|(_, seat)| seat.holder.as_ref().is_some_and(&counts)).count() >= most {
        let is_idle = |seat: &Seat| !seat.is_answering.load(Ordering::Relaxed);
        let goes = |seat: &Seat| seat.holder.as_ref().is_some_and(&may_go) && is_idle(seat);
        let (oldest, _) = others().find(|(_, seat)| goes(seat))?;
        let oldest = *oldest;
        seats.remove(&oldest);
    }
    Some(())
}

/// A connection, for whoever answers on it. When the last clone goes, its place is free.
#[derive(Debug)]
pub(super) struct Guest {
    number: u64,
    is_answering: Arc<AtomicBool>,
    is_known: AtomicBool,
    seats: Seats,
}

impl Guest {
    /// It is theirs from now on: `key` names a token or a session.
    pub(super) fn admit(&self, key: &str, role: Role) -> Result<(), Full> {
        self.seats.admit(self.number, key, role)?;
        self.is_known.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A request is being answered on it until what is returned is dropped.
    pub(super) fn answer(&self) -> Answering {
        self.is_answering.store(true, Ordering::Relaxed);
        Answering(Arc::clone(&self.is_answering))
    }

    /// Whether a request is being answered on it, and whether somebody's who is known.
    pub(super) fn standing(&self) -> (bool, bool) {
        (self.is_answering.load(Ordering::Relaxed), self.is_known.load(Ordering::Relaxed))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.seats.lock().1.remove(&self.number);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<AtomicBool>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { strangers: 3, strangers_of_one: 2, known: [2, 3, 4], known_of_one: 2 };
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    type Entered = (Arc<Guest>, oneshot::Receiver<Infallible>);

    fn is_open((_, until): &mut Entered) -> bool {
        until.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn a_stranger_takes_the_place_of_the_oldest_and_of_nobody_known() {
        let seats = Seats::new(ROOM);
        let mut known = seats.enter(HERE);
        known.0.admit("token ci", Role::Viewer).unwrap();
        let mut strangers: Vec<Entered> = (0..10).map(|_| seats.enter(HERE)).collect();
        let open: Vec<bool> = strangers.iter_mut().map(is_open).collect();
        assert_eq!(open, [false, false, false, false, false, false, false, true, true, true]);
        assert!(is_open(&mut known));
        drop(strangers);
        assert_eq!(seats.lock().1.len(), 1);
    }

    #[test]
    fn a_machine_elsewhere_takes_its_own_places_only() {
        let seats = Seats::new(ROOM);
        let mut here = seats.enter(HERE);
        let mut far: Vec<Entered> = (0..5).map(|_| seats.enter("10.0.0.9".parse().unwrap())).collect();
        let open: Vec<bool> = far.iter_mut().map(is_open).collect();
        assert_eq!(open, [false, false, false, true, true]);
        assert!(is_open(&mut here));
    }

    #[test]
    fn whoever_is_known_has_so_many_and_an_idle_one_makes_room() {
        let seats = Seats::new(ROOM);
        let mut first = seats.enter(HERE);
        first.0.admit("a", Role::Viewer).unwrap();
        let second = seats.enter(HERE);
        second.0.admit("a", Role::Viewer).unwrap();
        second.0.admit("a", Role::Viewer).expect("the next request on it is no other connection");
        let answers = [first.0.answer(), second.0.answer()];
        let third = seats.enter(HERE);
        assert_eq!(third.0.admit("a", Role::Viewer), Err(Full::OfOne));
        assert!(!third.0.standing().1);
        drop(answers);
        third.0.admit("a", Role::Viewer).unwrap();
        assert!(!is_open(&mut first), "the oldest idle one of their own");
    }

    #[test]
    fn a_lower_role_does_not_fill_the_room_of_a_higher_one() {
        let seats = Seats::new(ROOM);
        let enter = |key: &str, role| {
            let entered = seats.enter(HERE);
            let answering = entered.0.answer();
            entered.0.admit(key, role).map(|()| (entered, answering))
        };
        let _viewers = [enter("a", Role::Viewer).unwrap(), enter("b", Role::Viewer).unwrap()];
        assert_eq!(enter("c", Role::Viewer).unwrap_err(), Full::OfAll);
        let _operator = enter("d", Role::Operator).unwrap();
        assert_eq!(enter("e", Role::Operator).unwrap_err(), Full::OfAll);
        let _admin = enter("f", Role::Admin).unwrap();
        assert_eq!(enter("g", Role::Admin).unwrap_err(), Full::OfAll);
    }
}
