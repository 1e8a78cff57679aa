//! From rules in order to routes, which go by host, then longest path, then order.
//!
//! All hosts and paths that any rule names make a table of cells; at each cell the rules are asked in their order, and
//! what comes out is what routes of that host and path answer. A cell that says what the one around it says is left
//! out. Where it cannot be known whether a rule refuses, the cell is closed. It reads nothing but rules.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::found::Page,
    conditions::{Ask, Cell, Unknown, has_host, is_below},
    rules::{Act, Rule},
};

/// A group of servers: its own rules, and whether it has anybody who answers.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) rules: Vec<Rule>,
    pub(super) has_servers: bool,
    /// What was given to the service, if there is one.
    pub(super) service: Option<String>,
}

impl Group {
    /// Whether nobody is led to a server, whoever asks.
    fn is_shut(&self) -> bool {
        let anywhere = Cell { host: None, path: "/" };
        let always = |rule: &Rule| rule.condition.holds(anywhere).when.iter().any(Vec::is_empty);
        self.service.is_none()
            || self.rules.iter().find(|rule| always(rule)).is_some_and(|rule| matches!(rule.act, Act::Refuse(_)))
    }

    /// Whether its own rules may keep out some who would be led to it from this cell.
    fn may_refuse(&self, cell: Cell<'_>) -> bool {
        let may = |rule: &Rule| {
            let holds = rule.condition.holds(cell);
            !holds.when.is_empty() || holds.maybe.iter().any(|(_, why)| *why != Unknown::Limit)
        };
        self.rules.iter().any(|rule| matches!(rule.act, Act::Refuse(_)) && may(rule))
    }
}

/// What requests of a cell get that fulfil `asks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) asks: Vec<Ask>,
    pub(super) end: End,
    /// Only the path itself may reach an instance, not what lies below.
    pub(super) exact: bool,
}

/// Where a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At this group.
    Open(String),
    Redirect(String),
    Answer(Page),
    /// It is refused there as well: the status and the rule's line.
    Refused(u16, usize),
    /// It may have been refused there: the status, the rule's line, and the group that may have had it.
    Closed(u16, usize, Option<String>),
}

/// A host, a path, and what routes of both answer.
pub(super) type Place = (Option<String>, String, Vec<Row>);

/// The table of a section.
pub(super) struct Table<'a> {
    pub(super) rules: &'a [Rule],
    pub(super) groups: &'a BTreeMap<String, Group>,
    /// Lines that could not be translated, each with what to look at.
    pub(super) notes: BTreeSet<(usize, String)>,
}

/// More cells than this are not written by people.
const MOST_CELLS: usize = 20_000;

impl Table<'_> {
    /// All places that say something of their own; `None` where there are too many.
    pub(super) fn places(&mut self) -> Option<Vec<Place>> {
        let (hosts, paths) = self.axes();
        if hosts.len() * paths.len() > MOST_CELLS {
            return None;
        }
        let mut all: Vec<Place> = Vec::new();
        for host in &hosts {
            for path in &paths {
                let cell = Cell { host: host.as_deref(), path };
                let mut rows = Vec::new();
                let ends = self.walk((self.rules, None), cell, &[], &mut rows);
                if !ends {
                    rows.push(Row { asks: Vec::new(), end: End::Refused(503, 0), exact: false });
                }
                all.push((host.clone(), path.clone(), rows));
            }
        }
        Some(pruned(&all))
    }

    /// Every host and every path that a rule names, the general ones first.
    fn axes(&self) -> (Vec<Option<String>>, Vec<String>) {
        let (mut hosts, mut paths) = (BTreeSet::new(), BTreeSet::from(["/".to_owned()]));
        let others = self.groups.values().flat_map(|group| &group.rules);
        self.rules.iter().chain(others).for_each(|rule| rule.condition.cells(&mut hosts, &mut paths));
        let mut hosts: Vec<Option<String>> = hosts.into_iter().map(Some).chain([None]).collect();
        // A wildcard before the names it has, a longer one after a shorter one.
        hosts.sort_by_key(|host| host.as_ref().map(|host| (!host.starts_with("*."), host.len(), host.clone())));
        (hosts, paths.into_iter().collect())
    }

    /// Asks the rules in order, which may be those of a group; whether there is nothing left after them.
    fn walk(
        &mut self,
        (rules, home): (&[Rule], Option<&str>),
        cell: Cell<'_>,
        asks: &[Ask],
        rows: &mut Vec<Row>,
    ) -> bool {
        let (mut allowed, mut exact) = (false, false);
        for (at, rule) in rules.iter().enumerate() {
            if allowed && rule.of_request {
                continue;
            }
            let holds = rule.condition.holds(cell);
            let refuses = matches!(rule.act, Act::Refuse(_));
            if matches!(rule.act, Act::Allow) {
                allowed = holds.when.iter().any(Vec::is_empty);
                exact |= allowed && holds.exact;
                continue;
            }
            if holds.exact && cell.path == "/" && !refuses && !holds.when.is_empty() {
                self.note(rule, "routes do not tell / from what lies below it");
                continue;
            }
            exact |= holds.exact && refuses && holds.when.is_empty() && holds.maybe.is_empty();
            for alternative in &holds.when {
                let asks = [asks, alternative].concat();
                if let (Act::Refuse(status), true, "/") = (&rule.act, holds.exact, cell.path) {
                    // It was for / alone, and nobody would expect that everything is closed.
                    let was = self.rest_of(&rules[at..], home, cell);
                    rows.push(Row { asks, end: End::Closed(*status, rule.line.number, was), exact: false });
                    if alternative.is_empty() {
                        return true;
                    }
                    continue;
                }
                self.follow(rule, cell, &asks, exact || holds.exact, rows);
                if alternative.is_empty() {
                    return true;
                }
            }
            for (alternative, why) in &holds.maybe {
                if !self.may_refuse(rule, *why, cell) {
                    continue;
                }
                let asks = [asks, alternative].concat();
                let was = self.rest_of(&rules[at..], home, cell);
                let status = if let Act::Refuse(status) = rule.act { status } else { 403 };
                rows.push(Row { asks, end: End::Closed(status, rule.line.number, was), exact: false });
                if alternative.is_empty() {
                    return true;
                }
            }
        }
        false
    }

    /// Writes down what a rule does that holds.
    fn follow(&mut self, rule: &Rule, cell: Cell<'_>, asks: &[Ask], exact: bool, rows: &mut Vec<Row>) {
        let end = match &rule.act {
            Act::Refuse(status) => End::Refused(*status, rule.line.number),
            Act::Redirect(to) => End::Redirect(to.clone()),
            Act::Answer(page) => End::Answer(page.clone()),
            Act::Allow => return,
            Act::Lead(name) => {
                let groups = self.groups;
                match groups.get(name) {
                    Some(group) => {
                        let first = rows.len();
                        let ends = self.walk((&group.rules, Some(name)), cell, asks, rows);
                        rows[first..].iter_mut().for_each(|row| row.exact |= exact);
                        match &group.service {
                            _ if ends => return,
                            Some(_) => End::Open(name.clone()),
                            None => End::Refused(503, rule.line.number),
                        }
                    }
                    None => End::Refused(503, rule.line.number),
                }
            }
        };
        rows.push(Row { asks: asks.to_vec(), end, exact });
    }

    /// Whether a rule that may hold may keep somebody out; if not, it is noted.
    fn may_refuse(&mut self, rule: &Rule, why: Unknown, cell: Cell<'_>) -> bool {
        let what = "routes do not know its condition";
        match &rule.act {
            Act::Refuse(_) if why == Unknown::Limit => {
                self.note(rule, "see `rate` of a route");
                false
            }
            Act::Refuse(_) => true,
            Act::Lead(name) if self.groups.get(name).is_none_or(|one| one.is_shut() || one.may_refuse(cell)) => true,
            Act::Redirect(_) | Act::Answer(_) if why == Unknown::Any => true,
            Act::Lead(_) | Act::Allow | Act::Redirect(_) | Act::Answer(_) => {
                self.note(rule, what);
                false
            }
        }
    }

    /// The group that gets what none of these rules keeps, the first of which is passed over.
    fn rest_of(&self, rules: &[Rule], home: Option<&str>, cell: Cell<'_>) -> Option<String> {
        let led = rules.iter().skip(1).find_map(|rule| match &rule.act {
            Act::Lead(name) if rule.condition.holds(cell).when.iter().any(Vec::is_empty) => Some(name.as_str()),
            _ => None,
        });
        let name = led.or(home)?;
        self.groups.get(name).is_some_and(|one| one.service.is_some()).then(|| name.to_owned())
    }

    fn note(&mut self, rule: &Rule, why: &str) {
        self.notes.insert((rule.line.number, format!("{} ({why})", rule.line.text())));
    }
}

/// Without the places that say what they would say if they were not there.
fn pruned(all: &[Place]) -> Vec<Place> {
    let rows = |host: &Option<String>, path: &str| {
        all.iter().find(|(h, p, _)| h == host && p == path).map(|(.., rows)| rows).expect("the table is complete")
    };
    let paths: BTreeSet<&String> = all.iter().map(|(_, path, _)| path).collect();
    let hosts: BTreeSet<&Option<String>> = all.iter().map(|(host, ..)| host).collect();
    let around = |host: &Option<String>| {
        let name = host.as_deref()?;
        let wider = |one: &&&Option<String>| {
            one.as_deref().is_some_and(|other| other.starts_with("*.") && other != name && has_host(Some(name), other))
        };
        Some(hosts.iter().filter(wider).max_by_key(|one| one.as_ref().map(String::len)).and_then(|one| (**one).clone()))
    };
    let same_host = |host: &Option<String>| {
        around(host).is_some_and(|wider| paths.iter().all(|path| rows(host, path) == rows(&wider, path)))
    };
    let same: BTreeSet<&Option<String>> = hosts.iter().copied().filter(|host| same_host(host)).collect();
    let above = |path: &str| {
        paths
            .iter()
            .filter(|other| other.as_str() != path && is_below(path, other))
            .max_by_key(|other| other.len())
            .copied()
    };
    let own = |(host, path, own): &&Place| {
        let repeats = above(path).is_some_and(|above| own.iter().all(|row| !row.exact) && rows(host, above) == own);
        // Nothing at all is what routes that are not there answer, too.
        let nothing = host.is_none() && path == "/" && own.iter().all(|row| row.end == End::Refused(503, 0));
        !same.contains(host) && !repeats && !nothing
    };
    all.iter().filter(own).cloned().collect()
}
