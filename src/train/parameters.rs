//! What is trained: A and B of each module, `DoRA`'s magnitudes, in f32 whatever the base's type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use super::TrainError;
use super::select::Chosen;
use crate::adapter::{Adapter, Axis, Delta, Format, Magnitude, Module, ModuleId, PeftConfig};
use crate::base::random::Random;
use crate::config::{AdapterSettings, Init, Precision};
use crate::model::Base;
use crate::nn::Trained;
use crate::tensors::{self, Float};

/// Which of a module's tensors a variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The down projection.
    A,
    /// The up projection.
    B,
    /// `DoRA`'s magnitude.
    Magnitude,
}

impl Role {
    /// As PEFT names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
            Self::Magnitude => "lora_magnitude_vector",
        }
    }
}

/// One trained module.
#[derive(Debug)]
pub struct Part {
    /// Which one.
    pub chosen: Chosen,
    /// alpha/rank, or alpha/√rank.
    pub scale: f64,
    variables: Vec<(Role, Var)>,
}

/// All trained modules.
#[derive(Debug)]
pub struct Parameters {
    /// In the order of their numbers.
    pub parts: Vec<Part>,
    dropout: f64,
}

impl Parameters {
    /// Variables for the chosen modules, A drawn from the seed, B zeros.
    pub fn new(
        chosen: Vec<Chosen>,
        settings: &AdapterSettings,
        (base, seed, device): (&Base, u64, &Device),
        precision: Option<Precision>,
    ) -> Result<Self, TrainError> {
        let random = Random::new(seed, "init");
        let parts = chosen.into_par_iter().enumerate().map(|(number, chosen)| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            Part::new(chosen, settings, (base, device, precision), random, number)
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { parts, dropout: settings.dropout })
    }

    /// The variables, in order.
    pub fn variables(&self) -> Vec<Var> {
        self.named().map(|(_, _, var)| var.clone()).collect()
    }

    /// The variables with their module and role, in order.
    pub fn named(&self) -> impl Iterator<Item = (&Part, Role, &Var)> {
        self.parts.iter().flat_map(|part| part.variables.iter().map(move |(r, v)| (part, *r, v)))
    }

    /// Numbers that are trained.
    pub fn count(&self) -> usize {
        self.named().map(|(_, _, var)| var.elem_count()).sum()
    }

    /// The changes as layers take them.
    pub fn trained(&self) -> impl Iterator<Item = (ModuleId, Trained)> + '_ {
        self.parts.iter().enumerate().filter_map(|(number, part)| {
            let lane = u32::try_from(number).ok()?;
            let trained = Trained {
                a: part.of(Role::A)?.as_tensor().clone(),
                b: part.of(Role::B)?.as_tensor().clone(),
                #[expect(clippy::cast_possible_truncation, reason = "as every reader takes it")]
                scale: part.scale as f32,
                magnitude: part.of(Role::Magnitude).map(|var| var.as_tensor().clone()),
                dropout: self.dropout,
                lane,
            };
            Some((part.chosen.id.clone(), trained))
        })
    }

    /// ‖ΔW‖ of each module, Frobenius: √Σ (A·Aᵀ)⊙(Bᵀ·B) times the scale.
    pub fn norms(&self) -> Result<Vec<f64>, TrainError> {
        self.parts.iter().map(Part::norm).collect()
    }

    /// The adapter as it stands, for writing in a format.
    pub fn adapter(
        &self,
        (name, format, float): (&str, Format, Float),
        metadata: BTreeMap<String, String>,
        config: Option<PeftConfig>,
    ) -> Result<Adapter, TrainError> {
        let modules = self.parts.iter().map(|part| {
            let module = part.module(float)?;
            Ok((module.id.clone(), module))
        });
        Ok(Adapter {
            name: name.to_owned(),
            path: PathBuf::from(name),
            format,
            modules: modules.collect::<Result<_, TrainError>>()?,
            metadata,
            config,
            files: Vec::new(),
            unread: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// The first variable that holds a number that is not finite: its module and role.
    pub fn not_finite(&self) -> Result<Option<String>, TrainError> {
        for (part, role, var) in self.named() {
            if host(var.as_tensor())?.iter().any(|value| !value.is_finite()) {
                return Ok(Some(format!("{}.{}", part.chosen.id.path, role.name())));
            }
        }
        Ok(None)
    }
}

impl Part {
    fn new(
        chosen: Chosen,
        settings: &AdapterSettings,
        (base, device, precision): (&Base, &Device, Option<Precision>),
        random: Random,
        number: u32,
    ) -> Result<Self, TrainError> {
        let (out, inputs) = (chosen.shape[0], chosen.shape[1..].iter().product::<usize>());
        let rank = chosen.rank;
        let mut draws = random.at(number, 0, 0);
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
        let a: Vec<f32> = match settings.init {
            Init::Kaiming => {
                let bound = (inputs as f64).sqrt().recip();
                (0..rank * inputs).map(|_| ((2.0 * draws.uniform() - 1.0) * bound) as f32).collect()
            }
            Init::Gaussian => {
                (0..rank * inputs).map(|_| (draws.normal() / rank as f64) as f32).collect()
            }
        };
        let (mut a_shape, mut b_shape) = (chosen.shape.clone(), vec![1; chosen.shape.len()]);
        (a_shape[0], b_shape[0], b_shape[1]) = (rank, out, rank);
        let mut variables = vec![
            (Role::A, Var::from_vec(a, a_shape, device)?),
            (Role::B, Var::zeros(b_shape, candle_core::DType::F32, device)?),
        ];
        if settings.dora {
            let norms = row_norms(base, &chosen, precision)?;
            variables.push((Role::Magnitude, Var::from_vec(norms, out, device)?));
        }
        let root = if settings.rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Self { scale: chosen.alpha / root, chosen, variables })
    }

    fn of(&self, role: Role) -> Option<&Var> {
        self.variables.iter().find(|(of, _)| *of == role).map(|(_, var)| var)
    }

    fn norm(&self) -> Result<f64, TrainError> {
        let (Some(a), Some(b)) = (self.of(Role::A), self.of(Role::B)) else { return Ok(0.0) };
        let (a, b) = (a.detach().flatten_from(1)?, b.detach().flatten_from(1)?);
        let (of_a, of_b) = (a.matmul(&a.t()?)?, b.t()?.matmul(&b)?);
        let (of_a, of_b) = (host(&of_a)?, host(&of_b)?);
        let sum: f64 = of_a.iter().zip(&of_b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        Ok(self.scale * sum.max(0.0).sqrt())
    }

    fn module(&self, float: Float) -> Result<Module, TrainError> {
        let tensor = |role, float| -> Result<Option<tensors::Tensor>, TrainError> {
            let Some(var) = self.of(role) else { return Ok(None) };
            let values = host(var.as_tensor())?;
            Ok(Some(tensors::Tensor::from_f32(var.dims().to_vec(), &values, float)))
        };
        let id = self.chosen.id.clone();
        let weight = match (tensor(Role::A, float)?, tensor(Role::B, float)?) {
            (Some(down), Some(up)) => Some(Delta::LowRank { down, up, mid: None }),
            _ => None,
        };
        let magnitude = tensor(Role::Magnitude, Float::F32)?.map(|vector| Magnitude {
            vector,
            axis: Axis::Output,
            epsilon: 0.0,
        });
        #[expect(clippy::cast_possible_truncation, reason = "as every reader takes them")]
        let (alpha, scale) = (self.chosen.alpha as f32, self.scale as f32);
        Ok(Module {
            key: id.path.clone(),
            id,
            weight,
            bias: None,
            alpha: Some(alpha),
            scale,
            magnitude,
            transposed: false,
            embedding: false,
            saved_base: None,
        })
    }
}

/// The values of a tensor.
pub fn host(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()
}

/// Norms of the rows of a base's weight, as it is rounded before it is used.
fn row_norms(
    base: &Base,
    chosen: &Chosen,
    rounded: Option<Precision>,
) -> Result<Vec<f32>, TrainError> {
    let columns = chosen.shape[1..].iter().product::<usize>();
    let target = base.table.get(&chosen.id);
    let weight = target.and_then(|target| base.tensor(&target.weight));
    let Some(weight) = weight else { return Err(TrainError::NoDora { base: base.path.clone() }) };
    let values = |tensor: &tensors::Tensor| {
        let at = |source| TrainError::At { path: base.path.clone(), source };
        tensor.to_f32(&chosen.id.path).map_err(at)
    };
    let mut values_of = values(&weight)?;
    let float = match rounded {
        Some(Precision::F16) => Some(Float::F16),
        Some(Precision::Bf16) => Some(Float::BF16),
        Some(Precision::F32) | None => None,
    };
    if let Some(float) = float {
        let shape = weight.shape().to_vec();
        values_of = values(&tensors::Tensor::from_f32(shape, &values_of, float))?;
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
    let norm = |row: &[f32]| row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt() as f32;
    Ok(values_of.chunks(columns.max(1)).map(norm).collect())
}

/// ‖W‖ of some modules of a base, Frobenius; `None` where the weight is quantised.
pub fn base_norm(base: &Base, chosen: &Chosen) -> Option<f64> {
    let target = base.table.get(&chosen.id)?;
    let values = base.tensor(&target.weight)?.to_f32(&chosen.id.path).ok()?;
    let norm = values.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
    (norm > 0.0).then_some(norm)
}
