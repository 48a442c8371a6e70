//! The autoencoder of a Stable Diffusion base, which generating needs and merging does not.

use std::path::Path;

use super::error::BaseError;
use super::layout;
use super::source::{self, Base, Shape};
use crate::adapter::{Component, ModuleId};
use crate::tensors::TensorError;

/// Its prefix in a single file of the original layout.
const ORIGINAL: &str = "first_stage_model.";

/// Adds the base's own autoencoder, where it has one.
pub(super) fn add_own(base: &mut Base) -> Result<(), BaseError> {
    match base.shape {
        Shape::Pipeline if base.path.join(Component::Vae.name()).is_dir() => {
            let first = base.files.len();
            source::open_model(base, Path::new(Component::Vae.name()), Some(Component::Vae))?;
            name(base, first, "");
        }
        Shape::File => name(base, 0, ORIGINAL),
        _ => {}
    }
    Ok(())
}

/// Takes the autoencoder of a file or folder instead of the base's own.
pub(super) fn replace(base: &mut Base, path: &Path) -> Result<(), BaseError> {
    base.table.remove(Component::Vae);
    base.configs.remove(&Component::Vae);
    base.files.retain(|file| file.component != Some(Component::Vae));
    let first = base.files.len();
    if path.is_dir() {
        // a relative one would be looked for in the base's folder
        let path = std::path::absolute(path).map_err(|e| TensorError::io(path, e))?;
        let inner = path.join(Component::Vae.name());
        let folder = if inner.is_dir() { inner } else { path };
        source::open_model(base, &folder, Some(Component::Vae))?;
    } else {
        source::open_weights(base, path, Component::Vae)?;
    }
    for file in &mut base.files[first..] {
        // where it lies does not matter for what is drawn
        let name = file.relative.file_name().unwrap_or_default();
        file.relative = Path::new(Component::Vae.name()).join(name);
    }
    let original = base.files[first..]
        .iter()
        .any(|file| file.file.names().any(|name| name.starts_with(ORIGINAL)));
    name(base, first, if original { ORIGINAL } else { "" });
    if !base.table.components().contains(&Component::Vae) {
        return Err(BaseError::NotABase {
            path: path.to_owned(),
            problem: "holds no autoencoder".to_owned(),
            hint: "give a folder of diffusers' `AutoencoderKL`, or a .safetensors file of one or of a whole model",
        });
    }
    Ok(())
}

/// Names the autoencoder's modules in the files from `first` on.
fn name(base: &mut Base, first: usize, prefix: &str) {
    let of =
        |index: usize| base.files[index].file.names().filter_map(|name| name.strip_prefix(prefix));
    // how many levels the decoder has, to count them from the other end
    let level = |name: &str| -> Option<usize> {
        name.strip_prefix("decoder.up.")?.split('.').next()?.parse().ok()
    };
    let levels = (first..base.files.len()).flat_map(of).filter_map(level).max();
    let levels = levels.map_or(0, |last| last.saturating_add(1));
    for index in first..base.files.len() {
        let file = base.files[index].clone();
        for key in file.file.names() {
            let Some(path) = key.strip_prefix(prefix).and_then(|k| k.strip_suffix(".weight"))
            else {
                continue;
            };
            let known = ["encoder.", "decoder.", "quant_conv", "post_quant_conv"];
            if !known.iter().any(|start| path.starts_with(start)) {
                continue;
            }
            let path = super::diffusion::autoencoder_to_diffusers(path, levels)
                .unwrap_or_else(|| path.to_owned());
            let id = ModuleId::new(Component::Vae, &path);
            layout::add(&mut base.table, index, &file, id, key);
        }
    }
}
