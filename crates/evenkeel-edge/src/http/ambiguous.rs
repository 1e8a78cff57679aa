//! What becomes of ambiguous requests on a listener, and who hears of it (`listeners.NAME.strict`).
//!
//! A head that was refused is put right by [`super::lenient`] where the listener reports instead of refusing, and then
//! parsed again by the same strict rules. Fields whose names have an underscore are left out, or passed on and reported.
//! Only such requests come here; nothing is kept between them.

use std::mem::MaybeUninit;

use evenkeel_core::{ambiguity::Ambiguity, snapshot::Strictness};

use super::{
    client::{Client, Refusal},
    fields::MOST_FIELDS,
    head_request::{self, FieldRoom, RequestHead},
    lenient::{Amended, amend},
};
use crate::messages::Notice;

/// Longest target in a report, in bytes.
const TARGET_BYTES: usize = 100;

/// What came of a second look at a refused head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondLook {
    /// It stays refused.
    Refused,
    /// More of it is needed.
    Incomplete,
    /// It was put right and stands in the input.
    PutRight,
}

impl Client {
    /// Looks again at the head at the front of the input, which was refused.
    #[cold]
    pub(super) fn look_again(&mut self, refusal: &Refusal) -> SecondLook {
        let config = &self.place.listener().config;
        if config.strictness == Strictness::Refuse || refusal.status() != 400 {
            return SecondLook::Refused;
        }
        let (head, length, found) = match amend(self.input.filled(), &config.limits) {
            Amended::No => return SecondLook::Refused,
            Amended::More => return SecondLook::Incomplete,
            Amended::Head { head, length, found } => (head, length, found),
        };
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let Ok(Some(parsed)) = head_request::parse(&head, &mut room, &config.limits) else {
            return SecondLook::Refused;
        };
        for kind in found {
            self.report(&parsed, kind);
        }
        self.input.replace(length, &head);
        SecondLook::PutRight
    }

    /// Decides about the fields of a head whose names have an underscore.
    #[cold]
    pub(super) fn settle_underscored(&self, head: &mut RequestHead<'_, '_>) {
        head.keeps_underscored = self.place.listener().config.strictness == Strictness::Report;
        self.report(head, Ambiguity::Underscored);
    }

    fn report(&self, head: &RequestHead<'_, '_>, kind: Ambiguity) {
        let config = &self.place.listener().config;
        self.thread.ambiguous(kind, &config.name, self.address, || {
            let target = &head.path[..head.path.len().min(TARGET_BYTES)];
            let (method, target) = (String::from_utf8_lossy(head.method), String::from_utf8_lossy(target));
            Notice::Ambiguous {
                listener: config.name.clone(),
                client: self.address,
                request: format!("{method} {target}"),
                kind,
                reported: config.strictness == Strictness::Report,
            }
        });
    }
}
