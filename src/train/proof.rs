//! Proof at the start that everything that is trained can learn.
//!
//! A layer that loses its gradient does not show in the loss, which falls all the same by what the
//! other layers learn. So before the first step: the adapter changes nothing yet; a gradient reaches
//! every variable; that of every B is not 0; and the loss along the gradient falls as fast as the
//! gradient says (where arithmetic is f32; 16 bits have too few digits for differences). A's gradients are 0 until B has moved, and are looked at as soon as it has.

use candle_core::{Tensor, Var};

use super::backward::Pass;
use super::parameters::{Parameters, Role, host};
use super::task::{Task, mean};
use super::{Gradients, TrainError};
use crate::nn::Visit;

/// Checks all but A's gradients on a micro-batch; names modules that learn nothing from it, and may.
pub fn prove(
    task: &dyn Task,
    parameters: &Parameters,
    batch: &[Visit],
    pass: Pass<'_>,
    gradients: &mut Gradients,
) -> Result<Vec<String>, TrainError> {
    let with = mean(&task.loss(batch, 1.0)?);
    let without = mean(&task.loss(batch, 0.0)?);
    if without == 0.0 {
        return Ok(Vec::new()); // an example whose timestep counts for nothing
    }
    if (with - without).abs() > 1e-5 * without.abs() {
        return Err(TrainError::NotLearning {
            module: "the adapter".to_owned(),
            problem: format!("changes the loss before it learnt anything: {without} to {with}"),
        });
    }
    let total: f64 = batch.iter().map(|visit| task.weight(*visit)).sum();
    task.backward(batch, total, pass, gradients)?;
    let reached: Vec<bool> = gradients.reached().collect();
    for ((part, role, _), reached) in parameters.named().zip(reached) {
        if !reached {
            return Err(unmoved(&part.chosen.id.path, role, "no gradient reaches it"));
        }
    }
    let slopes = gradients.take()?;
    let still = moves(parameters, &slopes, Role::B)?;
    // DoRA's norm is a constant to its gradient and none to differences
    let dora = parameters.named().any(|(_, role, _)| role == Role::Magnitude);
    if task.is_exact() && !dora {
        along(task, parameters, batch, &slopes)?;
    }
    Ok(still)
}

/// An error if a variable of that role has no gradient but zeros; the names of those whose gradient may
/// be 0: a query or a key of self-attention over a single place, as in the middle of a denoiser of
/// very small pictures, changes nothing.
pub fn moves(
    parameters: &Parameters,
    slopes: &[Tensor],
    role: Role,
) -> Result<Vec<String>, TrainError> {
    let mut still = Vec::new();
    for ((part, of, _), slope) in parameters.named().zip(slopes) {
        // a value that is not finite is the guard's affair
        if of != role || host(slope)?.iter().any(|value| *value != 0.0) {
            continue;
        }
        let path = &part.chosen.id.path;
        if !path.ends_with("attn1.to_q") && !path.ends_with("attn1.to_k") {
            return Err(unmoved(path, of, "its gradient is 0"));
        }
        still.push(path.clone());
    }
    Ok(still)
}

fn unmoved(path: &str, role: Role, problem: &str) -> TrainError {
    TrainError::NotLearning {
        module: format!("{path}.{}", role.name()),
        problem: problem.to_owned(),
    }
}

/// Parts of the loss that the variables are moved by: between curvature and rounding, both of which
/// differ from model to model.
const STEPS: [f64; 5] = [1e-3, 1e-4, 1e-2, 1e-5, 1e-6];
/// How far differences and gradient may be apart: the loss is no straight line, and has f32's digits.
const TOLERANCE: f64 = 0.1;

/// Compares the loss's slope along the gradients with its differences there, all modules at once and
/// two by themselves.
fn along(
    task: &dyn Task,
    parameters: &Parameters,
    batch: &[Visit],
    slopes: &[Tensor],
) -> Result<(), TrainError> {
    let modules = parameters.parts.len();
    let some = [modules / 3, modules - 1];
    let mut groups: Vec<(String, Vec<usize>)> =
        vec![("all modules".to_owned(), (0..slopes.len()).collect())];
    let each = parameters.named().enumerate();
    let each: Vec<(usize, &str)> = each.map(|(i, (part, ..))| (i, &*part.chosen.id.path)).collect();
    for module in some {
        let path = &parameters.parts[module].chosen.id.path;
        let own = each.iter().filter(|(_, of)| of == path).map(|(i, _)| *i);
        groups.push((path.clone(), own.collect()));
    }
    let variables = parameters.variables();
    let loss = mean(&task.loss(batch, 1.0)?);
    for (module, places) in groups {
        compare(task, batch, (&variables, slopes), (module, &places), loss)?;
    }
    Ok(())
}

fn compare(
    task: &dyn Task,
    batch: &[Visit],
    (variables, slopes): (&[Var], &[Tensor]),
    (module, places): (String, &[usize]),
    loss: f64,
) -> Result<(), TrainError> {
    let mut squares = 0.0;
    for place in places {
        squares += host(&slopes[*place])?.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    }
    let norm = squares.sqrt();
    if norm == 0.0 {
        return Ok(());
    }
    let kept = places.iter().map(|place| variables[*place].copy());
    let kept = kept.collect::<candle_core::Result<Vec<Tensor>>>()?;
    let at = |distance: f64| -> Result<f64, TrainError> {
        for (place, kept) in places.iter().zip(&kept) {
            variables[*place].set(&(kept + (&slopes[*place] * (distance / norm))?)?)?;
        }
        Ok(mean(&task.loss(batch, 1.0)?))
    };
    let mut nearest = f64::NAN;
    for part in STEPS {
        let distance = part * loss.abs().max(1e-3) / norm;
        let numeric = (at(distance)? - at(-distance)?) / (2.0 * distance);
        if nearest.is_nan() || (numeric - norm).abs() < (nearest - norm).abs() {
            nearest = numeric;
        }
        if (nearest - norm).abs() <= TOLERANCE * norm {
            break;
        }
    }
    for (place, kept) in places.iter().zip(&kept) {
        variables[*place].set(kept)?;
    }
    if (nearest - norm).abs() > TOLERANCE * norm {
        return Err(TrainError::WrongGradient { module, analytic: norm, numeric: nearest });
    }
    Ok(())
}
