//! All that the demo needs, as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::english::{house_rows, json_lines, suite};
use super::pictures::{picture_suite, style_pictures};
use crate::base::atomic;
use crate::picture::{PictureError, encode_png};

/// Pictures that the style is learnt from.
const PICTURES: usize = 240;
/// Lines that the way of speaking is learnt from.
const ROWS: usize = 640;
/// Prompts of a group of the suite of pictures.
const SCENES: usize = 16;
/// Prompts of a group of the suite of texts.
const TASKS: usize = 28;
/// Seeds: of what is trained on, and of the suites of pictures and of texts.
const SEED: u64 = 1;
const SUITES: (u64, u64) = (20, 7);

/// The configurations of `examples/demo/`.
const FILES: [(&str, &str); 3] = [
    ("image.yaml", include_str!("../../examples/demo/image.yaml")),
    ("image-policy.yaml", include_str!("../../examples/demo/image-policy.yaml")),
    ("text.yaml", include_str!("../../examples/demo/text.yaml")),
];

/// Adapters as the demo trains them.
const ADAPTERS: [(&str, &[u8]); 3] = [
    ("striped.safetensors", include_bytes!("../../assets/demo/adapters/striped.safetensors")),
    (
        "house-style/adapter_config.json",
        include_bytes!("../../assets/demo/adapters/house-style/adapter_config.json"),
    ),
    (
        "house-style/adapter_model.safetensors",
        include_bytes!("../../assets/demo/adapters/house-style/adapter_model.safetensors"),
    ),
];

/// Why the demo's files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file cannot be written.
    #[error("{}: cannot be written: {error}\nhint: name another folder with `--out`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is there that the demo did not write, or that was changed since.
    #[error(
        "{}: is there with other contents, and the demo changes no files of yours\nhint: name another folder with `--out`, or remove it",
        path.display()
    )]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A picture cannot be encoded.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// All that the demo needs.
#[derive(Debug, Clone, Copy)]
pub struct Materials {
    /// Trained adapters, and no examples to train from.
    pub quick: bool,
}

impl Materials {
    /// The suites of `examples/demo/` and the pictures that they refer to, by path.
    pub fn suites() -> Result<Vec<(String, Vec<u8>)>, DemoError> {
        let (pictures, references) = picture_suite(SCENES, SUITES.0);
        let texts = suite(TASKS, SUITES.1);
        let mut files = vec![
            ("image-suite.yaml".to_owned(), pictures.into_bytes()),
            ("text-suite.yaml".to_owned(), texts.into_bytes()),
        ];
        for (path, picture) in references {
            files.push((path, encode_png(&picture, &[])?));
        }
        Ok(files)
    }

    /// Writes into `out`: the files of `examples/demo/` with the pictures that suites refer to, and
    /// `pictures/` and `text-train.jsonl` to train from, or `adapters/`.
    pub fn write(&self, out: &Path) -> Result<(), DemoError> {
        for (name, text) in FILES {
            write(&out.join(name), text.as_bytes())?;
        }
        for (name, bytes) in Self::suites()? {
            write(&out.join(name), &bytes)?;
        }
        if self.quick {
            for (name, bytes) in ADAPTERS {
                write(&out.join("adapters").join(name), bytes)?;
            }
            return Ok(());
        }
        for (place, (picture, caption)) in style_pictures(PICTURES, SEED).iter().enumerate() {
            let file = out.join("pictures").join(format!("{:02}.png", place + 1));
            write(&file, &encode_png(picture, &[])?)?;
            write(&file.with_extension("txt"), caption.as_bytes())?;
        }
        let rows = json_lines(&house_rows(ROWS, SEED));
        write(&out.join("text-train.jsonl"), rows.as_bytes())
    }
}

/// A file that is there is left alone: with the same contents it is good, with others it is an error.
fn write(path: &Path, contents: &[u8]) -> Result<(), DemoError> {
    match fs::read(path) {
        Ok(there) if there == contents => return Ok(()),
        Ok(_) => return Err(DemoError::Taken { path: path.to_owned() }),
        Err(_) => {}
    }
    fs::create_dir_all(atomic::folder_of(path))
        .and_then(|()| atomic::write(path, contents))
        .map_err(|error| DemoError::Write { path: path.to_owned(), error })
}
