//! The examples of a training: read, measured, and a part of them held out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::TrainError;
use super::image::{Picture, Pictures};
use super::training::hash_all;
use crate::adapter::Component;
use crate::base::digest::{sha256, sha256_tree};
use crate::base::random::Random;
use crate::config::{ImageDataSettings, Settings};
use crate::data::image::{self, Example, ImageSet};
use crate::data::text::{TextExample, encode, read_rows};
use crate::model::Base;
use crate::picture;
use crate::text::{Clock, TextTokenizer};

/// What chat templates are told the time is, 2024-07-26: a training that goes on tomorrow sees the same
/// texts.
pub const CLOCK: Clock = Clock::At(1_721_952_000);

/// Texts to learn from, and those held out.
pub type Texts = (Vec<TextExample>, Vec<TextExample>);

/// The texts of a training, and what a user should know of them.
pub fn texts(
    settings: &Settings,
    tokenizer: &TextTokenizer,
) -> Result<(Texts, Vec<String>), TrainError> {
    let data = &settings.data;
    let read = |path| -> Result<_, TrainError> {
        let rows = read_rows(path)?;
        let mut set = encode(&rows, tokenizer, CLOCK, &data.text)?;
        set.notes.splice(0..0, rows.notes);
        Ok(set)
    };
    let mut set = read(data.metadata.as_deref().unwrap_or(&data.train))?;
    let mut notes = vec![set.summary()];
    notes.append(&mut set.notes);
    let texts = match &data.held_out {
        Some(path) => {
            let mut held_out = read(path)?;
            notes.push(format!("held out: {}", held_out.summary()));
            notes.append(&mut held_out.notes);
            (set.examples, held_out.examples)
        }
        None => split(set.examples, data.held_out_split, settings.run.seed),
    };
    notes.extend(nothing_held_out(settings, texts.1.len()));
    Ok((texts, notes))
}

/// The pictures of a training.
pub fn pictures(settings: &Settings) -> Result<(ImageSet, Pictures), TrainError> {
    let data = &settings.data;
    let mut set = image::read(data)?;
    let all = measured(set.examples.clone(), &data.image)?;
    let (mut train, held_out) = match &data.held_out {
        Some(folder) => {
            let held_out = image::read_folder(folder, data)?;
            (all, measured(held_out.examples, &data.image)?)
        }
        None => split(all, data.held_out_split, settings.run.seed),
    };
    if let Some(folder) = &data.regularization {
        let class = image::read_folder(folder, data)?;
        let class = class.examples.into_iter().map(|example| Example { class: true, ..example });
        train.extend(measured(class.collect(), &data.image)?);
    }
    set.notes.extend(nothing_held_out(settings, held_out.len()));
    Ok((set, (train, held_out)))
}

/// What a user should know who waits for a held-out loss that does not come.
fn nothing_held_out(settings: &Settings, held_out: usize) -> Option<String> {
    let wanted = settings.data.held_out_split > 0.0 || settings.validation.patience.is_some();
    (held_out == 0 && wanted).then(|| {
        let patience = settings.validation.patience.map_or("", |_| ", `validation.patience` never ends it");
        format!("no example is held out, so there is no held-out loss and no best checkpoint{patience}: raise `data.held_out_split`, or name `data.held_out`")
    })
}

fn measured(
    examples: Vec<Example>,
    settings: &ImageDataSettings,
) -> Result<Vec<Picture>, TrainError> {
    let measure = |example: Example| {
        let (width, height) = picture::size(&example.picture)?;
        let size = (width as usize, height as usize);
        Ok(Picture { example, size, placed: image::place(size, settings) })
    };
    examples.into_par_iter().map(measure).collect()
}

/// A part of the examples held out: the first of an order drawn from the seed. At least one stays on
/// either side, or nothing is held out.
fn split<T>(examples: Vec<T>, part: f64, seed: u64) -> (Vec<T>, Vec<T>) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a count"
    )]
    let count = ((examples.len() as f64 * part) as usize).min(examples.len().saturating_sub(1));
    let order = Random::new(seed, "held-out").permutation(examples.len(), 0);
    let chosen: std::collections::BTreeSet<usize> = order.into_iter().take(count).collect();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (place, example) in examples.into_iter().enumerate() {
        if chosen.contains(&place) { held_out.push(example) } else { train.push(example) }
    }
    (train, held_out)
}

/// What the data is known by when a training goes on.
pub fn hash_of_texts(examples: &[TextExample]) -> String {
    let hashes: Vec<String> = examples
        .par_iter()
        .map(|example| {
            let tokens: Vec<u8> =
                example.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            let flags: Vec<u8> = example.trained.iter().map(|trained| u8::from(*trained)).collect();
            sha256(&[tokens, flags].concat())
        })
        .collect();
    hash_all(hashes.iter().map(String::as_str))
}

/// The same of pictures: names, sizes of files and captions.
pub fn hash_of_pictures(pictures: &Pictures, settings: &ImageDataSettings) -> String {
    let line = |picture: &Picture| {
        let example = &picture.example;
        let name = example.picture.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::metadata(&example.picture).map_or(0, |file| file.len());
        format!("{name} {bytes} {:?} {:?} {}", picture.placed, example.captions, example.repeats)
    };
    let mut lines: Vec<String> = pictures.0.iter().map(line).collect();
    // where the cache is changes nothing
    lines.push(format!("{:?}", ImageDataSettings { cache_dir: None, ..settings.clone() }));
    hash_all(lines.iter().map(String::as_str))
}

/// Hashes of the weights of the autoencoder and of the text encoders.
pub fn hashes_of_encoders(base: &Base) -> [String; 2] {
    let of = |wanted: &dyn Fn(Component) -> bool| {
        let mut text = String::new();
        for target in base.table.targets().filter(|target| wanted(target.id.component)) {
            for slot in std::iter::once(&target.weight).chain(&target.bias) {
                let hash = base.tensor(slot).map(|tensor| sha256_tree(tensor.bytes()));
                let _ = writeln!(text, "{} {}", target.id.path, hash.unwrap_or_default());
            }
        }
        sha256(text.as_bytes())
    };
    [of(&|component| component == Component::Vae), of(&Component::is_text_encoder)]
}

/// Pictures without a word.
pub fn empty_captions(pictures: &[Picture]) -> usize {
    let empty = |picture: &&Picture| picture.example.captions.iter().all(String::is_empty);
    pictures.iter().filter(empty).count()
}

/// How often each part of a caption between commas occurs, by folder: sd-scripts' `ss_tag_frequency`.
pub fn tag_frequency(pictures: &[Picture]) -> Value {
    let mut folders: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for Picture { example, .. } in pictures {
        let folder = example.picture.parent().and_then(|folder| folder.file_name());
        let folder = folder.unwrap_or_default().to_string_lossy().into_owned();
        let counts = folders.entry(folder).or_default();
        for tag in example.captions.iter().flat_map(|caption| caption.split(',')) {
            if !tag.trim().is_empty() {
                *counts.entry(tag.trim().to_lowercase()).or_default() += 1;
            }
        }
    }
    json!(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_held_out_and_the_rest_keeps_its_order() {
        let (train, held_out) = split((0..30).collect(), 0.1, 5);
        assert_eq!((train.len(), held_out.len()), (27, 3));
        assert!(train.is_sorted() && held_out.is_sorted());
        assert_eq!(split((0..30).collect(), 0.1, 5).1, held_out);
        assert_ne!(split((0..30).collect(), 0.1, 6).1, held_out);
    }

    #[test]
    fn few_examples_are_all_learnt_from() {
        assert_eq!(split(vec![1, 2, 3], 0.1, 0).1.len(), 0);
        assert_eq!(split(vec![1], 0.9, 0).1.len(), 0);
    }
}
