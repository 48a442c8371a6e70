//! The parts of one module put together and checked.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::{Key, Part};
use crate::adapter::error::AdapterError;
use crate::adapter::module::{Axis, BiasDelta, Delta, Factor, Magnitude, Module, Product};
use crate::adapter::peft_config::PeftConfig;
use crate::tensors::{Dtype, Float, Tensor};

/// All tensors of one module, as collected from a file.
pub(super) struct Parts<'a> {
    pub key: Key,
    pub path: &'a Path,
    pub tensors: BTreeMap<Part, Tensor>,
}

const BOTH_HALVES: &str = "the file is incomplete; save the adapter again";
const OTHER_SHAPES: &str = "the file was damaged or edited; save the adapter again";

impl Parts<'_> {
    fn refuse(&self, problem: String, hint: &'static str) -> AdapterError {
        let module = self.key.stem.clone();
        AdapterError::Module { path: self.path.to_owned(), module, problem, hint }
    }

    fn take(&mut self, part: Part) -> Option<Tensor> {
        self.tensors.remove(&part)
    }

    fn need(&mut self, part: Part, name: &str, because: &str) -> Result<Tensor, AdapterError> {
        self.take(part)
            .ok_or_else(|| self.refuse(format!("has `{because}` but no `{name}`"), BOTH_HALVES))
    }

    /// A single number, shape `[]` or `[1]`.
    fn number(&mut self, part: Part, name: &str) -> Result<Option<f32>, AdapterError> {
        let Some(tensor) = self.take(part) else {
            return Ok(None);
        };
        if tensor.elements() != 1 {
            let problem = format!("`{name}` has shape {:?}, expected one number", tensor.shape());
            return Err(self.refuse(problem, OTHER_SHAPES));
        }
        if Float::of(tensor.dtype()).is_none() {
            let problem = format!("`{name}` holds {} values, expected a number", tensor.dtype());
            return match integer(&tensor) {
                Some(number) => Ok(Some(number)),
                None => Err(self.refuse(problem, OTHER_SHAPES)),
            };
        }
        let value = tensor.to_f32(name)?[0];
        if value.is_finite() {
            Ok(Some(value))
        } else {
            Err(self.refuse(format!("`{name}` is {value}"), OTHER_SHAPES))
        }
    }

    /// The module, or `None` if its tensors change nothing (a lone alpha).
    pub(super) fn build(
        mut self,
        config: Option<&PeftConfig>,
    ) -> Result<Option<Module>, AdapterError> {
        let stored_alpha = self.number(Part::Alpha, "alpha")?;
        let stored_scale = self.number(Part::Scale, "scale")?;
        let embedding = self.tensors.contains_key(&Part::EmbeddingDown);
        let weight = self.weight()?;
        // PEFT saves the whole base weight beside A and B of an embedding or a head.
        let saved_base = self.take(Part::FullWeight);
        let bias = self.bias();
        if weight.is_none() && bias.is_none() {
            return Ok(None);
        }
        let mut module = Module {
            id: self.key.id.clone(),
            key: self.key.stem.clone(),
            weight,
            bias,
            alpha: stored_alpha,
            scale: 1.0,
            magnitude: None,
            transposed: embedding || config.is_some_and(|c| c.fan_in_fan_out),
            embedding,
            saved_base,
        };
        if let Some(rank) = module.rank() {
            self.check_rank(rank)?;
            let configured = config.filter(|_| stored_alpha.is_none());
            module.alpha = configured.map(|c| c.alpha(&self.key.config_path)).or(module.alpha);
            module.scale = match configured {
                Some(config) => config.scale(&self.key.config_path, rank),
                None => stored_alpha.map_or(1.0, |alpha| alpha / rank as f32),
            };
        }
        module.scale = stored_scale.unwrap_or(module.scale);
        module.magnitude = self.magnitude(&module)?;
        self.check_floats(&module)?;
        match self.tensors.keys().next() {
            None => Ok(Some(module)),
            Some(part) => {
                let problem = format!("has a tensor {part:?} that fits none of its others");
                Err(self.refuse(problem, BOTH_HALVES))
            }
        }
    }

    fn check_rank(&self, rank: usize) -> Result<(), AdapterError> {
        if rank == 0 {
            return Err(self.refuse("has rank 0".to_owned(), OTHER_SHAPES));
        }
        Ok(())
    }

    fn check_floats(&self, module: &Module) -> Result<(), AdapterError> {
        for (name, tensor) in module.tensors() {
            if Float::of(tensor.dtype()).is_none() {
                let problem = format!(
                    "`{name}` holds {} values, expected F16, BF16, F32 or F64",
                    tensor.dtype()
                );
                return Err(self.refuse(problem, "convert quantised weights to one of these first"));
            }
        }
        Ok(())
    }

    fn weight(&mut self) -> Result<Option<Delta>, AdapterError> {
        let has = |part: Part| self.tensors.contains_key(&part);
        if has(Part::Down) || has(Part::Up) || has(Part::Mid) {
            return self.low_rank().map(Some);
        }
        if has(Part::EmbeddingDown) || has(Part::EmbeddingUp) {
            let down = self.need(Part::EmbeddingDown, "lora_embedding_A", "lora_embedding_B")?;
            let up = self.need(Part::EmbeddingUp, "lora_embedding_B", "lora_embedding_A")?;
            self.check_product(&up, &down, "lora_embedding_B", "lora_embedding_A")?;
            return Ok(Some(Delta::LowRank { down, up, mid: None }));
        }
        if has(Part::HadaW1A) || has(Part::HadaW1B) || has(Part::HadaW2A) || has(Part::HadaW2B) {
            return self.hadamard().map(Some);
        }
        if self.tensors.keys().any(|part| (Part::LokrW1..=Part::LokrT2).contains(part)) {
            return self.kronecker().map(Some);
        }
        if has(Part::A1) || has(Part::A2) || has(Part::B1) || has(Part::B2) {
            return self.glora().map(Some);
        }
        if has(Part::Ia3Weight) {
            let weight = self.need(Part::Ia3Weight, "weight", "on_input")?;
            let flag = self.take(Part::OnInput).ok_or_else(|| {
                self.refuse("has `weight` but no `on_input`".to_owned(), BOTH_HALVES)
            })?;
            let on_input = flag.bytes().iter().any(|byte| *byte != 0);
            return Ok(Some(Delta::Scaling { weight, on_input }));
        }
        let difference = self.take(Part::Diff).or_else(|| self.take(Part::NormWeight));
        let replacement = |tensor: Option<Tensor>| tensor.map(Delta::Replacement);
        Ok(difference
            .map(Delta::Difference)
            .or_else(|| replacement(self.take(Part::SetWeight)))
            .or_else(|| replacement(self.take(Part::FullWeight))))
    }

    fn low_rank(&mut self) -> Result<Delta, AdapterError> {
        let down = self.need(Part::Down, "down", "up")?;
        let up = self.need(Part::Up, "up", "down")?;
        let mid = self.take(Part::Mid);
        self.check_product(&up, &down, "up", "down")?;
        if let Some(mid) = &mid {
            let rank = down.shape()[0];
            let fits = mid.shape().len() == 4 && mid.shape()[..2] == [rank, rank];
            let pointwise = down.shape().get(2..).is_none_or(|kernel| kernel == [1, 1]);
            if !fits || !pointwise {
                let problem = format!(
                    "`mid` has shape {:?} and `down` {:?}, expected ({rank}, {rank}, kh, kw) and 1×1",
                    mid.shape(),
                    down.shape()
                );
                return Err(self.refuse(problem, OTHER_SHAPES));
            }
        }
        Ok(Delta::LowRank { down, up, mid })
    }

    /// Checks that `left` (out, r[, 1, 1]) and `right` (r, in[, kh, kw]) can be multiplied.
    fn check_product(
        &self,
        left: &Tensor,
        right: &Tensor,
        left_name: &str,
        right_name: &str,
    ) -> Result<(), AdapterError> {
        let (l, r) = (left.shape(), right.shape());
        let sane = matches!(l.len(), 2 | 4) && matches!(r.len(), 2 | 4);
        if sane && l[1] == r[0] && l[2..].iter().all(|extent| *extent == 1) {
            return Ok(());
        }
        let problem = format!(
            "`{left_name}` has shape {l:?} and `{right_name}` {r:?}, expected (out, rank) and (rank, in)"
        );
        Err(self.refuse(problem, OTHER_SHAPES))
    }

    fn product(
        &mut self,
        [a, b, t]: [Part; 3],
        [a_name, b_name]: [&str; 2],
    ) -> Result<Product, AdapterError> {
        let a = self.need(a, a_name, b_name)?;
        let b = self.need(b, b_name, a_name)?;
        let t = self.take(t);
        let (left, right) = (a.shape(), b.shape());
        let fits = left.len() == 2
            && match &t {
                None => right.len() >= 2 && left[1] == right[0],
                Some(t) => {
                    right.len() == 2
                        && t.shape().len() == 4
                        && t.shape()[..2] == [left[0], right[0]]
                }
            };
        if fits && (left.contains(&0) || right.contains(&0)) {
            return Err(self.refuse("has rank 0 or no elements".to_owned(), OTHER_SHAPES));
        }
        if fits {
            return Ok(Product { a, b, t });
        }
        let problem = format!(
            "`{a_name}` has shape {:?}, `{b_name}` {:?} and the Tucker core {:?}: they cannot be multiplied",
            a.shape(),
            b.shape(),
            t.as_ref().map(Tensor::shape)
        );
        Err(self.refuse(problem, OTHER_SHAPES))
    }

    fn hadamard(&mut self) -> Result<Delta, AdapterError> {
        let w1 =
            self.product([Part::HadaW1A, Part::HadaW1B, Part::HadaT1], ["hada_w1_a", "hada_w1_b"])?;
        let w2 =
            self.product([Part::HadaW2A, Part::HadaW2B, Part::HadaT2], ["hada_w2_a", "hada_w2_b"])?;
        Ok(Delta::Hadamard { w1, w2 })
    }

    fn kronecker(&mut self) -> Result<Delta, AdapterError> {
        let w1 = match self.take(Part::LokrW1) {
            Some(full) => Factor::Full(full),
            None => Factor::Product(self.product(
                [Part::LokrW1A, Part::LokrW1B, Part::LokrT1],
                ["lokr_w1_a", "lokr_w1_b"],
            )?),
        };
        let w2 = match self.take(Part::LokrW2) {
            Some(full) => Factor::Full(full),
            None => Factor::Product(self.product(
                [Part::LokrW2A, Part::LokrW2B, Part::LokrT2],
                ["lokr_w2_a", "lokr_w2_b"],
            )?),
        };
        let flat = |factor: &Factor| match factor {
            Factor::Full(tensor) => matches!(tensor.shape().len(), 2 | 4),
            Factor::Product(_) => true,
        };
        if flat(&w1) && flat(&w2) {
            return Ok(Delta::Kronecker { w1, w2 });
        }
        Err(self.refuse("a factor is neither a matrix nor a convolution".to_owned(), OTHER_SHAPES))
    }

    fn glora(&mut self) -> Result<Delta, AdapterError> {
        let a1 = self.need(Part::A1, "a1", "a2")?;
        let a2 = self.need(Part::A2, "a2", "a1")?;
        let b1 = self.need(Part::B1, "b1", "a1")?;
        let b2 = self.need(Part::B2, "b2", "a1")?;
        let flat = |t: &Tensor| matches!(t.shape(), [_, _] | [_, _, 1, 1]);
        let fits = |a1: &Tensor, a2: &Tensor, b1: &Tensor, b2: &Tensor| {
            let rank = a1.shape().get(1).copied().unwrap_or(0);
            flat(a1)
                && flat(a2)
                && flat(b1)
                && matches!(b2.shape().len(), 2 | 4)
                && a1.shape()[0] == a2.shape()[1]
                && rank == a2.shape()[0]
                && b1.shape()[1] == b2.shape()[0]
                && b2.shape()[1] == a2.shape()[1]
                && rank <= a1.shape()[0]
                && [a1, a2, b1, b2].iter().all(|t| t.elements() > 0)
        };
        // Older LyCORIS files have the roles of 1 and 2 swapped; the shapes tell, since a rank is
        // never larger than the inputs.
        if fits(&a1, &a2, &b1, &b2) {
            return Ok(Delta::Glora { a1, a2, b1, b2 });
        }
        if fits(&a2, &a1, &b2, &b1) {
            return Ok(Delta::Glora { a1: a2, a2: a1, b1: b2, b2: b1 });
        }
        Err(self.refuse("a1, a2, b1, b2 cannot be multiplied".to_owned(), OTHER_SHAPES))
    }

    fn bias(&mut self) -> Option<BiasDelta> {
        let added = self.take(Part::DiffBias).or_else(|| self.take(Part::NormBias));
        added
            .map(|delta| BiasDelta::Add { delta, scaled: false })
            .or_else(|| self.take(Part::UpBias).map(|delta| BiasDelta::Add { delta, scaled: true }))
            .or_else(|| self.take(Part::FullBias).map(BiasDelta::Replace))
    }

    fn magnitude(&mut self, module: &Module) -> Result<Option<Magnitude>, AdapterError> {
        if let Some(vector) = self.take(Part::MagnitudeVector) {
            return Ok(Some(Magnitude { vector, axis: Axis::Output, epsilon: 0.0 }));
        }
        let Some(vector) = self.take(Part::DoraScale) else {
            return Ok(None);
        };
        let shape = vector.shape();
        let ones = |extents: &[usize]| extents.iter().all(|extent| *extent == 1);
        let axis = match shape {
            [_] => Axis::Output,
            [out, rest @ ..] if module.outputs() == Some(*out) && ones(rest) => Axis::Output,
            [1, columns, rest @ ..] if ones(rest) && *columns > 1 => Axis::Input,
            _ => {
                let problem = format!(
                    "`dora_scale` has shape {shape:?}, expected (out, 1) or (1, in) for {:?} outputs",
                    module.outputs()
                );
                return Err(self.refuse(problem, OTHER_SHAPES));
            }
        };
        let epsilon = match Float::of(vector.dtype()) {
            Some(Float::F16) => half::f16::EPSILON.to_f64(),
            Some(Float::BF16) => half::bf16::EPSILON.to_f64(),
            Some(Float::F64) => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        Ok(Some(Magnitude { vector, axis, epsilon }))
    }
}

/// Some trainers store alpha as an integer.
fn integer(tensor: &Tensor) -> Option<f32> {
    let bytes = tensor.bytes();
    let number = match tensor.dtype() {
        Dtype::I8 => f64::from(i8::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::U8 => f64::from(u8::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::I16 => f64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::I32 => f64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::I64 => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
    Some(number as f32)
}
