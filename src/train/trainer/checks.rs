//! What is looked at before a step: memory, proof of learning, losses.

use candle_core::Tensor;

use super::{Parts, Trainer};
use crate::base::hint::first_few;
use crate::nn::Visit;
use crate::train::guard::Verdict;
use crate::train::parameters::Role;
use crate::train::task::{Loss, mean};
use crate::train::{TrainError, ladder, proof};

impl Trainer<'_> {
    /// What is to be done with a step. Where a loss has no value each example is measured alone: in a
    /// row of texts one takes its neighbours with it. One that has none without the adapter either is
    /// bad by itself.
    pub(super) fn judge(
        &mut self,
        visits: &[Visit],
        losses: &[Loss],
        norm: f64,
    ) -> Result<Verdict, TrainError> {
        if losses.iter().all(|loss| loss.sum.is_finite()) {
            return Ok(self.state.guard.judge(losses, norm));
        }
        let mut alone = Vec::with_capacity(visits.len());
        for visit in visits {
            alone.extend(self.parts.task.loss(std::slice::from_ref(visit), 1.0)?);
        }
        let mut bad = Vec::new();
        for (visit, loss) in visits.iter().zip(&alone) {
            let base = || self.parts.task.loss(std::slice::from_ref(visit), 0.0);
            if !loss.sum.is_finite() && !mean(&base()?).is_finite() {
                bad.push(visit.example);
            }
        }
        Ok(if bad.is_empty() {
            self.state.guard.judge(&alone, norm)
        } else {
            self.state.guard.leave_out(bad, alone.len())
        })
    }

    /// Tries the largest micro-batch before an hour is lost.
    pub(super) fn fit(&mut self) -> Result<(), TrainError> {
        let mut said = Vec::new();
        let (task, memory) = (self.parts.task, &self.memory);
        let fitted = ladder::fit(task, self.rung, memory, &mut self.gradients, |text| {
            said.push(text);
            Ok(())
        });
        for text in said {
            self.guard("memory", text, Vec::new())?;
        }
        self.rung = fitted?;
        Ok(())
    }

    pub(super) fn prove(&mut self) -> Result<(), TrainError> {
        if !self.parts.settings.run.prove {
            return Ok(());
        }
        // one example is enough: what holds for it holds for all
        let batch: Vec<Visit> = self.visits(0).into_iter().take(1).collect();
        let pass = self.rung.pass(&self.memory);
        let Parts { task, parameters, .. } = self.parts;
        let still = proof::prove(task, parameters, &batch, pass, &mut self.gradients)?;
        if still.is_empty() {
            return Ok(());
        }
        let problem =
            "self-attention over a single place: at this size these modules learn nothing";
        self.guard("proof", format!("{problem}: {}", first_few(&still)), Vec::new())
    }

    /// The first gradients after B has moved are those that A's life is seen by.
    pub(super) fn see_a_move(&mut self, gradients: &[Tensor]) -> Result<(), TrainError> {
        if self.state.proved || !self.parts.settings.run.prove || !self.state.moved {
            return Ok(());
        }
        // where B's are 0 too the loss is flat, as after an explosion: that says nothing about A
        if proof::moves(self.parts.parameters, gradients, Role::B).is_err() {
            return Ok(());
        }
        proof::moves(self.parts.parameters, gradients, Role::A)?;
        self.state.proved = true;
        Ok(())
    }
}
