//! What an optimizer remembers, as named tensors for a checkpoint.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use super::{Optimizer, Rule};
use crate::base::hint::first_few;

/// Why a state cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A tensor that is not there.
    #[error("the optimizer's state has no `{name}`\nhint: {OTHER}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Tensors that this optimizer does not have.
    #[error("the optimizer's state has {} too much\nhint: {OTHER}", first_few(names))]
    Unknown {
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor of another type or shape.
    #[error(
        "the optimizer's state: `{name}` is {found_type:?} {found:?}: expected {expected_type:?} \
         {expected:?}\nhint: {OTHER}"
    )]
    Kind {
        /// Its name.
        name: String,
        /// Its type.
        found_type: DType,
        /// Its shape.
        found: Vec<usize>,
        /// The type it should have.
        expected_type: DType,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A number that cannot be.
    #[error(
        "the optimizer's state: `{name}` is `{value}`: expected {expected}\n\
         hint: the file is damaged; resume from another checkpoint"
    )]
    Number {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

const OTHER: &str = "it is of a training with another optimizer or adapter; resume with the \
                     configuration that it was made with";

const STEP: &str = "step";
const D: &str = "d";
const D_NUMERATOR: &str = "d_numerator";

impl Optimizer {
    /// A copy of all that it remembers, on the CPU: `exp_avg.3` and the like of variable 3 in f32;
    /// `step` and Prodigy's `d` and `d_numerator` as f64 without axes.
    pub fn state(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (name, var) in self.named() {
            state.insert(name, var.as_detached_tensor().to_device(&Device::Cpu)?.copy()?);
        }
        let mut numbers = vec![(STEP, self.steps as f64)];
        if let Rule::Prodigy(prodigy) = &self.rule {
            numbers.extend([(D, prodigy.d), (D_NUMERATOR, prodigy.d_numerator)]);
        }
        for (name, number) in numbers {
            state.insert(name.to_owned(), Tensor::new(number, &Device::Cpu)?);
        }
        Ok(state)
    }

    /// Takes over what [`Self::state`] gave for an optimizer of the same kind and variables. After an
    /// error that is not the device's it is as it was before.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number below 2^53 as checked"
    )]
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), StateError> {
        let mut left = state.clone();
        let mut tensors = Vec::new();
        for (name, var) in self.named() {
            tensors.push((var, take(&mut left, &name, DType::F32, var.dims())?));
        }
        let step = number(&mut left, STEP, "a count of steps", |step| {
            step >= 0.0 && step < 2f64.powi(53) && step.fract() == 0.0
        })?;
        let estimate = match &self.rule {
            Rule::Prodigy(_) => Some((
                number(&mut left, D, "a positive number", |d| d > 0.0 && d.is_finite())?,
                number(&mut left, D_NUMERATOR, "a finite number", f64::is_finite)?,
            )),
            _ => None,
        };
        if !left.is_empty() {
            return Err(StateError::Unknown { names: left.into_keys().collect() });
        }
        for (var, saved) in tensors {
            var.set(&saved.to_device(var.device())?)?;
        }
        self.steps = step as u64;
        if let (Rule::Prodigy(prodigy), Some((d, d_numerator))) = (&mut self.rule, estimate) {
            (prodigy.d, prodigy.d_numerator) = (d, d_numerator);
        }
        Ok(())
    }

    fn named(&self) -> impl Iterator<Item = (String, &Var)> {
        self.rule.tensors().into_iter().flat_map(|(name, vars)| {
            vars.iter().enumerate().map(move |(i, var)| (format!("{name}.{i}"), var))
        })
    }
}

fn take(
    left: &mut BTreeMap<String, Tensor>,
    name: &str,
    expected_type: DType,
    expected: &[usize],
) -> Result<Tensor, StateError> {
    let tensor = left.remove(name).ok_or_else(|| StateError::Missing { name: name.to_owned() })?;
    if tensor.dtype() != expected_type || tensor.dims() != expected {
        return Err(StateError::Kind {
            name: name.to_owned(),
            found_type: tensor.dtype(),
            found: tensor.dims().to_vec(),
            expected_type,
            expected: expected.to_vec(),
        });
    }
    Ok(tensor)
}

fn number(
    left: &mut BTreeMap<String, Tensor>,
    name: &'static str,
    expected: &'static str,
    possible: impl Fn(f64) -> bool,
) -> Result<f64, StateError> {
    let value = take(left, name, DType::F64, &[])?.to_scalar::<f64>()?;
    if possible(value) { Ok(value) } else { Err(StateError::Number { name, value, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LrScaling, OptimizerKind, OptimizerSettings};

    fn optimizer(kind: OptimizerKind) -> Optimizer {
        let settings = OptimizerSettings {
            kind,
            learning_rate: 1.0,
            text_encoder_lr: 1.0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            loraplus_ratio: 1.0,
            lr_scaling: LrScaling::None,
            max_grad_norm: 0.0,
        };
        let vars = [2, 3].map(|n| Var::ones(n, DType::F32, &Device::Cpu).unwrap());
        Optimizer::new(&settings, &vars).unwrap()
    }

    #[test]
    fn states_name_each_tensor() {
        let names = |kind| optimizer(kind).state().unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(
            names(OptimizerKind::AdamW),
            ["exp_avg.0", "exp_avg.1", "exp_avg_sq.0", "exp_avg_sq.1", "step"]
        );
        assert_eq!(names(OptimizerKind::Lion), ["exp_avg.0", "exp_avg.1", "step"]);
        assert_eq!(names(OptimizerKind::Prodigy).len(), 4 * 2 + 3);
    }

    #[test]
    fn a_state_is_a_copy() {
        let optimizer = optimizer(OptimizerKind::Prodigy);
        let state = optimizer.state().unwrap();
        for (_, var) in optimizer.named() {
            var.set(&Tensor::full(7f32, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
        assert_eq!(state["p0.0"].to_vec1::<f32>().unwrap(), [1.0, 1.0]);
    }

    type Change = fn(&mut BTreeMap<String, Tensor>);

    #[test]
    fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
        fn scalar(value: f64) -> Tensor {
            Tensor::new(value, &Device::Cpu).unwrap()
        }
        let zeros = |n, dtype| Tensor::zeros(n, dtype, &Device::Cpu).unwrap();
        let changes: [(Change, &str); 8] = [
            (|s| drop(s.remove("s.1")), "has no `s.1`"),
            (|s| drop(s.remove("step")), "has no `step`"),
            (|s| drop(s.insert("s.2".into(), scalar(0.0))), "has `s.2` too much"),
            (|s| drop(s.insert("s.1".into(), scalar(0.0))), "`s.1` is F64 []: expected F32 [3]"),
            (|s| drop(s.insert("step".into(), scalar(1.5))), "`step` is `1.5`"),
            (|s| drop(s.insert("step".into(), scalar(-1.0))), "`step` is `-1`"),
            (|s| drop(s.insert("d".into(), scalar(0.0))), "`d` is `0`"),
            (|s| drop(s.insert("d_numerator".into(), scalar(f64::NAN))), "`d_numerator` is `NaN`"),
        ];
        for (change, expected) in changes {
            let mut optimizer = optimizer(OptimizerKind::Prodigy);
            let mut state = optimizer.state().unwrap();
            state.insert("s.0".into(), zeros(2, DType::F32).affine(1.0, 5.0).unwrap());
            change(&mut state);
            let error = optimizer.load_state(&state).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
            assert_eq!(optimizer.state().unwrap()["s.0"].to_vec1::<f32>().unwrap(), [0.0, 0.0]);
        }
    }
}
