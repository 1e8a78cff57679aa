//! What is particular about judging and watching single drills.

use super::*;

/// The verdict and what stands first among its reasons.
fn judged(name: &str, spoil: impl Fn(&mut Observed)) -> (Verdict, String) {
    let mut observed = good();
    spoil(&mut observed);
    let report = verdict(name, &observed);
    (report.verdict, report.reasons[0].text.clone())
}

#[test]
fn only_what_was_on_a_connection_that_died_is_counted_apart() {
    let cut = |o: &mut Observed| (o.traffic.errors, o.traffic.cut) = (3, 3);
    for name in ["kill-edge", "kill-guard"] {
        let (passed, text) = judged(name, cut);
        assert_eq!(passed, Verdict::Pass, "{name}: {text}");
        assert!(text.contains("3 of 100 requests failed, all of them with the connections that died"), "{text}");
        assert_eq!(judged(name, |o| (o.traffic.errors, o.traffic.cut) = (4, 3)).0, Verdict::Fail, "{name}");
    }
    for name in ["kill-node-process", "kill-instance", "full-disk", "clock-step"] {
        assert_eq!(judged(name, cut).0, Verdict::Fail, "{name}: nothing excuses it there");
    }
    let mut observed = good();
    cut(&mut observed);
    let report = verdict("kill-edge", &observed);
    assert_eq!((report.errors, report.unavoidable_errors), (3, 3), "they are counted all the same");
}

#[test]
fn a_reboot_excuses_errors_until_recovery_and_none_afterwards() {
    let at = |at_ms: u64| {
        judged("reboot", move |o| {
            o.traffic.errors = 5;
            o.traffic.series = vec![Tick { at_ms, requests: 5, errors: 5, ..Tick::default() }];
        })
    };
    assert_eq!(at(1000).0, Verdict::Pass);
    assert_eq!(at(3500).0, Verdict::Pass, "the tick of recovery");
    assert_eq!(at(3600), (Verdict::Fail, "5 of 100 requests failed".to_owned()));
    assert_eq!(at(800).0, Verdict::Fail, "before the harm");
    let (verdict, text) = judged("reboot", |o| (o.instances_before, o.instances_after) = (vec![7, 8], vec![8, 9]));
    assert!(verdict == Verdict::Fail && text.contains("an instance outlived"), "{text}");
}

#[test]
fn harm_to_keel_must_not_cost_an_instance() {
    for name in ["kill-node-process", "kill-guard", "full-disk", "clock-step"] {
        let (verdict, text) = judged(name, |o| (o.instances_before, o.instances_after) = (vec![7, 8], vec![8, 9]));
        assert!(verdict == Verdict::Fail && text.contains("1 of 2 instances were started anew"), "{name}: {text}");
    }
}

#[test]
fn whoever_starts_keel_again_must_not_be_the_drill() {
    let (verdict, text) = judged("kill-guard", |o| o.stages.push(Stage::new(STARTED, 6000, "by the drill")));
    assert!(verdict == Verdict::Fail && text.contains("nobody started `keel up` again"), "{text}");
    assert_eq!(judged("reboot", |o| o.stages.push(Stage::new(STARTED, 6000, "by the drill"))).0, Verdict::Pass);
}

#[test]
fn a_full_disk_must_be_said_while_it_lasts_and_clocks_must_have_been_shifted() {
    assert!(judged("full-disk", |o| o.detected_at_ms = None).1.contains("nobody said"));
    assert!(judged("full-disk", |o| o.detected_at_ms = Some(3001)).1.contains("only when it was over"));
    assert!(judged("clock-step", |o| o.stages.clear()).1.contains("never ran with the other clocks"));
}

#[test]
fn a_full_disk_shows_by_what_is_said_of_it() {
    let (drill, plan) = (find("full-disk").unwrap(), the_plan("full-disk"));
    let mut status = the_status();
    assert_eq!(drill.signs(&plan, &status, false), Signs::default(), "not yet, and not over");
    assert!(drill.signs(&plan, &status, true).recovered.is_some());
    status.problems.push("the journal cannot be written (the disk is full)".to_owned());
    let signs = drill.signs(&plan, &status, true);
    assert!(signs.detected.is_some() && signs.recovered.is_none(), "{signs:?}");
}

#[test]
fn a_process_of_keel_is_well_once_another_is_heard_by_the_edge() {
    for name in ["kill-node-process", "kill-edge", "kill-guard", "reboot"] {
        let (drill, plan) = (find(name).unwrap(), the_plan(name));
        let mut status = the_status();
        assert_eq!(drill.signs(&plan, &status, false), Signs::default(), "{name}: it is still there");
        (status.guard.pid, status.node.pid) = (11, 12);
        let edge = status.edge.as_mut().unwrap();
        (edge.pid, edge.applied) = (13, 0);
        let signs = drill.signs(&plan, &status, false);
        assert!(signs.replaced.is_some() && signs.recovered.is_none(), "{name}: {signs:?}");
        status.edge.as_mut().unwrap().applied = 1;
        assert!(drill.signs(&plan, &status, false).recovered.is_some(), "{name}");
    }
}

#[test]
fn a_spike_that_did_not_come_about_shows_nothing() {
    let mut observed = good();
    observed.traffic.series.iter_mut().for_each(|tick| tick.requests = tick.requests.min(30));
    let report = verdict("traffic-spike", &observed);
    assert_eq!(report.verdict, Verdict::Fail);
    assert_eq!(
        report.reasons[0].text,
        "test visitors had 300 answers a second meanwhile, and 210 before: the service or this machine can do no more, so no \
         spike came about"
    );
}

#[test]
fn what_shows_the_harm_first_counts_as_its_detection() {
    let plan = the_plan("traffic-spike");
    let mut watch = Watch::new(find("traffic-spike").unwrap(), &plan);
    assert!(watch.detected(1200) && !watch.detected(1300));
    let mut status = the_status();
    status.services[2].holding = 1;
    assert!(watch.on(&status, 1400).is_empty());
    assert_eq!(watch.detected_at_ms(), Some(1200));
}

#[test]
fn a_spike_is_over_once_nobody_is_held_any_more() {
    let plan = the_plan("traffic-spike");
    let drill = find("traffic-spike").unwrap();
    let mut status = the_status();
    assert_eq!(drill.signs(&plan, &status, false), Signs::default());
    assert!(drill.signs(&plan, &status, true).recovered.is_some());
    status.services[2].holding = 7;
    let signs = drill.signs(&plan, &status, true);
    assert_eq!(signs.detected.unwrap(), "7 requests are held until an instance has room");
    assert_eq!(signs.recovered, None, "somebody still waits");
}

#[test]
fn capacity_must_do_for_what_users_ask_with_one_gone() {
    let mut observed = good();
    let report = verdict("capacity", &observed);
    let capacity = report.capacity.unwrap();
    assert_eq!((report.verdict, capacity.rate, capacity.rate_with_one_gone), (Verdict::Pass, 600, 400));
    assert!((capacity.headroom.unwrap() - 2.0).abs() < 1e-9);
    observed.capacity = Some(bears(150));
    let report = verdict("capacity", &observed);
    assert_eq!(report.verdict, Verdict::Fail);
    assert!(report.reasons[0].text.contains("only 0.75 times the 200 that users ask"), "{:?}", report.reasons);
    observed.capacity = None;
    assert_eq!(verdict("capacity", &observed).verdict, Verdict::Fail, "nothing was measured");
    let mut plan = the_plan("capacity");
    plan.objectives.detection = Some(stack::Duration::ms(100));
    let report = judge(find("capacity").unwrap(), &plan, &good());
    assert_eq!(report.verdict, Verdict::Pass, "there is nothing to notice: {:?}", report.reasons);
}

#[test]
fn the_objective_of_a_capacity_is_the_one_that_is_declared() {
    let ramp = |objectives: &str| {
        let stack = stack::parse(&format!("{FILE}{objectives}"), "keel.toml").unwrap();
        let plan = plan(find("capacity").unwrap(), &stack, &the_status(), &Wish::default()).unwrap();
        let Fault::Ramp { p99_ms, .. } = plan.fault else { panic!("{}", plan.fault) };
        p99_ms
    };
    assert_eq!(ramp(""), 250);
    assert_eq!(ramp("[objectives.shop]\np99 = \"400ms\"\n"), 400);
    assert_eq!(ramp("[objectives.shop]\np99 = \"400ms\"\n[drills.objectives]\np99 = \"80ms\"\n"), 80);
}

#[test]
fn a_run_says_what_it_took_of_the_budget() {
    let mut observed = good();
    assert_eq!(verdict("kill-instance", &observed).budget_spent, None);
    observed.budget = Some(crate::objectives::Budget { allowed: 50.0, ..Default::default() });
    observed.traffic.errors = 1;
    let report = verdict("kill-instance", &observed);
    assert!((report.budget_spent.unwrap() - 2.0).abs() < 1e-9);
    assert!(report.reasons.iter().any(|reason| reason.text == "that took 2.00 % of the budget of errors"));
}

#[test]
fn a_slow_instance_must_be_noticed_while_it_is_slow() {
    let plan = the_plan("slow-instance");
    assert!(plan.lines()[1].ends_with("SIGSTOP for 400 ms of every 600 ms, for at most 3.0 s to shop/2, process 1002"));
    let (failed, text) = judged("slow-instance", |o| o.detected_at_ms = None);
    assert!(failed == Verdict::Fail && text.contains("shop/2 was not noticed in 2.0 s"), "{text}");
    assert_eq!(judged("slow-instance", |o| o.detected_at_ms = Some(3001)).0, Verdict::Fail, "only afterwards");
    let wish = Wish { service: Some("api".to_owned()), ..Wish::default() };
    let refused = plan_of("slow-instance", &wish).unwrap_err();
    assert!(refused.contains("`api` has one instance"), "{refused}");
}

fn plan_of(name: &str, wish: &Wish) -> Result<Plan, String> {
    plan(find(name).unwrap(), &the_stack(), &the_status(), wish).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_loop_of_crashes_must_be_slowed_down_and_end() {
    let plan = the_plan("crash-loop");
    let mut watch = Watch::new(find("crash-loop").unwrap(), &plan);
    assert_eq!(names(&watch.on(&with(5, Some(2000), Health::Healthy), 1500)), ["detected", "replaced"], "one to come");
    assert_eq!(names(&watch.on(&with(6, Some(2001), Health::Healthy), 1900)), ["recovered"]);

    let (failed, text) = judged("crash-loop", |o| o.stages = loops(20));
    assert!(failed == Verdict::Fail && text.contains("nothing slowed the loop of crashes down"), "{text}");
    let (failed, text) = judged("crash-loop", |o| o.stages.clear());
    assert!(failed == Verdict::Fail && text.contains("died at no further start"), "{text}");
    let (failed, text) = judged("crash-loop", |o| o.stages.push(Stage::new(stages::GAVE_UP, 1500, "SIGKILL")));
    assert_eq!((failed, text.as_str()), (Verdict::Fail, "shop/2 was given up: SIGKILL"));
    let few = FILE.replacen("[services.shop]\n", "[services.shop]\nrestart = { attempts = 3 }\n", 1);
    let stack = stack::parse(&few, "keel.toml").unwrap();
    let notes = super::plan(find("crash-loop").unwrap(), &stack, &the_status(), &Wish::default()).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("`restart.attempts` is 3")), "{notes:?}");
}

#[test]
fn a_bad_release_is_over_only_when_the_former_one_is_in_force() {
    let mut status = the_status();
    status.services[2].release = Some(4);
    let drill = find("bad-deploy").unwrap();
    let plan = plan(drill, &the_stack(), &status, &Wish::default()).unwrap();
    assert_eq!((plan.subject.generation, plan.subject.pid), (4, None), "the release in force before");
    let mut watch = Watch::new(drill, &plan);
    status.services[2].release = Some(5);
    assert!(watch.on(&status, 2000).is_empty(), "all are healthy, and of the wrong release");
    status.services[2].release = Some(4);
    assert_eq!(names(&watch.on(&status, 3000)), ["detected", "recovered"]);
    let unguarded = |o: &mut Observed| (o.detected_at_ms, o.recovered_at_ms) = (None, None);
    let mut observed = good();
    unguarded(&mut observed);
    let reasons = verdict("bad-deploy", &observed).reasons;
    assert!(reasons.iter().any(|reason| reason.text.starts_with("nobody rolled the release back")), "{reasons:?}");
}

#[test]
fn nothing_passes_that_nobody_asked() {
    let (failed, text) = judged("bad-deploy", |o| o.stages.retain(|stage| stage.name != stages::TRIED));
    assert!(failed == Verdict::Fail && text.contains("no request ever reached it"), "{text}");
    let unasked = |o: &mut Observed| o.stages.retain(|stage| stage.name != stages::ASKED);
    let (failed, text) = judged("slow-dependency", unasked);
    assert!(failed == Verdict::Fail && text.contains("nobody asked the dependency"), "{text}");
    let waited = |o: &mut Observed| (unasked(o), o.traffic.worst_ms = 900).0;
    assert_eq!(judged("slow-dependency", waited).0, Verdict::Pass, "its clients waited for it");
}

#[test]
fn harm_that_was_not_undone_fails_whatever_else_held() {
    let (failed, text) = judged("kill-instance", |o| o.not_undone.push("the freezer has died".to_owned()));
    assert_eq!((failed, text.as_str()), (Verdict::Fail, "the harm could not be undone: the freezer has died"));
}

#[test]
fn what_depends_on_something_slow_must_be_left_alone() {
    let restarted =
        |o: &mut Observed| o.stages.push(Stage::new(stages::RESTARTED, 1500, "shop/1 has been started again"));
    let (failed, text) = judged("slow-dependency", restarted);
    assert!(failed == Verdict::Fail && text.contains("shop/1 has been started again"), "{text}");
    let none = FILE.replace("dependency = \"api\"\n", "");
    let refused = |file: &str, service: &str| {
        let stack = stack::parse(file, "keel.toml").unwrap();
        let wish = Wish { service: Some(service.to_owned()), ..Wish::default() };
        plan(find("slow-dependency").unwrap(), &stack, &the_status(), &wish).unwrap_err().to_string()
    };
    assert!(refused(&none, "shop").contains("`dependency` in [drills]"), "{}", refused(&none, "shop"));
    assert!(refused(FILE, "api").contains("is the dependency itself"), "{}", refused(FILE, "api"));
    let legacy = FILE.replace("dependency = \"api\"", "dependency = \"legacy\"");
    assert!(refused(&legacy, "shop").contains("fixed instances"), "{}", refused(&legacy, "shop"));
    let unknown = FILE.replace("dependency = \"api\"", "dependency = \"apii\"");
    let fault = stack::parse(&unknown, "keel.toml").unwrap_err().to_string();
    assert!(fault.contains("there is no service `apii`") && fault.contains("`api`"), "{fault}");

    let plan = the_plan("slow-dependency");
    let mut watch = Watch::new(find("slow-dependency").unwrap(), &plan);
    let mut status = the_status();
    status.services[0].instances[0].health = Health::Unhealthy;
    assert_eq!(names(&watch.on(&status, 1500)), ["detected"]);
    assert!(watch.on(&the_status(), 2000).is_empty(), "it is slow still");
    watch.release();
    assert!(watch.on(&status, 3000).is_empty(), "it is not well yet");
    assert_eq!(names(&watch.on(&the_status(), 3500)), ["recovered"]);
}

#[test]
fn a_reboot_is_over_once_every_service_that_was_well_is_so_again() {
    let (drill, plan) = (find("reboot").unwrap(), the_plan("reboot"));
    assert_eq!(plan.well_before, ["api", "legacy", "shop"], "in the order of the status");
    let mut status = the_status();
    status.guard.pid = 11;
    let signs = drill.signs(&plan, &status, false);
    assert!(signs.recovered.is_some_and(|all| all.ends_with("3 of 3 instances of shop are healthy")));
    let api = status.services.iter_mut().find(|service| service.name == "api").unwrap();
    api.instances[0].health = Health::Unknown;
    assert_eq!(drill.signs(&plan, &status, false).recovered, None, "the service that visitors ask is not all of it");
    let mut less = plan.clone();
    less.well_before.retain(|name| name != "api");
    assert!(drill.signs(&less, &status, false).recovered.is_some(), "what was ill before is not waited for");
    status.services.retain(|service| service.name != "legacy");
    assert_eq!(drill.signs(&less, &status, false).recovered, None, "one that is gone is not well");
}

#[test]
fn what_shows_nothing_is_told_from_what_did_not_hold() {
    let mut observed = good();
    observed.stages.retain(|stage| stage.name != stages::TRIED);
    let report = verdict("bad-deploy", &observed);
    assert_eq!((report.verdict, report.shows_nothing), (Verdict::Fail, true));
    observed.traffic.errors = 1;
    assert!(!verdict("bad-deploy", &observed).shows_nothing, "something did not hold too");
    assert!(!verdict("bad-deploy", &good()).shows_nothing, "a pass shows something");
}

#[test]
fn health_that_does_not_last_is_no_recovery() {
    let plan = the_plan("hang-instance");
    let mut watch = Watch::new(find("hang-instance").unwrap(), &plan);
    assert_eq!(names(&watch.on(&with(1, Some(1002), Health::Silent), 1100)), ["detected"]);
    watch.release();
    assert_eq!(names(&watch.on(&with(1, Some(1002), Health::Healthy), 4000)), ["recovered"]);
    assert!(!watch.is_over(4999, 10_000) && watch.is_over(5000, 10_000), "it has to last for the plan's time");
    let back = watch.on(&with(1, Some(1002), Health::Unhealthy), 4400);
    assert_eq!((names(&back), back[0].detail.as_str()), (vec!["relapsed"], "shop/2 is unhealthy"));
    assert!(watch.recovered_at_ms().is_none() && !watch.is_over(10_000, 10_000) && watch.is_over(10_001, 10_000));
    assert_eq!(names(&watch.on(&with(1, Some(1002), Health::Healthy), 5400)), ["recovered"]);
    let mut grown = with(1, Some(1002), Health::Healthy);
    grown.services[2].replicas = 4;
    grown.services[2].instances.push(InstanceStatus { health: Health::Unknown, ..instance("shop", 4, 9) });
    assert!(watch.on(&grown, 5500).is_empty(), "one that was only added takes nothing back");
    assert_eq!(watch.recovered_at_ms(), Some(5400), "it counts from where health lasted");
}

#[test]
fn health_lasts_for_as_long_as_a_check_takes_to_know() {
    let settle = |check: &str| {
        let file = FILE.replacen("[services.shop]\n", &format!("[services.shop]\n{check}\n"), 1);
        let stack = stack::parse(&file, "keel.toml").unwrap();
        plan(find("kill-instance").unwrap(), &stack, &the_status(), &Wish::default()).unwrap().settle_ms
    };
    assert_eq!(settle(""), 1000);
    assert_eq!(settle("check = { http = \"/\" }"), 2000);
    assert_eq!(settle("check = { http = \"/\", interval = \"100ms\", timeout = \"50ms\" }"), 1000);
    assert_eq!(settle("check = { http = \"/\", interval = \"1h\" }"), 5000);
}

#[test]
fn what_only_the_drill_brought_back_is_said_with_the_verdict() {
    let mut plan = the_plan("hang-instance");
    let judged = |plan: &Plan, observed: &Observed| judge(find(&plan.drill).unwrap(), plan, observed);
    let report = judged(&plan, &good());
    assert!(report.thawed_by_drill && report.warnings[0].contains("nobody but this drill brought shop/2 back"));
    plan.liveness_after_ms = Some(10_000);
    let report = judged(&plan, &good());
    assert!(report.warnings[0].contains("has hung for 10.0 s"), "{:?}", report.warnings);
    let mut replaced = good();
    replaced.stages.push(Stage::new("replaced", 2900, ""));
    let mut never = good();
    never.recovered_at_ms = None;
    for observed in [&replaced, &never] {
        let report = judged(&plan, observed);
        assert!(!report.thawed_by_drill && report.warnings.is_empty(), "{:?}", report.warnings);
    }
    assert!(!verdict("slow-instance", &good()).thawed_by_drill, "a slow one is not replaced by anybody");
}

#[test]
fn a_plan_knows_whether_its_drill_is_scheduled() {
    let scheduled = |service: &str, wish: Option<&str>| {
        let file = format!("{FILE}\n[[drills.schedule]]\ndrill = \"kill-instance\"\n{service}\nevery = \"1d\"\n");
        let stack = stack::parse(&file, "keel.toml").unwrap();
        let wish = Wish { service: wish.map(str::to_owned), ..Wish::default() };
        let of = |name: &str| plan(find(name).unwrap(), &stack, &the_status(), &wish).unwrap().scheduled;
        assert!(!of("hang-instance"), "another drill");
        of("kill-instance")
    };
    assert!(scheduled("", None) && scheduled("service = \"api\"", Some("api")));
    assert!(!scheduled("", Some("api")), "without a service it is the one that `read` leads to");
    assert!(!scheduled("service = \"api\"", None));
}

#[test]
fn a_plan_that_reads_another_path_says_whom_read_leads_to() {
    let wish = Wish { service: Some("api".to_owned()), ..Wish::default() };
    let api = plan(find("kill-instance").unwrap(), &the_stack(), &the_status(), &wish).unwrap();
    assert_eq!(read_elsewhere(&the_stack(), &api), Some("shop"));
    assert_eq!(read_elsewhere(&the_stack(), &the_plan("kill-instance")), None);
}
