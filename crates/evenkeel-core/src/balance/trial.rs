//! The share of instances on trial: an instance that must still prove itself gets its part and no more.
//!
//! The other algorithms give shares on average, by load, or not at all; here the share is a bound. Each request adds to
//! a credit the part of the weights that is on trial, and a whole credit buys one request. Whoever answers slowly
//! gathers requests, so a second bound holds: of all requests in flight no greater part than the share, but at least
//! one.

/// One part in this many is what the credit counts.
const WHOLE: u64 = 1 << 20;

/// What is known of a service's instances that may be chosen now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scales {
    /// Sum of the weights of those on trial.
    pub trial_weight: u64,
    /// Sum of all weights.
    pub weight: u64,
    /// Requests in flight at those on trial.
    pub trial_in_flight: u64,
    /// Requests in flight at all of them.
    pub in_flight: u64,
}

/// The credit of a service's instances on trial.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrialShare {
    credit: u64,
}

impl TrialShare {
    /// A request came that an instance on trial might take. Whether one may have it; [`Self::spend`] says that it got
    /// it.
    pub fn earns(&mut self, scales: Scales) -> bool {
        let Scales { trial_weight, weight, trial_in_flight, in_flight } = scales;
        let earned = (trial_weight * WHOLE).checked_div(weight).unwrap_or(0);
        // Credit that nobody used does not become a burst.
        self.credit = (self.credit + earned).min(2 * WHOLE - 1);
        let most = ((in_flight + 1) * trial_weight).div_ceil(weight.max(1)).max(1);
        self.credit >= WHOLE && trial_in_flight < most
    }

    /// An instance on trial got the request.
    pub fn spend(&mut self) {
        self.credit = self.credit.saturating_sub(WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(trial_weight: u64, weight: u64) -> Scales {
        Scales { trial_weight, weight, ..Scales::default() }
    }

    #[test]
    fn the_share_is_exact_and_evenly_spread() {
        let mut share = TrialShare::default();
        let turns: Vec<bool> = (0..1000)
            .map(|_| {
                let turn = share.earns(scales(10, 100));
                if turn {
                    share.spend();
                }
                turn
            })
            .collect();
        let got = turns.iter().filter(|turn| **turn).count();
        assert!((99..=100).contains(&got), "{got} of 1000 at a tenth");
        assert!(turns.chunks(10).all(|chunk| chunk.iter().filter(|turn| **turn).count() <= 2));
    }

    #[test]
    fn unused_credit_is_no_burst() {
        let mut share = TrialShare::default();
        for _ in 0..1000 {
            share.earns(scales(50, 100));
        }
        share.spend();
        share.spend();
        assert!(!share.earns(scales(50, 100)), "at most two at once, however long nobody took any");
    }

    #[test]
    fn who_answers_slowly_does_not_gather_requests() {
        let mut share = TrialShare::default();
        share.earns(scales(100, 100));
        let slow = Scales { trial_weight: 10, weight: 100, trial_in_flight: 4, in_flight: 32 };
        assert!(!share.earns(slow), "four of 33 are more than a tenth");
        assert!(share.earns(Scales { trial_in_flight: 3, ..slow }));
        assert!(!share.earns(Scales { trial_weight: 10, weight: 100, trial_in_flight: 1, in_flight: 1 }));
    }

    #[test]
    fn no_weight_no_turn() {
        assert!(!TrialShare::default().earns(Scales::default()));
    }
}
