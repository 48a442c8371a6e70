//! Models that are part of the program.
//!
//! Each is a folder in a usual layout, unpacked once to `CACHE/demo/NAME-DIGEST`. Every use compares
//! what lies there with the program's own bytes and writes anew what differs, so a file that was cut
//! short or edited is never read.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::HubError;
use crate::base::{atomic, digest};

/// A model that is part of the program.
pub(super) struct Shipped {
    name: &'static str,
    folder: &'static str,
    /// Paths below the folder, with `/`, and contents.
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! files {
    ($folder:literal: $($path:literal)+) => {
        &[$(($path, include_bytes!(concat!("../../assets/demo/", $folder, "/", $path)))),+]
    };
}

const SHIPPED: [Shipped; 2] = [
    Shipped {
        name: "demo:image",
        folder: "image",
        files: files!("image":
            "model_index.json"
            "scheduler/scheduler_config.json"
            "text_encoder/config.json"
            "text_encoder/model.safetensors"
            "tokenizer/merges.txt"
            "tokenizer/special_tokens_map.json"
            "tokenizer/tokenizer_config.json"
            "tokenizer/vocab.json"
            "unet/config.json"
            "unet/diffusion_pytorch_model.safetensors"
            "vae/config.json"
            "vae/diffusion_pytorch_model.safetensors"),
    },
    Shipped {
        name: "demo:text",
        folder: "text",
        files: files!("text":
            "chat_template.jinja"
            "config.json"
            "generation_config.json"
            "model.safetensors"
            "tokenizer.json"
            "tokenizer_config.json"),
    },
];

impl Shipped {
    /// The model of this name, `demo:image` or `demo:text`.
    pub fn named(name: &str) -> Option<&'static Self> {
        SHIPPED.iter().find(|shipped| shipped.name == name)
    }

    /// Puts the model below `cache` unless it is there already, and gives its folder.
    pub fn unpack(&self, cache: &Path) -> Result<PathBuf, HubError> {
        let root = cache.join("demo").join(format!("{}-{}", self.folder, self.digest()));
        for (file, contents) in self.files {
            let path = root.join(file);
            write_if_other(&path, contents).map_err(|error| HubError::Unpack {
                name: self.name,
                path,
                error,
            })?;
        }
        Ok(root)
    }

    /// Ten digits that stand for all its files, so that two versions of the program do not share one.
    fn digest(&self) -> String {
        let digests =
            self.files.iter().map(|(file, bytes)| format!("{file} {}\n", digest::sha256(bytes)));
        digest::sha256(digests.collect::<String>().as_bytes()).chars().take(10).collect()
    }
}

/// Two programs may do this at once: each file is replaced whole.
fn write_if_other(path: &Path, contents: &[u8]) -> io::Result<()> {
    match fs::read(path) {
        Ok(there) if there == contents => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(atomic::folder_of(path))?;
    atomic::write(path, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, root, found);
            } else {
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(path.replace('\\', "/"));
            }
        }
    }

    #[test]
    fn all_files_of_the_folders_are_in_the_program() {
        for shipped in &SHIPPED {
            let root =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo").join(shipped.folder);
            let mut found = Vec::new();
            below(&root, &root, &mut found);
            found.sort_unstable();
            let listed: Vec<&str> = shipped.files.iter().map(|(file, _)| *file).collect();
            assert_eq!(found, listed);
        }
    }

    #[test]
    fn what_is_damaged_in_the_cache_is_written_anew() {
        let cache = tempfile::tempdir().unwrap();
        let shipped = Shipped::named("demo:text").unwrap();
        let folder = shipped.unpack(cache.path()).unwrap();
        let (first, whole) = shipped.files[0];
        fs::write(folder.join(first), &whole[..whole.len() / 2]).unwrap();
        fs::remove_file(folder.join(shipped.files[1].0)).unwrap();
        assert_eq!(shipped.unpack(cache.path()).unwrap(), folder);
        for (file, contents) in shipped.files {
            assert_eq!(&fs::read(folder.join(file)).unwrap(), contents, "{file}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Shipped::named("demo:text").unwrap().unpack(&file).unwrap_err().to_string();
        assert!(error.contains("XDG_CACHE_HOME") && error.contains("file"), "{error}");
    }
}
