//! What becomes of the places of one server, before routes are made of them.
//!
//! Places of one server bear on each other: a pattern that refuses comes before most prefixes, a route cannot tell a
//! path from what lies below it, and what is closed must win wherever two answers meet. All of that is settled here,
//! with nothing but paths; names, listeners and hosts come later.

use super::{super::answers::Closed, guards::Guard, patterns::is_below, transform::Keys};

/// A place and its answer.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) path: String,
    /// It was meant for this path alone.
    pub(super) exact: bool,
    /// Patterns come before it.
    pub(super) tested: bool,
    pub(super) answer: Answer,
}

impl Planned {
    /// Closes a place that refused one path alone, where these keys led what lies below it elsewhere.
    fn widen(&mut self, below: &Keys) {
        let Answer::Page { status, because, .. } = &self.answer else { return };
        if self.exact && *status >= 400 && !below.is_empty() {
            let (because, beside) = (because.clone(), "What lies below it is closed too.".to_owned());
            self.answer = Answer::Closed(Closed { because, beside, status: *status, was: below.clone() });
        }
    }
}

/// What a place answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A service, with further keys; with methods among them, others get the second answer.
    Open { service: String, more: Keys, others: Option<Closed> },
    /// Elsewhere.
    Redirect(String),
    /// A page of this name and status; where it comes from.
    Page { service: String, status: u16, because: String },
    /// Nobody gets in.
    Closed(Closed),
}

impl Answer {
    /// The smaller one wins where two answers meet.
    fn rank(&self) -> u8 {
        match self {
            Self::Closed(_) => 0,
            Self::Page { status, .. } if *status >= 400 => 0,
            Self::Open { .. } => 1,
            Self::Page { .. } => 2,
            Self::Redirect(_) => 3,
        }
    }

    /// Whether no instance is asked, whoever asks.
    pub(super) fn is_shut(&self) -> bool {
        self.rank() == 0
    }

    /// Whether some methods are closed.
    fn is_partly(&self) -> bool {
        matches!(self, Self::Open { others: Some(_), .. })
    }

    /// Where it leads, as keys of a route.
    fn keys(&self) -> Keys {
        match self {
            Self::Open { service, more, .. } => {
                let service = ("service", super::super::toml::string(service));
                std::iter::once(service).chain(more.iter().cloned()).collect()
            }
            Self::Closed(closed) => closed.was.clone(),
            Self::Redirect(_) | Self::Page { .. } => Vec::new(),
        }
    }
}

/// A pattern that refuses.
#[derive(Debug)]
struct Pattern {
    /// Everything that it could match lies below these.
    covers: Vec<String>,
    /// What stands there.
    guard: Guard,
    /// The place in which it stands, where `^~` does not keep it from being asked.
    within: Option<String>,
}

/// The places of one server.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) places: Vec<Planned>,
    /// Patterns that refuse.
    patterns: Vec<Pattern>,
}

impl Plan {
    /// Takes a place; `false` where another answer for its path stays.
    pub(super) fn add(&mut self, mut new: Planned) -> bool {
        let Some(other) = self.places.iter_mut().find(|other| other.path == new.path) else {
            self.places.push(new);
            return true;
        };
        // Somebody has to know that what was refused for one path alone is refused below it too.
        let answer = new.answer.keys();
        other.widen(&answer);
        let answer = other.answer.keys();
        new.widen(&answer);
        let weight = |one: &Planned| (!one.answer.is_shut(), !one.answer.is_partly(), one.exact, one.answer.rank());
        let better = weight(&new) < weight(other);
        if better {
            *other = new;
        }
        better
    }

    /// Takes a pattern that refuses.
    pub(super) fn refuse(&mut self, covers: Vec<String>, guard: Guard, within: Option<&str>) {
        self.patterns.push(Pattern { covers, guard, within: within.map(str::to_owned) });
    }

    /// Closes what a pattern could refuse, and everything where the server as a whole is guarded.
    pub(super) fn settle(&mut self, source: &str, guards: &[Guard]) {
        for Pattern { covers, guard, within } in std::mem::take(&mut self.patterns) {
            let because = said(source, std::slice::from_ref(&guard));
            let asked = |one: &Planned| one.tested || within.as_ref().is_some_and(|within| is_below(&one.path, within));
            let matched = |one: &&mut Planned| asked(one) && covers.iter().any(|cover| is_below(&one.path, cover));
            for place in self.places.iter_mut().filter(matched).filter(|one| !one.answer.is_shut()) {
                place.answer = Answer::Closed(Closed {
                    because: because.clone(),
                    beside:
                        "Routes match no patterns, so all that lies here is closed. Where the instances have nothing \
                             that the pattern means, it can be opened at once."
                            .to_owned(),
                    status: guard.status,
                    was: place.answer.keys(),
                });
            }
            for cover in covers {
                if self.places.iter().all(|one| one.path != cover) {
                    let beside = if cover == "/" { "" } else { PATTERN };
                    let closed = Closed {
                        because: because.clone(),
                        beside: beside.to_owned(),
                        status: guard.status,
                        was: Vec::new(),
                    };
                    self.close(&cover, closed);
                }
            }
        }
        if !guards.is_empty() && self.places.iter().all(|one| one.path != "/") {
            let closed = Closed { was: Vec::new(), ..closed(source, guards, "") };
            self.close("/", closed);
        }
    }

    fn close(&mut self, path: &str, closed: Closed) {
        self.places.push(Planned { path: path.to_owned(), exact: false, tested: true, answer: Answer::Closed(closed) });
    }
}

/// What is to be known of a place that stands for a pattern.
const PATTERN: &str = "Routes match no patterns, so this and all that lies below is closed; names that only begin like it, \
                       and other spellings, are not.";

/// A place that these close.
pub(super) fn closed(source: &str, guards: &[Guard], beside: &str) -> Closed {
    let status = guards.first().map_or(403, |guard| guard.status);
    Closed { because: said(source, guards), beside: beside.to_owned(), status, was: Vec::new() }
}

fn said(source: &str, guards: &[Guard]) -> String {
    let all = guards.iter().map(|guard| format!("line {}: `{}`", guard.line, guard.words));
    format!("{source} {}", all.collect::<Vec<_>>().join(", "))
}
