//! Rollouts told step by step, and their invariants over random worlds.

use proptest::prelude::*;

use super::*;

fn desired(replicas: u32, digest: &str) -> Desired {
    Desired { replicas, digest: digest.to_owned() }
}

/// Carries a plan out on a toy world where retired instances leave at once.
fn carry_out(world: &mut Vec<Observed>, desired: &Desired, plan: &Plan) {
    for step in &plan.steps {
        match step {
            Step::Create { number, .. } => {
                assert!(world.iter().all(|i| i.number != *number), "number {number} is taken");
                world.push(Observed { number: *number, digest: desired.digest.clone(), state: State::Starting });
            }
            Step::Retire { number, .. } => {
                let instance = world.iter_mut().find(|i| i.number == *number).expect("a planned instance exists");
                assert_ne!(instance.state, State::Leaving, "retired twice");
                instance.state = State::Leaving;
            }
        }
    }
}

fn describe(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let (word, number, reasons) = match step {
            Step::Create { number, reasons } => ("create", number, reasons),
            Step::Retire { number, reasons } => ("retire", number, reasons),
        };
        text += &format!("{word} {number}\n");
        for reason in reasons {
            text += &format!("    {:?}: {}\n", reason.role, reason.text);
        }
    }
    if let Some(waiting) = &plan.waiting {
        text += &format!("waiting: {waiting}\n");
    }
    text
}

#[test]
fn a_change_replaces_one_by_one() {
    let mut world = Vec::new();
    carry_out(&mut world, &desired(2, "a"), &plan(&desired(2, "a"), &[]));
    for instance in &mut world {
        instance.state = State::Ready;
    }
    let new = desired(2, "b");
    let mut text = String::new();
    for cycle in 1..20 {
        let plan = plan(&new, &world);
        text += &format!("-- cycle {cycle}\n{}", describe(&plan));
        carry_out(&mut world, &new, &plan);
        // Between two cycles either what was created gets ready, or what was retired is gone.
        if world.iter().any(|i| i.state == State::Leaving) {
            world.retain(|i| i.state != State::Leaving);
        } else {
            for instance in &mut world {
                instance.state = State::Ready;
            }
        }
        if plan == Plan::default() {
            break;
        }
    }
    insta::assert_snapshot!(text);
    assert_eq!(plan(&new, &world), Plan::default());
    assert!(world.iter().all(|i| i.digest == "b"));
}

#[test]
fn a_revision_that_gives_up_costs_no_capacity() {
    let mut world: Vec<_> =
        (1..=3).map(|number| Observed { number, digest: "a".to_owned(), state: State::Ready }).collect();
    let new = desired(3, "b");
    let first = plan(&new, &world);
    carry_out(&mut world, &new, &first);
    world[3].state = State::GaveUp;
    let stuck = plan(&new, &world);
    assert_eq!(stuck.steps, []);
    assert!(stuck.waiting.unwrap().contains("gave up"));
    // Going back retires the broken one and is complete.
    let back = plan(&desired(3, "a"), &world);
    assert_eq!(back.steps.len(), 1);
    assert!(matches!(back.steps[0], Step::Retire { number: 4, .. }));
}

#[test]
fn scaling_down_takes_the_highest_numbers() {
    let world: Vec<_> =
        [2, 5, 1].map(|number| Observed { number, digest: "a".to_owned(), state: State::Ready }).to_vec();
    let numbers = |plan: Plan| -> Vec<u32> {
        plan.steps
            .iter()
            .map(|step| match step {
                Step::Retire { number, .. } | Step::Create { number, .. } => *number,
            })
            .collect()
    };
    assert_eq!(numbers(plan(&desired(1, "a"), &world)), [5, 2]);
    assert_eq!(numbers(plan(&desired(5, "a"), &world)), [3, 4]);
    assert_eq!(numbers(plan(&desired(0, "a"), &world)).len(), 3);
}

#[test]
fn scaling_down_keeps_those_that_serve() {
    let states = [State::GaveUp, State::Ready, State::Starting, State::Ready];
    let world: Vec<_> =
        (1..).zip(states).map(|(number, state)| Observed { number, digest: "a".to_owned(), state }).collect();
    let retired = plan(&desired(1, "a"), &world).steps;
    let numbers: Vec<u32> = retired
        .iter()
        .filter_map(|step| match step {
            Step::Retire { number, .. } => Some(*number),
            Step::Create { .. } => None,
        })
        .collect();
    assert_eq!(numbers, [1, 3, 4]);
}

#[test]
fn what_is_drained_by_hand_goes_first_and_stops_no_rollout() {
    let world = |digest: &str| -> Vec<Observed> {
        let states = [State::Drained, State::Ready, State::Ready];
        (1..).zip(states).map(|(number, state)| Observed { number, digest: digest.to_owned(), state }).collect()
    };
    let retires = |plan: &Plan| plan.steps.iter().any(|step| matches!(step, Step::Retire { number: 1, .. }));
    assert!(retires(&plan(&desired(2, "a"), &world("a"))), "fewer are wanted");
    let mut changed = world("a");
    changed.push(Observed { number: 4, digest: "b".to_owned(), state: State::Ready });
    assert!(retires(&plan(&desired(3, "b"), &changed)), "others are wanted");
    assert_eq!(plan(&desired(3, "a"), &world("a")), Plan::default(), "it holds its place");
}

fn any_world() -> impl Strategy<Value = Vec<Observed>> {
    let state = prop_oneof![
        Just(State::Starting),
        Just(State::Ready),
        Just(State::Drained),
        Just(State::GaveUp),
        Just(State::Leaving)
    ];
    prop::collection::btree_map(1_u32..9, (any::<bool>(), state), 0..8).prop_map(|world| {
        let observed =
            |(number, (new, state))| Observed { number, digest: if new { "new" } else { "old" }.to_owned(), state };
        world.into_iter().map(observed).collect()
    })
}

proptest! {
    /// From any world: a plan is consistent, keeps capacity, stays within the surge, and repeated it ends.
    #[test]
    fn invariants(mut world in any_world(), replicas in 0_u32..6) {
        let new = desired(replicas, "new");
        for _ in 0..60 {
            let planned = plan(&new, &world);
            let existing = world.len();
            carry_out(&mut world, &new, &planned);
            if world.len() > existing {
                prop_assert!(world.iter().filter(|i| i.state != State::Leaving).count() <= (replicas + SURGE) as usize);
            }
            let settled = planned.steps.is_empty();
            world.retain(|i| i.state != State::Leaving);
            for instance in &mut world {
                if instance.state == State::Starting {
                    instance.state = State::Ready;
                }
            }
            if settled && plan(&new, &world) == Plan::default() {
                break;
            }
        }
        let staying = world.iter().filter(|i| i.digest == "new").count();
        let broken = world.iter().any(|i| i.digest == "new" && i.state == State::GaveUp);
        prop_assert!(broken || (staying == replicas as usize && world.len() == staying));
    }

    /// No ready old instance goes before as many others are there as are wanted.
    #[test]
    fn capacity_is_kept(world in any_world(), replicas in 1_u32..6) {
        let planned = plan(&desired(replicas, "new"), &world);
        let retired: Vec<u32> = planned
            .steps
            .iter()
            .filter_map(|s| match s { Step::Retire { number, .. } => Some(*number), Step::Create { .. } => None })
            .collect();
        let took_ready_old = world
            .iter()
            .any(|i| i.state == State::Ready && i.digest == "old" && retired.contains(&i.number));
        if took_ready_old {
            let left = world
                .iter()
                .filter(|i| !retired.contains(&i.number))
                .filter(|i| match i.state {
                    State::Ready | State::Drained => true,
                    State::Starting => i.digest == "old",
                    State::GaveUp | State::Leaving => false,
                })
                .count();
            prop_assert!(left >= replicas as usize);
        }
    }
}
