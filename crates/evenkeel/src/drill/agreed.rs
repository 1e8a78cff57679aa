//! What a run is allowed to do: planned on the stack as it is, outside of blackouts, and agreed to.
//!
//! The answer to a question may come hours after it, from whoever passes the terminal, when the stack is another and
//! users are about. So everything that allowed the drill is looked at once more after the answer, and only what was
//! shown is done. It owns nothing and harms nothing.

use evenkeel_core::{
    drill::{self, Drill, Plan, Refusal},
    stack::{Blackout, Stack},
};

use super::{
    client::{Ask, Client},
    control::Control,
    run::Orders,
    show::Show,
};
use crate::{
    failure::{Exit, Failure},
    words,
};

/// Plans a drill, shows the plan, and asks where that is wanted.
pub(super) async fn agreed(
    drill: &dyn Drill,
    orders: &Orders,
    control: &Control,
    show: &Show<'_>,
) -> Result<(Stack, Plan), Failure> {
    let (stack, plan) = planned(drill, orders, control).await?;
    show.plan(&plan, drill.summary())?;
    if orders.yes {
        return Ok((stack, plan));
    }
    if !show.confirmed()? {
        return Err(Failure::new("the drill was not started, and nothing was harmed"));
    }
    let (stack, now) = planned(drill, orders, control).await?;
    unchanged(&plan, &now)?;
    Ok((stack, now))
}

async fn planned(drill: &dyn Drill, orders: &Orders, control: &Control) -> Result<(Stack, Plan), Failure> {
    let (stack, status) = (control.stack().await?, control.status().await?);
    not_in_blackout(&stack.drills.blackout, orders.force)?;
    let plan = drill::plan(drill, &stack, &status, &orders.wish).map_err(|refusal| refused(&refusal))?;
    answers(&stack, &plan).await.map_err(|refusal| refused(&refusal))?;
    Ok((stack, plan))
}

/// Where `[drills] read` is another service's, what clients would read of this one may be no page at all: it is asked for
/// once, so that nobody agrees to a drill that would only be given up.
async fn answers(stack: &Stack, plan: &Plan) -> Result<(), Refusal> {
    let Some(other) = drill::read_elsewhere(stack, plan) else { return Ok(()) };
    let answer = Client::new(plan.address, plan.host.as_deref()).send(&Ask::Read(&plan.read)).await;
    let seen = match answer {
        Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
        Ok(answer) => format!("status {}", answer.status),
        Err(trouble) => words::plain(&trouble.to_string()),
    };
    Err(Refusal::ReadElsewhere {
        service: plan.subject.service.clone(),
        path: plan.host.as_ref().map_or_else(|| plan.read.clone(), |host| format!("{} at {host}", plan.read)),
        seen,
        read: stack.drills.read.clone(),
        other: other.to_owned(),
    })
}

/// What was agreed to is what would be done.
fn unchanged(agreed: &Plan, now: &Plan) -> Result<(), Failure> {
    if agreed == now {
        return Ok(());
    }
    let why = if agreed.subject == now.subject {
        "the stack has changed since the plan was shown".to_owned()
    } else {
        format!("it would harm {} now, and the plan named {}", now.subject.in_words(), agreed.subject.in_words())
    };
    Err(Failure::new("the drill was refused, and nothing was harmed")
        .exit(Exit::NotWell)
        .because(why)
        .fix("start it again, and look at its new plan"))
}

/// No drill runs in a blackout unless somebody insists.
fn not_in_blackout(blackouts: &[Blackout], force: bool) -> Result<(), Failure> {
    match drill::in_blackout(blackouts, words::now()) {
        Some((blackout, until)) if !force => Err(Failure::new("the drill was refused, and nothing was harmed")
            .exit(Exit::NotWell)
            .because(format!("no drill shall run now: [drills] blackout has `{blackout}` (UTC)"))
            .fix(format!("wait until {until}, or insist with --force"))),
        _ => Ok(()),
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let failure = Failure::new("the drill was refused, and nothing was harmed").because(refusal);
    match refusal {
        Refusal::NoSuchService { .. } => failure.exit(Exit::Unknown),
        Refusal::WhichService(_) | Refusal::NothingToHarm(_) | Refusal::NoRoute(_) | Refusal::NotHere(_) => {
            failure.exit(Exit::Usage)
        }
        Refusal::OnlyInstance(_) | Refusal::ReadElsewhere { .. } => failure.exit(Exit::NotWell),
        Refusal::NotWell { .. } => {
            failure.exit(Exit::NotWell).fix("wait until `keel status` shows all instances healthy")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::tests::some_plan;

    #[test]
    fn only_what_was_shown_is_done() {
        let agreed = some_plan();
        unchanged(&agreed, &agreed.clone()).unwrap();
        let mut now = some_plan();
        now.subject.pid = Some(2);
        assert!(format!("{:?}", unchanged(&agreed, &now).unwrap_err()).contains("process 2 now"));
        let mut now = some_plan();
        now.abort.errors = 100;
        assert!(format!("{:?}", unchanged(&agreed, &now).unwrap_err()).contains("changed since"));
    }
}
