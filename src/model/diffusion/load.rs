//! A whole pipeline.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::{
    Adapters, Attached, Context, DiffusionError, Parts, Placement, Skip, TextEncoder, Unet, Vae,
};
use crate::adapter::{Adapter, Component};
use crate::model::{Base, Blocks, Shape};
use crate::nn::Strengths;

/// Which Stable Diffusion it is, by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One text encoder of OpenAI's (CLIP-L).
    Sd1,
    /// One of OpenCLIP's, its last layer unused.
    Sd2,
    /// Both, and sizes.
    Sdxl,
}

/// The models of a base, adapters attached.
#[derive(Debug)]
pub struct Diffusion {
    /// The base.
    pub path: PathBuf,
    /// Which one it is.
    pub family: Family,
    /// The denoiser.
    pub unet: Unet,
    /// The text encoders: one, or SDXL's two.
    pub text: Vec<TextEncoder>,
    /// The autoencoder.
    pub vae: Vae,
    /// Where the base is a folder: its `scheduler/scheduler_config.json`.
    pub scheduler: Option<Value>,
    /// Whether a single file's denoiser gives velocities; meaningless where there is a scheduler.
    pub predicts_velocity: bool,
    /// Its blocks, as weights by block count them.
    pub block_list: Blocks,
    /// Where it computes.
    pub device: Device,
}

impl Diffusion {
    /// Loads the models of a base with adapters attached, in the order of
    /// [`crate::nn::Strengths`]. The second result has one entry an adapter.
    pub fn load(
        base: &Base,
        adapters: &[Adapter],
        placement: &Placement,
    ) -> Result<(Self, Vec<Attached>), DiffusionError> {
        let (changes, attached) = Adapters::new(adapters, base)?;
        Ok((Self::build(base, &changes, placement)?, attached))
    }

    /// Loads the models of a base with what adapters change in them.
    pub fn build(
        base: &Base,
        changes: &Adapters<'_>,
        placement: &Placement,
    ) -> Result<Self, DiffusionError> {
        let parts = |component| Parts::new(base, component, placement, changes);
        let components = base.table.components();
        for component in [Component::Unet, Component::TextEncoder, Component::Vae] {
            if !components.contains(&component) {
                return Err(lacking(base, component));
            }
        }
        let first = parts(Component::TextEncoder);
        let family = if components.contains(&Component::TextEncoder2) {
            Family::Sdxl
        } else if is_second(base, &first)? {
            Family::Sd2
        } else {
            Family::Sd1
        };
        let single = base.shape == Shape::File;
        let mut text = vec![TextEncoder::load(&first, single && family == Family::Sd2)?];
        if family == Family::Sdxl {
            text.push(TextEncoder::load(&parts(Component::TextEncoder2), false)?);
        }
        let unet = Unet::load(&parts(Component::Unet))?;
        let vae = load_vae(base, family, placement)?;
        let mut model = Self {
            path: base.path.clone(),
            family,
            unet,
            text,
            vae,
            scheduler: scheduler(base)?,
            predicts_velocity: false,
            block_list: Blocks::of(base),
            device: placement.device.clone(),
        };
        model.check()?;
        if single {
            model.predicts_velocity = says_velocity(base) || model.looks_like_velocity()?;
        }
        Ok(model)
    }

    /// Its autoencoder in f32, for latents that overflow in 16 bits.
    pub fn wide_autoencoder(&self, base: &Base) -> Result<Vae, DiffusionError> {
        let device = self.device.clone();
        let placement = Placement { device, dtype: DType::F32, stored: None };
        load_vae(base, self.family, &placement)
    }

    /// Whether its parts belong together.
    fn check(&self) -> Result<(), DiffusionError> {
        let wrong = |problem: String| DiffusionError::NotAPipeline {
            path: self.path.clone(),
            problem,
            hint: "its files belong to different models; fetch them again",
        };
        let width: usize = self.text.iter().map(TextEncoder::width).sum();
        let reads = self.unet.context_width();
        if width != reads {
            return Err(wrong(format!(
                "the denoiser reads texts of width {reads}, the text encoder gives {width}"
            )));
        }
        let (latents, channels) = (self.unet.latent_channels()?, self.vae.latent_channels());
        if latents != channels {
            return Err(wrong(format!(
                "the denoiser gives {latents} channels, the autoencoder takes {channels}"
            )));
        }
        if self.unet.pooled_width().is_some() != (self.family == Family::Sdxl) {
            return Err(wrong(
                "the denoiser's added embedding does not go with its text encoders".to_owned(),
            ));
        }
        Ok(())
    }

    /// Which output of the text encoders a clip skip (1: the last layer) asks for. SDXL uses the layer
    /// before the last one without the final norm, and skips 1 and 2 are that. The WebUI knows other
    /// skips for 1.x only.
    pub fn skip(&self, clip_skip: usize) -> Skip {
        let layers = clip_skip.max(1) - 1;
        match self.family {
            Family::Sdxl => Skip { layers: layers.max(1), norm: false },
            Family::Sd1 | Family::Sd2 => Skip { layers, norm: true },
        }
    }

    /// The WebUI's test for 2.x: a denoiser of velocities gives much less than its input at the last
    /// timestep (`is_using_v_parameterization_for_sd2`).
    fn looks_like_velocity(&self) -> Result<bool, DiffusionError> {
        if self.family != Family::Sd2 {
            return Ok(false);
        }
        let half = |shape: &[usize]| Tensor::full(0.5f32, shape, &self.device);
        let latents = half(&[1, self.unet.latent_channels()?, 8, 8])?;
        let tokens = half(&[1, 2, self.unet.context_width()])?;
        let context = Context { tokens, starts: Vec::new() };
        let given = self.unet.forward(&latents, &[999.0], &context, None, &Strengths::none(1))?;
        let off = (given - latents.to_dtype(DType::F32)?)?.mean_all()?.to_scalar::<f32>()?;
        Ok(off < -1.0)
    }
}

/// The autoencoder; no adapter changes it. One that overflows in f16 (SDXL's) is taken in f32.
fn load_vae(base: &Base, family: Family, placement: &Placement) -> Result<Vae, DiffusionError> {
    let scale = if family == Family::Sdxl { 0.13025 } else { 0.18215 };
    // as diffusers' pipelines: SDXL's looks at this key, which all files have, the others' do not
    let asked = base.configs.get(&Component::Vae).and_then(|c| c["force_upcast"].as_bool());
    let upcast = family == Family::Sdxl && asked.unwrap_or(true) && placement.dtype == DType::F16;
    let mut placement = placement.clone();
    if upcast {
        placement.dtype = DType::F32;
    }
    let placement = &placement;
    Vae::load(&Parts::new(base, Component::Vae, placement, &Adapters::default()), scale)
}

/// Whether a pipeline of one text encoder is a 2.x: by OpenCLIP's names in a file, in a folder by what
/// its denoiser projects before attention, tokens and not pixels.
fn is_second(base: &Base, text: &Parts<'_>) -> Result<bool, DiffusionError> {
    if base.shape == Shape::File {
        return Ok(text.is_open_clip());
    }
    let none = Adapters::default();
    let unet = Parts::new(base, Component::Unet, text.placement(), &none);
    Ok(unet.shape("mid_block.attentions.0.proj_in")?.len() == 2)
}

fn says_velocity(base: &Base) -> bool {
    let mut own = base.files.iter().filter(|file| file.component != Some(Component::Vae));
    own.any(|file| file.file.names().any(|name| name == "v_pred"))
}

fn scheduler(base: &Base) -> Result<Option<Value>, DiffusionError> {
    if base.shape != Shape::Pipeline {
        return Ok(None);
    }
    let path = base.path.join("scheduler").join("scheduler_config.json");
    let text = std::fs::read_to_string(&path).map_err(|_| DiffusionError::NotAPipeline {
        path: path.clone(),
        problem: "cannot be read, and says how the model is sampled".to_owned(),
        hint: "fetch the folder `scheduler` of this pipeline again",
    })?;
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(DiffusionError::Json { path, problem: e.to_string() }),
    }
}

fn lacking(base: &Base, component: Component) -> DiffusionError {
    let (problem, hint) = match component {
        Component::Unet => (
            "is not a Stable Diffusion model: it has no denoiser",
            "give a diffusers folder or one .safetensors file in the original layout",
        ),
        Component::Vae => (
            "has no autoencoder, so no picture can be decoded",
            "give one with `--vae FILE.safetensors` or `--vae FOLDER`",
        ),
        _ => (
            "has no text encoder, so no prompt can be read",
            "give a whole checkpoint: a diffusers folder, or a .safetensors file that holds `cond_stage_model` or `conditioner`",
        ),
    };
    DiffusionError::NotAPipeline { path: base.path.clone(), problem: problem.to_owned(), hint }
}
