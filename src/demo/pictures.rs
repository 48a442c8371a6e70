//! The pictures that a demo adapter learns a style from, and the suite that judges it.

use std::fmt::Write as _;

use super::world::{Look, STYLE, Scene, captions, draw};
use crate::base::random::{Draws, Random};
use crate::picture::Picture;

/// So many pictures with captions, of scenes that are not held out, no two of one scene. One in three
/// is in the striped style, which its caption names; the plain ones tell the adapter when to keep out.
pub fn style_pictures(count: usize, seed: u64) -> Vec<(Picture, String)> {
    let mut draws = Random::new(seed, "demo style pictures").at(0, 0, 0);
    scenes(count, false, &mut draws)
        .into_iter()
        .enumerate()
        .map(|(place, scene)| {
            let said = captions(scene);
            let said = &said[draws.below(said.len())];
            match place % 3 {
                0 => (draw(scene, Look::Striped, &mut draws), format!("{said}, in {STYLE} style")),
                _ => (draw(scene, Look::Plain, &mut draws), said.clone()),
            }
        })
        .collect()
}

/// A suite of `count` held-out scenes asked for in the style (group `heldout`), whose references it
/// gives as paths and pictures, and as many without it (group `base`).
pub fn picture_suite(count: usize, seed: u64) -> (String, Vec<(String, Picture)>) {
    let mut yaml = "\
# Held-out scenes, written by `cargo run --example demo_materials`.
# `heldout` asks for the striped style; `base` does not, and its pictures should stay plain.
name: striped
defaults: {steps: 25, guidance: 2, width: 64, height: 64}
seeds: [1, 2]
strengths: 0:1.5:0.25
prompts:
"
    .to_owned();
    let mut draws = Random::new(seed, "demo picture suite").at(0, 0, 0);
    let mut references = Vec::new();
    for (group, look) in [("heldout", Look::Striped), ("base", Look::Plain)] {
        for (place, scene) in scenes(count, true, &mut draws).into_iter().enumerate() {
            let said = captions(scene).swap_remove(0);
            let (kind, said) = match look {
                Look::Plain => ("plain", said),
                Look::Striped => (STYLE, format!("{said}, in {STYLE} style")),
            };
            let id =
                format!("{kind}-{:02}-{}-{}", place + 1, scene.colour.word(), scene.shape.word());
            let path = format!("references/{id}.png");
            let _ = write!(
                yaml,
                "  - id: {id}\n    group: {group}\n    prompt: \"{said}\"\n    references: [{path}]\n"
            );
            references.push((path, draw(scene, look, &mut draws)));
        }
    }
    (yaml, references)
}

/// So many different scenes, held out or not.
fn scenes(count: usize, held_out: bool, draws: &mut Draws) -> Vec<Scene> {
    let mut all: Vec<Scene> =
        Scene::all().into_iter().filter(|scene| scene.held_out() == held_out).collect();
    let count = count.min(all.len());
    // the first steps of a Fisher-Yates shuffle
    for place in 0..count {
        let other = place + draws.below(all.len() - place);
        all.swap(place, other);
    }
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_picture_in_three_has_the_style_and_says_so() {
        let pictures = style_pictures(60, 1);
        let styled = pictures.iter().filter(|(_, said)| said.ends_with(", in striped style"));
        assert_eq!((pictures.len(), styled.count()), (60, 20));
    }

    #[test]
    fn scenes_differ_and_are_of_the_part_asked_for() {
        for held_out in [false, true] {
            let mut draws = Random::new(3, "test").at(0, 0, 0);
            let scenes = scenes(100, held_out, &mut draws);
            assert!(scenes.iter().all(|scene| scene.held_out() == held_out));
            assert_eq!(scenes.iter().collect::<BTreeSet<_>>().len(), 100);
        }
    }
}
