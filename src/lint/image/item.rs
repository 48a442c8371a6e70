use std::error::Error;
use std::path::{Path, PathBuf};

use crate::base::digest::sha256_file;
use crate::lint::Place;
use crate::metric::image::{HashKind, ImageHash, Pixels};
use crate::picture::{Filter, Picture, resize_rgb};

/// Pixels along each side of a picture's colours.
const SIDE: usize = 8;
/// Levels of 255 by which the colours of two pictures that look the same differ, on average.
const SAME_COLOURS: f64 = 12.0;
/// Bits of 64 in which the pHashes of two such pictures differ, at most.
const SAME_SHAPES: u32 = 4;

/// A picture and its captions.
#[derive(Debug, Clone)]
pub struct Item {
    /// The picture's file.
    pub picture: PathBuf,
    /// Its captions as they are trained on, with what is said before and after them.
    pub captions: Vec<String>,
    /// The file and line that the captions stand in.
    pub source: Option<(PathBuf, usize)>,
    /// Whether it is held out.
    pub held_out: bool,
    /// What it looks like; `None` if it cannot be decoded.
    pub look: Option<Look>,
}

/// What is kept of a picture's pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Width and height as it is seen.
    pub size: (usize, usize),
    /// Digest of the file.
    digest: String,
    /// Its shapes.
    hash: ImageHash,
    /// Its colours: (8, 8, 3).
    colours: Vec<u8>,
}

/// How much two pictures are alike, the most alike first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// The same file.
    Exact,
    /// So many bits of their pHashes differ, and hardly a colour.
    Near(u32),
}

impl Item {
    /// Where its caption is said: the file and line, or the picture itself.
    pub fn place(&self) -> Place {
        match &self.source {
            Some((file, line)) => Place::line(file, *line),
            None => Place::file(&self.picture),
        }
    }

    /// The picture's name for messages.
    pub fn name(&self) -> String {
        let name = self.picture.file_name().unwrap_or(self.picture.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

impl Look {
    /// Decodes a picture once for all that is asked of it; or says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let picture = crate::picture::read(path).map_err(|error| of_file(path, &error))?;
        let digest = sha256_file(path).map_err(|error| error.to_string())?;
        Self::of(&picture, digest).map_err(|error| of_file(path, &*error))
    }

    fn of(picture: &Picture, digest: String) -> Result<Self, Box<dyn Error>> {
        let pixels = Pixels::of(picture)?;
        let (size, hash) = (pixels.size(), HashKind::Perceptual.of(pixels)?);
        let colours = resize_rgb(&picture.rgb, size, (SIDE, SIDE), Filter::Bilinear)?;
        Ok(Self { size, digest, hash, colours })
    }

    /// How much two pictures are alike, if they look the same. A pHash is blind to colour, and all
    /// even pictures have the same one, so colours have a say too.
    pub fn likeness(&self, other: &Self) -> Option<Likeness> {
        let bits = self.hash.distance(other.hash);
        if bits > SAME_SHAPES {
            return None;
        }
        if self.digest == other.digest {
            return Some(Likeness::Exact);
        }
        let differences = self.colours.iter().zip(&other.colours).map(|(a, b)| a.abs_diff(*b));
        let sum: u32 = differences.map(u32::from).sum();
        let mean = f64::from(sum) / self.colours.len() as f64;
        (mean <= SAME_COLOURS).then_some(Likeness::Near(bits))
    }
}

/// What an error says of a file, without the file's name in front and the hint behind.
fn of_file(path: &Path, error: &dyn Error) -> String {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    first.strip_prefix(&format!("{}: ", path.display())).unwrap_or(first).to_owned()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::base::digest::sha256;
    use crate::config::{DataSettings, ImageDataSettings, TextDataSettings, TrainOn};
    use crate::picture::PictureError;

    /// A picture that nobody has looked at.
    pub fn item(picture: &str, caption: &str) -> Item {
        Item {
            picture: picture.into(),
            captions: vec![caption.to_owned()],
            source: None,
            held_out: false,
            look: None,
        }
    }

    /// 512 × 512 in buckets, captions as they are.
    pub fn settings() -> ImageDataSettings {
        ImageDataSettings {
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
            cache_latents: false,
            cache_texts: false,
            cache_dir: None,
            max_caption_tokens: 75,
        }
    }

    /// The pictures of a folder with those settings.
    pub fn data(train: &Path) -> DataSettings {
        DataSettings {
            train: train.to_owned(),
            metadata: None,
            regularization: None,
            held_out: None,
            held_out_split: 0.0,
            repeats: 1,
            image: settings(),
            text: TextDataSettings {
                max_length: 64,
                packing: false,
                train_on: TrainOn::All,
                append_eos: true,
            },
        }
    }

    /// A picture of `size` with waves of `frequency`, tinted.
    pub fn look(size: (usize, usize), frequency: f64, tint: u8) -> Look {
        let picture = waves(size, frequency, tint);
        Look::of(&picture, sha256(&picture.rgb)).unwrap()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "levels within 0 to 255, sides below 2³²"
    )]
    fn waves((width, height): (usize, usize), frequency: f64, tint: u8) -> Picture {
        let rgb = (0..width * height).flat_map(|at| {
            let (x, y) = ((at % width) as f64 / width as f64, (at / width) as f64 / height as f64);
            let wave = (x * frequency).sin() + (y * (frequency + 3.0) + x).cos();
            let level = (100.0 + 40.0 * wave) as u8;
            [level, level.saturating_add(tint), level]
        });
        Picture { width: width as u32, height: height as u32, rgb: rgb.collect() }
    }

    #[test]
    fn a_scaled_picture_looks_the_same_and_another_does_not() {
        let picture = look((200, 160), 7.0, 0);
        assert_eq!(picture.likeness(&picture), Some(Likeness::Exact));
        let scaled = look((150, 120), 7.0, 0);
        assert!(matches!(picture.likeness(&scaled), Some(Likeness::Near(_))));
        assert_eq!(picture.likeness(&look((200, 160), 17.0, 0)), None);
    }

    #[test]
    fn the_same_shapes_in_other_colours_look_different() {
        let (picture, green) = (look((64, 64), 7.0, 0), look((64, 64), 7.0, 90));
        assert_eq!(picture.likeness(&green), None);
    }

    #[test]
    fn an_error_is_told_without_its_file() {
        let path = Path::new("a: b.png");
        let error = PictureError::Format { path: path.to_owned() };
        assert_eq!(of_file(path, &error), "not a picture, expected PNG, JPEG or WebP");
    }
}
