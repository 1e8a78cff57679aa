//! The vertical axis of a plot: from nothing to a round number.

use super::HEIGHT;

/// How tall values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    top: f64,
}

impl Scale {
    /// A scale on which this value has room. Of whole things the middle of the axis is a whole number too.
    pub(super) fn upto(most: f64, whole: bool) -> Self {
        let least = if whole { 2.0 } else { 1.0 };
        if !most.is_finite() || most <= least {
            return Self { top: least };
        }
        let power = 10_f64.powf(most.log10().floor());
        let factors = if whole { [1.0, 2.0, 4.0, 6.0, 8.0] } else { [1.0, 2.0, 3.0, 5.0, 8.0] };
        let round = factors.into_iter().map(|factor| factor * power).find(|top| *top >= most * 0.9999);
        Self { top: round.unwrap_or(10.0 * power) }
    }

    /// The numbers beside the axis, from above.
    pub(super) fn ticks(self) -> [f64; 3] {
        [self.top, self.top / 2.0, 0.0]
    }

    /// How far from above a value lies.
    pub(super) fn y(self, value: f64) -> f64 {
        HEIGHT * (1.0 - (value / self.top).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_room_and_none_is_lost_in_it() {
        for value in [0.0, 0.3, 1.0, 1.1, 7.0, 9.2, 10.0, 99.0, 101.0, 12_345.0, 1e12] {
            let Scale { top } = Scale::upto(value, false);
            assert!(top >= value && (value <= 1.0 || top <= 2.01 * value), "{value}: {top}");
        }
        for instances in 0..40 {
            let [top, middle, zero] = Scale::upto(f64::from(instances), true).ticks();
            assert!(
                top >= f64::from(instances) && middle.fract().abs() < 1e-9 && zero.abs() < 1e-9,
                "{instances}: {top}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_drawn_at_the_edge() {
        let scale = Scale::upto(f64::INFINITY, false);
        assert!((scale.y(5.0) - 0.0).abs() < 1e-9 && (scale.y(-1.0) - HEIGHT).abs() < 1e-9);
    }
}
