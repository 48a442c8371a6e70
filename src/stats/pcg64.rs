//! numpy's default generator: `PCG64` (XSL-RR) seeded through `SeedSequence`.
//!
//! Draws agree with `numpy.random.default_rng(seed)`: [`Pcg64::index`] with `choice(n)` and
//! `integers(n)`, [`Pcg64::coins`] with `integers(2, dtype=bool)`. Source: O'Neill, "PCG: A Family
//! of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation"
//! (2014), and numpy's `bit_generator.pyx`, `distributions.c`.

const MULTIPLIER: u128 = (2_549_297_995_355_413_924 << 64) + 4_865_540_595_714_422_341;

/// The generator. Numbers of 32 bits are halves of one of 64, the low half first.
#[derive(Debug, Clone)]
pub struct Pcg64 {
    state: u128,
    increment: u128,
    high_half: Option<u32>,
}

impl Pcg64 {
    /// `numpy.random.default_rng(seed)`.
    pub fn seeded(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_words(seed);
        let join = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let increment = (join(stream_high, stream_low) << 1) | 1;
        let mut generator = Self { state: 0, increment, high_half: None };
        generator.step();
        generator.state = generator.state.wrapping_add(join(state_high, state_low));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// 64 random bits.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number are wanted")]
    pub fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// 32 random bits.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number are wanted")]
    pub fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.high_half.take() {
            return half;
        }
        let both = self.next_u64();
        self.high_half = Some((both >> 32) as u32);
        both as u32
    }

    /// A number below `bound` (Lemire's method); 0 where `bound` is 0 or 1, without a draw.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a product are wanted")]
    pub fn index(&mut self, bound: u32) -> u32 {
        if bound <= 1 {
            return 0;
        }
        let mut product = u64::from(self.next_u32()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    /// A stream of coin tosses, 32 from each number, the lowest bit first.
    pub fn coins(self) -> impl Iterator<Item = bool> {
        let mut generator = self;
        let mut bits = 0_u32;
        let mut left = 0_u32;
        std::iter::from_fn(move || {
            if left == 0 {
                bits = generator.next_u32();
                left = 32;
            } else {
                bits >>= 1;
            }
            left -= 1;
            Some(bits & 1 == 1)
        })
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
#[expect(clippy::cast_possible_truncation, reason = "the halves of the seed are wanted")]
fn seed_words(seed: u64) -> [u64; 4] {
    let mut constant = 0x43b0_d7e5_u32;
    let mut hashed = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hashed);
    for source in 0..4 {
        for target in 0..4 {
            if source != target {
                let mixed = 0xca01_f9dd_u32
                    .wrapping_mul(pool[target])
                    .wrapping_sub(0x4973_f715_u32.wrapping_mul(hashed(pool[source])));
                pool[target] = mixed ^ (mixed >> 16);
            }
        }
    }
    let mut constant = 0x8b51_f9dd_u32;
    let mut word = |place: usize| {
        let value = pool[place % 4] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        u64::from(value ^ (value >> 16))
    };
    std::array::from_fn(|place| word(2 * place) | (word(2 * place + 1) << 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.default_rng(12345).choice(6, size=(2, 6))`, numpy 2.4.
    #[test]
    fn indices_are_numpys() {
        let mut generator = Pcg64::seeded(12345);
        let drawn: Vec<u32> = (0..12).map(|_| generator.index(6)).collect();
        assert_eq!(drawn, [4, 1, 4, 1, 1, 4, 3, 4, 5, 2, 5, 1]);
    }

    #[test]
    fn a_bound_of_one_draws_nothing() {
        let mut generator = Pcg64::seeded(1);
        let untouched = generator.clone().next_u64();
        assert_eq!((generator.index(0), generator.index(1)), (0, 0));
        assert_eq!(generator.next_u64(), untouched);
    }
}
