//! Counter-based random numbers: every draw is a pure function of the key words, so order and threads change nothing.
//!
//! SplitMix64 (Steele, Lea, Flood 2014, <https://doi.org/10.1145/2660193.2660195>) over a state hashed from the key.

/// A generator keyed by words such as `[seed, epoch, image_index]`.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

/// What a stream of random numbers is for; the first key word, so that no two uses share a stream.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub enum Stream {
    /// Initial weights.
    Weights = 1,
    /// The order of the images in an epoch.
    Order = 2,
    /// Augmentation of one image.
    Augment = 3,
    /// The random start of the memory bank.
    Bank = 4,
    /// Noise indices of noise-contrastive estimation.
    Noise = 5,
    /// Starting centroids and re-seeding of k-means.
    Kmeans = 6,
    /// Choice of a subset of images.
    Subset = 7,
    /// The linear probe.
    Probe = 8,
    /// Made-up data of benchmarks.
    Bench = 9,
    /// The map of a bank.
    Map = 10,
    /// Draws of test images again.
    Bootstrap = 11,
}

impl Rng {
    /// A generator for `stream`, keyed by `key`.
    pub fn new(stream: Stream, key: &[u64]) -> Self {
        let mut state = mix(stream as u64 ^ 0x6c6f_6361_6c5f_6167);
        for &word in key {
            state = mix(state ^ mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        }
        Self { state }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Uniform in [0, 1), with 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in [low, high).
    pub fn uniform_in(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Uniform integer in [0, n); `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        // Multiply-shift; the bias is below n / 2^64.
        ((self.next_u64() as u128 * n as u128) >> 64) as usize
    }

    /// Standard normal (Box–Muller).
    pub fn normal(&mut self) -> f32 {
        let u = ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let v = self.uniform() as f64;
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Shuffles `items` in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// The numbers 0..n in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(&mut order);
        order
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
