//! SIGKILL to the guard, alone or with everything that runs below it, and a start where nobody else starts it again.
//!
//! Starting again is left to a process of its own (see `starter`), so that a stack is never left down by a drill that
//! was itself ended.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use evenkeel_core::{drill::STARTED, status::Status, words::counted};
use rustix::process::Signal;

use super::{
    Aim, Doing, FaultError, Harm, Means,
    helper::{Helper, Undo},
};
use crate::{
    drill::{
        control::Control,
        processes::{Held, descendants, stat},
        starter::{self, Recipe},
    },
    process,
};

/// How long a stack that the drill started itself is waited for.
const BACK_WITHIN: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Whether instances are killed too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The guard alone.
    Guard,
    /// Everything.
    Everything,
}

/// What will be killed, in this order, and who starts it again.
struct Doomed<'a> {
    reach: Reach,
    kinds: Kinds,
    held: Vec<Held>,
    starter: Helper,
    control: &'a Control,
}

/// How many of what will be killed are which, where everything is.
#[derive(Clone, Copy, Default)]
struct Kinds {
    node: bool,
    edge: bool,
    instances: usize,
}

impl Kinds {
    fn of(status: &Status) -> Self {
        let pids = status.services.iter().flat_map(|service| &service.instances).filter(|one| one.pid.is_some());
        Self { node: true, edge: status.edge.is_some(), instances: pids.count() }
    }

    /// What `killed` processes were, the guard among them.
    fn in_words(self, guard: u32, killed: usize) -> String {
        let mut parts = vec![format!("the guard (process {guard})")];
        parts.extend(self.node.then(|| "the node process".to_owned()));
        parts.extend(self.edge.then(|| "the edge".to_owned()));
        parts.push(format!("{} of services", counted(self.instances as u64, "instance", "instances")));
        let named = 1 + usize::from(self.node) + usize::from(self.edge) + self.instances;
        if let Some(others) = killed.checked_sub(named).filter(|others| *others > 0) {
            parts.push(format!("{others} that watch over instances or belong to them"));
        }
        parts.join(", ")
    }
}

/// There is no guard, or it is another one.
struct Down<'a> {
    reach: Reach,
    starter: Option<Helper>,
    control: &'a Control,
    /// What it said, and whether that was told.
    said: Option<String>,
    told: bool,
}

/// Takes hold of the guard, and of everything else where that is meant.
pub(super) async fn aim<'a>(guard: u32, reach: Reach, means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    must_be_its_user(guard)?;
    let (dir, sockets) = (means.control.state_dir(), means.control.runtime_dir());
    let args = starter::Args { guard, dir: dir.into(), sockets: sockets.into() };
    let recipe = Recipe::of(args).map_err(|_| FaultError::Gone(guard))?;
    let arguments = [guard.to_string().into(), dir.into(), sockets.into()];
    let starter = Helper::start(means.control.helpers(), "starter", &arguments, Box::new(recipe)).await?;
    let mut numbers = vec![guard];
    let mut kinds = Kinds::default();
    if reach == Reach::Everything {
        let status = means.control.status_now().await.ok_or_else(|| FaultError::NoProcess("the stack".to_owned()))?;
        kinds = Kinds::of(&status);
        numbers.extend(everything(guard, &status));
    }
    let mut held = Vec::new();
    for pid in numbers {
        match Held::open(pid) {
            Ok(process) => held.push(process),
            Err(_) if pid != guard => {}
            Err(_) => return Err(FaultError::Gone(guard)),
        }
    }
    Ok(Box::new(Doomed { reach, kinds, held, starter, control: means.control }))
}

impl Undo for Recipe {
    fn within(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn again(&self) -> Doing<'_, Result<(), String>> {
        Box::pin(async {
            let recipe = self.clone();
            let started = tokio::task::spawn_blocking(move || recipe.start_unless()).await;
            match started {
                Ok(started) => started.map(drop).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn by_hand(&self) -> String {
        "start `keel up` by hand, as it was started before".to_owned()
    }
}

/// Every process of the stack but the guard. Stubs that were adopted are not below it.
fn everything(guard: u32, status: &Status) -> Vec<u32> {
    let instances = status.services.iter().flat_map(|service| &service.instances).filter_map(|instance| instance.pid);
    let instances: Vec<u32> = instances.collect();
    let stubs = instances.iter().filter_map(|pid| stat(*pid)).map(|(_, parent)| parent);
    let stubs: Vec<u32> = stubs.filter(|parent| process::is_stub(*parent)).collect();
    let mut all: Vec<u32> = descendants(guard).into_iter().collect();
    for stub in stubs {
        all.push(stub);
        all.extend(descendants(stub));
    }
    all.extend(instances);
    // A drill that the node process started is below the guard itself, and so is whoever starts everything again.
    let own = std::process::id();
    let mine = descendants(own);
    all.retain(|pid| *pid != own && !mine.contains(pid));
    all.sort_unstable();
    all.dedup();
    all
}

/// What is started again runs as whoever runs the drill, who must be the same: the stack file belongs to its user.
fn must_be_its_user(guard: u32) -> Result<(), FaultError> {
    let owner = fs::metadata(format!("/proc/{guard}")).map_err(|_| FaultError::Gone(guard))?.uid();
    let own = rustix::process::geteuid().as_raw();
    if owner == own {
        return Ok(());
    }
    let text =
        format!("`keel up` runs as uid {owner} and would be started again as uid {own}: run the drill as uid {owner}");
    Err(FaultError::NotHere(text))
}

impl<'a> Aim<'a> for Doomed<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { reach, kinds, held, mut starter, control } = *self;
            let guard = held.first().map_or(0, |held| held.pid);
            // The guard first, so that it answers none of the other deaths.
            let mut killed = 0;
            for process in &held {
                match process.signal(Signal::KILL) {
                    Ok(true) => killed += 1,
                    Ok(false) if process.pid == guard => return Err(FaultError::Gone(guard)),
                    Err(source) if process.pid == guard => return Err(FaultError::Refused { pid: guard, source }),
                    // One that is gone is no worse; what may not be killed outlives the harm, which the verdict sees.
                    Ok(false) | Err(_) => {}
                }
            }
            let text = match reach {
                Reach::Guard => format!("SIGKILL to the guard, process {guard}"),
                Reach::Everything => {
                    // It looks at once; what it says comes later.
                    let failed = |source| FaultError::Broken { name: "starter", source };
                    starter.tell("start").await.map_err(failed)?;
                    format!("SIGKILL to {killed} processes at once: {}", kinds.in_words(guard, killed))
                }
            };
            let harm = Down { reach, starter: Some(starter), control, said: None, told: false };
            Ok((Box::new(harm) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Down<'_> {
    fn lasts(&self) -> bool {
        self.reach == Reach::Guard && self.starter.is_some()
    }

    fn goes_on<'h>(
        &'h mut self,
        _status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        Box::pin(async {
            if self.reach == Reach::Everything
                && let Some(starter) = &mut self.starter
                && let Some(said) = starter.said().await
            {
                self.said = Some(said);
            }
            Ok(self.afterwards())
        })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            let Some(mut starter) = self.starter.take() else { return };
            if self.said.is_none() {
                self.said = match self.reach {
                    Reach::Guard => starter.order("start").await.ok(),
                    Reach::Everything => starter.word().await.ok(),
                };
            }
            starter.finish().await;
            if self.said.as_deref().is_some_and(|said| said.starts_with(STARTED)) {
                self.wait_until_back().await;
            }
        })
    }

    fn afterwards(&mut self) -> Vec<(&'static str, String)> {
        let said = self.said.as_deref().filter(|said| said.starts_with(STARTED) && !self.told);
        let Some(pid) = said.and_then(|said| said.split(' ').nth(1)).map(str::to_owned) else { return Vec::new() };
        self.told = true;
        vec![(
            STARTED,
            format!("nobody else did, so this drill has started `keel up` in the background, process {pid}"),
        )]
    }
}

impl Down<'_> {
    /// What was written can only be looked for once somebody answers.
    async fn wait_until_back(&self) {
        let begun = Instant::now();
        let well = |status: &Status| {
            status.edge.is_some() && status.services.iter().all(|service| service.healthy >= service.replicas)
        };
        while begun.elapsed() < BACK_WITHIN && !self.control.status_now().await.as_ref().is_some_and(well) {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}
