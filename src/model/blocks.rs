//! The blocks of a model, for which an adapter may have weights of its own.
//!
//! Of Stable Diffusion they are those of the `WebUI`'s extension LoRA Block Weight
//! (hako-mikan/sd-webui-lora-block-weight): `BASE` for the text encoders, then the denoiser's
//! `input_blocks`, `middle_block` and `output_blocks` in the original layout. A language model has one
//! for each decoder layer, and `BASE` for all else.

use std::collections::BTreeSet;

use super::{Base, WrongBase, fit};
use crate::adapter::{Adapter, Component, ModuleId};

/// The blocks of one model, in the order in which weights are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    names: Vec<String>,
    form: Form,
    /// Blocks that a short list of weights is about, in its order.
    short: Vec<usize>,
}

/// What a module's path says about its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Decoder,
    /// A denoiser of so many levels with so many places each: its layers, and the step between levels.
    Unet {
        levels: usize,
        places: usize,
    },
}

/// A list of weights that is neither a long nor a short one of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found} weights by block, expected {long} or {short}\nhint: {long} are {long_names}; {short} are {short_names}"
)]
pub struct BlockError {
    found: usize,
    long: usize,
    short: usize,
    long_names: String,
    short_names: String,
}

/// Most layers, and most levels or places, that a file's names are believed.
const MAX_LAYERS: usize = 1024;
const MAX_LEVELS: usize = 32;

impl Blocks {
    /// The first block: text encoders, or what is no layer of a language model.
    pub const BASE: usize = 0;

    /// Those of a base, by its modules.
    pub fn of(base: &Base) -> Self {
        let modules = || base.table.targets().map(|target| &target.id);
        if modules().any(|id| id.component == Component::Language) {
            let layers = modules().filter_map(layer).filter(|layer| *layer < MAX_LAYERS);
            return Self::decoder(layers.max().map_or(0, |last| last + 1));
        }
        let unet = || modules().filter(|id| id.component == Component::Unet);
        let resnets = || {
            let places = unet().filter_map(|id| place(&id.path));
            places.filter(|(side, kind, ..)| *side == "down_blocks" && *kind == "resnets")
        };
        let count = |numbers: &mut dyn Iterator<Item = usize>| {
            numbers.filter(|n| *n < MAX_LEVELS).max().map_or(0, |last| last + 1)
        };
        let levels = count(&mut resnets().map(|(_, _, level, _)| level));
        let places = 1 + count(&mut resnets().map(|(_, _, _, layer)| layer));
        let form = Form::Unet { levels, places };
        let attends = unet().filter(|id| id.path.contains("attentions."));
        let mut short: BTreeSet<usize> = attends.filter_map(|id| form.of_module(id)).collect();
        short.extend([Self::BASE, 1 + levels * places]);
        let numbered = |side: &str| -> Vec<String> {
            (0..levels * places).map(|n| format!("{side}{n:02}")).collect()
        };
        let names = [vec!["BASE".to_owned()], numbered("IN"), vec!["MID".to_owned()]];
        let names = [names.concat(), numbered("OUT")].concat();
        Self { names, form, short: short.into_iter().collect() }
    }

    /// Those of a language model of so many layers.
    pub fn decoder(layers: usize) -> Self {
        let names = (0..layers).map(|layer| format!("L{layer:02}"));
        let names = std::iter::once("BASE".to_owned()).chain(names).collect();
        Self { names, form: Form::Decoder, short: (1..=layers).collect() }
    }

    /// Their names: `BASE`, `IN00`, …, `MID`, `OUT00`, … or `BASE`, `L00`, ….
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The block of a module of the base; `None` for one that no weight is about.
    pub fn of_module(&self, id: &ModuleId) -> Option<usize> {
        self.form.of_module(id).filter(|block| *block < self.names.len())
    }

    /// The blocks in which an adapter changes something.
    pub fn acting(
        &self,
        adapter: &Adapter,
        base: &Base,
    ) -> Result<BTreeSet<usize>, Box<WrongBase>> {
        let fit = fit(adapter, base).map_err(Box::new)?;
        Ok(fit.matched.iter().filter_map(|(_, target)| self.of_module(&target.id)).collect())
    }

    /// A weight for every block from a list as a user writes it: of all blocks, or a short one.
    ///
    /// A short list of Stable Diffusion names the text encoders and the blocks with attention (17 numbers
    /// for SD 1.x and 2.x, 12 for SDXL), and as in the extension the others get 0. A short list of a
    /// language model names the layers, and all else keeps 1.
    pub fn weights(&self, given: &[f64]) -> Result<Vec<f64>, BlockError> {
        if given.len() == self.names.len() {
            return Ok(given.to_vec());
        }
        if given.len() != self.short.len() {
            let short: Vec<usize> = self.short.clone();
            let long: Vec<usize> = (0..self.names.len()).collect();
            return Err(BlockError {
                found: given.len(),
                long: long.len(),
                short: short.len(),
                long_names: self.spelled(&long),
                short_names: self.spelled(&short),
            });
        }
        let mut weights = vec![self.unlisted(); self.names.len()];
        for (block, weight) in self.short.iter().zip(given) {
            if let Some(place) = weights.get_mut(*block) {
                *place = *weight;
            }
        }
        Ok(weights)
    }

    /// Weights of all blocks as a list that is short where that says the same, given the blocks in which
    /// the adapter acts.
    pub fn written(&self, weights: &[f64], acting: &BTreeSet<usize>) -> Vec<f64> {
        let says_same = acting.iter().all(|block| {
            self.short.contains(block) || weights.get(*block) == Some(&self.unlisted())
        });
        if !says_same {
            return weights.to_vec();
        }
        self.short.iter().filter_map(|block| weights.get(*block).copied()).collect()
    }

    /// What a short list gives to blocks that it does not name.
    fn unlisted(&self) -> f64 {
        if self.form == Form::Decoder { 1.0 } else { 0.0 }
    }

    /// `BASE, IN00 … IN11, MID`
    fn spelled(&self, blocks: &[usize]) -> String {
        let name = |block: &usize| self.names.get(*block).map_or("", String::as_str);
        let kind = |block: &usize| name(block).trim_end_matches(|c: char| c.is_ascii_digit());
        let runs = blocks.chunk_by(|a, b| a + 1 == *b && kind(a) == kind(b));
        let runs = runs.map(|run| match run {
            [first, _, .., last] => format!("{} … {}", name(first), name(last)),
            few => few.iter().map(name).collect::<Vec<_>>().join(", "),
        });
        runs.collect::<Vec<_>>().join(", ")
    }
}

impl Form {
    fn of_module(self, id: &ModuleId) -> Option<usize> {
        match (self, id.component) {
            (_, Component::TextEncoder | Component::TextEncoder2) => Some(Blocks::BASE),
            (Self::Decoder, _) => Some(layer(id).map_or(Blocks::BASE, |layer| 1 + layer)),
            (Self::Unet { levels, places }, Component::Unet) => {
                if id.path == "conv_in" {
                    return Some(1);
                }
                let middle = 1 + levels * places;
                if id.path.starts_with("mid_block.") {
                    return Some(middle);
                }
                let (side, kind, level, layer) = place(&id.path)?;
                let layer = if kind.ends_with("samplers") { places.checked_sub(1)? } else { layer };
                // the first input block is `conv_in`
                let first = if side == "down_blocks" { 2 } else { 1 + middle };
                (level < levels && layer < places).then_some(first + level * places + layer)
            }
            _ => None,
        }
    }
}

/// The number of a module's decoder layer.
fn layer(id: &ModuleId) -> Option<usize> {
    id.path.split_once("layers.")?.1.split('.').next()?.parse().ok()
}

/// `down_blocks.1.resnets.0…` as its parts.
fn place(path: &str) -> Option<(&str, &str, usize, usize)> {
    let mut parts = path.split('.');
    let side = parts.next().filter(|side| matches!(*side, "down_blocks" | "up_blocks"))?;
    let level = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    Some((side, kind, level, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn base(path: &str) -> Base {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
        Base::open_to_run(&fixtures.join(path)).unwrap()
    }

    /// The extension's own lists: `BLOCKID17`, `BLOCKID12`, and the lengths of the long ones.
    #[test]
    fn stable_diffusion_has_the_blocks_of_the_extension() {
        let outs = |range: std::ops::Range<usize>| range.map(|n| format!("OUT{n:02}"));
        let ins = ["IN01", "IN02", "IN04", "IN05", "IN07", "IN08"].map(str::to_owned);
        let named = |ins: &[String], outs: &mut dyn Iterator<Item = String>| -> Vec<String> {
            let start = std::iter::once("BASE".to_owned()).chain(ins.iter().cloned());
            start.chain(["MID".to_owned()]).chain(outs).collect()
        };
        let sd1 = named(&ins, &mut outs(3..12));
        let sdxl = named(&ins[2..], &mut outs(0..6));
        for (path, long, short) in [
            ("diffusion/sd1", 26, &sd1),
            ("diffusion/sd1.safetensors", 26, &sd1),
            ("diffusion/sd2", 26, &sd1),
            ("diffusion/sdxl", 20, &sdxl),
            ("diffusion/sdxl.safetensors", 20, &sdxl),
        ] {
            let blocks = Blocks::of(&base(path));
            assert_eq!(blocks.names().len(), long, "{path}");
            let names: Vec<_> = blocks.short.iter().map(|block| &blocks.names[*block]).collect();
            assert_eq!(names, short.iter().collect::<Vec<_>>(), "{path}");
        }
    }

    /// By the original layout's own names, read with the table that adapters are read with.
    #[test]
    fn a_module_is_in_the_block_that_its_original_name_says() {
        let blocks = Blocks::of(&base("diffusion/sd1"));
        for (original, name) in [
            ("input_blocks.0.0", Some("IN00")),
            ("input_blocks.1.1.proj_in", Some("IN01")),
            ("input_blocks.3.0.op", Some("IN03")),
            ("input_blocks.8.1.transformer_blocks.0.attn1.to_q", Some("IN08")),
            ("input_blocks.11.0.in_layers.2", Some("IN11")),
            ("middle_block.1.proj_in", Some("MID")),
            ("output_blocks.0.0.in_layers.2", Some("OUT00")),
            ("output_blocks.2.1.conv", Some("OUT02")),
            ("output_blocks.5.2.conv", Some("OUT05")),
            ("output_blocks.11.1.proj_out", Some("OUT11")),
            ("time_embed.0", None),
            ("out.2", None),
        ] {
            let path = crate::adapter::ldm::unet_to_diffusers(original, 2).unwrap();
            let block = blocks.of_module(&ModuleId::new(Component::Unet, &path));
            assert_eq!(block.map(|block| blocks.names()[block].as_str()), name, "{original}");
        }
        let text = ModuleId::new(Component::TextEncoder, "encoder.layers.1.mlp.fc1");
        assert_eq!(blocks.of_module(&text), Some(Blocks::BASE));
    }

    #[test]
    fn a_language_model_has_a_block_a_layer_and_one_for_the_rest() {
        for path in ["decoders/llama/model", "decoders/gguf-llama-f32/gguf-llama-f32.gguf"] {
            let blocks = Blocks::of(&base(path));
            assert_eq!(blocks.names(), ["BASE", "L00", "L01"], "{path}");
        }
        let blocks = Blocks::decoder(12);
        let block = |path| blocks.of_module(&ModuleId::new(Component::Language, path));
        assert_eq!(block("model.layers.11.mlp.up_proj"), Some(12));
        assert_eq!(block("layers.0.self_attn.q_proj"), Some(1));
        assert_eq!(block("lm_head"), Some(Blocks::BASE));
        assert_eq!(block("model.layers.12.mlp.up_proj"), None);
    }

    #[test]
    fn short_lists_leave_the_rest_at_0_or_1() {
        let decoder = Blocks::decoder(2);
        assert_eq!(decoder.weights(&[0.5, 2.0]).unwrap(), [1.0, 0.5, 2.0]);
        assert_eq!(decoder.weights(&[0.0, 0.5, 2.0]).unwrap(), [0.0, 0.5, 2.0]);
        let sd1 = Blocks::of(&base("diffusion/sd1"));
        let weights = sd1.weights(&[1.0; 17]).unwrap();
        assert_eq!(weights.iter().sum::<f64>(), 17.0);
        assert_eq!((weights[0], weights[1], weights[2]), (1.0, 0.0, 1.0));
        let error = sd1.weights(&[1.0; 5]).unwrap_err().to_string();
        assert!(error.starts_with("5 weights by block, expected 26 or 17\nhint: "), "{error}");
        assert!(error.contains("26 are BASE, IN00 … IN11, MID, OUT00 … OUT11; 17 are"), "{error}");
        assert!(error.ends_with("IN07, IN08, MID, OUT03 … OUT11"), "{error}");
    }

    #[test]
    fn a_list_is_written_short_where_that_says_the_same() {
        let sd1 = Blocks::of(&base("diffusion/sd1"));
        let mut weights = vec![1.0; 26];
        weights[2] = 0.0;
        let attention: BTreeSet<usize> = sd1.short.iter().copied().collect();
        let short = sd1.written(&weights, &attention);
        assert_eq!(short.len(), 17);
        let read = sd1.weights(&short).unwrap();
        assert!(attention.iter().all(|block| read[*block] == weights[*block]));
        assert_eq!(sd1.written(&weights, &(0..26).collect()), weights);
        let decoder = Blocks::decoder(2);
        assert_eq!(decoder.written(&[1.0, 0.0, 1.0], &[0, 1].into()), [0.0, 1.0]);
        assert_eq!(decoder.written(&[0.0, 0.0, 1.0], &[0, 1].into()), [0.0, 0.0, 1.0]);
    }
}
