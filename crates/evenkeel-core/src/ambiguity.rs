//! Ambiguous requests: which kinds there are, and whose are told.
//!
//! A listener that only reports them is made strict once nobody sends any. So each kind is counted, and each client is
//! named once in a while for each kind that it sends, however many others send whatever they do. Whom to remember is
//! bounded: clients who come once no room is left are counted and not named. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Moment;

/// What is ambiguous about a request that has one meaning for most all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ambiguity {
    /// Lines of its head that end with LF alone (RFC 9112 section 2.2).
    BareLf,
    /// A field value continued on another line (RFC 9112 section 5.2).
    Folded,
    /// Several lengths, all equal (RFC 9110 section 8.6).
    RepeatedLength,
    /// Bytes above 127 in the target (RFC 3986 section 2).
    RawTarget,
    /// Target and `Host` name different hosts (RFC 9112 section 3.2.2).
    OtherHost,
    /// Names of fields with an underscore.
    Underscored,
}

impl Ambiguity {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::BareLf, Self::Folded, Self::RepeatedLength, Self::RawTarget, Self::OtherHost, Self::Underscored];

    /// Its place in [`Self::ALL`].
    pub const fn place(self) -> usize {
        self as usize
    }

    /// Its name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "bare-lf",
            Self::Folded => "folded",
            Self::RepeatedLength => "repeated-length",
            Self::RawTarget => "raw-target",
            Self::OtherHost => "other-host",
            Self::Underscored => "underscored",
        }
    }

    /// In words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::BareLf => "lines of the head end with LF instead of CRLF",
            Self::Folded => "a field value continued on another line",
            Self::RepeatedLength => "more than one Content-Length, all equal",
            Self::RawTarget => "bytes in the request target that should be escaped",
            Self::OtherHost => "a Host that differs from the host in the request target",
            Self::Underscored => "field names with an underscore",
        }
    }
}

/// Who was named lately.
#[derive(Debug)]
pub struct Named<K> {
    last: BTreeMap<K, Moment>,
    swept: Moment,
    every: Duration,
    most: usize,
}

impl<K: Ord> Named<K> {
    /// Nobody. Each is named again after `every`, and no more than `most` in that time.
    pub const fn new(every: Duration, most: usize) -> Self {
        Self { last: BTreeMap::new(), swept: Moment::ORIGIN, every, most }
    }

    /// Whether this one is to be named now.
    pub fn is_due(&mut self, who: K, now: Moment) -> bool {
        if let Some(last) = self.last.get_mut(&who) {
            let due = now.since(*last) >= self.every;
            if due {
                *last = now;
            }
            return due;
        }
        if self.last.len() >= self.most {
            // Not with each of very many that find no room.
            if now.since(self.swept) < self.every / 16 {
                return false;
            }
            self.swept = now;
            self.last.retain(|_, last| now.since(*last) < self.every);
            if self.last.len() >= self.most {
                return false;
            }
        }
        self.last.insert(who, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_mins(1);

    #[test]
    fn kinds_stand_at_their_places() {
        for (place, kind) in Ambiguity::ALL.into_iter().enumerate() {
            assert_eq!(kind.place(), place);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn each_is_named_once_in_a_while_whatever_others_do() {
        let mut named = Named::new(EVERY, 3);
        let start = Moment::ORIGIN + EVERY;
        assert!(named.is_due("a", start) && !named.is_due("a", start));
        assert!(named.is_due("b", start + EVERY / 2));
        assert!(!named.is_due("a", start + EVERY / 2));
        assert!(named.is_due("a", start + EVERY));
        assert!(!named.is_due("b", start + EVERY));
    }

    #[test]
    fn who_finds_no_room_is_not_named_until_others_were_forgotten() {
        let mut named = Named::new(EVERY, 2);
        let start = Moment::ORIGIN + EVERY;
        assert!(named.is_due(1, start) && named.is_due(2, start));
        for who in 3..1_000 {
            assert!(!named.is_due(who, start + EVERY / 2));
        }
        assert_eq!(named.last.len(), 2);
        assert!(named.is_due(3, start + EVERY) && named.is_due(4, start + EVERY));
        assert_eq!(named.last.len(), 2);
    }
}
