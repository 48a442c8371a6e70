//! `demo:image` draws what captions of held-out scenes ask for.
//!
//! No picture of these (shape, colour, background) was in its training. `docs/demo-models.md` has the
//! figures of larger measurements.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;

use candle_core::Device;
use lora_eval::base::random::Random;
use lora_eval::demo::world::{Scene, Seen, captions, check};
use lora_eval::generate::image::{ImageModel, Job, RowStrengths};
use lora_eval::model::Base;
use lora_eval::model::diffusion::noise::NoiseSource;
use lora_eval::model::diffusion::sampler::Choice;
use lora_eval::picture::Picture;
use lora_eval::prompt::Prompt;

/// Scenes that are drawn, each once.
const SCENES: usize = 64;
/// The share of them that must be right.
const RIGHT: f32 = 0.95;

fn open() -> ImageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/image");
    let base = Base::open_to_run(&folder).unwrap();
    ImageModel::open(&base, &[], None, &Device::Cpu).unwrap().0
}

/// At the folder's own sampler, 25 steps.
fn draw(model: &ImageModel, prompt: &str, seed: u64) -> Picture {
    let prompt = Prompt::parse(prompt).unwrap();
    let job = Job {
        prompt: &prompt,
        negative: None,
        width: model.side(),
        height: model.side(),
        steps: 25,
        guidance: 2.0,
        guidance_rescale: 0.0,
        sampler: Choice::parse("ddim", None).unwrap(),
        clip_skip: 1,
        seed,
        source: NoiseSource::Cpu,
    };
    let base = RowStrengths { text: Vec::new(), unet: Vec::new(), ..RowStrengths::default() };
    model.draw(&job, &[base], &|_| {}).unwrap().remove(0).picture
}

/// Held-out scenes in a random order.
fn unseen() -> Vec<Scene> {
    let all: Vec<Scene> = Scene::all().into_iter().filter(|scene| scene.held_out()).collect();
    let order = Random::new(0, "demo image").permutation(all.len(), 0);
    order.into_iter().take(SCENES).map(|index| all[index]).collect()
}

#[test]
fn held_out_scenes_have_the_shape_and_the_colours_of_their_captions() {
    let model = open();
    let scenes = unseen();
    assert_eq!(scenes.len(), SCENES);
    let drawn: Vec<(Scene, Seen)> = (1..)
        .zip(scenes)
        .map(|(seed, scene)| (scene, check(&draw(&model, &captions(scene)[0], seed)).unwrap()))
        .collect();
    let share = |right: fn(&Seen, Scene) -> bool| {
        drawn.iter().filter(|(scene, seen)| right(seen, *scene)).count() as f32 / SCENES as f32
    };
    let shape = share(Seen::has_shape);
    let colours = share(|seen, scene| seen.has_colour(scene) && seen.has_background(scene));
    assert!(shape >= RIGHT && colours >= RIGHT, "shape {shape}, colours {colours}");
    let (size, place) = (share(Seen::has_size), share(Seen::has_place));
    assert!(size >= RIGHT && place >= RIGHT, "size {size}, place {place}");
}

#[test]
fn the_style_s_name_means_nothing_to_the_base() {
    let model = open();
    let scene = unseen()[0];
    let prompt = format!("{}, in striped style", captions(scene)[0]);
    let seen = check(&draw(&model, &prompt, 1)).unwrap();
    assert!(!seen.is_striped(), "{seen:?}");
}
