//! A request under way: what is left of its head once it was routed and written anew.

use std::rc::Rc;

use evenkeel_core::{
    retry::{Attempt, LonelyDeaths, Sent, may_repeat},
    time::Moment,
};

use super::{compress::Accepts, framing::Body, rewrite::AnswerFields};
use crate::{
    local::ServiceLocal,
    pick::{Flight, Tie, Tried},
};

/// Most interim answers in one try: each of them begins the wait for the answer anew.
const MOST_INTERIM: u8 = 100;

/// Longest identity that is taken over from a trusted peer, in bytes.
const LONGEST_ID: usize = 64;

/// A request's identity, as it stands in `X-Request-Id`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id {
    bytes: [u8; LONGEST_ID],
    length: u8,
}

impl Id {
    /// Takes an identity over; `None` if it is too long or has anything but visible ASCII in it.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST_ID];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let fits = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        fits.then_some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// A fresh one.
    pub(crate) fn fresh(digits: [u8; 16]) -> Self {
        let mut bytes = [0; LONGEST_ID];
        bytes[..16].copy_from_slice(&digits);
        Self { bytes, length: 16 }
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What few requests need, on the heap so that the others stay small: there where the route has actions, or its service
/// keeps clients at an instance, hashes, compresses or has pages of its own.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Where it belongs, by its head.
    pub(crate) tie: Tie,
    /// The service that tied it there, by the address of its shared state; compared, never followed.
    pub(crate) tied_by: usize,
    /// Where the route leads, if another service got its part of it: it stands in when that one cannot.
    pub(crate) main: Option<Rc<ServiceLocal>>,
    /// Who gets a copy.
    pub(crate) mirror: Option<Rc<ServiceLocal>>,
    /// The copy.
    pub(crate) copy: Option<Box<super::mirror::Copy>>,
    /// Other fields for the client, where the route has some.
    pub(crate) fields: Option<AnswerFields>,
    /// Which codings the client accepts, where the service compresses.
    pub(crate) accepts: Option<Accepts>,
}

/// A request under way.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own about the message.
pub(crate) struct Request {
    /// The service it was routed to, or the one that answers instead.
    pub(crate) service: Rc<ServiceLocal>,
    /// The message for the instance: the head and the body so far. Later the answer for the client.
    pub(crate) out: Vec<u8>,
    /// What remains of the body.
    pub(crate) body: Body,
    /// The client has sent the whole body. It is in `out`, unless some of it was passed on.
    pub(crate) complete: bool,
    /// Some of the body went to an instance as it came and is in `out` no more: nobody else can have the whole.
    pub(crate) passed_on: bool,
    /// Content bytes of the body so far.
    pub(crate) content_bytes: u64,
    pub(crate) to_head: bool,
    pub(crate) idempotent: bool,
    pub(crate) keyed: bool,
    pub(crate) expect: bool,
    pub(crate) minor: u8,
    pub(crate) keep_alive: bool,
    pub(crate) id: Id,
    /// When its first byte arrived.
    pub(crate) started: Moment,
    pub(crate) tries: u8,
    pub(crate) tried: Tried,
    /// Interim answers in this try.
    pub(crate) interim: u8,
    /// How long it has waited because nobody could be reached.
    pub(crate) paused_ms: u64,
    /// When this try began to send, until the head of its answer has been counted.
    pub(crate) sent_at: Option<Moment>,
    /// It asks for another protocol on its connection, and may have it.
    pub(crate) upgrade: bool,
    /// It is a CONNECT, which may have a tunnel.
    pub(crate) connect: bool,
    /// How many instances died of it, as it seems.
    pub(crate) deaths: LonelyDeaths,
    /// The latency to count where the end of the answer says nothing of it: of a tunnel, of a stream of events.
    pub(crate) head_us: Option<u64>,
    pub(crate) extras: Option<Box<Extras>>,
}

impl Request {
    /// The service that it goes to if it was given to another one, and that one cannot.
    pub(crate) fn main(&self) -> Option<&Rc<ServiceLocal>> {
        self.extras.as_ref().and_then(|extras| extras.main.as_ref())
    }

    /// Where it belongs.
    pub(crate) fn tie(&self) -> Tie {
        self.extras.as_ref().map_or_else(Tie::default, |extras| extras.tie)
    }

    /// It stays at this instance until it ends, which may take long.
    pub(crate) fn settle(&mut self, flight: &mut Flight) {
        flight.settle();
        self.service = self.service.bare();
        if let Some(extras) = self.extras.as_deref_mut() {
            let others = [extras.main.as_mut(), extras.mirror.as_mut(), extras.copy.as_mut().map(|copy| &mut copy.to)];
            // Whoever sends the copy looks for an instance in the newest view.
            others.into_iter().flatten().for_each(|service| *service = service.bare());
        }
    }

    /// A try begins.
    pub(crate) fn begin_try(&mut self, flight: &Flight) {
        if self.tries > 0 {
            self.service.cell().retries.add(1);
        }
        self.tries = self.tries.saturating_add(1);
        self.interim = 0;
        self.tried.push(&flight.instance);
    }

    /// A second try begins beside the first.
    pub(crate) fn begin_hedge(&mut self, flight: &Flight) {
        self.service.cell().hedges.add(1);
        self.tries = self.tries.saturating_add(1);
        self.tried.push(&flight.instance);
    }

    /// An interim answer came. Returns whether that is one too many.
    pub(crate) fn tires_of_interim(&mut self) -> bool {
        self.interim = self.interim.saturating_add(1);
        self.interim > MOST_INTERIM
    }

    /// The last try reached nobody and was followed by a pause: it does not count, and everybody may be tried anew.
    pub(crate) fn forget_try(&mut self, pause_ms: u64) {
        self.tries = self.tries.saturating_sub(1);
        self.tried = Tried::default();
        self.paused_ms += pause_ms;
    }

    /// Whether it may be sent again although an instance may have seen it. The budget is asked separately.
    pub(crate) fn is_repeatable(&self) -> bool {
        may_repeat(self.attempt(Sent::Something), &self.service.config().retry)
    }

    /// Whether an instance may have it of which nobody knows yet how well it answers: should that fail, there is another
    /// try. A connection that is upgraded stays where it is, so it belongs with those that have proven themselves.
    pub(crate) fn is_movable(&self) -> bool {
        let next = Attempt { tries: 1, ..self.attempt(Sent::Something) };
        self.tries == 0 && !self.upgrade && !self.connect && may_repeat(next, &self.service.config().retry)
    }

    /// Whether sending it twice would mean the same as once. Its small answers are delivered whole or not at all,
    /// also on the last try: half an answer helps nobody.
    pub(crate) fn is_safe(&self) -> bool {
        self.idempotent || self.keyed
    }

    /// Whether it may be sent again after a try of which this much was sent.
    pub(crate) fn may_repeat(&self, sent: Sent) -> bool {
        may_repeat(self.attempt(sent), &self.service.config().retry)
    }

    fn attempt(&self, sent: Sent) -> Attempt {
        Attempt {
            idempotent: self.idempotent,
            keyed: self.keyed,
            sent,
            // Where nothing was sent, what is at hand is all that was taken from the client.
            replayable: self.complete && !self.passed_on || sent == Sent::Nothing,
            answered: false,
            tries: self.tries,
        }
    }
}
