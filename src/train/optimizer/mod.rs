//! Optimizers of f32 variables; each takes its steps as its reference implementation does.
//!
//! | kind | reference |
//! |---|---|
//! | `AdamW` | `torch.optim.AdamW` (Loshchilov and Hutter, 2019) |
//! | SGD | `torch.optim.SGD`: momentum β₁, no dampening; weight decay is added to the gradient |
//! | Lion | `lion-pytorch` (Chen et al., 2023) |
//! | Prodigy | `prodigyopt` (Mishchenko and Defazio, 2023) with its other settings at their defaults |
//!
//! Invariant: the variables and [`Optimizer::state`] determine all that follows. An optimizer that
//! loads them goes on bit for bit, whatever the number of threads.

mod clip;
mod elementwise;
mod prodigy;
mod rules;
mod state;

use candle_core::{DType, Result, Tensor, Var, bail};

pub use clip::{clip_norm, norm};
pub use state::StateError;

use self::elementwise::for_all;
use self::prodigy::Prodigy;
use crate::config::{OptimizerKind, OptimizerSettings};

/// An optimizer and what it remembers of each variable.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    steps: u64,
    rule: Rule,
}

/// What is kept of each variable, in tensors of its shape on its device.
#[derive(Debug)]
enum Rule {
    AdamW { exp_avg: Vec<Var>, exp_avg_sq: Vec<Var> },
    Sgd { momentum_buffer: Vec<Var> },
    Lion { exp_avg: Vec<Var> },
    Prodigy(Prodigy),
}

/// A variable in one step.
#[derive(Debug)]
struct Job<'a> {
    var: &'a Var,
    /// Contiguous, f32.
    gradient: Tensor,
    rate: f64,
}

impl Optimizer {
    /// An optimizer of these variables, which are f32. Prodigy measures how far they get from the
    /// values that they have here.
    pub fn new(settings: &OptimizerSettings, vars: &[Var]) -> Result<Self> {
        if let Some(var) = vars.iter().find(|var| var.dtype() != DType::F32) {
            bail!("an optimizer expects f32 variables, found {:?}", var.dtype());
        }
        let rule = match settings.kind {
            OptimizerKind::AdamW => Rule::AdamW { exp_avg: zeros(vars)?, exp_avg_sq: zeros(vars)? },
            OptimizerKind::Sgd => Rule::Sgd { momentum_buffer: zeros(vars)? },
            OptimizerKind::Lion => Rule::Lion { exp_avg: zeros(vars)? },
            OptimizerKind::Prodigy => Rule::Prodigy(Prodigy::new(vars)?),
        };
        Ok(Self { settings: settings.clone(), steps: 0, rule })
    }

    /// Takes a step: `gradients[i]` and the learning rate `rates[i]` belong to `vars[i]`, in the
    /// order that the optimizer was made with. After an error the variables may have moved in part.
    pub fn step(&mut self, vars: &[Var], gradients: &[Tensor], rates: &[f64]) -> Result<()> {
        let jobs = self.jobs(vars, gradients, rates)?;
        self.steps += 1;
        let (settings, steps) = (&self.settings, self.steps);
        let parallel = vars.iter().all(|var| var.device().is_cpu());
        match &mut self.rule {
            Rule::AdamW { exp_avg, exp_avg_sq } => {
                let all = jobs.iter().zip(exp_avg.iter().zip(exp_avg_sq)).collect();
                for_all(parallel, all, |(job, (m, v))| rules::adamw(settings, steps, job, m, v))?;
            }
            Rule::Sgd { momentum_buffer } => {
                let all = jobs.iter().zip(momentum_buffer).collect();
                for_all(parallel, all, |(job, buffer)| rules::sgd(settings, job, buffer))?;
            }
            Rule::Lion { exp_avg } => {
                let all = jobs.iter().zip(exp_avg).collect();
                for_all(parallel, all, |(job, m)| rules::lion(settings, job, m))?;
            }
            Rule::Prodigy(prodigy) => prodigy.step(settings, &jobs, parallel)?,
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What learning rates are multiplied by beside the schedule: Prodigy's estimate d, else 1.
    pub fn rate_factor(&self) -> f64 {
        match &self.rule {
            Rule::Prodigy(prodigy) => prodigy.d,
            _ => 1.0,
        }
    }

    fn jobs<'a>(
        &self,
        vars: &'a [Var],
        gradients: &[Tensor],
        rates: &[f64],
    ) -> Result<Vec<Job<'a>>> {
        let expected = self.rule.count();
        for (what, found) in
            [("variables", vars.len()), ("gradients", gradients.len()), ("rates", rates.len())]
        {
            if found != expected {
                bail!("an optimizer of {expected} variables expects as many {what}, found {found}");
            }
        }
        let all = vars.iter().zip(gradients).zip(rates).enumerate();
        all.map(|(i, ((var, gradient), rate))| {
            if var.shape() != gradient.shape() {
                let (expected, found) = (var.shape(), gradient.shape());
                bail!("the gradient of variable {i}: expected shape {expected:?}, found {found:?}");
            }
            let gradient = gradient.to_dtype(DType::F32)?.contiguous()?;
            Ok(Job { var, gradient, rate: *rate })
        })
        .collect()
    }
}

impl Rule {
    /// The tensors by name.
    fn tensors(&self) -> Vec<(&'static str, &[Var])> {
        match self {
            Self::AdamW { exp_avg, exp_avg_sq } => {
                vec![("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)]
            }
            Self::Sgd { momentum_buffer } => vec![("momentum_buffer", momentum_buffer)],
            Self::Lion { exp_avg } => vec![("exp_avg", exp_avg)],
            Self::Prodigy(prodigy) => prodigy.tensors(),
        }
    }

    fn count(&self) -> usize {
        self.tensors().first().map_or(0, |(_, tensors)| tensors.len())
    }
}

fn zeros(vars: &[Var]) -> Result<Vec<Var>> {
    vars.iter().map(|var| Var::zeros(var.shape(), DType::F32, var.device())).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::base::random::Random;
    use crate::config::LrScaling;

    const KINDS: [OptimizerKind; 4] =
        [OptimizerKind::AdamW, OptimizerKind::Sgd, OptimizerKind::Lion, OptimizerKind::Prodigy];

    fn settings(kind: OptimizerKind) -> OptimizerSettings {
        OptimizerSettings {
            kind,
            learning_rate: 1.0,
            text_encoder_lr: 1.0,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            loraplus_ratio: 1.0,
            lr_scaling: LrScaling::None,
            max_grad_norm: 0.0,
        }
    }

    fn random(purpose: &str, at: u32, shape: &[usize]) -> Tensor {
        let values = Random::new(0, purpose).at(at, 0, 0).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    const SHAPES: [&[usize]; 3] = [&[8, 3], &[0, 4], &[5]];

    fn vars() -> Vec<Var> {
        let of =
            |(i, shape): (u32, &[usize])| Var::from_tensor(&random("start", i, shape)).unwrap();
        (0..).zip(SHAPES).map(of).collect()
    }

    fn gradients(step: u32) -> Vec<Tensor> {
        let of = |(i, shape): (u32, &[usize])| random("gradient", 3 * step + i, shape);
        (0..).zip(SHAPES).map(of).collect()
    }

    fn bits(vars: &[Var]) -> Vec<u32> {
        let of = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        vars.iter().flat_map(of).map(f32::to_bits).collect()
    }

    /// Prodigy's rate is 1 times its estimate.
    fn rates(kind: OptimizerKind) -> [f64; 3] {
        if kind == OptimizerKind::Prodigy { [1.0; 3] } else { [0.01, 0.01, 0.16] }
    }

    #[test]
    fn an_optimizer_that_loads_a_state_goes_on_bit_for_bit() {
        for kind in KINDS {
            let vars = vars();
            let mut optimizer = Optimizer::new(&settings(kind), &vars).unwrap();
            let steps = |optimizer: &mut Optimizer, vars: &[Var], from, to| {
                for step in from..to {
                    optimizer.step(vars, &gradients(step), &rates(kind)).unwrap();
                }
            };
            steps(&mut optimizer, &vars, 0, 5);
            let state = optimizer.state().unwrap();
            let kept: Vec<Var> = vars
                .iter()
                .map(|var| Var::from_tensor(&var.copy().unwrap().detach()).unwrap())
                .collect();
            steps(&mut optimizer, &vars, 5, 9);

            let mut resumed = Optimizer::new(&settings(kind), &kept).unwrap();
            resumed.load_state(&state).unwrap();
            assert_eq!(resumed.steps(), 5);
            assert_ne!(bits(&kept), bits(&vars), "{kind:?}");
            steps(&mut resumed, &kept, 5, 9);
            assert_eq!(bits(&kept), bits(&vars), "{kind:?}");
            let (a, b) = (resumed.state().unwrap(), optimizer.state().unwrap());
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for kind in KINDS {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let vars = vars();
                    let mut optimizer = Optimizer::new(&settings(kind), &vars).unwrap();
                    for step in 0..6 {
                        optimizer.step(&vars, &gradients(step), &rates(kind)).unwrap();
                    }
                    bits(&vars)
                })
            };
            assert_eq!(run(1), run(3), "{kind:?}");
        }
    }

    #[test]
    fn at_rate_zero_nothing_moves() {
        for kind in KINDS {
            let vars = vars();
            let before = bits(&vars);
            let mut optimizer = Optimizer::new(&settings(kind), &vars).unwrap();
            for step in 0..3 {
                optimizer.step(&vars, &gradients(step), &[0.0; 3]).unwrap();
            }
            assert_eq!(bits(&vars), before, "{kind:?}");
        }
    }

    #[test]
    fn a_gradient_of_zeros_only_decays() {
        for kind in KINDS {
            let vars = vars();
            let before: Vec<f32> = bits(&vars).into_iter().map(f32::from_bits).collect();
            let zero: Vec<Tensor> = vars.iter().map(|var| var.zeros_like().unwrap()).collect();
            let mut optimizer = Optimizer::new(&settings(kind), &vars).unwrap();
            optimizer.step(&vars, &zero, &[0.5; 3]).unwrap();
            // Prodigy does not move before it has seen a gradient
            let keep = if kind == OptimizerKind::Prodigy { 1.0 } else { 0.95 };
            for (after, before) in bits(&vars).into_iter().map(f32::from_bits).zip(before) {
                assert!((after - keep * before).abs() < 1e-6, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_variable_does_not_depend_on_the_others_beside_it() {
        let alone = vec![vars().remove(0)];
        let all = vars();
        for (vars, count) in [(&alone, 1), (&all, 3)] {
            let mut optimizer = Optimizer::new(&settings(OptimizerKind::AdamW), vars).unwrap();
            for step in 0..4 {
                optimizer.step(vars, &gradients(step)[..count], &vec![0.1; count]).unwrap();
            }
        }
        assert_eq!(bits(&alone), bits(&all)[..24]);
    }

    #[test]
    fn what_does_not_belong_together_is_an_error() {
        let vars = vars();
        let mut optimizer = Optimizer::new(&settings(OptimizerKind::AdamW), &vars).unwrap();
        let mut message = |vars: &[Var], gradients: &[Tensor], rates: &[f64]| {
            optimizer.step(vars, gradients, rates).unwrap_err().to_string()
        };
        let given = gradients(0);
        assert!(message(&vars[..2], &given, &[0.1; 3]).contains("variables, found 2"));
        assert!(message(&vars, &given[1..], &[0.1; 3]).contains("gradients, found 2"));
        assert!(message(&vars, &given, &[0.1]).contains("rates, found 1"));
        let mut turned = gradients(0);
        turned[0] = turned[0].t().unwrap();
        assert!(message(&vars, &turned, &[0.1; 3]).contains("expected shape [8, 3], found [3, 8]"));
        let half = Var::zeros(2, DType::F16, &Device::Cpu).unwrap();
        assert!(Optimizer::new(&settings(OptimizerKind::Sgd), &[half]).is_err());
    }

    #[test]
    fn no_variables_need_no_steps() {
        for kind in KINDS {
            let mut optimizer = Optimizer::new(&settings(kind), &[]).unwrap();
            optimizer.step(&[], &[], &[]).unwrap();
            assert_eq!(optimizer.steps(), 1);
        }
    }
}
