//! A training in `TensorBoard`: curves, samples.

use std::io;
use std::path::Path;

use super::watch::{Event, Watch};
use crate::events::{EventError, EventWriter};

/// Writes event files.
#[derive(Debug)]
pub struct Board {
    writer: EventWriter,
}

/// The names of the quarters of the timesteps.
const QUARTERS: [&str; 4] = [
    "loss/quarter_1_little_noise",
    "loss/quarter_2",
    "loss/quarter_3",
    "loss/quarter_4_much_noise",
];

impl Board {
    /// A new file in the folder; of a training that goes on from `step`, whose later points are
    /// dropped.
    pub fn open(folder: &Path, step: usize) -> Result<Self, EventError> {
        // points of an earlier training that never came to a checkpoint are dropped too
        Ok(Self { writer: EventWriter::create(folder, Some(step as u64))? })
    }

    fn write(&mut self, event: &Event) -> Result<(), EventError> {
        match event {
            Event::Step(step) => {
                let mut points = vec![
                    ("loss/raw", step.loss),
                    ("loss/smoothed", step.smoothed),
                    ("grad_norm", step.grad_norm),
                    ("lr", step.lr),
                ];
                points.extend(step.lr_text_encoder.map(|rate| ("lr/text_encoder", rate)));
                points.extend(step.delta.map(|delta| ("delta", delta)));
                for (name, value) in QUARTERS.iter().zip(step.quartiles.iter().flatten()) {
                    points.extend(value.map(|value| (*name, value)));
                }
                self.writer.scalars(step.step as u64, &points)
            }
            Event::HeldOut { step, loss, .. } => {
                self.writer.scalars(*step as u64, &[("loss/held_out", *loss)])
            }
            Event::Sample { step, name, text, path: None } => {
                self.writer.text(*step as u64, &format!("sample/{name}"), text)
            }
            Event::Sample { step, name, path: Some(path), .. } => {
                // a picture that is gone is not worth ending a training for
                let (Ok(bytes), Ok(size)) = (std::fs::read(path), crate::picture::size(path))
                else {
                    return Ok(());
                };
                self.writer.image(*step as u64, &format!("sample/{name}"), size, &bytes)
            }
            _ => Ok(()),
        }
    }
}

impl Watch for Board {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.write(event).map_err(io::Error::other)
    }
}
