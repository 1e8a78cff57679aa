//! A deploy of a release that passes its checks and fails every request.
//!
//! Ordered as `keel deploy` does it, through the API. What it runs is this binary (see `failing`). That it is taken back
//! is the work of a process of its own (see `withdraw`), which does so also when this one is gone.

use std::process::Stdio;

use evenkeel_core::{
    drill::Plan,
    stack::Service,
    status::{ServiceStatus, Status},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{Aim, Doing, FaultError, Harm, Means};
use crate::drill::control::Control;

/// A release that is about to be deployed.
struct Ready<'a> {
    plan: &'a Plan,
    control: &'a Control,
    run: Vec<String>,
    withdrawal: Withdrawal,
}

/// A release that was deployed.
struct Deployed<'a> {
    plan: &'a Plan,
    /// `None` once it was taken back.
    withdrawal: Option<Withdrawal>,
    /// What the last status said of it.
    told: String,
}

/// The process that takes the release back.
struct Withdrawal {
    child: Child,
    orders: ChildStdin,
}

/// Prepares the release and its withdrawal.
pub(super) async fn aim<'a>(means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, .. } = means;
    let stack = control.stack().await.map_err(|failure| FaultError::Stack(failure.what().to_owned()))?;
    let binary = std::env::current_exe().map_err(FaultError::Helper)?;
    let mut run = vec![binary.display().to_string(), "__failing".to_owned()];
    run.extend(stack.services.get(&plan.subject.service).map(probed).unwrap_or_default());
    let withdrawal = Withdrawal::start(plan, control).await?;
    Ok(Box::new(Ready { plan, control, run, withdrawal }))
}

/// The arguments that let it pass the service's checks.
fn probed(service: &Service) -> Vec<String> {
    let check = service.check.as_ref().and_then(|check| check.http.clone());
    let liveness = service.liveness.as_ref().and_then(|liveness| liveness.http.clone());
    let mut arguments = Vec::new();
    for path in check.into_iter().chain(liveness) {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        arguments.extend(["--well".to_owned(), path]);
    }
    if let Some((lowest, _)) = service.check.as_ref().and_then(|check| check.status) {
        arguments.extend(["--status".to_owned(), lowest.to_string()]);
    }
    arguments
}

impl<'a> Aim<'a> for Ready<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { plan, control, run, withdrawal } = *self;
            let service = &plan.subject.service;
            let number = control.deploy(service, &run).await;
            let number = number.map_err(|failure| FaultError::Stack(failure.what().to_owned()))?;
            let text = format!("release {number} of {service} is being deployed, which fails every request");
            let harm = Deployed { plan, withdrawal: Some(withdrawal), told: String::new() };
            Ok((Box::new(harm) as Box<dyn Harm>, text))
        })
    }
}

impl Harm for Deployed<'_> {
    fn lasts(&self) -> bool {
        self.withdrawal.is_some()
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        let of = |service: &&ServiceStatus| service.name == self.plan.subject.service;
        let service = status.and_then(|status| status.services.iter().find(of));
        let mut stages = Vec::new();
        if let Some(deploy) = service.and_then(|service| service.deploy.as_ref()) {
            let told = deploy.held.clone().unwrap_or_else(|| deploy.phase.clone());
            if told != self.told {
                let words = deploy.held.clone().unwrap_or_else(|| deploy.message.clone());
                stages.push(("deploy", words));
                self.told = told;
            }
        }
        Box::pin(async { Ok(stages) })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if let Some(withdrawal) = self.withdrawal.take() {
                withdrawal.finish().await;
            }
        })
    }
}

impl Withdrawal {
    async fn start(plan: &Plan, control: &Control) -> Result<Self, FaultError> {
        let mut child = Command::new("/proc/self/exe")
            .args(["drill", "withdraw", &plan.subject.service, &plan.subject.generation.to_string(), "--state-dir"])
            .arg(control.state_dir())
            // Ctrl-C in a terminal goes to a whole process group; this must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(FaultError::Helper)?;
        let orders = child.stdin.take().expect("standard input is piped");
        let mut words = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        match words.next_line().await {
            Ok(Some(word)) if word == "ready" => Ok(Self { child, orders }),
            Ok(_) => Err(FaultError::Stack("the process that would take the release back does not start".to_owned())),
            Err(error) => Err(FaultError::Helper(error)),
        }
    }

    async fn finish(self) {
        let Self { mut child, orders } = self;
        drop(orders);
        // It ends once the former release is in force; how it ends makes no difference to that.
        let _ = child.wait().await;
    }
}
