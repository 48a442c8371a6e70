//! Elementwise updates of f32 variables, and sums over them: on a CPU in place, a task for each
//! variable; elsewhere composed of the device's operations.

use candle_core::{
    CpuStorage, CustomOp2, DType, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor, Var, bail,
};
use rayon::prelude::*;

/// Calls `f` with each of the items. An adapter has hundreds of small tensors: in parallel each is
/// one task, whose passes over it find it in the cache.
pub fn for_all<I: Send, T: Send>(
    parallel: bool,
    items: Vec<I>,
    f: impl Fn(I) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    if parallel {
        items.into_par_iter().map(f).collect()
    } else {
        items.into_iter().map(f).collect()
    }
}

/// A new value of each element x, from x and the elements of `N` other tensors at its place.
pub trait Formula<const N: usize>: Copy {
    /// Of one element.
    fn element(self, x: f32, others: [f32; N]) -> f32;

    /// The same of whole tensors.
    fn tensor(self, x: &Tensor, others: [&Tensor; N]) -> Result<Tensor>;
}

/// a·x + b·y.
#[derive(Debug, Clone, Copy)]
pub struct ScaleAdd {
    /// a
    pub keep: f64,
    /// b
    pub add: f64,
}

impl Formula<1> for ScaleAdd {
    fn element(self, x: f32, [y]: [f32; 1]) -> f32 {
        narrow(self.keep) * x + narrow(self.add) * y
    }

    fn tensor(self, x: &Tensor, [y]: [&Tensor; 1]) -> Result<Tensor> {
        (x * self.keep)? + (y * self.add)?
    }
}

/// a·x + b·y².
#[derive(Debug, Clone, Copy)]
pub struct ScaleAddSquare {
    /// a
    pub keep: f64,
    /// b
    pub add: f64,
}

impl Formula<1> for ScaleAddSquare {
    fn element(self, x: f32, [y]: [f32; 1]) -> f32 {
        narrow(self.keep) * x + narrow(self.add) * y * y
    }

    fn tensor(self, x: &Tensor, [y]: [&Tensor; 1]) -> Result<Tensor> {
        (x * self.keep)? + ((y * self.add)? * y)?
    }
}

/// a·x − r·m / (√v / c + ε): Adam's step along the first moment over the root of the second.
#[derive(Debug, Clone, Copy)]
pub struct MomentStep {
    /// a
    pub keep: f64,
    /// r
    pub rate: f64,
    /// c
    pub root: f64,
    /// ε
    pub epsilon: f64,
}

impl Formula<2> for MomentStep {
    fn element(self, x: f32, [m, v]: [f32; 2]) -> f32 {
        let denominator = v.sqrt() / narrow(self.root) + narrow(self.epsilon);
        narrow(self.keep) * x - narrow(self.rate) * m / denominator
    }

    fn tensor(self, x: &Tensor, [m, v]: [&Tensor; 2]) -> Result<Tensor> {
        let denominator = ((v.sqrt()? / self.root)? + self.epsilon)?;
        (x * self.keep)? - ((m * self.rate)? / denominator)?
    }
}

/// a·x − r·sign(b·m + (1 − b)·g), the sign of 0 being 0.
#[derive(Debug, Clone, Copy)]
pub struct SignStep {
    /// a
    pub keep: f64,
    /// r
    pub rate: f64,
    /// b
    pub beta: f64,
}

impl Formula<2> for SignStep {
    fn element(self, x: f32, [m, g]: [f32; 2]) -> f32 {
        let along = narrow(self.beta) * m + narrow(1.0 - self.beta) * g;
        let sign = if along == 0.0 { 0.0 } else { along.signum() };
        narrow(self.keep) * x - narrow(self.rate) * sign
    }

    fn tensor(self, x: &Tensor, [m, g]: [&Tensor; 2]) -> Result<Tensor> {
        let along = ((m * self.beta)? + (g * (1.0 - self.beta))?)?;
        (x * self.keep)? - (along.sign()? * self.rate)?
    }
}

/// Updates a variable by a formula with one other tensor.
pub fn update(target: &Var, other: &Tensor, formula: impl Formula<1>) -> Result<()> {
    if target.device().is_cpu() {
        target.inplace_op2(other, &InPlace(formula))
    } else {
        target.set(&formula.tensor(&target.as_detached_tensor(), [other])?)
    }
}

/// Updates a variable by a formula with two other tensors.
pub fn update2(target: &Var, a: &Tensor, b: &Tensor, formula: impl Formula<2>) -> Result<()> {
    if target.device().is_cpu() {
        target.inplace_op3(a, b, &InPlace(formula))
    } else {
        target.set(&formula.tensor(&target.as_detached_tensor(), [a, b])?)
    }
}

struct InPlace<F>(F);

impl<F: Formula<1>> InplaceOp2 for InPlace<F> {
    fn name(&self) -> &'static str {
        "optimizer update"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Result<()> {
        in_place(target, layout, [values(other, other_layout)?], self.0)
    }
}

impl<F: Formula<2>> InplaceOp3 for InPlace<F> {
    fn name(&self) -> &'static str {
        "optimizer update"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        in_place(target, layout, [values(a, a_layout)?, values(b, b_layout)?], self.0)
    }
}

fn in_place<const N: usize>(
    target: &mut CpuStorage,
    layout: &Layout,
    others: [&[f32]; N],
    formula: impl Formula<N>,
) -> Result<()> {
    let (CpuStorage::F32(target), Some((start, end))) = (target, layout.contiguous_offsets())
    else {
        bail!("expected a contiguous f32 variable, found {layout:?}");
    };
    let target = &mut target[start..end];
    if others.iter().any(|other| other.len() != target.len()) {
        bail!("expected tensors of the variable's {} elements", target.len());
    }
    for (i, x) in target.iter_mut().enumerate() {
        *x = formula.element(*x, others.map(|other| other[i]));
    }
    Ok(())
}

/// Σ a·b in f64, a tensor of one number on their device.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() {
        let narrow = |x: &Tensor| x.detach().to_dtype(DType::F32)?.contiguous();
        return narrow(a)?.apply_op2_no_bwd(&narrow(b)?, &Dot);
    }
    let wide = |x: &Tensor| x.detach().to_dtype(DType::F64);
    (wide(a)? * wide(b)?)?.sum_all()
}

/// Numbers on a device, fetched together.
pub fn fetch(numbers: &[Tensor]) -> Result<Vec<f64>> {
    if numbers.is_empty() { Ok(Vec::new()) } else { Tensor::stack(numbers, 0)?.to_vec1() }
}

struct Dot;

impl CustomOp2 for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (values(a, a_layout)?, values(b, b_layout)?);
        // eight sums side by side, so that no addition waits for the one before it
        let mut sums = [0.0f64; 8];
        for (a, b) in a.chunks(8).zip(b.chunks(8)) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += f64::from(*a) * f64::from(*b);
            }
        }
        Ok((CpuStorage::F64(vec![sums.iter().sum()]), Shape::from(())))
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("expected a contiguous tensor, found {layout:?}"),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to the variables' precision")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::base::random::Random;

    fn random(count: usize, purpose: &str) -> Tensor {
        let values = Random::new(0, purpose).at(0, 0, 0).normals(count);
        Tensor::from_vec(values, count, &Device::Cpu).unwrap()
    }

    /// The largest difference over the largest value.
    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let largest = |x: Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        largest((a - b).unwrap()) / largest(b.clone())
    }

    #[test]
    fn in_place_and_composed_updates_agree() {
        let (x, y) = (random(1003, "x"), random(1003, "y"));
        let v = random(1003, "v").sqr().unwrap();
        let one = |formula: &dyn Fn(&Var) -> Result<()>, composed: Result<Tensor>| {
            let var = Var::from_tensor(&x).unwrap();
            formula(&var).unwrap();
            let apart = difference(&var, &composed.unwrap());
            assert!(apart < 2e-7, "{apart}");
            assert!(difference(&var, &x) > 1e-3, "it did not move");
        };
        let f = ScaleAdd { keep: 0.9, add: 0.1 };
        one(&|var| update(var, &y, f), f.tensor(&x, [&y]));
        let f = ScaleAddSquare { keep: 0.999, add: 0.01 };
        one(&|var| update(var, &y, f), f.tensor(&x, [&y]));
        let f = MomentStep { keep: 0.99, rate: 0.02, root: 0.3, epsilon: 1e-8 };
        one(&|var| update2(var, &y, &v, f), f.tensor(&x, [&y, &v]));
        let f = SignStep { keep: 0.99, rate: 0.02, beta: 0.9 };
        one(&|var| update2(var, &y, &v, f), f.tensor(&x, [&y, &v]));
    }

    #[test]
    fn a_sign_step_of_zero_stays() {
        let f = SignStep { keep: 1.0, rate: 0.5, beta: 0.9 };
        let of = |g: f32| f.element(2.0, [0.0, g]);
        assert_eq!([of(0.0), of(-0.0), of(3.0), of(-3.0)], [2.0, 2.0, 1.5, 2.5]);
    }

    #[test]
    fn a_dot_product_is_exact_in_f64_and_takes_any_layout() {
        let a = Tensor::from_vec(vec![1e8f32, 1.0, -1e8, 0.5], (2, 2), &Device::Cpu).unwrap();
        let ones = a.ones_like().unwrap();
        let of = |a: &Tensor| dot(a, &ones).unwrap().to_scalar::<f64>().unwrap();
        assert_eq!(of(&a), 1.5);
        assert_eq!(of(&a.t().unwrap()), 1.5);
        let empty = Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(dot(&empty, &empty).unwrap().to_scalar::<f64>().unwrap(), 0.0);
    }

    #[test]
    fn an_update_of_another_size_is_an_error() {
        let var = Var::from_tensor(&random(4, "x")).unwrap();
        let f = ScaleAdd { keep: 1.0, add: 1.0 };
        assert!(update(&var, &random(3, "y"), f).is_err());
    }
}
