//! Away: whether a service stays with its fallback, or with instances outside of its preferred zone, although what it
//! prefers is healthy again.
//!
//! The edge falls back by its own verdicts, at once, and says so. Whether it may return by itself is decided here:
//! at once, when an operator says so, or within a time of day. What is kept is that the service fell back and whether
//! an operator has ordered it home; the rest follows from those and from the wall time, so that a restart or an event
//! that was lost changes nothing for long. Nothing here looks at instances or sends anything.

use serde::{Deserialize, Serialize};

use crate::{journal::Reason, stack::Return, time::WallTime};

/// Where one service stands. The default is: at home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Who answers instead; `None`: at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fell_back: Option<FellBack>,
    /// An operator has ordered the return, which waits only for health.
    #[serde(default)]
    ordered: bool,
}

/// Who answers in place of what is preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FellBack {
    /// A service or a zone, as the edge named it.
    pub to: String,
    /// Since when.
    pub since: WallTime,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The edge fell back.
    FellBack {
        /// A service or a zone.
        to: String,
    },
    /// The edge uses what is preferred again.
    Returned,
    /// An operator said: `keel resume SERVICE`.
    Resume {
        /// Who it was.
        by: String,
    },
    /// Time went by.
    Look {
        /// Whether an instance of what is preferred is healthy.
        preferred_healthy: bool,
    },
}

/// What changed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// A stable word: `staying-away`, `returning`.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
    /// Most important first.
    pub reasons: Vec<Reason>,
}

impl Away {
    /// Who answers instead of what is preferred, as far as is known.
    pub fn fell_back(&self) -> Option<&FellBack> {
        self.fell_back.as_ref()
    }

    /// Whether an operator has ordered the return.
    pub fn is_ordered_home(&self) -> bool {
        self.ordered
    }

    /// Whether the edge must not return by itself at this time.
    pub fn is_away(&self, returns: Return, wall: WallTime) -> bool {
        self.fell_back.is_some() && !self.may_return(returns, wall)
    }

    fn may_return(&self, returns: Return, wall: WallTime) -> bool {
        match returns {
            Return::AtOnce => true,
            Return::ByHand => self.ordered,
            Return::Within(window) => self.ordered || window.contains(wall),
        }
    }

    /// Takes an event. What is returned is worth a line in the journal.
    pub fn on(&mut self, returns: Return, event: Event, wall: WallTime) -> Option<Decision> {
        match event {
            Event::FellBack { to } => self.fall_back(returns, to, wall),
            Event::Returned => self.returned(returns, wall),
            Event::Resume { by } => self.resume(returns, &by, wall),
            Event::Look { preferred_healthy } => self.look(returns, preferred_healthy, wall),
        }
    }

    fn fall_back(&mut self, returns: Return, to: String, wall: WallTime) -> Option<Decision> {
        // The edge says it again after a restart of its own.
        if self.fell_back.as_ref().is_some_and(|known| known.to == to) {
            return None;
        }
        let since = self.fell_back.take().map_or(wall, |known| known.since);
        let message = format!("{to} answers until the return is due");
        self.fell_back = Some(FellBack { to, since });
        self.ordered = false;
        let rule = match returns {
            Return::AtOnce => return None,
            Return::ByHand => "`return` is \"by-hand\": it stays until `keel resume`".to_owned(),
            Return::Within(window) => format!("`return` is \"{window}\" (UTC): it stays until then"),
        };
        let reasons =
            vec![Reason::seen("the edge fell back: nothing that is preferred was healthy"), Reason::rule(rule)];
        Some(Decision { kind: "staying-away", message, reasons })
    }

    fn resume(&mut self, returns: Return, by: &str, wall: WallTime) -> Option<Decision> {
        if self.fell_back.is_none() || self.ordered || self.may_return(returns, wall) {
            return None;
        }
        self.ordered = true;
        let reasons = vec![
            Reason::seen(format!("ordered by {by}")),
            Reason::rule("the edge returns as soon as something that is preferred is healthy"),
        ];
        Some(Decision { kind: "returning", message: "it may return to what it prefers".to_owned(), reasons })
    }

    /// Once it may return and something that is preferred is healthy, the edge is at home, whether or not it says so.
    fn look(&mut self, returns: Return, preferred_healthy: bool, wall: WallTime) -> Option<Decision> {
        if !preferred_healthy || !self.may_return(returns, wall) {
            return None;
        }
        self.returned(returns, wall)
    }

    /// It is at home. Worth a line is that by its window; what was ordered has been said, at once is what everybody
    /// expects, and where it had to, since nobody else is healthy any more, the edge says so.
    fn returned(&mut self, returns: Return, wall: WallTime) -> Option<Decision> {
        let Self { fell_back, ordered } = std::mem::take(self);
        let from = fell_back?.to;
        let rule = match returns {
            Return::Within(window) if !ordered && window.contains(wall) => {
                format!("it is {window} (UTC), when it may return")
            }
            _ => return None,
        };
        let reasons = vec![Reason::seen("something that is preferred is healthy"), Reason::rule(rule)];
        Some(Decision { kind: "returning", message: format!("it returns from {from} to what it prefers"), reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: &str = "02:00-04:00";

    fn returns(text: &str) -> Return {
        text.parse().unwrap()
    }

    fn at(hour: u64) -> WallTime {
        WallTime::from_millis(20_000 * 86_400_000 + hour * 3_600_000)
    }

    fn resume() -> Event {
        Event::Resume { by: "root".to_owned() }
    }

    fn fallen(how: &str, hour: u64) -> Away {
        let mut away = Away::default();
        away.on(returns(how), Event::FellBack { to: "b".to_owned() }, at(hour));
        away
    }

    fn look(away: &mut Away, how: &str, preferred_healthy: bool, hour: u64) -> Option<&'static str> {
        away.on(returns(how), Event::Look { preferred_healthy }, at(hour)).map(|decision| decision.kind)
    }

    #[test]
    fn at_once_never_stays_away() {
        let mut away = fallen("at-once", 10);
        assert!(!away.is_away(returns("at-once"), at(10)));
        assert_eq!(away.fell_back().map(|fell_back| fell_back.to.as_str()), Some("b"));
        assert_eq!(look(&mut away, "at-once", true, 10), None);
        assert_eq!(away, Away::default());
    }

    #[test]
    fn by_hand_stays_until_an_operator_says_so() {
        let mut away = fallen("by-hand", 10);
        assert_eq!(look(&mut away, "by-hand", true, 20), None);
        assert!(away.is_away(returns("by-hand"), at(20)));
        let decision = away.on(returns("by-hand"), resume(), at(20)).unwrap();
        assert_eq!(decision.kind, "returning");
        assert!(!away.is_away(returns("by-hand"), at(20)));
        // The order holds until there is somebody to return to, and is used up then.
        assert_eq!(look(&mut away, "by-hand", false, 21), None);
        assert!(away.is_ordered_home() && away.on(returns("by-hand"), resume(), at(21)).is_none());
        look(&mut away, "by-hand", true, 22);
        away.on(returns("by-hand"), Event::FellBack { to: "b".to_owned() }, at(23));
        assert!(away.is_away(returns("by-hand"), at(23)));
    }

    #[test]
    fn within_its_window_it_returns_once_somebody_is_healthy_and_not_after_it() {
        let mut away = fallen(NIGHT, 10);
        assert!(away.is_away(returns(NIGHT), at(1)));
        assert!(!away.is_away(returns(NIGHT), at(2)));
        assert_eq!(look(&mut away, NIGHT, false, 3), None);
        assert!(away.is_away(returns(NIGHT), at(4)), "nobody was healthy all night, so it stays another day");
        assert_eq!(look(&mut away, NIGHT, true, 5), None);
        assert_eq!(look(&mut away, NIGHT, true, 26), Some("returning"));
        assert_eq!(away, Away::default());
    }

    #[test]
    fn the_edge_that_returned_because_it_had_to_is_at_home() {
        let mut away = fallen("by-hand", 10);
        away.on(returns("by-hand"), Event::Returned, at(11));
        assert!(!away.is_away(returns("by-hand"), at(11)));
    }

    #[test]
    fn what_is_said_again_is_no_news_and_what_is_kept_reads_back() {
        let mut away = fallen("by-hand", 10);
        assert!(away.on(returns("by-hand"), resume(), at(11)).is_some());
        assert!(away.on(returns("by-hand"), Event::FellBack { to: "b".to_owned() }, at(12)).is_none());
        assert!(away.is_ordered_home(), "an edge that was started again does not undo the order");
        let kept = serde_json::to_string(&away).unwrap();
        assert_eq!(serde_json::from_str::<Away>(&kept).unwrap(), away);
    }
}
