//! Floor 4: an adapter taken out of the difference of two models.
//!
//! Every linear layer and convolution that differs becomes a low-rank module, `W_tuned − W_base` cut
//! to a rank by a truncated SVD that is exact to f32 noise ([`truncated_svd`]). Norms, biases and
//! embeddings have no low-rank form; those that differ are reported, not silently lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use crate::adapter::{
    Adapter, AdapterError, Component, Delta, Format, Module, PeftConfig, RankRule, convert,
};
use crate::base::atomic::collides;
use crate::base::hint::first_few;
use crate::linalg::{NotFinite, Svd, singular_values, transpose, truncated_svd};
use crate::model::{Base, Slot, Target, Unmatched};
use crate::tensors::{Float, Tensor, TensorError};

/// What to extract.
#[derive(Debug)]
pub struct Request<'a> {
    /// The base.
    pub base: &'a Base,
    /// The model trained from it.
    pub tuned: &'a Base,
    /// Where the adapter goes: a kohya file for Stable Diffusion, a PEFT folder for language models.
    pub out: &'a Path,
    /// The largest rank.
    pub rank: usize,
    /// How a smaller one is chosen.
    pub rule: RankRule,
    /// Float type of the factors.
    pub dtype: Float,
}

/// The result, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where the adapter lies.
    pub out: PathBuf,
    /// Modules of the adapter.
    pub modules: usize,
    /// Ranks and how many modules have them.
    pub ranks: BTreeMap<usize, usize>,
    /// Share of the difference's Frobenius norm, over its linear layers and convolutions, that the
    /// adapter keeps.
    pub kept: f64,
    /// Differing modules that are not in the adapter, and why.
    pub unmatched: Vec<Unmatched>,
    /// Wall time.
    pub seconds: f64,
}

/// Why nothing was extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// Reading tensors.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// Writing the adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Two models that cannot be compared.
    #[error(
        "{}: {problem}\nthe base is {base}\nthe other is {tuned_is}\nhint: both must be of one architecture and size",
        tuned.display()
    )]
    Different {
        /// The tuned model.
        tuned: PathBuf,
        /// What differs.
        problem: String,
        /// What the base is.
        base: String,
        /// What the other is.
        tuned_is: String,
    },
    /// Two models without a difference.
    #[error("{}: no linear layer or convolution differs from the base's\nhint: check that `--tuned` is the trained model", tuned.display())]
    Same {
        /// The tuned model.
        tuned: PathBuf,
    },
    /// A model with NaN.
    #[error("module `{module}`: {source}")]
    NotFinite {
        /// The module.
        module: String,
        /// Why.
        source: NotFinite,
    },
    /// A bad destination.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Out {
        /// The destination.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

/// What came of one module.
#[derive(Default)]
struct Outcome {
    extracted: Option<Extracted>,
    lost: Vec<Unmatched>,
}

/// A low-rank module, and how much of the difference's energy it keeps.
struct Extracted {
    module: Module,
    kept: f64,
    energy: f64,
}

/// Extracts an adapter and writes it.
pub fn extract(request: &Request<'_>) -> Result<Report, ExtractError> {
    let start = Instant::now();
    check_out(request)?;
    let format = if is_language(request) { Format::Peft } else { Format::Kohya };
    convert::check_out(format, request.out)?;
    let pairs = pairs(request)?;
    let outcomes: Vec<Outcome> = pairs
        .par_iter()
        .with_max_len(1)
        .map(|(base, tuned)| one(request, base, tuned))
        .collect::<Result<_, ExtractError>>()?;
    let mut adapter = empty(request)?;
    let mut report = Report {
        out: request.out.to_owned(),
        modules: 0,
        ranks: BTreeMap::new(),
        kept: 1.0,
        unmatched: Vec::new(),
        seconds: 0.0,
    };
    let (mut kept, mut all) = (0.0, 0.0);
    for outcome in outcomes {
        report.unmatched.extend(outcome.lost);
        if let Some(Extracted { module, kept: k, energy }) = outcome.extracted {
            kept += k;
            all += energy;
            adapter.modules.insert(module.id.clone(), module);
        }
    }
    report.unmatched.extend(outside(request));
    if adapter.modules.is_empty() {
        return Err(ExtractError::Same { tuned: request.tuned.path.clone() });
    }
    convert::write(&adapter, format, request.out)?;
    report.modules = adapter.modules.len();
    report.ranks = adapter.ranks();
    report.kept = (kept / all).sqrt();
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

fn is_language(request: &Request<'_>) -> bool {
    request.base.table.components().contains(&Component::Language)
}

fn check_out(request: &Request<'_>) -> Result<(), ExtractError> {
    let path = request.out.to_owned();
    let is_file_name = path.extension().is_some_and(|ending| ending == "safetensors");
    if is_language(request) && is_file_name {
        return Err(ExtractError::Out {
            path,
            problem: "an adapter of a language model is a folder (PEFT's format)",
            hint: "name a folder",
        });
    }
    if collides(&path, &request.base.path) || collides(&path, &request.tuned.path) {
        let problem = "is one of the two models, holds one or lies inside it";
        return Err(ExtractError::Out { path, problem, hint: "write to another place" });
    }
    if path.parent().is_some_and(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        let problem = "its folder does not exist";
        return Err(ExtractError::Out { path, problem, hint: "make the folder first" });
    }
    Ok(())
}

fn empty(request: &Request<'_>) -> Result<Adapter, ExtractError> {
    let base = serde_json::Value::from(request.base.path.to_string_lossy());
    let fields = [("base_model_name_or_path".to_owned(), base)].into_iter().collect();
    Ok(Adapter {
        name: String::new(),
        path: request.out.to_owned(),
        format: Format::Kohya,
        modules: BTreeMap::new(),
        metadata: BTreeMap::new(),
        config: Some(PeftConfig::from_fields(&fields, request.out)?),
        files: Vec::new(),
        unread: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Every module of the base beside the same one of the tuned model.
fn pairs<'a>(request: &Request<'a>) -> Result<Vec<(&'a Target, &'a Target)>, ExtractError> {
    let mut pairs = Vec::new();
    let mut problems = Vec::new();
    for base in request.base.table.targets().filter(|target| !target.tied) {
        let Some(tuned) = request.tuned.table.get(&base.id) else {
            problems.push(format!("{} is missing", base.id));
            continue;
        };
        let (a, b) = (&base.weight.shape, &tuned.weight.shape);
        if a.iter().product::<usize>() != b.iter().product::<usize>() || a.first() != b.first() {
            problems.push(format!("{} is {b:?}, the base's {a:?}", base.id));
            continue;
        }
        pairs.push((base, tuned));
    }
    if problems.is_empty() {
        return Ok(pairs);
    }
    Err(ExtractError::Different {
        tuned: request.tuned.path.clone(),
        problem: format!(
            "{} module(s) cannot be compared: {}",
            problems.len(),
            first_few(&problems)
        ),
        base: request.base.describe(),
        tuned_is: request.tuned.describe(),
    })
}

/// The values of a module's parameter.
fn values(base: &Base, slot: &Slot) -> Result<Vec<f32>, ExtractError> {
    let Some(tensor) = base.files[slot.file].file.get(&slot.key) else {
        return Ok(Vec::new());
    };
    let float = tensor.float(&slot.key)?;
    let count: usize = slot.shape.iter().product();
    let line = count / slot.rows.len().max(1) * float.size();
    let mut values = vec![0.0; count];
    float.decode(&tensor.bytes()[slot.rows.start * line..slot.rows.end * line], &mut values);
    Ok(values)
}

fn one(request: &Request<'_>, base: &Target, tuned: &Target) -> Result<Outcome, ExtractError> {
    let mut difference = values(request.tuned, &tuned.weight)?;
    if base.transposed != tuned.transposed {
        difference = transpose(&difference, tuned.weight.shape[0], tuned.weight.shape[1]);
    }
    for (d, w) in difference.iter_mut().zip(values(request.base, &base.weight)?) {
        *d -= w;
    }
    let bias_differs = match (&base.bias, &tuned.bias) {
        (Some(a), Some(b)) => values(request.base, a)? != values(request.tuned, b)?,
        (None, None) => false,
        _ => true,
    };
    let lost = |module: String, reason: &str| Unmatched { module, reason: reason.to_owned() };
    let mut outcome = Outcome::default();
    if bias_differs {
        outcome.lost.push(lost(format!("{}.bias", base.id), "biases are not extracted"));
    }
    if difference.iter().all(|d| *d == 0.0) {
        return Ok(outcome);
    }
    let leaf = base.id.path.rsplit('.').next().unwrap_or_default();
    let embeddings =
        ["embed_tokens", "wte", "wpe", "token_embedding", "position_embedding", "word_embeddings"];
    if base.weight.shape.len() < 2 {
        outcome.lost.push(lost(base.id.to_string(), "a norm has no low-rank form"));
    } else if embeddings.contains(&leaf) {
        outcome.lost.push(lost(base.id.to_string(), "embeddings are not extracted"));
    } else {
        outcome.extracted = Some(low_rank(request, base, difference)?);
    }
    Ok(outcome)
}

/// Differences outside the table of modules: tensors of other kinds, modules of one model only.
fn outside(request: &Request<'_>) -> Vec<Unmatched> {
    let mut known = BTreeSet::new();
    for target in request.base.table.targets() {
        known.insert(target.weight.key.as_str());
        known.extend(target.bias.iter().map(|slot| slot.key.as_str()));
    }
    let mut lost = Vec::new();
    for file in request.base.files.iter().map(|file| &file.file) {
        for name in file.names().filter(|name| !known.contains(name)) {
            let tuned = request.tuned.files.iter().find_map(|other| other.file.get(name));
            let differs = tuned.zip(file.get(name)).is_some_and(|(a, b)| a.bytes() != b.bytes());
            if differs {
                let reason = "no adapter applies to this tensor".to_owned();
                lost.push(Unmatched { module: name.to_owned(), reason });
            }
        }
    }
    let news = request.tuned.table.targets().filter(|t| request.base.table.get(&t.id).is_none());
    lost.extend(news.map(|target| Unmatched {
        module: target.id.to_string(),
        reason: "the base has no such module".to_owned(),
    }));
    lost
}

fn low_rank(
    request: &Request<'_>,
    base: &Target,
    mut difference: Vec<f32>,
) -> Result<Extracted, ExtractError> {
    let mut shape = base.weight.shape.clone();
    if base.transposed {
        difference = transpose(&difference, shape[0], shape[1]);
        shape.swap(0, 1);
    }
    let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
    let fail = |source| ExtractError::NotFinite { module: base.id.to_string(), source };
    let svd = truncated_svd(&difference, (rows, columns), request.rank).map_err(fail)?;
    let sum = if request.rule.needs_sum() {
        singular_values(&difference, (rows, columns)).map_err(fail)?.iter().sum()
    } else {
        0.0
    };
    let count = rows.min(columns);
    let rank = request.rule.choose(&svd.s, request.rank, count, sum, svd.energy);
    let kept = svd.s.iter().take(rank).map(|s| s * s).sum();
    let energy = svd.energy;
    let module = module(base, &svd, rank, &shape, request.dtype);
    Ok(Extracted { module, kept, energy })
}

fn module(base: &Target, svd: &Svd, rank: usize, shape: &[usize], dtype: Float) -> Module {
    let (up, down) = svd.factors(rank);
    let mut up_shape = vec![shape[0], rank];
    let mut down_shape = vec![rank];
    down_shape.extend_from_slice(&shape[1..]);
    up_shape.extend(shape[2..].iter().map(|_| 1));
    Module {
        id: base.id.clone(),
        key: base.id.to_string(),
        weight: Some(Delta::LowRank {
            down: Tensor::from_f32(down_shape, &down, dtype),
            up: Tensor::from_f32(up_shape, &up, dtype),
            mid: None,
        }),
        bias: None,
        alpha: Some(rank as f32),
        scale: 1.0,
        magnitude: None,
        transposed: false,
        embedding: false,
        saved_base: None,
    }
}
