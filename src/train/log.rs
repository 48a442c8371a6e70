//! `train.jsonl`: what happened, a line each.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde_json::Value;

use super::watch::{Event, Watch};
use crate::base::atomic;

/// Writes a line for each event.
#[derive(Debug)]
pub struct Log {
    file: BufWriter<File>,
}

impl Log {
    /// The log in a training's folder; one that is there is kept up to this step, from where the
    /// training goes on.
    pub fn open(folder: &Path, step: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("train.jsonl");
        let kept = match fs::read(&path) {
            // a line that was torn in the middle of a letter is dropped with the others
            Ok(bytes) => kept(&String::from_utf8_lossy(&bytes), step),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        atomic::write(&path, kept.as_bytes())?;
        let file = File::options().append(true).open(&path)?;
        Ok(Self { file: BufWriter::new(file) })
    }
}

/// The whole lines of events up to a step.
fn kept(text: &str, step: usize) -> String {
    let before = |line: &&str| {
        let value: Option<Value> = serde_json::from_str(line).ok();
        let at = value.and_then(|value| value["step"].as_u64());
        step > 0 && at.is_some_and(|at| at <= step as u64)
    };
    text.lines().filter(before).flat_map(|line| [line, "\n"]).collect()
}

impl Watch for Log {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, event)?;
        self.file.write_all(b"\n")?;
        // a line at a time, so that nothing but the last one can be torn
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_that_goes_on_forgets_what_came_after_its_checkpoint() {
        let text = "{\"event\":\"start\",\"step\":0}\n{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"st";
        assert_eq!(kept(text, 1).lines().count(), 2);
        assert_eq!(kept(text, 2).lines().count(), 3);
        assert_eq!(kept(text, 0), "");
    }
}
