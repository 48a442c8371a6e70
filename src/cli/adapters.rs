//! `[NAME=]PATH[:STRENGTH][:lbw=WEIGHTS]`: adapters on the command line.

use std::path::{Path, PathBuf};

use anyhow::bail;
use lora_eval::adapter::combine::Weighted;
use lora_eval::adapter::{Adapter, Format, convert};
use lora_eval::base::hint::first_few;
use lora_eval::hub;
use lora_eval::model::{Base, Unmatched};
use lora_eval::prompt::MAX_BLOCKS;

use super::global::Global;
use super::output;

/// An adapter named on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The name given to it.
    pub name: Option<String>,
    /// Its file or folder.
    pub path: PathBuf,
    /// Whether a strength was given.
    pub given: bool,
    /// Strength of its text encoder part.
    pub text_encoder: f32,
    /// Strength of the rest.
    pub unet: f32,
    /// What they are multiplied by in each block of the base; empty if all are 1.
    pub blocks: Vec<f64>,
}

/// Largest strength that makes sense; beyond it is a typing error.
const MOST: f32 = 100.0;

/// Reads `[NAME=]PATH[:STRENGTH][:lbw=WEIGHTS]`. A path that exists as it is wins over any reading of
/// it.
pub fn parse(text: &str) -> Result<Reference, String> {
    match text.rsplit_once(":lbw=") {
        Some((rest, weights)) if !Path::new(text).exists() => {
            Ok(Reference { blocks: block_weights(weights)?, ..at_strength(rest)? })
        }
        _ => at_strength(text),
    }
}

/// One number for each block. How many there must be depends on the base.
fn block_weights(text: &str) -> Result<Vec<f64>, String> {
    let weights: Result<Vec<f32>, String> = text.split(',').map(number).collect();
    let weights = weights.map_err(|problem| {
        format!("lbw: {problem}\nhint: write one number for each block, as in lbw=1,0,0.5; presets by name are not known")
    })?;
    if weights.len() > MAX_BLOCKS {
        return Err(format!("lbw: {} weights, expected at most {MAX_BLOCKS}", weights.len()));
    }
    Ok(weights.into_iter().map(decimal).collect())
}

/// Reads `[NAME=]PATH[:STRENGTH]`.
fn at_strength(text: &str) -> Result<Reference, String> {
    let plain = |path: &str| Reference {
        name: None,
        path: PathBuf::from(path),
        given: false,
        text_encoder: 1.0,
        unet: 1.0,
        blocks: Vec::new(),
    };
    if text.is_empty() {
        return Err("expected [NAME=]PATH[:STRENGTH], found nothing".to_owned());
    }
    if Path::new(text).exists() {
        return Ok(plain(text));
    }
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !name.contains(['/', '\\', ':']) => {
            (Some(name.to_owned()), rest)
        }
        _ => (None, text),
    };
    if Path::new(rest).exists() {
        return Ok(Reference { name, ..plain(rest) });
    }
    let Some((path, last)) = rest.rsplit_once(':') else {
        return Ok(Reference { name, ..plain(rest) });
    };
    // `C:\x` has a colon too; what follows it is no number.
    if last.contains(['/', '\\']) {
        return Ok(Reference { name, ..plain(rest) });
    }
    let strength = number(last)?;
    // PATH:TE:UNET, as in a prompt; a path may itself have a colon
    let both =
        Reference { name, given: true, text_encoder: strength, unet: strength, ..plain(path) };
    match path.rsplit_once(':') {
        Some((path, te)) if !both.path.exists() && !te.contains(['/', '\\', '.']) => {
            Ok(Reference { path: path.into(), text_encoder: number(te)?, ..both })
        }
        Some((path, te)) if !both.path.exists() && te.trim().parse::<f32>().is_ok() => {
            Ok(Reference { path: path.into(), text_encoder: number(te)?, ..both })
        }
        _ => Ok(both),
    }
}

/// A strength.
fn number(text: &str) -> Result<f32, String> {
    let strength: f32 = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a strength; expected a number such as 0.8"))?;
    if strength.is_finite() && strength.abs() <= MOST {
        return Ok(strength);
    }
    Err(format!("strength {text} is out of range; expected a number within ±{MOST}"))
}

/// The decimal that was written, not the f32 next to it.
pub fn decimal(strength: f32) -> f64 {
    strength.to_string().parse().unwrap_or(f64::from(strength))
}

/// Opens an adapter and says what a user should know about it.
pub fn open(path: &Path) -> anyhow::Result<Adapter> {
    let adapter = Adapter::open(path)?;
    for warning in &adapter.warnings {
        output::warn(&format!("{}: {warning}", path.display()));
    }
    let not_finite = adapter.not_finite();
    if !not_finite.is_empty() {
        output::warn(&format!(
            "{}: {} tensor(s) hold NaN or infinite values: {}",
            path.display(),
            not_finite.len(),
            first_few(&not_finite)
        ));
    }
    let dead = adapter.without_effect();
    if !dead.is_empty() {
        output::warn(&format!(
            "{}: {} of {} modules have no effect by construction (all-zero `up`, or scale 0): {}",
            path.display(),
            dead.len(),
            adapter.modules.len(),
            first_few(&dead)
        ));
    }
    Ok(adapter)
}

/// Opens a base by its name.
pub fn open_base(name: &str) -> anyhow::Result<Base> {
    Ok(Base::open(&hub::resolve(name)?)?)
}

/// Opens all of them at their strengths.
pub fn open_all(references: &[Reference]) -> anyhow::Result<Vec<Weighted>> {
    let mut all = Vec::new();
    for reference in references {
        let mut adapter = open(&reference.path)?;
        if let Some(name) = &reference.name {
            adapter.name.clone_from(name);
        }
        let (text_encoder, unet) = (reference.text_encoder, reference.unet);
        all.push(Weighted { adapter, text_encoder, unet, blocks: reference.blocks.clone() });
    }
    Ok(all)
}

/// Writes an adapter, in the float type that `--dtype` asks for.
pub fn write(global: &Global, adapter: &Adapter, format: Format, out: &Path) -> anyhow::Result<()> {
    match global.dtype.float() {
        Some(float) => convert::write(&adapter.cast(float)?, format, out)?,
        None => convert::write(adapter, format, out)?,
    }
    Ok(())
}

/// Keys that were not understood, as `--json` lists them.
pub fn unread(adapter: &Adapter) -> Vec<Unmatched> {
    let reason = || "not a key of an adapter".to_owned();
    adapter.unread.iter().map(|key| Unmatched { module: key.clone(), reason: reason() }).collect()
}

/// Says which modules found no place.
pub fn report_unmatched(unmatched: &[Unmatched], matched: usize) {
    if unmatched.is_empty() {
        return;
    }
    let names: Vec<String> =
        unmatched.iter().map(|u| format!("{} ({})", u.module, u.reason)).collect();
    output::warn(&format!(
        "{} module(s) do not fit the base and were left out, {matched} fit: {}",
        names.len(),
        first_few(&names)
    ));
}

/// Says which keys were not understood; with `strict` that is an error.
pub fn report_unread(adapter: &Adapter, strict: bool) -> anyhow::Result<()> {
    if adapter.unread.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{}: {} key(s) are not an adapter's and were left out: {}",
        adapter.path.display(),
        adapter.unread.len(),
        first_few(&adapter.unread)
    );
    if strict {
        bail!("{message}\nhint: without `--strict` the others are used");
    }
    output::warn(&message);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let read = |text: &str| {
            let r = parse(text).unwrap();
            (r.name, r.path.to_string_lossy().into_owned(), r.text_encoder, r.unet)
        };
        assert_eq!(read("a.safetensors"), (None, "a.safetensors".into(), 1.0, 1.0));
        assert_eq!(read("a.safetensors:0.8"), (None, "a.safetensors".into(), 0.8, 0.8));
        assert_eq!(
            read("x=a.safetensors:-1"),
            (Some("x".into()), "a.safetensors".into(), -1.0, -1.0)
        );
        assert_eq!(read("a.safetensors:0.2:0.8"), (None, "a.safetensors".into(), 0.2, 0.8));
        assert_eq!(read("d/x=y.safetensors"), (None, "d/x=y.safetensors".into(), 1.0, 1.0));
    }

    #[test]
    fn weights_by_block_follow_a_strength_or_none() {
        for (text, given, unet, blocks) in [
            ("x=d/a.safetensors:0.5:lbw=1,0,-0.1", true, 0.5, vec![1.0, 0.0, -0.1]),
            ("a.safetensors:lbw=0.25", false, 1.0, vec![0.25]),
            ("a.safetensors:1:0.5", true, 0.5, vec![]),
        ] {
            let read = parse(text).unwrap();
            assert_eq!((read.given, read.unet, read.blocks), (given, unet, blocks), "{text}");
        }
    }

    #[test]
    fn bad_strengths() {
        for text in
            ["a:nan", "a:inf", "a:1e9", "a:much", "", "a:lbw=", "a:1:lbw=1,,0", "a:lbw=1,MIDD"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
