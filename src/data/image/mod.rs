//! Pictures and captions to train on, without any model.
//!
//! - [`read`], [`scan`]: the examples of a folder, in any of the layouts that tools write
//! - [`place`]: which bucket a picture falls into, as sd-scripts has it
//! - [`Augment`], [`pixels`]: what a picture becomes at one visit
//! - [`caption`]: what its caption becomes
//!
//! Examples are in the order of their paths' bytes, so an example's number, and with it everything
//! that is drawn for it, depends on the names in the folder alone.

mod augment;
mod beside;
mod bucket;
mod caption;
mod csv;
mod files;
mod jitter;
mod listed;
mod pixels;
mod problem;
mod rows;
mod scan;

use std::path::PathBuf;

use rayon::prelude::*;

pub use augment::Augment;
pub use bucket::{Placed, bucket_sizes, place};
pub use caption::{caption, is_random, plain_caption, possible_captions};
pub use jitter::Jitter;
pub use pixels::{TimeIds, latent_key, pixels, time_ids};
pub use problem::{Problem, ProblemKind};
pub use scan::{read, read_folder, scan};

use crate::picture::{self, PictureError};

/// Where captions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A CSV: `metadata.csv`, or the list that the settings name.
    Csv,
    /// JSON Lines: `metadata.jsonl` of Hugging Face's `imagefolder`, or the list that is named.
    JsonLines,
    /// A JSON file that the settings name: sd-scripts' metadata, or a list of rows.
    Json,
    /// sd-scripts' folders `REPEATS_NAME`, captions beside the pictures or else the folder's name.
    NumberedFolders,
    /// Pictures in one folder, captions in files beside them.
    CaptionFiles,
}

impl Layout {
    /// What it is, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Csv => "a CSV list",
            Self::JsonLines => "a JSON Lines list",
            Self::Json => "a JSON list",
            Self::NumberedFolders => "folders named `REPEATS_NAME`",
            Self::CaptionFiles => "files beside the pictures",
        }
    }
}

/// A picture and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The picture's file.
    pub picture: PathBuf,
    /// Its captions, at least one; an empty one where there is none.
    pub captions: Vec<String>,
    /// How often it is seen in an epoch.
    pub repeats: usize,
    /// The file that has its caption, and the line from 1; `None` where no line is known.
    pub source: Option<(PathBuf, usize)>,
    /// Whether it is a regularization picture.
    pub class: bool,
}

/// The examples of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// Where the captions come from.
    pub layout: Layout,
    /// The folder.
    pub folder: PathBuf,
    /// In the order of their paths' bytes.
    pub examples: Vec<Example>,
    /// What was chosen and left out, a sentence each.
    pub notes: Vec<String>,
}

impl ImageSet {
    /// Width and height of each example's picture, from the files' headers.
    pub fn sizes(&self) -> Result<Vec<(usize, usize)>, PictureError> {
        let size = |example: &Example| {
            let (width, height) = picture::size(&example.picture)?;
            Ok((width as usize, height as usize))
        };
        self.examples.par_iter().map(size).collect()
    }
}

/// Settings of which nothing is asked.
#[cfg(test)]
pub(super) fn test_settings() -> crate::config::DataSettings {
    use crate::config::{DataSettings, ImageDataSettings, TextDataSettings, TrainOn};
    DataSettings {
        train: PathBuf::from("train"),
        metadata: None,
        regularization: None,
        held_out: None,
        held_out_split: 0.0,
        repeats: 1,
        image: ImageDataSettings {
            resolution: (512, 512),
            buckets: true,
            min_bucket: 256,
            max_bucket: 1024,
            bucket_step: 64,
            no_upscale: false,
            caption_extension: None,
            caption_prefix: String::new(),
            caption_suffix: String::new(),
            trigger: None,
            shuffle_tags: false,
            keep_tags: 0,
            caption_dropout: 0.0,
            tag_dropout: 0.0,
            flip: false,
            random_crop: false,
            color_jitter: false,
            cache_latents: true,
            cache_texts: true,
            cache_dir: None,
            max_caption_tokens: 75,
        },
        text: TextDataSettings {
            max_length: 1024,
            packing: false,
            train_on: TrainOn::Answers,
            append_eos: true,
        },
    }
}
