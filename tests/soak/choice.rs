//! Choices that a seed repeats.

/// SplitMix64: small, and good enough to choose by.
pub struct Choice(u64);

impl Choice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Another one, whose choices do not depend on how many are made here.
    pub fn apart(&mut self) -> Self {
        Self::new(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below that number.
    pub fn below(&mut self, number: u64) -> u64 {
        self.next() % number.max(1)
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[test]
fn a_seed_repeats_its_choices() {
    let all = |seed: u64| {
        let mut choice = Choice::new(seed);
        let mut apart = choice.apart();
        (0..50).map(|_| choice.below(7) * 10 + apart.between(1, 3)).collect::<Vec<_>>()
    };
    assert_eq!(all(5), all(5));
    assert_ne!(all(5), all(6));
    assert!((0..7).all(|n| all(5).iter().any(|chosen| chosen / 10 == n)));
}
