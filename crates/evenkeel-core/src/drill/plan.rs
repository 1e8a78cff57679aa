//! Planning a drill: whom to harm, how clients reach the service meanwhile, and when to refuse.
//!
//! A drill is refused unless everything is well, since it would then prove nothing and might take down the last
//! healthy instance. The instance chosen is the one that has run longest: so repeated drills take turns, and the
//! restart back-off of one instance is not driven up. This module owns no state and never touches a process.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    Drill, Fault, Ground, Target, in_words,
    reach::{self, Way},
    signs,
};
use crate::{
    snapshot::Balance,
    stack::{Abort, DrillObjectives, Service, Stack},
    status::{Health, InstanceStatus, ServiceStatus, Status},
};

/// How long clients read and write before the harm, so that there is something to compare with.
const BASELINE_MS: u64 = 1000;
/// How long they go on after recovery at least: some failures show only afterwards.
const SETTLE_MS: u64 = 1000;
/// How long at most: checks may be rare.
const MOST_SETTLE_MS: u64 = 5000;
/// How long a lasting fault lasts unless the user says otherwise.
const FOR_MS: u64 = 3000;

/// How long a request may be on its way where no objective says so: as long as an edge holds one by default.
const OVERDUE_MS: u64 = 10_000;

/// What the user asked for beyond the drill's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The service to harm. Default: the only one that is run, else the one that `[drills] read` leads to.
    pub service: Option<String>,
    /// How long a lasting fault lasts, in milliseconds.
    pub for_ms: Option<u64>,
    /// Nobody is there who would see what it does: it runs by its schedule.
    pub unattended: bool,
}

impl Wish {
    /// How long a lasting fault lasts.
    pub fn lasts_ms(&self) -> u64 {
        self.for_ms.unwrap_or(FOR_MS)
    }
}

/// Everything a drill is going to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The drill's name.
    pub drill: String,
    /// Who is harmed.
    pub subject: Subject,
    /// How.
    pub fault: Fault,
    /// Where clients connect to.
    pub address: SocketAddr,
    /// Value of the `Host` header; `None` for the address.
    pub host: Option<String>,
    /// Path that clients read.
    pub read: String,
    /// What clients write; `None` where the stack says nothing about writes of this service.
    pub writes: Option<Writes>,
    /// What must hold for a pass.
    pub objectives: DrillObjectives,
    /// When it is given up.
    pub abort: Abort,
    /// How long before the harm clients start.
    pub baseline_ms: u64,
    /// The longest time from harm to recovery.
    pub recover_within_ms: u64,
    /// How long clients go on after recovery, which must last as long.
    pub settle_ms: u64,
    /// Why the plan is what it is, and what it cannot show.
    pub notes: Vec<String>,
    /// Services whose instances were all healthy when the plan was made, in the order of the status.
    #[serde(default)]
    pub well_before: Vec<String>,
    /// How long the service's `liveness` must fail until an instance is killed and started again; `null` without it.
    #[serde(default)]
    pub liveness_after_ms: Option<u64>,
    /// Whether `[[drills.schedule]]` has this drill for this service.
    #[serde(default)]
    pub scheduled: bool,
}

/// What is harmed, as it was when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What it is.
    pub target: Target,
    /// The service whose clients are watched; the subject's own where it is an instance.
    pub service: String,
    /// Its name, as `shop/2`, `shop`, `edge`, or the stack's.
    pub name: String,
    /// Counts the starts of an instance; the number of the release in force of a service; 0 for anything else.
    pub generation: u64,
    /// Its process, where it is one.
    pub pid: Option<u32>,
}

impl Subject {
    /// The name, and its process.
    pub fn in_words(&self) -> String {
        self.pid.map_or_else(|| self.name.clone(), |pid| format!("{}, process {pid}", self.name))
    }
}

/// Writes of a drill; see `[drills] write` of the stack file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Path that takes the write.
    pub post: String,
    /// The JSON body.
    pub body: String,
    /// Path that answers with what was written under `{key}`.
    pub verify: String,
}

/// Why a drill does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name given is not a service.
    #[error("there is no service `{name}`; there is: {}", .known.join(", "))]
    NoSuchService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Several services could be meant.
    #[error("several services could be meant: {}; say which one with --service", .0.join(", "))]
    WhichService(Vec<String>),
    /// Nothing here has a process of ours.
    #[error("`{0}` has fixed instances that something else runs; a drill harms only processes that keel runs itself")]
    NothingToHarm(String),
    /// This ground does not bear this drill.
    #[error("{0}")]
    NotHere(String),
    /// Harming the only instance is left to those who are there.
    #[error(
        "{0} is the only instance of its service: nobody would be served while it is harmed, so no schedule may do that; \
         run more instances, or this drill by hand"
    )]
    OnlyInstance(String),
    /// No request of a drill would reach the service.
    #[error("no route leads to `{0}` without particular headers, so clients of a drill could not reach it")]
    NoRoute(String),
    /// What clients would ask does not answer.
    #[error(
        "`[drills] read` ({read}) leads to `{other}`, and `{service}`, asked for {path}, answers with {seen}; to rehearse \
         `{service}`, set `[drills] read` to a path that its route takes and that it answers with 2xx"
    )]
    ReadElsewhere {
        /// Whose clients would be watched.
        service: String,
        /// What they would read, and of which host.
        path: String,
        /// What comes back.
        seen: String,
        /// What `[drills] read` is.
        read: String,
        /// Whom that leads to.
        other: String,
    },
    /// Something is wrong already.
    #[error("`{service}` is not well, and a drill would harm it further: {}", .why.join("; "))]
    NotWell {
        /// Which service.
        service: String,
        /// What is wrong.
        why: Vec<String>,
    },
}

/// Plans `drill` on the stack as it is, or says why not.
pub fn plan(drill: &dyn Drill, stack: &Stack, status: &Status, wish: &Wish) -> Result<Plan, Refusal> {
    let service = choose_service(stack, status, wish.service.as_deref())?;
    if stack.services.get(&service.name).is_none_or(|s| !s.is_run()) {
        return Err(Refusal::NothingToHarm(service.name.clone()));
    }
    must_be_well(service)?;
    if matches!(drill.target(), Target::Guard | Target::Node | Target::Edge | Target::Stack) {
        let is_run = |service: &&ServiceStatus| stack.services.get(&service.name).is_some_and(Service::is_run);
        status.services.iter().filter(is_run).try_for_each(must_be_well)?;
    }
    let ground = Ground { stack, status, service: &service.name };
    let (subject, why) =
        choose_subject(drill.target(), &ground, service).ok_or_else(|| Refusal::NothingToHarm(service.name.clone()))?;
    let is_alone = subject.target == Target::Instance && service.instances.len() < 2;
    if wish.unattended && is_alone {
        return Err(Refusal::OnlyInstance(subject.name));
    }
    let (way, read) = choose_way(stack, &service.name).ok_or_else(|| Refusal::NoRoute(service.name.clone()))?;
    let address = address_of(stack, status, &way).ok_or_else(|| Refusal::NoRoute(service.name.clone()))?;
    let mut notes: Vec<String> = why.into_iter().collect();
    let writes = choose_writes(stack, &service.name, &way, &mut notes);
    let replicated = service.replicas > 1;
    if !replicated {
        notes.push("there is only one instance: requests can only be held until it is back".to_owned());
    }
    if replicated && stack.services.get(&service.name).is_some_and(|s| s.balance == Balance::IpHash) {
        notes.push(
            "balance is ip-hash and clients of a drill have one address: one instance serves them all, which need not \
             be the one that is harmed"
                .to_owned(),
        );
    }
    notes.extend(drill.notes(&ground));
    let fault = drill.fault(&ground, wish)?;
    let objectives = stack.drills.objectives.clone();
    let recover_within_ms = objectives.recovery.as_ms() + fault.lasts_ms();
    Ok(Plan {
        drill: drill.name().to_owned(),
        subject,
        fault,
        address,
        host: way.host,
        read,
        writes,
        objectives,
        abort: stack.drills.abort,
        baseline_ms: BASELINE_MS,
        recover_within_ms,
        settle_ms: settle_ms(stack, &service.name),
        notes,
        well_before: signs::well(status),
        liveness_after_ms: stack.services.get(&service.name).and_then(|s| Some(s.liveness.as_ref()?.after.as_ms())),
        scheduled: is_scheduled(drill, stack, status, &service.name),
    })
}

/// How long health must last after recovery: a probe that has begun and the next one may still take it back.
fn settle_ms(stack: &Stack, service: &str) -> u64 {
    let check = stack.services.get(service).and_then(|service| service.check.as_ref());
    let until_known = check.map_or(0, |check| check.interval.as_ms().saturating_add(check.timeout.as_ms()));
    until_known.clamp(SETTLE_MS, MOST_SETTLE_MS)
}

fn is_scheduled(drill: &dyn Drill, stack: &Stack, status: &Status, service: &str) -> bool {
    let by_default = || choose_service(stack, status, None).is_ok_and(|chosen| chosen.name == service);
    stack.drills.schedule.iter().any(|scheduled| {
        scheduled.drill == drill.name() && scheduled.service.as_deref().map_or_else(by_default, |name| name == service)
    })
}

/// Whom `[drills] read` leads to for a client that knows no host, where that is not who is asked by this plan: nobody
/// has said that the other one answers there too.
pub fn read_elsewhere<'s>(stack: &'s Stack, plan: &Plan) -> Option<&'s str> {
    let read = &stack.drills.read;
    let mut listeners = stack.listeners.keys();
    let other = listeners.find_map(|name| reach::leads_to(stack, name, None, read));
    other.filter(|other| *other != plan.subject.service)
}

impl Plan {
    /// From when on a request that has not ended counts as failing while it is decided whether to give up, in
    /// milliseconds.
    pub fn overdue_ms(&self) -> u64 {
        self.objectives.worst.map_or(OVERDUE_MS, crate::stack::Duration::as_ms)
    }

    /// What must be healthy for this to count as over, in words.
    pub(super) fn everything(&self) -> String {
        match self.subject.target {
            Target::Stack => "every instance of every service".to_owned(),
            _ => format!("every instance of {}", self.subject.service),
        }
    }

    /// The plan as numbered lines that are shown before it is carried out.
    pub fn lines(&self) -> Vec<String> {
        let host = self.host.as_ref().map_or_else(|| self.address.to_string(), Clone::clone);
        let writing =
            self.writes.as_ref().map_or_else(String::new, |writes| format!(" and write POST {}", writes.post));
        let whom = match self.subject.target {
            Target::Instance | Target::Guard | Target::Node | Target::Edge => {
                format!("{} to {}", self.fault, self.subject.in_words())
            }
            Target::Service | Target::Stack => self.fault.to_string(),
        };
        let mut lines = vec![
            format!("test visitors read GET {}{writing} at {host} through the edge", self.read),
            format!("after {}: {whom}", in_words(self.baseline_ms)),
            format!("wait until {} is healthy again, at most {}", self.everything(), in_words(self.recover_within_ms)),
        ];
        let Abort { errors, after } = self.abort;
        if self.fault != Fault::Reboot {
            lines.push(format!(
                "give up and take everything back if for {} {errors} % of requests fail or wait longer than {}",
                in_words(after.as_ms()),
                in_words(self.overdue_ms())
            ));
        }
        if self.writes.is_some() {
            lines.push("look for every write that was acknowledged: none may be missing, none there twice".to_owned());
        }
        lines
    }
}

fn choose_service<'s>(stack: &Stack, status: &'s Status, wanted: Option<&str>) -> Result<&'s ServiceStatus, Refusal> {
    let named = |name: &str| status.services.iter().find(|service| service.name == name);
    if let Some(name) = wanted {
        let known = || status.services.iter().map(|service| service.name.clone()).collect();
        return named(name).ok_or_else(|| Refusal::NoSuchService { name: name.to_owned(), known: known() });
    }
    let is_run = |service: &&ServiceStatus| stack.services.get(&service.name).is_some_and(Service::is_run);
    let run: Vec<&ServiceStatus> = status.services.iter().filter(is_run).collect();
    if let [only] = run[..] {
        return Ok(only);
    }
    let listeners = stack.listeners.keys();
    let read_leads_to = listeners.filter_map(|name| reach::leads_to(stack, name, None, &stack.drills.read));
    let read_leads_to = read_leads_to.filter_map(named).find(is_run);
    match (read_leads_to, status.services.first()) {
        (Some(service), _) => Ok(service),
        (None, Some(first)) if run.is_empty() => Err(Refusal::NothingToHarm(first.name.clone())),
        _ => Err(Refusal::WhichService(run.iter().map(|service| service.name.clone()).collect())),
    }
}

fn must_be_well(service: &ServiceStatus) -> Result<(), Refusal> {
    let ill = |instance: &&InstanceStatus| instance.health != Health::Healthy;
    let mut why: Vec<String> = service
        .instances
        .iter()
        .filter(ill)
        .map(|instance| match instance.reason.as_str() {
            "" => format!("{} is {}", instance.name, instance.health),
            reason => format!("{} is {}: {reason}", instance.name, instance.health),
        })
        .collect();
    let there = u32::try_from(service.instances.len()).unwrap_or(u32::MAX);
    if there < service.replicas {
        why.push(format!("{there} of {} instances are there", service.replicas));
    }
    let drained = service.instances.iter().filter(|instance| instance.drained.is_some());
    why.extend(drained.map(|instance| format!("{} is drained", instance.name)));
    why.extend(service.deploy.as_ref().map(|_| "a deploy goes on".to_owned()));
    // What a drill harms would stay so.
    why.extend(service.hands_off.clone());
    if why.is_empty() { Ok(()) } else { Err(Refusal::NotWell { service: service.name.clone(), why }) }
}

/// What is harmed, and why just that.
fn choose_subject(target: Target, ground: &Ground<'_>, service: &ServiceStatus) -> Option<(Subject, Option<String>)> {
    let Ground { status, .. } = ground;
    let of = |name: &str, pid: Option<u32>| Subject {
        target,
        service: service.name.clone(),
        name: name.to_owned(),
        generation: 0,
        pid,
    };
    let subject = match target {
        Target::Instance => {
            let oldest = oldest(service)?;
            let subject = Subject { generation: oldest.generation, ..of(&oldest.name, oldest.pid) };
            let why = format!("{} was chosen because it has run longest", oldest.name);
            return Some((subject, Some(why)));
        }
        Target::Service => Subject { generation: service.release.unwrap_or(0), ..of(&service.name, None) },
        Target::Guard => of("guard", Some(status.guard.pid)),
        Target::Node => of("node", Some(status.node.pid)),
        Target::Edge => of("edge", Some(status.edge.as_ref()?.pid)),
        Target::Stack => of(&status.stack, Some(status.guard.pid)),
    };
    Some((subject, None))
}

/// The instance that has run longest; between equals the one with the fewest starts, then the first.
fn oldest(service: &ServiceStatus) -> Option<&InstanceStatus> {
    let run = service.instances.iter().filter(|instance| instance.pid.is_some());
    run.min_by_key(|instance| (instance.since, instance.generation))
}

/// Whether what a plan is about is still as it was; else what changed.
pub fn still_holds(plan: &Plan, status: &Status) -> Result<(), String> {
    let subject = &plan.subject;
    let pid = match subject.target {
        Target::Instance => {
            let seen = signs::instance_of(subject, status);
            seen.filter(|seen| seen.generation == subject.generation).and_then(|seen| seen.pid)
        }
        Target::Guard | Target::Stack => Some(status.guard.pid),
        Target::Node => Some(status.node.pid),
        Target::Edge => status.edge.as_ref().map(|edge| edge.pid),
        Target::Service => None,
    };
    if pid != subject.pid {
        return Err(format!("{} is not the process that it was", subject.name));
    }
    let service = signs::service_of(plan, status).ok_or_else(|| format!("there is no service {}", subject.service))?;
    if subject.target == Target::Service && service.release.unwrap_or(0) != subject.generation {
        return Err(format!("{} has another release", subject.name));
    }
    must_be_well(service).map_err(|refusal| refusal.to_string())
}

/// A way on which `[drills] read` leads to the service, or else the first way with its own path.
fn choose_way(stack: &Stack, service: &str) -> Option<(Way, String)> {
    let ways = reach::ways_to(stack, service);
    let leads =
        |way: &&Way, path: &str| reach::leads_to(stack, &way.listener, way.host.as_deref(), path) == Some(service);
    let read = &stack.drills.read;
    if let Some(way) = ways.iter().find(|way| leads(way, read)) {
        return Some((way.clone(), read.clone()));
    }
    let own = ways.iter().find(|way| leads(way, &way.path))?;
    Some((own.clone(), own.path.clone()))
}

fn choose_writes(stack: &Stack, service: &str, way: &Way, notes: &mut Vec<String>) -> Option<Writes> {
    let Some(write) = &stack.drills.write else {
        notes.push("the stack has no [drills] write, so nothing is learnt about lost or doubled writes".to_owned());
        return None;
    };
    if reach::leads_to(stack, &way.listener, way.host.as_deref(), &write.post) != Some(service) {
        notes.push(format!("POST {} leads to another service, so nothing is written", write.post));
        return None;
    }
    Some(Writes { post: write.post.clone(), body: write.body.clone(), verify: write.verify.clone() })
}

/// Where clients of a listener connect to; one that is bound to every address is reached on the loopback.
fn address_of(stack: &Stack, status: &Status, way: &Way) -> Option<SocketAddr> {
    let bound = status.listeners.iter().find(|listener| listener.name == way.listener);
    let bound = bound.and_then(|listener| listener.address.parse::<SocketAddr>().ok());
    let mut address = bound.or_else(|| stack.listeners.get(&way.listener).map(|listener| listener.bind))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}
