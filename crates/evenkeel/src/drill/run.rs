//! The order of a run: plan, clients, baseline, harm, watching, settling, ledger, verdict.
//!
//! One function for each part, top to bottom. The run owns its clients and its harm; both end with it, whether it
//! comes to a verdict, fails or is interrupted. One drill runs on a stack at a time. It never harms a stack that already shows errors, and it never
//! harms a process without having asked the stack, after taking hold of it, whether it is still the instance.

use std::{
    fs::File,
    io::ErrorKind,
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_core::{
    drill::{
        self, Brake, Drill, Fault, Observed, Plan, Report, Stage, Target, Tick, Unavoidable, Verdict, Watch, Wish,
    },
    status::Status,
};
use rustix::fs::{FlockOperation, flock};

use super::{
    agreed,
    control::Control,
    ending,
    fault::{self, FaultError, Harm, Means, helper::Helpers},
    folder::Folder,
    keep::{self, Copies},
    ledger,
    load::{Load, Tally},
    show::Show,
};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
    process,
    running::Running,
    words,
};

/// How often the stack is asked while the harm lasts: detection and recovery are measured to this.
const WATCH_EVERY: Duration = Duration::from_millis(10);
/// How often it is asked whether what has recovered stays so.
const SETTLE_EVERY: Duration = Duration::from_millis(50);
/// How long clients surge before and after the moment of the harm.
const SURGE_BEFORE: Duration = Duration::from_millis(50);
const SURGE_AFTER: Duration = Duration::from_millis(100);
/// What a shell makes of a command that SIGINT ended (128 and the signal's number).
const INTERRUPTED: u8 = 130;

/// What the user asked for beside the drill.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Whom to harm, and how long.
    pub(super) wish: Wish,
    /// Without a question.
    pub(super) yes: bool,
    /// Also in a blackout.
    pub(super) force: bool,
    /// The name of the run, where somebody waits for it.
    pub(super) run: Option<String>,
    /// Where the report shall be copied to.
    pub(super) copies: Copies,
}

/// Runs a drill to its verdict.
pub(super) fn run(drill: &dyn Drill, orders: &Orders, context: &Context) -> Result<ExitCode, Failure> {
    let running = context.running()?;
    let control = Control::new(Api::of(&running), context.json, Helpers::new(alone(&running)?));
    block_on(async {
        let mut show = Show::new(context);
        let (stack, plan) = agreed::agreed(drill, orders, &control, &show).await?;
        let began = words::now();
        let mut folder = Folder::create(&running.state_dir, orders.run.as_deref(), began, &plan)?;
        let id = folder.id().to_owned();
        // Before anything is sent: whoever finds requests or a killed process in the journal finds the cause above them.
        control.record(&drill::started(&plan)).await;
        let outcome = tokio::select! {
            outcome = carry_out(drill, &plan, &control, &mut show, &folder) => Some(outcome),
            () = ending::interruption() => None,
        };
        show.end();
        // What carried the drill out has been dropped or is done, but what it left to others may not be done yet.
        let settled = ending::settled(&control, outcome.is_none()).await;
        let lasted_ms = words::now().as_millis().saturating_sub(began.as_millis());
        let report = match outcome {
            Some(Ok(report)) => report,
            ended => {
                let failure = ended.and_then(Result::err);
                let why = failure.as_ref().map_or_else(|| "it was interrupted".to_owned(), Failure::in_short);
                let why = ending::with_what_is_left(why, settled, &control.helpers().failed());
                folder.given_up(lasted_ms, &why);
                ending::say_not_undone(&control);
                control.record(&drill::aborted(&plan, &why)).await;
                return failure.map_or_else(|| Ok(interrupted(&why, context.json)), Err);
            }
        };
        let kept =
            keep::keep(&mut folder, &stack.stack.name, &plan, &report, &control, &orders.copies, context.json).await;
        control.record(&drill::ended(&report)).await;
        // Whoever is asked reads what is new for whoever asks next.
        let _ = control.status_now().await;
        let args = format!("drill show {id}");
        let why = "what happened when, also compared with earlier runs";
        show.report(&report, &folder, &context.command(&running.state_dir, &args), why)?;
        kept?;
        Ok(if report.verdict == Verdict::Pass { Exit::Done } else { Exit::Failed }.into())
    })
}

/// Two drills at once would take each other's harm for their own, so a drill locks the folder of the sockets
/// (flock(2)) until it ends, however it ends, and until those have ended that take its harm back.
fn alone(running: &Running) -> Result<File, Failure> {
    let folder = &running.holder.runtime_dir;
    let locked = File::open(folder).and_then(|file| {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Failure::new("the drill was refused, and nothing was harmed")
            .exit(Exit::NotWell)
            .because("another drill runs on this stack, or its harm is being taken back still")
            .fix("wait until it has ended"),
        _ => Failure::new("the drill cannot be started").at_path(folder).because(error),
    })
}

/// Everything from the first client to the verdict. Dropping it stops the clients and takes the harm back.
async fn carry_out(
    drill: &dyn Drill,
    plan: &Plan,
    control: &Control,
    show: &mut Show<'_>,
    folder: &Folder,
) -> Result<Report, Failure> {
    let began = Instant::now();
    let started = words::now();
    let tally = Tally::new(began, plan.overdue_ms());
    let run = format!("drill-{:x}-{:x}", started.as_millis(), std::process::id());
    let load = Load::start(plan, &run, &tally);
    show.begin();
    let observed = Observed { started, ..Observed::default() };
    let brake = Brake::new(plan.abort, plan.overdue_ms());
    let mut run = Run { drill, plan, control, show, folder, began, tally, brake, ticks: 0, observed };
    run.stage(Stage::new("load", 0, "test visitors have started"))?;
    run.baseline().await?;
    let mut harm = run.harm(&load).await?;
    run.watch(&mut harm).await?;
    drop(harm);
    control.helpers().settle().await;
    run.undone_here()?;
    run.observed.not_undone = control.helpers().failed();
    let written = load.finish().await;
    run.stage(Stage::new("stopped", run.now_ms(), "every request on its way has come to its end"))?;
    if let Some(writes) = &plan.writes {
        let ledger = ledger::verify(plan, writes, written).await;
        let looked = ledger.acknowledged + ledger.unacknowledged;
        run.stage(Stage::new("verified", run.now_ms(), format!("looked for {looked} writes")))?;
        run.observed.ledger = Some(ledger);
    }
    run.observed.traffic = run.tally.whole();
    if let Some(status) = control.status_now().await {
        run.observed.budget = drill::budget(plan, &status);
        run.observed.budget_window_ms = drill::budget_window_ms(plan, &status);
        let was_down = matches!(plan.subject.target, Target::Guard | Target::Stack);
        run.observed.started_by = if was_down { process::keeper_of(status.guard.pid) } else { None };
    }
    Ok(drill::judge(drill, plan, &run.observed))
}

/// One run while it lasts.
struct Run<'a, 'c> {
    drill: &'a dyn Drill,
    plan: &'a Plan,
    control: &'a Control,
    show: &'a mut Show<'c>,
    folder: &'a Folder,
    began: Instant,
    tally: Tally,
    brake: Brake,
    /// How many ticks were looked at.
    ticks: usize,
    observed: Observed,
}

impl Run<'_, '_> {
    /// Clients read and write while nothing is harmed; errors now would say nothing about the harm.
    async fn baseline(&mut self) -> Result<(), Failure> {
        let end = self.began + Duration::from_millis(self.plan.baseline_ms);
        while Instant::now() < end {
            self.show.progress(&self.tally, self.began, "nothing is harmed yet");
            self.look();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let traffic = self.tally.traffic();
        let fix = "set [drills] in the stack file to a path that answers with 2xx, or see `keel status`";
        if let Some(sample) = traffic.samples.first() {
            return Err(Failure::new("test visitors see errors although nothing was harmed yet")
                .exit(Exit::NotWell)
                .at(format!("{} at {}", sample.request, self.plan.address))
                .because(&sample.seen)
                .fix(fix));
        }
        if traffic.requests == 0 {
            let failure = Failure::new("no request was answered although nothing was harmed yet").exit(Exit::NotWell);
            return Err(failure.at(self.plan.address).because("every request is still waiting").fix(fix));
        }
        Ok(())
    }

    /// Takes hold of what is to be harmed, makes sure that it is what was meant, and harms it.
    async fn harm<'h>(&mut self, load: &'h Load) -> Result<Box<dyn Harm + 'h>, Failure>
    where
        Self: 'h,
    {
        let plan = self.plan;
        let means = Means { plan, control: self.control, load };
        let aim = fault::aim(means).await.map_err(|error| not_harmed(&error))?;
        let status = self.control.status().await?;
        self.observed.instances_before = processes_of(&status);
        if let Err(changed) = drill::still_holds(plan, &status) {
            return Err(Failure::new("something changed before the harm was done, so nothing was harmed")
                .exit(Exit::NotWell)
                .at(&plan.subject.name)
                .because(changed)
                .fix("try again when `keel status` shows all instances healthy"));
        }
        load.surge(SURGE_BEFORE + SURGE_AFTER);
        tokio::time::sleep(SURGE_BEFORE).await;
        self.tally.mark_fault();
        self.observed.fault_at_ms = self.now_ms();
        let (harm, what) = aim.fire().await.map_err(|error| not_harmed(&error))?;
        self.stage(Stage::new("fault", self.observed.fault_at_ms, what))?;
        Ok(harm)
    }

    /// Asks the stack again and again until everything is well, the bound is over, or clients suffer too much.
    async fn watch(&mut self, harm: &mut Box<dyn Harm + '_>) -> Result<(), Failure> {
        let (drill, plan) = (self.drill, self.plan);
        let mut watch = Watch::new(drill, plan);
        let last_ms = self.observed.fault_at_ms + plan.recover_within_ms;
        let mut beat = tokio::time::interval(WATCH_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while watch.recovered_at_ms().is_none() && self.now_ms() <= last_ms && self.observed.aborted.is_none() {
            beat.tick().await;
            self.release_if_due(harm, &mut watch).await?;
            self.show.progress(&self.tally, self.began, "waiting for recovery");
            self.brake()?;
            let status = self.control.status_now().await;
            for (name, words) in harm.goes_on(status.as_ref()).await.map_err(|error| not_harmed(&error))? {
                let at_ms = self.now_ms();
                if name != "detected" || watch.detected(at_ms) {
                    self.stage(Stage::new(name, at_ms, words))?;
                }
            }
            let at_ms = self.now_ms();
            let stages = match &status {
                Some(status) => {
                    self.observed.instances_after = processes_of(status);
                    watch.on(status, at_ms)
                }
                None => watch.on_silence(at_ms, "nobody answers at the control socket"),
            };
            for stage in stages {
                self.stage(stage)?;
            }
        }
        harm.release().await;
        self.undone_here()?;
        for (name, words) in harm.afterwards() {
            self.stage(Stage::new(name, self.now_ms(), words))?;
        }
        self.observed.capacity = harm.found();
        self.settle(&mut watch, last_ms).await?;
        self.observed.detected_at_ms = watch.detected_at_ms();
        self.observed.recovered_at_ms = watch.recovered_at_ms();
        Ok(())
    }

    /// Writes down what clients saw since the last look, and returns it.
    fn look(&mut self) -> Vec<Tick> {
        let ticks = self.tally.ticks(self.ticks);
        self.ticks += ticks.len();
        for tick in &ticks {
            self.folder.tick(*tick);
        }
        ticks
    }

    /// Looks whether clients suffer too much.
    fn brake(&mut self) -> Result<(), Failure> {
        let ticks = self.look();
        if self.drill.unavoidable() == Unavoidable::UntilRecovery {
            // There is nobody to serve until everything is back, and nothing that giving up would take back.
            return Ok(());
        }
        for tick in ticks {
            if let Some(why) = self.brake.on(&tick).filter(|_| self.observed.aborted.is_none()) {
                self.stage(Stage::new("aborted", self.now_ms(), &why))?;
                self.observed.aborted = Some(why);
            }
        }
        Ok(())
    }

    /// What lasts ends when its time is over; what was done to one instance, early when a new process stands in its place.
    async fn release_if_due(&mut self, harm: &mut Box<dyn Harm + '_>, watch: &mut Watch<'_>) -> Result<(), Failure> {
        let fault = &self.plan.fault;
        let over = harm.is_over() || self.now_ms() >= self.observed.fault_at_ms + fault.lasts_ms();
        let replaced =
            matches!(fault, Fault::Freeze { .. } | Fault::Stutter { .. }) && watch.replaced_at_ms().is_some();
        if !harm.lasts() || fault.lasts_ms() == 0 || !(over || replaced) {
            return Ok(());
        }
        let before = self.control.helpers().failed().len();
        let why = match harm.is_over() {
            true => "everything was tried, and everything is as before",
            false if over => "its time is over, and everything is as before",
            false => "the instance was replaced, so there was nothing left to take back",
        };
        harm.release().await;
        self.undone_here()?;
        let failed = self.control.helpers().failed();
        let why =
            failed.get(before).map_or_else(|| why.to_owned(), |why| format!("not everything is as before: {why}"));
        watch.release();
        let at_ms = self.now_ms();
        self.observed.released_at_ms = Some(at_ms);
        self.stage(Stage::new("released", at_ms, why))
    }

    /// Notes what this process had to take back itself.
    fn undone_here(&mut self) -> Result<(), Failure> {
        let told = self.control.helpers().told();
        told.into_iter().try_for_each(|words| self.stage(Stage::new("undone", self.now_ms(), words)))
    }

    /// Clients go on for a while after recovery, and the stack is asked on: what does not last was no recovery. Without
    /// recovery in its time there is nothing to settle.
    async fn settle(&mut self, watch: &mut Watch<'_>, last_ms: u64) -> Result<(), Failure> {
        let mut beat = tokio::time::interval(SETTLE_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !watch.is_over(self.now_ms(), last_ms) && self.observed.aborted.is_none() {
            beat.tick().await;
            if watch.recovered_at_ms().is_some() {
                self.show.progress(&self.tally, self.began, "watching what comes after");
                self.look();
            } else {
                self.show.progress(&self.tally, self.began, "waiting for recovery");
                self.brake()?;
            }
            if let Some(status) = self.control.status_now().await {
                for stage in watch.on(&status, self.now_ms()) {
                    self.observed.instances_after = processes_of(&status);
                    self.stage(stage)?;
                }
            }
        }
        Ok(())
    }

    fn stage(&mut self, stage: Stage) -> Result<(), Failure> {
        self.folder.stage(&stage);
        self.show.stage(&stage)?;
        self.observed.stages.push(stage);
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The processes of all instances.
fn processes_of(status: &Status) -> Vec<u32> {
    status.services.iter().flat_map(|service| &service.instances).filter_map(|instance| instance.pid).collect()
}

fn not_harmed(error: &FaultError) -> Failure {
    let failure = Failure::new("the harm could not be done").because(error);
    match error {
        FaultError::Refused { .. } => failure.fix("run the drill as root, or as the user of the instance"),
        FaultError::Gone(_) | FaultError::NotFrozen(_) => failure.exit(Exit::NotWell).fix("try again in a moment"),
        FaultError::NotHere(_) => failure.exit(Exit::Usage),
        FaultError::Broken { .. } | FaultError::Helper(_) | FaultError::Stack(_) | FaultError::NoProcess(_) => failure,
    }
}

fn interrupted(why: &str, json: bool) -> ExitCode {
    Failure::new("the drill came to no verdict; its clients have stopped").because(why).print(json);
    ExitCode::from(INTERRUPTED)
}
