//! One tensor taken through f32, some rows at a time.

use std::ops::Range;

use super::error::MergeError;
use super::plan::Change;
use crate::adapter::RowDelta;
use crate::tensors::Float;

/// What a change did to a weight.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Effect {
    /// Σ ΔW², of the exact change.
    pub delta: f64,
    /// Σ W².
    pub weight: f64,
    /// Elements that the change touches (ΔW ≠ 0).
    pub touched: u64,
    /// Touched elements that are the same after rounding.
    pub lost: u64,
}

impl Effect {
    pub(super) fn add(&mut self, other: &Self) {
        self.delta += other.delta;
        self.weight += other.weight;
        self.touched += other.touched;
        self.lost += other.lost;
    }
}

/// Takes bytes of the output and their offset in the tensor.
pub(super) type Put<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), MergeError>;

/// Elements that are worked on at once: three f32 buffers of them stay in the second-level cache.
const BLOCK: usize = 1 << 16;
/// Fewest rows at once: a product of fewer spends its time on laying out its right side.
const ROWS: usize = 16;

/// A tensor on its way from the base to the output.
pub(super) struct Conversion<'a> {
    pub name: &'a str,
    pub source: &'a [u8],
    pub from: Float,
    pub to: Float,
    pub columns: usize,
}

#[derive(Default)]
struct Buffers {
    base: Vec<f32>,
    sum: Vec<f32>,
    bytes: Vec<u8>,
    plain: Vec<u8>,
}

impl Conversion<'_> {
    /// Converts all rows, applies `changes` to theirs, and hands the bytes to `put` in order, each
    /// with its offset in the tensor. Gives the effect of each change.
    pub(super) fn run(
        &self,
        changes: &[Change<'_>],
        put: Put<'_>,
    ) -> Result<Vec<Effect>, MergeError> {
        let rows = self.source.len() / self.from.size() / self.columns.max(1);
        let mut buffers = Buffers::default();
        let mut effects = Vec::new();
        let mut next = 0;
        for change in changes {
            self.plain_rows(next..change.rows.start, &mut buffers, put)?;
            effects.push(self.changed_rows(change, &mut buffers, put)?);
            next = change.rows.end;
        }
        self.plain_rows(next..rows, &mut buffers, put)?;
        Ok(effects)
    }

    fn blocks(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = (BLOCK / self.columns.max(1)).max(ROWS);
        let end = rows.end;
        rows.step_by(step).map(move |start| start..(start + step).min(end))
    }

    fn bytes_of(&self, rows: &Range<usize>) -> &[u8] {
        let line = self.columns * self.from.size();
        &self.source[rows.start * line..rows.end * line]
    }

    fn offset(&self, row: usize) -> u64 {
        (row * self.columns * self.to.size()) as u64
    }

    fn decode(&self, rows: &Range<usize>, values: &mut Vec<f32>) {
        values.resize(rows.len() * self.columns, 0.0);
        self.from.decode(self.bytes_of(rows), values);
    }

    /// Rows that nothing changes: the same bytes, or the same values in another type.
    fn plain_rows(
        &self,
        rows: Range<usize>,
        buffers: &mut Buffers,
        put: Put<'_>,
    ) -> Result<(), MergeError> {
        if self.from == self.to {
            return if rows.is_empty() {
                Ok(())
            } else {
                put(self.bytes_of(&rows), self.offset(rows.start))
            };
        }
        for block in self.blocks(rows) {
            self.decode(&block, &mut buffers.base);
            self.encode(&buffers.base, &mut buffers.bytes)?;
            put(&buffers.bytes, self.offset(block.start))?;
        }
        Ok(())
    }

    fn changed_rows(
        &self,
        change: &Change<'_>,
        buffers: &mut Buffers,
        put: Put<'_>,
    ) -> Result<Effect, MergeError> {
        let first = change.rows.start;
        let finite = change.parts.iter().all(|part| part.finite);
        let mut deltas = change.prepare()?;
        for delta in deltas.iter_mut().filter(|delta| delta.needs_column_norms()) {
            for block in self.blocks(change.rows.clone()) {
                self.decode(&block, &mut buffers.base);
                delta.see_rows(block.start - first..block.end - first, &buffers.base);
            }
        }
        let mut effect = Effect::default();
        for block in self.blocks(change.rows.clone()) {
            let inside = block.start - first..block.end - first;
            effect.add(&self.block(&deltas, &block, (&inside, finite), buffers)?);
            put(&buffers.bytes, self.offset(block.start))?;
        }
        Ok(effect)
    }

    fn block(
        &self,
        deltas: &[RowDelta],
        block: &Range<usize>,
        (inside, finite): (&Range<usize>, bool),
        buffers: &mut Buffers,
    ) -> Result<Effect, MergeError> {
        let Buffers { base, sum, bytes, plain } = buffers;
        self.decode(block, base);
        sum.clear();
        sum.resize(base.len(), 0.0);
        for delta in deltas {
            delta.add_rows(inside.clone(), base, sum);
        }
        // What the base's rows are in the output's type, to tell which updates rounding loses.
        let before: &[u8] = if self.from == self.to {
            self.bytes_of(block)
        } else {
            plain.resize(base.len() * self.to.size(), 0);
            self.to.encode(base, plain);
            plain
        };
        // `sum` becomes W', `base` keeps ΔW, so that no fourth buffer is needed.
        let (mut effect, largest) = add_in_place(base, sum);
        // Squares of a change that is not finite are not finite; only then is it worth a look.
        if finite && !effect.delta.is_finite() && base.iter().any(|d| !d.is_finite()) {
            return Err(self.overflow());
        }
        if largest >= limit(self.to) && overflows(sum, self.to) {
            return Err(self.overflow());
        }
        bytes.resize(sum.len() * self.to.size(), 0);
        self.to.encode(sum, bytes);
        effect.lost = match self.to.size() {
            2 => unchanged::<2>(before, bytes, base),
            4 => unchanged::<4>(before, bytes, base),
            _ => unchanged::<8>(before, bytes, base),
        };
        Ok(effect)
    }

    fn encode(&self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), MergeError> {
        bytes.resize(values.len() * self.to.size(), 0);
        self.to.encode(values, bytes);
        if overflows(values, self.to) { Err(self.overflow()) } else { Ok(()) }
    }

    fn overflow(&self) -> MergeError {
        let dtype = match self.to {
            Float::F16 => "F16",
            Float::BF16 => "BF16",
            Float::F32 => "F32",
            Float::F64 => "F64",
        };
        MergeError::Overflow { tensor: self.name.to_owned(), dtype }
    }
}

/// The smallest magnitude that rounds to infinity.
fn limit(float: Float) -> f32 {
    match float {
        Float::F16 => 65_520.0,
        Float::BF16 => f32::from_bits(0x7f7f_8000),
        Float::F32 | Float::F64 => f32::INFINITY,
    }
}

/// Whether a finite value is beyond the range of `float`. NaN and infinities were there before.
fn overflows(values: &[f32], float: Float) -> bool {
    let limit = limit(float);
    values.iter().any(|x| x.is_finite() && x.abs() >= limit)
}

/// Elements whose bytes are the same although their change is not zero.
fn unchanged<const N: usize>(before: &[u8], after: &[u8], change: &[f32]) -> u64 {
    const LANES: usize = 16;
    let (before, _) = before.as_chunks::<N>();
    let (after, _) = after.as_chunks::<N>();
    let mut count = 0u64;
    let runs = before.chunks(LANES).zip(after.chunks(LANES)).zip(change.chunks(LANES));
    for ((before, after), change) in runs {
        let mut same = 0u32;
        for ((b, a), d) in before.iter().zip(after).zip(change) {
            same += u32::from(b == a) & u32::from(*d != 0.0);
        }
        count += u64::from(same);
    }
    count
}

/// Turns `base` W and `sum` ΔW into ΔW and W + ΔW, and measures both on the way. Gives the largest
/// magnitude of the sum too, NaN not counted.
///
/// One pass, in lanes that the compiler keeps in vector registers; squares are summed in f32 over
/// short runs and in f64 over the runs.
fn add_in_place(base: &mut [f32], sum: &mut [f32]) -> (Effect, f32) {
    const LANES: usize = 16;
    const RUN: usize = 1024;
    let mut effect = Effect::default();
    let mut largest = [0.0f32; LANES];
    for (base, sum) in base.chunks_mut(RUN).zip(sum.chunks_mut(RUN)) {
        let (mut deltas, mut weights) = ([0.0f32; LANES], [0.0f32; LANES]);
        let mut touched = [0u32; LANES];
        let (full_base, rest_base) = base.as_chunks_mut::<LANES>();
        let (full_sum, rest_sum) = sum.as_chunks_mut::<LANES>();
        for (base, sum) in full_base.iter_mut().zip(full_sum) {
            for lane in 0..LANES {
                let (w, d) = (base[lane], sum[lane]);
                deltas[lane] += d * d;
                weights[lane] += w * w;
                touched[lane] += u32::from(d != 0.0);
                let merged = if d == 0.0 { w } else { w + d }; // keeps -0.0
                base[lane] = d;
                sum[lane] = merged;
                largest[lane] =
                    if merged.abs() > largest[lane] { merged.abs() } else { largest[lane] };
            }
        }
        for (lane, (base, sum)) in rest_base.iter_mut().zip(rest_sum).enumerate() {
            let (w, d) = (*base, *sum);
            deltas[lane] += d * d;
            weights[lane] += w * w;
            touched[lane] += u32::from(d != 0.0);
            let merged = if d == 0.0 { w } else { w + d };
            *base = d;
            *sum = merged;
            largest[lane] = if merged.abs() > largest[lane] { merged.abs() } else { largest[lane] };
        }
        effect.delta += deltas.iter().map(|x| f64::from(*x)).sum::<f64>();
        effect.weight += weights.iter().map(|x| f64::from(*x)).sum::<f64>();
        effect.touched += touched.iter().map(|n| u64::from(*n)).sum::<u64>();
    }
    (effect, largest.into_iter().fold(0.0, f32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_told_from_what_was_infinite_before() {
        assert!(overflows(&[1.0, -65_520.0], Float::F16));
        assert!(!overflows(&[65_519.0, f32::INFINITY, f32::NAN], Float::F16));
        assert!(overflows(&[3.4e38], Float::BF16));
        assert!(!overflows(&[3.4e38], Float::F32));
    }

    #[test]
    fn measures_of_odd_lengths() {
        for length in [0, 1, 15, 16, 17, 1024, 5000] {
            let mut base: Vec<f32> = (0..length).map(|i| (i % 7) as f32).collect();
            let mut sum: Vec<f32> = (0..length).map(|i| (i % 3) as f32).collect();
            let squares = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let (weight, delta) = (squares(&base), squares(&sum));
            let merged: Vec<f32> = base.iter().zip(&sum).map(|(w, d)| w + d).collect();
            let changes = sum.clone();
            let (effect, largest) = add_in_place(&mut base, &mut sum);
            assert_eq!(largest, merged.iter().copied().fold(0.0, f32::max));
            assert!((effect.weight - weight).abs() < 1e-9, "{length}");
            assert!((effect.delta - delta).abs() < 1e-9, "{length}");
            assert_eq!(effect.touched, changes.iter().filter(|d| **d != 0.0).count() as u64);
            assert_eq!((base, sum), (changes, merged));
        }
    }
}
