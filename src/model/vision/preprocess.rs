//! Pictures as a model wants them: what transformers' PIL processors do, to the bit.

use std::path::Path;

use serde_json::Value;

use super::VisionError;
use super::config::{Config, as_count};
use crate::picture::{Filter, Picture, resize_rgb};

/// How pictures are resized, cropped and normalised before a model sees them, as
/// `CLIPImageProcessorPil` and `BitImageProcessorPil` of transformers do it.
///
/// transformers takes its torchvision processors where torchvision is installed; those differ from
/// these by a level in some pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    resize: Option<(Target, Filter)>,
    /// (width, height)
    crop: Option<(usize, usize)>,
    factor: Option<f64>,
    /// Mean and standard deviation of each channel.
    normal: Option<([f32; 3], [f32; 3])>,
}

/// The size that pictures are resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The shorter edge; the longer one follows.
    Shortest(usize),
    /// (width, height)
    Exact(usize, usize),
}

/// A picture prepared for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// (3, height, width)
    pub values: Vec<f32>,
}

/// `OpenAI`'s, the default of both processors.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Longest side that a configuration may ask for.
const MOST: usize = 4096;

const CLASSES: [&str; 2] = ["CLIP", "Bit"];
const SUFFIXES: [&str; 4] =
    ["ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor"];

impl Preprocess {
    /// Of a model folder: `image_processor` in `processor_config.json`, or else
    /// `preprocessor_config.json`.
    pub fn open(folder: &Path) -> Result<Self, VisionError> {
        let whole = folder.join("processor_config.json");
        if whole.is_file() {
            let part = Config::read(&whole)?.part("image_processor");
            if part.is_object() {
                return Self::read(&part);
            }
        }
        Self::read(&Config::read(&folder.join("preprocessor_config.json"))?)
    }

    fn read(config: &Config) -> Result<Self, VisionError> {
        for key in ["image_processor_type", "feature_extractor_type"] {
            let known = |class: &str| {
                CLASSES.iter().any(|start| {
                    class.strip_prefix(start).is_some_and(|rest| SUFFIXES.contains(&rest))
                })
            };
            let value = config.value(key);
            if !value.is_null() && !value.as_str().is_some_and(known) {
                return Err(config.refuse(key, "`CLIPImageProcessor` or `BitImageProcessor`"));
            }
        }
        let triple = |key, default| match config.value(key) {
            Value::Null => Ok(default),
            value => triple(value).ok_or_else(|| config.refuse(key, "three numbers")),
        };
        let std = triple("image_std", STD)?;
        if std.contains(&0.0) {
            return Err(config.refuse("image_std", "three numbers other than 0"));
        }
        let normal = (triple("image_mean", MEAN)?, std);
        Ok(Self {
            resize: config
                .flag("do_resize", true)?
                .then(|| Ok::<_, VisionError>((target(config)?, filter(config)?)))
                .transpose()?,
            crop: config.flag("do_center_crop", true)?.then(|| crop(config)).transpose()?,
            factor: config
                .flag("do_rescale", true)?
                .then(|| config.positive("rescale_factor", 1.0 / 255.0))
                .transpose()?,
            normal: config.flag("do_normalize", true)?.then_some(normal),
        })
    }

    /// Prepares a picture.
    pub fn apply(&self, picture: &Picture) -> Result<Pixels, VisionError> {
        let (mut width, mut height) = (picture.width as usize, picture.height as usize);
        let mut rgb = std::borrow::Cow::Borrowed(picture.rgb.as_slice());
        if let Some((target, filter)) = self.resize {
            let to = target.of(width, height);
            rgb = resize_rgb(&rgb, (width, height), to, filter)?.into();
            (width, height) = to;
        }
        let (to_width, to_height) = self.crop.unwrap_or((width, height));
        let (left, top) = (offset(width, to_width), offset(height, to_height));
        let mut values = vec![0.0; 3 * to_width * to_height];
        let planes = values.chunks_exact_mut((to_width * to_height).max(1)).enumerate();
        for (channel, plane) in planes {
            plane.fill(self.value(0, channel));
            let level: Vec<f32> = (0..=255).map(|level| self.value(level, channel)).collect();
            for (y, row) in plane.chunks_exact_mut(to_width.max(1)).enumerate() {
                let Some(y) = place(y, top, height) else { continue };
                for (x, value) in row.iter_mut().enumerate() {
                    let Some(x) = place(x, left, width) else { continue };
                    let byte = rgb.get((y * width + x) * 3 + channel).copied().unwrap_or(0);
                    *value = level[usize::from(byte)];
                }
            }
        }
        Ok(Pixels { width: to_width, height: to_height, values })
    }

    /// What a level of a channel becomes: scaled in f64 and rounded, then normalised in f32.
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
    fn value(&self, level: u8, channel: usize) -> f32 {
        let value = match self.factor {
            Some(factor) => (f64::from(level) * factor) as f32,
            None => f32::from(level),
        };
        match self.normal {
            Some((mean, std)) => (value - mean[channel]) / std[channel],
            None => value,
        }
    }
}

impl Target {
    /// The (width, height) that a picture gets.
    fn of(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Exact(width, height) => (width, height),
            Self::Shortest(edge) if width <= height => (edge, edge * height / width.max(1)),
            Self::Shortest(edge) => (edge * width / height.max(1), edge),
        }
    }
}

/// Where a centred window of `to` pixels begins on a side of `from`; below 0 if it is longer.
fn offset(from: usize, to: usize) -> isize {
    (from.cast_signed() - to.cast_signed()).div_euclid(2)
}

/// The source of pixel `at` of a window, unless it lies outside.
fn place(at: usize, offset: isize, length: usize) -> Option<usize> {
    at.checked_add_signed(offset).filter(|at| *at < length)
}

fn triple(value: &Value) -> Option<[f32; 3]> {
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
    let number = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
    match value {
        Value::Array(values) => {
            let values: Option<Vec<f32>> = values.iter().map(number).collect();
            values?.try_into().ok()
        }
        value => number(value).map(|x| [x; 3]),
    }
}

fn target(config: &Config) -> Result<Target, VisionError> {
    let size = config.value("size");
    let edge = |value: &Value| side(value).map(Target::Shortest);
    let found = match size {
        Value::Null => Some(Target::Shortest(224)),
        Value::Object(size) if size.contains_key("shortest_edge") => {
            // with a longest edge, it is another rule
            if size.get("longest_edge").is_none_or(Value::is_null) {
                edge(&size["shortest_edge"])
            } else {
                None
            }
        }
        Value::Object(_) => exact(size).map(|(width, height)| Target::Exact(width, height)),
        size => edge(size),
    };
    found.ok_or_else(|| {
        config.refuse("size", "`shortest_edge`, or `height` and `width`, from 1 to 4096 pixels")
    })
}

fn crop(config: &Config) -> Result<(usize, usize), VisionError> {
    let size = config.value("crop_size");
    let found = match size {
        Value::Null => Some((224, 224)),
        Value::Object(_) => exact(size),
        size => side(size).map(|side| (side, side)),
    };
    found.ok_or_else(|| config.refuse("crop_size", "`height` and `width` from 1 to 4096 pixels"))
}

/// (width, height)
fn exact(size: &Value) -> Option<(usize, usize)> {
    Some((side(&size["width"])?, side(&size["height"])?))
}

fn side(size: &Value) -> Option<usize> {
    as_count(size).filter(|side| *side <= MOST)
}

/// `resample`, a number of Pillow's.
fn filter(config: &Config) -> Result<Filter, VisionError> {
    match config.value("resample") {
        Value::Null => Ok(Filter::Bicubic),
        value => match value.as_u64() {
            Some(1) => Ok(Filter::Lanczos),
            Some(2) => Ok(Filter::Bilinear),
            Some(3) => Ok(Filter::Bicubic),
            _ => Err(config.refuse("resample", "1 (Lanczos), 2 (bilinear) or 3 (bicubic)")),
        },
    }
}
