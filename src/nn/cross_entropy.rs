//! The cross-entropy of a softmax, `−ln softmax(logits)[target]`.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cpu::values;
use super::cpu::vector::exp;

/// For each row of `logits` (rows, vocabulary) f32 the cross-entropy of its target, (rows).
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows != targets.len() || targets.iter().any(|target| *target as usize >= vocabulary) {
        bail!("targets {targets:?} for logits of shape {:?}", logits.shape());
    }
    if logits.device().is_cpu() && logits.dtype() == DType::F32 {
        return logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.to_vec() });
    }
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let partition = logits.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let partition = (partition + largest)?.squeeze(1)?;
    let targets = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    partition - logits.gather(&targets, 1)?.squeeze(1)?
}

struct CrossEntropy {
    targets: Vec<u32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, vocabulary) = layout.shape().dims2()?;
        let arch = Arch::new();
        let rows_of = values(logits, layout)?.par_chunks(vocabulary.max(1)).zip(&self.targets);
        let losses = rows_of.map(|(row, target)| {
            let (largest, sum) = arch.dispatch(Partition { row });
            largest + sum.ln() - row[*target as usize]
        });
        Ok((CpuStorage::F32(losses.collect()), rows.into()))
    }

    /// `(softmax(logits) − onehot(target))·g`
    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let vocabulary = logits.dim(1)?;
        let (rows, factors) = (logits.flatten_all()?, gradient.to_vec1::<f32>()?);
        let (storage, layout) = rows.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            bail!("the gradient of a cross-entropy on the CPU was asked for on another device")
        };
        let logits_of = values(storage, layout)?;
        let mut slopes = vec![0.0; logits_of.len()];
        let arch = Arch::new();
        slopes
            .par_chunks_mut(vocabulary.max(1))
            .zip(logits_of.par_chunks(vocabulary.max(1)))
            .zip(&self.targets)
            .zip(&factors)
            .for_each(|(((slopes, row), target), factor)| {
                let (largest, sum) = arch.dispatch(Partition { row });
                arch.dispatch(Softmax { row, largest, factor: factor / sum, out: &mut *slopes });
                slopes[*target as usize] -= factor;
            });
        Ok(Some(Tensor::from_vec(slopes, logits.shape(), logits.device())?))
    }
}

/// The largest of a row and Σ exp(x − largest).
struct Partition<'a> {
    row: &'a [f32],
}

impl WithSimd for Partition<'_> {
    type Output = (f32, f32);

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let (vectors, rest) = S::as_simd_f32s(self.row);
        let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
        for x in vectors {
            largest = simd.max_f32s(largest, *x);
        }
        let tail = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let largest = simd.reduce_max_f32s(largest).max(tail);
        let (mut sum, mut total) = (simd.splat_f32s(0.0), 0.0);
        // in f64 from stretch to stretch: a vocabulary is long
        for stretch in vectors.chunks(64) {
            for x in stretch {
                sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(*x, simd.splat_f32s(largest))));
            }
            total += f64::from(simd.reduce_sum_f32s(sum));
            sum = simd.splat_f32s(0.0);
        }
        total += rest.iter().map(|x| f64::from((x - largest).exp())).sum::<f64>();
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
        (largest, total as f32)
    }
}

/// `factor·exp(x − largest)`
struct Softmax<'a> {
    row: &'a [f32],
    largest: f32,
    factor: f32,
    out: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_rest) = S::as_simd_f32s(self.row);
        let (y, y_rest) = S::as_mut_simd_f32s(self.out);
        let (largest, factor) = (simd.splat_f32s(self.largest), simd.splat_f32s(self.factor));
        for (y, x) in y.iter_mut().zip(x) {
            *y = simd.mul_f32s(factor, exp(simd, simd.sub_f32s(*x, largest)));
        }
        for (y, x) in y_rest.iter_mut().zip(x_rest) {
            *y = self.factor * (x - self.largest).exp();
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn logits(rows: usize, vocabulary: usize) -> Vec<f64> {
        (0..rows * vocabulary).map(|i| ((i * 37 % 101) as f64 - 50.0) / 7.0).collect()
    }

    #[test]
    fn fused_and_composed_agree_with_the_definition() -> Result<()> {
        for vocabulary in [1, 5, 64, 1003] {
            let values = logits(3, vocabulary);
            let targets: Vec<u32> = [0, vocabulary / 2, vocabulary - 1]
                .map(|target| u32::try_from(target).unwrap_or(0))
                .to_vec();
            let wide = Var::from_vec(values.clone(), (3, vocabulary), &Device::Cpu)?;
            let narrow = Var::from_tensor(&wide.to_dtype(DType::F32)?)?;
            let weights = [0.5f64, -2.0, 1.5];
            let mut gradients = Vec::new();
            for x in [&wide, &narrow] {
                let losses = cross_entropy(x, &targets)?;
                let expected = values.chunks(vocabulary).zip(&targets).map(|(row, target)| {
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    sum.ln() - row[*target as usize]
                });
                let found = losses.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 2e-6, "{found} {expected}");
                }
                let weights = Tensor::new(&weights, &Device::Cpu)?.to_dtype(x.dtype())?;
                let all = (losses * weights)?.sum_all()?.backward()?;
                let gradient = all.get(x).map(|g| g.to_dtype(DType::F64)?.flatten_all()?.to_vec1());
                gradients.push(gradient.transpose()?.unwrap_or_else(Vec::<f64>::new));
            }
            for (i, row) in values.chunks(vocabulary).enumerate() {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                for (j, x) in row.iter().enumerate() {
                    let hit = f64::from(u8::from(j == targets[i] as usize));
                    let expected = (x.exp() / sum - hit) * weights[i];
                    for gradient in &gradients {
                        assert!((gradient[i * vocabulary + j] - expected).abs() < 1e-6);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_target_outside_the_vocabulary_is_an_error() -> Result<()> {
        let logits = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
        assert!(cross_entropy(&logits, &[4]).is_err());
        assert!(cross_entropy(&logits, &[0, 1]).is_err());
        Ok(())
    }
}
