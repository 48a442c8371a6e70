//! `TensorBoard`'s event files of any trainer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::curve::Curve;
use super::super::error::DoctorError;
use super::super::history::{History, Origin, Task};
use super::number_in;
use crate::events::{Point, is_event_file, read_scalars};

/// What a tag's curve is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Loss,
    HeldOut,
    GradNorm,
    Rate,
}

/// Whether there are such files. Each folder of them is a run; the newest counts.
pub(super) fn read(files: &[PathBuf], history: &mut History) -> Result<bool, DoctorError> {
    let mut runs: BTreeMap<&Path, Vec<PathBuf>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_event_file(file)) {
        runs.entry(file.parent().unwrap_or(Path::new("."))).or_default().push(file.clone());
    }
    let newest = runs.iter().max_by_key(|(_, files)| files.iter().map(|file| second(file)).max());
    let Some((folder, files)) = newest else { return Ok(false) };
    let mut files = files.clone();
    files.sort_by_key(|file| second(file));
    let scalars = read_scalars(&files)?;
    if runs.len() > 1 {
        let others = runs.len() - 1;
        history.notes.push(format!(
            "of {} runs the newest was read, {}; name another run's folder to examine one of the other {others}",
            runs.len(),
            folder.display()
        ));
    }
    for torn in &scalars.torn {
        history.notes.push(format!("{} ends in a record that is cut off", torn.display()));
    }
    let curves = choose(&scalars.series);
    let curve = |role: Role| curves.get(&role).map(|c| steps(c)).unwrap_or_default();
    history.loss = curve(Role::Loss);
    history.held_out = curve(Role::HeldOut);
    history.grad_norm = curve(Role::GradNorm);
    history.rate = curve(Role::Rate);
    if ["loss/current", "loss/average", "lr/unet"].iter().any(|t| scalars.series.contains_key(*t)) {
        history.origin = Origin::SdScripts;
        history.task = Some(Task::Image);
    }
    history.read.extend(files);
    Ok(true)
}

/// The second at which a file was begun, from its name.
fn second(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let after = name.split("tfevents.").nth(1).unwrap_or_default();
    number_in(after.split('.').next().unwrap_or_default()).unwrap_or(0)
}

/// The best tag of each role: the plainest name, then the most points.
fn choose(series: &BTreeMap<String, Vec<Point>>) -> BTreeMap<Role, &[Point]> {
    let mut tags: Vec<_> = series
        .iter()
        .filter_map(|(tag, curve)| {
            role(tag).map(|(role, far)| (far, Reverse(curve.len()), role, curve))
        })
        .collect();
    tags.sort_by_key(|(far, points, ..)| Reverse((*far, *points)));
    // The best of a role comes last and stays.
    tags.into_iter().map(|(.., role, curve)| (role, curve.as_slice())).collect()
}

fn steps(curve: &[Point]) -> Curve {
    Curve::new(curve.iter().filter_map(|p| Some((u64::try_from(p.step).ok()?, p.value))))
}

/// What a tag's words say it is, and how far it is from the plainest name of that.
fn role(tag: &str) -> Option<(Role, u32)> {
    let tag = tag.to_lowercase();
    let words: Vec<&str> = tag.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let extra = u32::try_from(words.len()).unwrap_or(u32::MAX);
    if has(&["loss"]) {
        // sd-scripts logs the held-out loss of each example as `…/step_current` and its distance from
        // the training loss as `…_divergence`.
        return match has(&["eval", "val", "valid", "validation", "test", "dev", "heldout", "held"])
        {
            _ if has(&["divergence"]) => None,
            true if has(&["current"]) => None,
            true => Some((Role::HeldOut, extra)),
            // Averages hide what the noise is; one number an epoch hides more.
            false if has(&["epoch"]) => Some((Role::Loss, extra + 20)),
            false if has(&["average", "avg", "smoothed", "ema"]) => Some((Role::Loss, extra + 10)),
            false => Some((Role::Loss, extra)),
        };
    }
    if has(&["grad"]) && has(&["norm"]) {
        return Some((Role::GradNorm, extra));
    }
    let rate = has(&["lr"]) || (has(&["learning"]) && has(&["rate"]));
    let of_text_encoder = words.iter().any(|w| w.starts_with("textencoder") || *w == "te");
    // `lr/d*lr/unet` is Prodigy's own estimate.
    (rate && !of_text_encoder && !has(&["d"])).then_some((Role::Rate, extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_several_trainers_are_told_apart() {
        for (tag, expected) in [
            ("loss/current", Some(Role::Loss)),
            ("train/loss", Some(Role::Loss)),
            ("Loss/train", Some(Role::Loss)),
            ("train_loss_step", Some(Role::Loss)),
            ("eval/loss", Some(Role::HeldOut)),
            ("val_loss", Some(Role::HeldOut)),
            ("loss/validation/step_average", Some(Role::HeldOut)),
            ("loss/validation/step_current", None),
            ("loss/validation/epoch_divergence", None),
            ("lr/unet", Some(Role::Rate)),
            ("train/learning_rate", Some(Role::Rate)),
            ("lr-AdamW", Some(Role::Rate)),
            ("lr/textencoder", None),
            ("lr/d*lr/unet", None),
            ("train/grad_norm", Some(Role::GradNorm)),
            ("norm/avg_grad_norm", Some(Role::GradNorm)),
            ("train/epoch", None),
        ] {
            assert_eq!(role(tag).map(|r| r.0), expected, "{tag}");
        }
    }

    #[test]
    fn of_several_losses_the_raw_one_counts() {
        let point = Point { step: 1, value: 1.0 };
        let tags = ["loss/average", "loss/current", "loss/epoch_average", "train/train_loss"];
        let series: BTreeMap<_, _> = tags
            .iter()
            .enumerate()
            .map(|(i, tag)| ((*tag).to_owned(), vec![Point { value: i as f64, ..point }]))
            .collect();
        assert_eq!(choose(&series)[&Role::Loss][0].value, 1.0);
    }
}
