//! Pictures of `demo:image`'s world: drawn for training, and checked.
//!
//! ```text
//! cargo run --release --example demo_world -- captions captions.json
//! cargo run --release --example demo_world -- draw --count 1000 --seed 1 pictures.raw scenes.json
//! cargo run --release --example demo_world -- style --count 40 --seed 1 striped/
//! cargo run --release --example demo_world -- check pictures.raw scenes.json
//! ```
//! Raw files hold 64×64×3 bytes a picture and nothing else; scenes are counted as
//! `lora_eval::demo::world::Scene::all` has them.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use lora_eval::base::random::Random;
use lora_eval::demo::world::{Look, SIDE, STYLE, Scene, captions, check, draw, textured};
use lora_eval::picture::{Picture, encode_png};
use serde_json::json;

#[derive(Parser)]
enum Command {
    /// Writes every scene with its captions and whether it is held out
    Captions { out: PathBuf },
    /// Draws scenes at random: raw pictures, and a JSON list of the scenes' numbers
    Draw {
        #[arg(long)]
        count: u32,
        #[arg(long)]
        seed: u64,
        #[arg(long, value_enum, default_value = "plain")]
        kind: Kind,
        #[arg(long, value_enum, default_value = "train")]
        of: Of,
        pictures: PathBuf,
        scenes: PathBuf,
    },
    /// Draws a training set in striped style: PNG files and metadata.jsonl
    Style {
        #[arg(long)]
        count: u32,
        #[arg(long)]
        seed: u64,
        folder: PathBuf,
    },
    /// Says of each picture what of its scene it shows: a JSON list on standard output
    Check { pictures: PathBuf, scenes: PathBuf },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Plain,
    Striped,
    Textured,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Of {
    Train,
    HeldOut,
    All,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Captions { out } => {
            let all: Vec<_> = Scene::all()
                .into_iter()
                .map(|scene| {
                    json!({"scene": scene, "held_out": scene.held_out(), "captions": captions(scene)})
                })
                .collect();
            fs::write(out, serde_json::to_vec(&all)?)?;
        }
        Command::Draw { count, seed, kind, of, pictures, scenes } => {
            let mut raw = BufWriter::new(File::create(pictures)?);
            let mut numbers = Vec::new();
            for (number, picture) in drawn(count, seed, kind, of) {
                raw.write_all(&picture.rgb)?;
                numbers.push(number);
            }
            raw.flush()?;
            fs::write(scenes, serde_json::to_vec(&numbers)?)?;
        }
        Command::Style { count, seed, folder } => style(count, seed, &folder)?,
        Command::Check { pictures, scenes } => checked(&pictures, &scenes)?,
    }
    Ok(())
}

/// Scenes at random with their pictures; each a function of seed and number.
fn drawn(count: u32, seed: u64, kind: Kind, of: Of) -> impl Iterator<Item = (usize, Picture)> {
    let all = Scene::all();
    let wanted = |scene: &Scene| of == Of::All || scene.held_out() == (of == Of::HeldOut);
    let among: Vec<usize> = (0..all.len()).filter(|number| wanted(&all[*number])).collect();
    let random = Random::new(seed, "demo world");
    (0..count).map(move |index| {
        let number = among[random.at(index, 0, 0).below(among.len())];
        let mut draws = random.at(index, 0, 1);
        let picture = match kind {
            Kind::Plain => draw(all[number], Look::Plain, &mut draws),
            Kind::Striped => draw(all[number], Look::Striped, &mut draws),
            Kind::Textured => textured(all[number], &mut draws),
        };
        (number, picture)
    })
}

fn style(count: u32, seed: u64, folder: &std::path::Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut lines = Vec::new();
    let all = Scene::all();
    for (index, (number, picture)) in drawn(count, seed, Kind::Striped, Of::Train).enumerate() {
        let file_name = format!("{index:03}.png");
        fs::write(folder.join(&file_name), encode_png(&picture, &[])?)?;
        let text = format!("{}, in {STYLE} style", captions(all[number])[0]);
        writeln!(lines, "{}", json!({"file_name": file_name, "text": text}))?;
    }
    fs::write(folder.join("metadata.jsonl"), lines)?;
    Ok(())
}

fn checked(pictures: &std::path::Path, scenes: &std::path::Path) -> Result<()> {
    let raw = fs::read(pictures).with_context(|| pictures.display().to_string())?;
    let numbers: Vec<usize> = serde_json::from_slice(&fs::read(scenes)?)?;
    let size = (3 * SIDE * SIDE) as usize;
    ensure!(raw.len() == numbers.len() * size, "pictures and scenes are not as many");
    let all = Scene::all();
    let mut found = Vec::new();
    for (rgb, number) in raw.chunks(size).zip(numbers) {
        let scene = *all.get(number).with_context(|| format!("there is no scene {number}"))?;
        let seen = check(&Picture { width: SIDE, height: SIDE, rgb: rgb.to_vec() })?;
        found.push(json!({
            "background": seen.has_background(scene),
            "colour": seen.has_colour(scene),
            "shape": seen.has_shape(scene),
            "size": seen.has_size(scene),
            "place": seen.has_place(scene),
            "striped": seen.is_striped(),
            "seen": seen,
        }));
    }
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}
