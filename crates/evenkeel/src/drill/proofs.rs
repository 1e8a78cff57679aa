//! What drills proved, as `keel status` shows it: one line, each proof with its age.

use evenkeel_core::{
    drill::{Proof, Verdict},
    time::WallTime,
};

use crate::{style::Paint, words};

/// The lines, each with its end; none without a proof.
pub(crate) fn lines(proofs: &[Proof], now: WallTime, paint: Paint) -> String {
    let mut services: Vec<&str> = proofs.iter().map(|proof| proof.service.as_str()).collect();
    services.dedup();
    let of_service = |service: &str| {
        let said = proofs.iter().filter(|proof| proof.service == service).map(|proof| one(proof, now, paint));
        format!("{} {service}: {}\n", paint.dim("drills"), said.collect::<Vec<_>>().join(", "))
    };
    services.into_iter().map(of_service).collect()
}

fn one(proof: &Proof, now: WallTime, paint: Paint) -> String {
    let ago = words::since(proof.at, now);
    match (proof.verdict, proof.passed_at) {
        (Verdict::Pass, _) => format!("{} {} {ago} ago", proof.drill, paint.good("passed")),
        (Verdict::Fail, Some(passed)) => {
            let passed = words::since(passed, now);
            format!("{} {} {ago} ago (passed {passed} ago)", proof.drill, paint.bad("failed"))
        }
        (Verdict::Fail, None) => format!("{} {} {ago} ago", proof.drill, paint.bad("failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proof_has_its_age() {
        let at = |s: u64| WallTime::from_millis(s * 1000);
        let proof = |drill: &str, verdict, passed_at| Proof {
            drill: drill.to_owned(),
            service: "shop".to_owned(),
            run: String::new(),
            at: at(1000),
            verdict,
            recovery_ms: None,
            passed_at,
        };
        let proofs = [
            proof("hang-instance", Verdict::Fail, Some(at(400))),
            proof("kill-edge", Verdict::Fail, None),
            proof("kill-instance", Verdict::Pass, Some(at(1000))),
        ];
        insta::assert_snapshot!(lines(&proofs, at(4600), Paint::plain()), @"drills shop: hang-instance failed 1h ago (passed 1h 10m ago), kill-edge failed 1h ago, kill-instance passed 1h ago");
        assert_eq!(lines(&[], at(0), Paint::plain()), "");
    }
}
