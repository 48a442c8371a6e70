//! Values that cannot be together.

use std::path::{Component, Path};

use serde_json::json;

use super::choices::Task;
use super::defaults::resolution;
use super::error::ConfigError;
use super::values::Values;

/// Refuses contradictions, and says what is unusual.
pub(super) fn check(path: &Path, values: &mut Values, task: Task) -> Result<(), ConfigError> {
    if task == Task::Image {
        parts(path, values)?;
        buckets(path, values)?;
        caches(path, values)?;
        timesteps(path, values)?;
    }
    held_out(path, values)?;
    unusual(values);
    Ok(())
}

/// An error at one of `keys`.
fn together(
    path: &Path,
    values: &Values,
    keys: &[&str],
    problem: impl Into<Box<str>>,
    hint: &str,
) -> ConfigError {
    let place = values.place(path, keys);
    ConfigError::Together { place, problem: problem.into(), hint: hint.into() }
}

fn parts(path: &Path, values: &Values) -> Result<(), ConfigError> {
    if values.flag("adapter.denoiser") || values.flag("adapter.text_encoder") {
        return Ok(());
    }
    let keys = ["adapter.text_encoder", "adapter.denoiser"];
    let problem = "neither the denoiser nor a text encoder is trained";
    Err(together(path, values, &keys, problem, "leave one of the two on"))
}

fn buckets(path: &Path, values: &Values) -> Result<(), ConfigError> {
    let [min, max, step] =
        ["data.image.min_bucket", "data.image.max_bucket", "data.image.bucket_step"];
    let side = |key: &str| values.get(key).and_then(|v| v.json.as_u64()).unwrap_or(0);
    let (low, high, multiple) = (side(min), side(max), side(step));
    let [width, height] = resolution(values);
    let (short, long) = (width.min(height), width.max(height));
    if low > high {
        let problem = format!("the shortest side of a bucket, {low}, is above the longest, {high}");
        let hint = "exchange `min_bucket` and `max_bucket`";
        return Err(together(path, values, &[min, max], problem, hint));
    }
    if !values.flag("data.image.buckets") {
        return Ok(());
    }
    let keys = ["data.image.resolution", min, max, step];
    if short < low || long > high {
        let problem =
            format!("a resolution of {width}×{height} is outside the buckets' {low} to {high}");
        let hint = "change the resolution, `min_bucket` or `max_bucket`";
        return Err(together(path, values, &keys, problem, hint));
    }
    if multiple > short {
        let problem = format!("buckets in steps of {multiple} have no side of {short} or less");
        let hint = "take a smaller `bucket_step`, for example 8";
        return Err(together(path, values, &keys, problem, hint));
    }
    Ok(())
}

fn caches(path: &Path, values: &Values) -> Result<(), ConfigError> {
    let drops = values.number("data.image.tag_dropout").is_some_and(|p| p > 0.0);
    let rules = [
        (
            "data.image.cache_latents",
            "data.image.random_crop",
            values.flag("data.image.random_crop"),
            "pictures change each time",
        ),
        (
            "data.image.cache_latents",
            "data.image.color_jitter",
            values.flag("data.image.color_jitter"),
            "pictures change each time",
        ),
        (
            "data.image.cache_texts",
            "adapter.text_encoder",
            values.flag("adapter.text_encoder"),
            "text encoders change while they are trained",
        ),
        (
            "data.image.cache_texts",
            "data.image.shuffle_tags",
            values.flag("data.image.shuffle_tags"),
            "captions change each time",
        ),
        ("data.image.cache_texts", "data.image.tag_dropout", drops, "captions change each time"),
    ];
    for (cache, change, changes, why) in rules {
        if changes && values.flag(cache) {
            let problem = format!("`{cache}` and `{change}` cannot be together: {why}");
            return Err(together(
                path,
                values,
                &[change, cache],
                problem,
                "switch one of the two off",
            ));
        }
    }
    Ok(())
}

fn timesteps(path: &Path, values: &Values) -> Result<(), ConfigError> {
    let [min, max] = ["diffusion.min_timestep", "diffusion.max_timestep"];
    match (values.number(min), values.number(max)) {
        (Some(low), Some(high)) if low >= high => {
            let problem = format!("no timestep is left: the first is {low}, the end {high}");
            let hint = "`min_timestep` must be below `max_timestep`";
            Err(together(path, values, &[min, max], problem, hint))
        }
        _ => Ok(()),
    }
}

fn held_out(path: &Path, values: &mut Values) -> Result<(), ConfigError> {
    let held_out = values.text("data.held_out");
    let parts = |path| Path::new(path).components().filter(|part| *part != Component::CurDir);
    let same = |held_out, train| parts(held_out).eq(parts(train));
    let train = values.text("data.train");
    if held_out.zip(train).is_some_and(|(held_out, train)| same(held_out, train)) {
        let problem =
            "`data.held_out` is `data.train`: a loss on examples that are trained on says nothing";
        let hint = "leave `data.held_out` out; a part of the examples is held out then";
        return Err(together(path, values, &["data.held_out"], problem, hint));
    }
    let never = values.get("validation.every").is_some_and(|v| v.json == json!("Never"));
    if never && values.number("validation.patience").is_some() {
        let keys = ["validation.every", "validation.patience"];
        let problem = "`validation.patience` waits for validations, and there are none";
        let hint = "write `validation.every: 1 epoch`, or remove `patience`";
        return Err(together(path, values, &keys, problem, hint));
    }
    if held_out.is_some()
        && let Some(place) = values.given("data.held_out_split")
    {
        let note = format!("{place}: `data.held_out_split` does not count beside `data.held_out`");
        values.notes.push(note);
    }
    Ok(())
}

/// What is possible and seldom meant.
fn unusual(values: &mut Values) {
    let notes = [rate(values), scale(values), constant(values)];
    values.notes.extend(notes.into_iter().flatten());
}

fn rate(values: &Values) -> Option<String> {
    let optimizer = values.text("optimizer.kind")?;
    let rate = values.number("optimizer.learning_rate")?;
    let linear = values.text("optimizer.lr_scaling") == Some("linear");
    match optimizer {
        "prodigy" if rate != 1.0 => Some(format!(
            "`optimizer.learning_rate` is {rate}: Prodigy finds the rate itself, times this; 1 is the rule"
        )),
        "adamw" | "lion" if rate > 0.01 => Some(format!(
            "`optimizer.learning_rate` is {rate}: above 0.01 a loss seldom stays finite"
        )),
        "adamw" | "lion" | "prodigy" if linear => Some(
            "`optimizer.lr_scaling` is linear: with moments the square root is the rule \
             (Malladi et al., 2022)"
                .to_owned(),
        ),
        _ => None,
    }
}

fn scale(values: &Values) -> Option<String> {
    let alpha = values.number("adapter.alpha")?;
    let rank = values.number("adapter.rank")?;
    let root = values.flag("adapter.rslora");
    let scale = alpha / if root { rank.sqrt() } else { rank };
    let what = match scale {
        s if s < 0.25 => "it may hardly show",
        s if s > 4.0 && !root => "the training may be unstable",
        _ => return None,
    };
    let (alpha, by) = (format!("alpha {alpha}"), if root { "√rank of" } else { "rank" });
    Some(format!("the change is multiplied by {scale:.3} ({alpha}, {by} {rank}): {what}"))
}

fn constant(values: &Values) -> Option<String> {
    let warms = values.get("schedule.warmup").is_some_and(|v| v.json != json!({ "Steps": 0 }));
    let named = values.letters("schedule.kind").as_deref() == Some("constant");
    (warms && named).then(|| {
        "`schedule.kind` is constant, after the warm-up that is given; sd-scripts and diffusers \
         would leave the warm-up out"
            .to_owned()
    })
}
