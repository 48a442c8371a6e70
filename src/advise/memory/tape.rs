//! What a forward pass keeps for the backward pass, operation by operation.
//!
//! candle's graph holds every tensor that one of its operations took or gave until the gradients are
//! made. Each method here stands for one layer of [`crate::nn`] and adds what that layer's forward pass
//! makes anew; views (`reshape`, `narrow`, `transpose`) are free. All that these counts assume of the
//! layers is in this file, so a measured peak that differs is corrected here.

/// Bytes of an f32.
pub const F32: u64 = 4;

/// Tensors as large as the widest one that a backward pass holds beside the graph: a layer's
/// gradients, their copies, zeros and sums. Measured on the CPU: 9 to 11 for decoders and denoisers.
const BACKWARD: u64 = 11;
/// The most numbers of probabilities that `nn::attention` composes at once.
const HELD: u64 = 1 << 24;
/// What candle keeps of a frozen operand's gradient: that of a summand is the result's own; that of a
/// factor is a product, its sum with zeros, and the result's gradient, which the product refers to.
const OF_SUMMAND: u64 = 1;
const OF_FACTOR: u64 = 3;

/// Which layers get an adapter: the rank for a module path and a kernel's side (1: a linear layer).
pub type Ranks<'a> = dyn Fn(&str, usize) -> Option<u64> + 'a;

/// Bytes of a pass, and how many of them blocks made.
#[derive(Debug, Default)]
struct Bytes {
    all: u64,
    inside: u64,
    largest: u64,
}

impl Bytes {
    fn add(&mut self, bytes: u64) {
        self.all = self.all.saturating_add(bytes);
    }

    /// A block ends, before which there were so many.
    fn close(&mut self, before: u64) {
        let own = self.all - before;
        self.inside = self.inside.saturating_add(own);
        self.largest = self.largest.max(own);
    }

    /// All, or with checkpointing what is outside of blocks and the largest block.
    fn held(&self, checkpointing: bool) -> u64 {
        if checkpointing { (self.all - self.inside).saturating_add(self.largest) } else { self.all }
    }
}

/// Sums of a forward pass.
pub struct Tape<'a> {
    /// On the CPU a norm, an activation, a gate, an attention is a single operation; on another
    /// device it is composed of candle's, which all stay in the graph.
    fused: bool,
    /// Bytes of an activation.
    float: u64,
    ranks: &'a Ranks<'a>,
    /// What stays in the graph.
    kept: Bytes,
    /// Gradients of frozen operands of candle's own operations (a bias, a mask, strengths), each as
    /// large as what it was spread to. candle makes them and keeps them to the end of the pass.
    idle: Bytes,
    /// Bytes of the results of blocks.
    results: u64,
    /// Bytes of the widest tensor.
    widest: u64,
    /// Bytes of the largest unfolded picture of a convolution (`im2col`, not on the CPU).
    unfolded: u64,
    /// Parameters of the base.
    pub parameters: u64,
    /// Parameters of the adapter.
    pub trained: u64,
    /// Parameters of the base's largest matrix.
    pub largest_matrix: u64,
}

/// A linear layer or convolution: `inputs` → `outputs` features.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Features in.
    pub inputs: usize,
    /// Features out.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

/// An attention of `rows` rows.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// Rows of the batch.
    pub rows: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub groups: usize,
    /// Width of a head.
    pub width: usize,
    /// Queries of a row.
    pub queries: usize,
    /// Keys of a row.
    pub keys: usize,
    /// Whether queries see some keys only.
    pub masked: bool,
}

/// The product, as bytes are counted: it stays at the largest number rather than starting anew.
pub fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |all, factor| all.saturating_mul(*factor as u64))
}

impl<'a> Tape<'a> {
    /// An empty one. `fused`: the CPU; `float`: bytes of an activation.
    pub fn new(fused: bool, float: u64, ranks: &'a Ranks<'a>) -> Self {
        Self {
            fused,
            float,
            ranks,
            kept: Bytes::default(),
            idle: Bytes::default(),
            results: 0,
            widest: 0,
            unfolded: 0,
            parameters: 0,
            trained: 0,
            largest_matrix: 0,
        }
    }

    /// Bytes that stay until the backward pass. With checkpointing only the results of blocks do, and
    /// what the block that is computed again makes.
    pub fn activations(&self, checkpointing: bool) -> u64 {
        let results = if checkpointing { self.results } else { 0 };
        self.kept.held(checkpointing).saturating_add(results)
    }

    /// Bytes that the backward pass needs besides.
    pub fn working(&self, checkpointing: bool) -> u64 {
        let gradients = BACKWARD.saturating_mul(self.widest);
        gradients.saturating_add(self.unfolded).saturating_add(self.idle.held(checkpointing))
    }

    /// A block that checkpointing computes again; its result has so many numbers.
    pub fn block(&mut self, result: u64, body: impl FnOnce(&mut Self)) {
        let (kept, idle) = (self.kept.all, self.idle.all);
        body(self);
        self.kept.close(kept);
        self.idle.close(idle);
        self.results = self.results.saturating_add(result.saturating_mul(self.float));
    }

    fn keep(&mut self, numbers: u64, bytes: u64) {
        self.kept.add(numbers.saturating_mul(bytes));
        self.widest = self.widest.max(numbers.saturating_mul(bytes));
    }

    /// `count` tensors of f32, whatever the activations' type.
    fn keep_wide(&mut self, numbers: u64, count: u64) {
        (0..count).for_each(|_| self.keep(numbers, F32));
    }

    /// Casts to f32 and back, where activations are narrower.
    fn keep_casts(&mut self, numbers: u64) {
        if self.float < F32 {
            self.keep(numbers, F32);
            self.keep(numbers, self.float);
        }
    }

    /// A sum, a copy, a concatenation.
    pub fn made(&mut self, numbers: u64) {
        self.keep(numbers, self.float);
    }

    /// A sum with a frozen summand that is spread to its size.
    pub fn shifted(&mut self, numbers: u64) {
        self.made(numbers);
        self.idle.add(numbers.saturating_mul(OF_SUMMAND * self.float));
    }

    /// A product with a frozen factor that is spread to its size.
    fn scaled(&mut self, numbers: u64, bytes: u64) {
        self.keep(numbers, bytes);
        self.idle.add(numbers.saturating_mul(OF_FACTOR * bytes));
    }

    /// A sum with a frozen summand, in f32.
    fn shifted_wide(&mut self, numbers: u64) {
        self.keep(numbers, F32);
        self.idle.add(numbers.saturating_mul(OF_SUMMAND * F32));
    }

    /// A table of embeddings.
    pub fn table(&mut self, rows: usize, width: usize) {
        self.count(product(&[rows, width]), (0, false));
    }

    /// `nn::RmsNorm` of width `width` over `numbers`: squares, x·r, x·r⊙w.
    pub fn rms_norm(&mut self, numbers: u64, width: usize) {
        self.parameters = self.parameters.saturating_add(width as u64);
        if self.fused {
            return self.made(numbers);
        }
        self.keep_casts(numbers);
        self.keep_wide(numbers, 2);
        self.scaled(numbers, F32);
    }

    /// `nn::LayerNorm`, `nn::GroupNorm`: x − mean, squares, n, n⊙w, n⊙w + b; a `SiLU` after them is
    /// fused on the CPU.
    pub fn norm(&mut self, numbers: u64, width: usize, silu: bool) {
        self.parameters = self.parameters.saturating_add(product(&[2, width]));
        if self.fused {
            return self.made(numbers);
        }
        self.keep_casts(numbers);
        self.keep_wide(numbers, 3);
        self.scaled(numbers, F32);
        self.shifted_wide(numbers);
        if silu {
            self.made(numbers);
        }
    }

    /// `nn::Linear` over `tokens`: x·Wᵀ, + b, and with an adapter `r` features twice (x·Aᵀ and scaled),
    /// the change, the sum. The adapter computes in f32.
    pub fn linear(&mut self, path: &str, tokens: u64, sizes: Sizes) {
        let Sizes { inputs, outputs, bias } = sizes;
        self.count(product(&[inputs, outputs]), (outputs, bias));
        let out = tokens.saturating_mul(outputs as u64);
        self.made(out);
        if bias {
            self.shifted(out);
        }
        if let Some(rank) = (self.ranks)(path, 1) {
            self.train(rank, inputs.saturating_add(outputs));
            self.adapter(tokens.saturating_mul(inputs as u64), tokens.saturating_mul(rank), out);
        }
    }

    /// `nn::Conv2d` with a square kernel and a bias, from so many to so many pixels of all rows; on
    /// the CPU the bias is a part of the operation.
    pub fn conv(&mut self, path: &str, pixels: (u64, u64), kernel: usize, sizes: Sizes) {
        let Sizes { inputs, outputs, bias } = sizes;
        let area = kernel * kernel;
        self.count(product(&[inputs, outputs, area]), (outputs, bias));
        let out = pixels.1.saturating_mul(outputs as u64);
        self.made(out);
        if !self.fused {
            self.shifted(out);
            let unfolded = pixels.1.saturating_mul(product(&[inputs, area]));
            self.unfolded = self.unfolded.max(unfolded.saturating_mul(self.float));
        }
        if let Some(rank) = (self.ranks)(path, kernel) {
            self.train(rank, inputs * area + outputs);
            let into = pixels.0.saturating_mul(inputs as u64);
            self.adapter(into, pixels.1.saturating_mul(rank), out);
        }
    }

    fn count(&mut self, matrix: u64, (outputs, bias): (usize, bool)) {
        let bias = if bias { outputs as u64 } else { 0 };
        self.parameters = self.parameters.saturating_add(matrix).saturating_add(bias);
        self.largest_matrix = self.largest_matrix.max(matrix);
    }

    fn train(&mut self, rank: u64, width: usize) {
        self.trained = self.trained.saturating_add(rank.saturating_mul(width as u64));
    }

    fn adapter(&mut self, into: u64, inner: u64, out: u64) {
        if self.float < F32 {
            self.keep(into, F32);
            self.made(out);
        }
        self.keep_wide(inner, 1);
        self.scaled(inner, F32);
        self.keep_wide(out, 1);
        self.made(out);
        if !self.fused {
            // B's gradient is a product that refers to the result's
            self.idle.add(out.saturating_mul(F32));
        }
    }

    /// `nn::rotary`: a copy with the tokens of a head side by side, and the result; composed, two
    /// products and a sum for each half, and both halves joined.
    pub fn rotary(&mut self, numbers: u64) {
        if self.fused {
            self.made(numbers);
            self.made(numbers);
        } else {
            (0..4).for_each(|_| self.scaled(numbers / 2, self.float));
            self.made(numbers);
            self.made(numbers);
        }
    }

    /// `nn::attention`: fused, only the result. Composed, q copied and scaled, k and v copied, the
    /// scores in the activations' type and in f32, less their largest, their exponentials, the
    /// probabilities and these in the activations' type, where keys are hidden two more, and the
    /// result before its heads are joined.
    pub fn attention(&mut self, scores: Scores) {
        let Scores { rows, heads, groups, width, queries, keys, masked } = scores;
        let out = product(&[rows, heads, queries, width]);
        self.made(out);
        if self.fused {
            return;
        }
        (0..3).for_each(|_| self.made(out));
        let of_keys = product(&[rows, groups, keys, width]);
        self.made(of_keys);
        self.made(of_keys);
        let scores = product(&[rows, heads, queries, keys]);
        let widest = self.widest;
        self.made(scores);
        self.keep_casts(scores);
        self.shifted_wide(scores);
        self.keep_wide(scores, 2);
        if masked {
            self.shifted_wide(scores);
            self.scaled(scores, F32);
        }
        // large ones are composed in parts, also on the way back
        self.widest = self.widest.min(HELD.saturating_mul(F32)).max(widest);
    }

    /// `nn::gated`: an activation (and a product with another half); fused, one operation.
    pub fn gate(&mut self, numbers: u64) {
        self.made(numbers);
        if !self.fused {
            self.made(numbers);
        }
    }
}
