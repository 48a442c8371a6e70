use std::collections::BTreeSet;
use std::str::FromStr;

use super::text::size;
use super::{Infotext, sampler};
use crate::base::terminal::printable;

/// How a picture was made, as far as its infotext says.
///
/// Defaults are the WebUI's for a field that is absent. Read with [`Settings::of`], written with
/// [`Settings::infotext`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Sampling steps.
    pub steps: Option<u32>,
    /// The sampler's name, without a schedule.
    pub sampler: Option<String>,
    /// The schedule's label; `Automatic` where none is named.
    pub schedule: String,
    /// Scale of classifier-free guidance.
    pub guidance: Option<f64>,
    /// Seed of the noise.
    pub seed: Option<u64>,
    /// Width and height in pixels: of the first pass, where there is a second.
    pub size: Option<(u32, u32)>,
    /// First ten digits of the checkpoint's SHA-256.
    pub model_hash: Option<String>,
    /// The checkpoint's name.
    pub model: Option<String>,
    /// First ten digits of the separate VAE's SHA-256.
    pub vae_hash: Option<String>,
    /// The separate VAE's name.
    pub vae: Option<String>,
    /// The text encoder's layer, counted from the last, from 1.
    pub clip_skip: u32,
    /// Added to the seed for the noise of ancestral samplers (eta noise seed delta).
    pub ensd: u64,
    /// Whose random numbers: `GPU` where none is named, `CPU` or `NV`.
    pub rng: String,
    /// Share of noise in ancestral samplers' steps, where it is not 1.
    pub eta: Option<f64>,
    /// Share of noise in DDIM's steps, where it is not 0.
    pub eta_ddim: Option<f64>,
    /// φ of rescaled guidance (Lin et al., 2024), 0 without.
    pub guidance_rescale: f64,
    /// Adapters and the first twelve digits of their hashes.
    pub lora_hashes: Vec<(String, String)>,
    /// The program that made it, and its version.
    pub version: Option<String>,
    /// All other fields, in order.
    pub others: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: None,
            sampler: None,
            schedule: "Automatic".to_owned(),
            guidance: None,
            seed: None,
            size: None,
            model_hash: None,
            model: None,
            vae_hash: None,
            vae: None,
            clip_skip: 1,
            ensd: 0,
            rng: "GPU".to_owned(),
            eta: None,
            eta_ddim: None,
            guidance_rescale: 0.0,
            lora_hashes: Vec::new(),
            version: None,
            others: Vec::new(),
        }
    }
}

/// A field whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{key}` is `{}`, expected {expected}\nhint: this is in the picture's `parameters`; correct the line or leave `{key}` out",
    printable(value)
)]
pub struct SettingsError {
    /// The field.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What may be there.
    pub expected: &'static str,
}

/// Fields not yet taken from an infotext.
struct Fields<'a> {
    info: &'a Infotext,
    taken: BTreeSet<&'static str>,
}

impl Fields<'_> {
    fn take(&mut self, key: &'static str) -> Option<&str> {
        self.taken.insert(key);
        self.info.get(key)
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        self.take(key).map(str::to_owned)
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        self.take(key)
            .map(|value| {
                read(value.trim()).ok_or_else(|| SettingsError {
                    key,
                    value: value.to_owned(),
                    expected,
                })
            })
            .transpose()
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f64>, SettingsError> {
        self.read(key, "a number", |value| {
            value.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }
}

fn whole<T: FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

fn positive(value: &str) -> Option<u32> {
    whole(value).filter(|number| *number > 0)
}

/// `ink: 0123456789ab, other: …`
fn hashes(value: &str) -> Option<Vec<(String, String)>> {
    value
        .split(',')
        .map(|pair| {
            let (name, hash) = pair.split_once(':')?;
            Some((name.trim().to_owned(), hash.trim().to_owned()))
        })
        .collect()
}

fn extent(value: &str) -> Option<(u32, u32)> {
    size(value).filter(|(width, height)| *width > 0 && *height > 0)
}

impl Settings {
    /// The settings in an infotext.
    pub fn of(info: &Infotext) -> Result<Self, SettingsError> {
        const COUNT: &str = "a whole number from 1";
        const WHOLE: &str = "a whole number from 0 to 2^64 - 1";
        const SIZE: &str = "width and height in pixels such as 512x768";
        let mut fields = Fields { info, taken: BTreeSet::new() };
        let schedule = fields.text("Schedule type");
        let sampler = fields.text("Sampler");
        let (name, schedule) =
            sampler::split(sampler.as_deref().unwrap_or(""), schedule.as_deref());
        let first_pass = fields.read("First pass size", SIZE, size)?;
        let size = fields.read("Size", SIZE, extent)?;
        let rescale = fields.number("CFG Rescale")?.or(fields.number("CFG Rescale φ")?);
        let lora_hashes =
            fields.read("Lora hashes", "names and hashes such as ink: 0123456789ab", hashes)?;
        let settings = Self {
            steps: fields.read("Steps", COUNT, positive)?,
            sampler: sampler.is_some().then_some(name),
            schedule,
            guidance: fields.number("CFG scale")?,
            seed: fields.read("Seed", WHOLE, whole)?,
            size: first_pass.map(|pass| first_pass_size(pass, size)).or(size),
            model_hash: fields.text("Model hash"),
            model: fields.text("Model"),
            vae_hash: fields.text("VAE hash"),
            vae: fields.text("VAE"),
            clip_skip: fields.read("Clip skip", COUNT, positive)?.unwrap_or(1),
            ensd: fields.read("ENSD", WHOLE, whole)?.unwrap_or(0),
            rng: fields.text("RNG").unwrap_or_else(|| "GPU".to_owned()),
            eta: fields.number("Eta")?,
            eta_ddim: fields.number("Eta DDIM")?,
            guidance_rescale: rescale.unwrap_or(0.0),
            lora_hashes: lora_hashes.unwrap_or_default(),
            version: fields.text("Version"),
            others: Vec::new(),
        };
        let mut others = Vec::new();
        if let (Some(_), Some((width, height))) = (first_pass, size) {
            others.push(("Hires resize".to_owned(), format!("{width}x{height}")));
        }
        let rest = info.fields.iter().filter(|(key, _)| !fields.taken.contains(key.as_str()));
        others.extend(rest.cloned());
        Ok(Self { others, ..settings })
    }

    /// The infotext of these settings, with fields in the WebUI's order.
    ///
    /// Whole numbers have no `.0`: so the WebUI's page writes them (its API, which makes every `CFG
    /// scale` a float, writes `7.0`). Fields at their default are left out as the WebUI leaves them
    /// out. Names of adapters lose `:` and `,`.
    pub fn infotext(&self, prompt: &str, negative: &str) -> Infotext {
        let number = |value: Option<f64>| value.map(|value| value.to_string());
        let hashes: Vec<String> = self
            .lora_hashes
            .iter()
            .map(|(name, hash)| format!("{}: {hash}", name.replace([':', ','], "")))
            .collect();
        let fields = [
            ("Steps", self.steps.map(|steps| steps.to_string())),
            ("Sampler", self.sampler.clone()),
            ("Schedule type", Some(self.schedule.clone())),
            ("CFG scale", number(self.guidance)),
            ("Seed", self.seed.map(|seed| seed.to_string())),
            ("Size", self.size.map(|(width, height)| format!("{width}x{height}"))),
            ("Model hash", self.model_hash.clone()),
            ("Model", self.model.clone()),
            ("VAE hash", self.vae_hash.clone()),
            ("VAE", self.vae.clone()),
            ("Clip skip", (self.clip_skip > 1).then(|| self.clip_skip.to_string())),
            ("ENSD", (self.ensd > 0).then(|| self.ensd.to_string())),
            ("RNG", (self.rng != "GPU").then(|| self.rng.clone())),
            ("Eta", number(self.eta)),
            ("Eta DDIM", number(self.eta_ddim)),
            ("CFG Rescale", number(Some(self.guidance_rescale).filter(|phi| *phi != 0.0))),
            ("Lora hashes", (!hashes.is_empty()).then(|| hashes.join(", "))),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let version = self.version.iter().map(|version| ("Version".to_owned(), version.clone()));
        Infotext {
            prompt: prompt.to_owned(),
            negative: negative.to_owned(),
            fields: fields.chain(self.others.iter().cloned()).chain(version).collect(),
        }
    }
}

/// The size of the first pass in texts of before 2023, whose `Size` is that of the second.
///
/// `0x0` stood for about 512² pixels in the picture's proportions (`old_hires_fix_first_pass_dimensions`).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number that fits: a side is at most 512 times the square root of 2^32"
)]
fn first_pass_size(pass: (u32, u32), size: Option<(u32, u32)>) -> (u32, u32) {
    if pass.0 > 0 && pass.1 > 0 {
        return pass;
    }
    let (width, height) = size.unwrap_or((512, 512));
    let scale = 512.0 / (f64::from(width) * f64::from(height)).sqrt();
    let side = |pixels: u32| (scale * f64::from(pixels) / 64.0).ceil() as u32 * 64;
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(fields: &str) -> Result<Settings, SettingsError> {
        Settings::of(&Infotext::parse(&format!("a cat\n{fields}")))
    }

    #[test]
    fn all_settings_are_read_and_the_rest_is_listed() {
        let text = "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, \
            Size: 512x768, Model hash: abcdef1234, Model: cat/v1, VAE hash: 0123456789, VAE: vae.pt, \
            Clip skip: 2, ENSD: 31337, RNG: CPU, Eta: 0.5, CFG Rescale: 0.7, \
            Lora hashes: \"ink: 0123456789ab, b c: 00\", NGMS: 0.5, Version: lora-eval 0.1.0";
        let settings = of(text).unwrap();
        assert_eq!(
            settings,
            Settings {
                steps: Some(20),
                sampler: Some("Euler a".into()),
                schedule: "Karras".into(),
                guidance: Some(7.0),
                seed: Some(1),
                size: Some((512, 768)),
                model_hash: Some("abcdef1234".into()),
                model: Some("cat/v1".into()),
                vae_hash: Some("0123456789".into()),
                vae: Some("vae.pt".into()),
                clip_skip: 2,
                ensd: 31337,
                rng: "CPU".into(),
                eta: Some(0.5),
                eta_ddim: None,
                guidance_rescale: 0.7,
                lora_hashes: vec![
                    ("ink".into(), "0123456789ab".into()),
                    ("b c".into(), "00".into())
                ],
                version: Some("lora-eval 0.1.0".into()),
                others: vec![("NGMS".into(), "0.5".into())],
            }
        );
        assert_eq!(settings.infotext("a cat", "").to_string(), format!("a cat\n{text}"));
    }

    #[test]
    fn absent_fields_have_the_defaults_of_the_webui() {
        assert_eq!(Settings::of(&Infotext::parse("a cat")), Ok(Settings::default()));
        let settings = of("Steps: 4, Sampler: DPM++ 2M Karras, CFG scale: 7.0").unwrap();
        assert_eq!(settings.sampler.as_deref(), Some("DPM++ 2M"));
        assert_eq!(settings.schedule, "Karras");
        assert_eq!((settings.rng.as_str(), settings.clip_skip), ("GPU", 1));
        assert_eq!(settings.guidance, Some(7.0));
    }

    #[test]
    fn the_first_pass_of_old_texts_is_the_size() {
        let size = |pass: &str, size: &str| {
            let settings =
                of(&format!("Steps: 1, Seed: 2, Size: {size}, First pass size: {pass}")).unwrap();
            assert_eq!(settings.others, [("Hires resize".to_owned(), size.to_owned())]);
            settings.size.unwrap()
        };
        assert_eq!(size("512x640", "1024x1280"), (512, 640));
        assert_eq!(size("0x0", "1024x1024"), (512, 512));
        assert_eq!(size("0x0", "1920x1080"), (704, 384));
        assert_eq!(size("0x0", "4294967295x1"), (33_554_432, 64));
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        for (field, start) in [
            ("Steps: many", "`Steps` is `many`, expected a whole number from 1\nhint: "),
            ("Steps: 0", "`Steps` is `0`, "),
            ("Steps: 20.0", "`Steps` is `20.0`, "),
            ("Seed: -1", "`Seed` is `-1`, "),
            ("Seed: 18446744073709551616", "`Seed` is `18446744073709551616`, "),
            ("CFG scale: inf", "`CFG scale` is `inf`, expected a number"),
            ("Size: 512", "`Size` is `512`, expected width and height"),
            ("Size: 0x512", "`Size` is `0x512`, "),
            ("Clip skip: two", "`Clip skip` is `two`, "),
            ("Lora hashes: ink", "`Lora hashes` is `ink`, expected names"),
            ("CFG Rescale φ: x\u{1b}[31m", "`CFG Rescale φ` is `x\u{fffd}[31m`, "),
        ] {
            let error = of(&format!("Ab: 1, Bc: 2, {field}")).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            steps in proptest::option::of(1_u32..),
            guidance in proptest::option::of(-1e6..1e6_f64),
            seed: Option<u64>,
            size in proptest::option::of((1_u32.., 1_u32..)),
            model in proptest::option::of(r#"[\PC,:" ]{0,20}"#),
            (clip_skip, ensd) in (1_u32.., any::<u64>()),
            names in proptest::collection::vec("[a-z 日]{1,8}", 0..3),
        ) {
            let lora_hashes = names
                .iter()
                .map(|name| (name.trim().to_owned(), "0123456789ab".to_owned()))
                .collect();
            let settings = Settings {
                steps, guidance, seed, size, model, clip_skip, ensd, lora_hashes,
                sampler: Some("Euler a".to_owned()),
                version: Some("lora-eval 0.1.0".to_owned()),
                ..Settings::default()
            };
            let info = settings.infotext("a cat, 墨\nin \"ink\": 1", "x: y, z");
            let read = Infotext::parse(&info.to_string());
            prop_assert_eq!(&read, &info);
            prop_assert_eq!(Settings::of(&read), Ok(settings));
        }
    }
}
