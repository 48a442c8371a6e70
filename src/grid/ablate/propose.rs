//! Weights by block from what each block does.

/// What a block does, as shares of what the whole adapter does: positive where the block does some.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Damage that goes away with it.
    pub damage: f64,
    /// Gain that goes away with it.
    pub gain: f64,
    /// Whether the damage's interval excludes none; of one prompt there is no interval.
    pub sure: bool,
}

/// Damage of less than this share is not worth a weight.
const LEAST: f64 = 0.02;
/// A block is switched off where its share of the gain is at most this part of its share of the damage,
const OFF: f64 = 0.1;
/// and halved up to this one.
const HALF: f64 = 0.5;

/// A weight for a block: 0 for damage without work, 0.5 for more damage than work, else 1.
pub fn weight(shares: Shares) -> f64 {
    if !shares.sure || shares.damage < LEAST {
        1.0
    } else if shares.gain <= OFF * shares.damage {
        0.0
    } else if shares.gain <= HALF * shares.damage {
        0.5
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_weight_unless_it_harms_more_than_it_works() {
        for (damage, gain, sure, expected) in [
            (0.6, 0.01, true, 0.0),
            (0.6, -0.3, true, 0.0),
            (0.6, 0.2, true, 0.5),
            (0.6, 0.5, true, 1.0),
            (0.6, 0.0, false, 1.0),
            (0.01, 0.0, true, 1.0),
            (-0.4, -0.4, true, 1.0),
        ] {
            assert_eq!(weight(Shares { damage, gain, sure }), expected, "{damage} {gain}");
        }
    }
}
