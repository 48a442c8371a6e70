//! Why the examples are read as they are.

use super::{Lines, number, quoted};
use crate::advise::choose::{Choice, HELD_OUT_FROM};
use crate::advise::question::{Question, Task};

/// Adds the keys of `data`.
pub(super) fn add(lines: &mut Lines, question: &Question, choice: &Choice) {
    let data = &choice.settings.data;
    let train = quoted(&data.train.to_string_lossy());
    let why = if question.task.draws() {
        "write your folder of pictures, captions beside them or in metadata.csv"
    } else {
        "write your file: `text`, `prompt` and `completion`, or `messages` in each line"
    };
    lines.add("data.train", train, why, "given");
    let why = match question.examples {
        examples @ ..HELD_OUT_FROM => {
            format!("{examples} examples are too few to spare any; look at samples instead")
        }
        all => format!("{} of {all} show when over-training begins", all - choice.trained),
    };
    lines.add("data.held_out_split", number(data.held_out_split), why, "house");
    let why = "how long the training lasts is said by `run.length` alone";
    lines.add("data.repeats", data.repeats, why, "peer: diffusers default");
    if question.task.draws() {
        image(lines, question, choice);
    } else {
        text(lines, question, choice);
    }
}

fn image(lines: &mut Lines, question: &Question, choice: &Choice) {
    let image = &choice.settings.data.image;
    let why = if choice.shrunk {
        "below the base's own size, as memory is short: details suffer"
    } else {
        "the size that the base was made for"
    };
    lines.add("data.image.resolution", image.resolution.0, why, "computed");
    let why = "pictures keep their shape: nothing has to be cut to one size";
    lines.add("data.image.buckets", image.buckets, why, "peer: lora-scripts");
    let why = "shortest side of a bucket: half the resolution";
    lines.add("data.image.min_bucket", image.min_bucket, why, "peer: sd-scripts default");
    let why = "longest side of a bucket: twice the resolution";
    lines.add("data.image.max_bucket", image.max_bucket, why, "peer: sd-scripts default");
    let why = "sides are multiples of it";
    lines.add("data.image.bucket_step", image.bucket_step, why, "peer: sd-scripts default");
    let why = "small pictures are enlarged; `train CONFIG --lint` names them";
    lines.add("data.image.no_upscale", image.no_upscale, why, "peer: sd-scripts default");
    let why = "captions stay as they are; true for lists of tags";
    lines.add("data.image.shuffle_tags", image.shuffle_tags, why, "peer: sd-scripts default");
    let why = "some pictures are seen without words, which guidance needs";
    let dropout = number(image.caption_dropout);
    lines.add("data.image.caption_dropout", dropout, why, "house");
    let why = match question.task {
        Task::Character => "faces and writing are not symmetric",
        _ => "left and right may matter; true doubles the variety where they do not",
    };
    lines.add("data.image.flip", image.flip, why, "peer: sd-scripts default");
    let why = "latents could not be kept";
    lines.add("data.image.random_crop", image.random_crop, why, "peer: sd-scripts");
    let why = "latents could not be kept, and colours belong to what is learnt";
    lines.add("data.image.color_jitter", image.color_jitter, why, "peer: sd-scripts");
    let why = "each picture is encoded once";
    lines.add("data.image.cache_latents", image.cache_latents, why, "peer: lora-scripts");
    let why = if image.cache_texts {
        "each caption is encoded once, and the one that is left out"
    } else {
        "the text encoder changes while it is trained"
    };
    lines.add("data.image.cache_texts", image.cache_texts, why, "peer: sd-scripts");
    let why = "captions of one window; `train CONFIG --lint` names longer ones";
    lines.add("data.image.max_caption_tokens", image.max_caption_tokens, why, "peer: diffusers");
}

fn text(lines: &mut Lines, question: &Question, choice: &Choice) {
    let text = &choice.settings.data.text;
    let (why, source) = match question.tokens {
        _ if choice.shrunk => ("shortened, as memory is short: longer rows are cut", "computed"),
        Some(_) => ("twice the mean length; longer rows are cut and counted", "computed"),
        None => ("the usual start; longer rows are cut and counted", "peer: TRL default"),
    };
    lines.add("data.text.max_length", text.max_length, why, source);
    let (why, source) = if text.packing {
        ("rows are filled, which more than triples the speed", "peer: torchtune's benchmark")
    } else {
        ("each answer stands in a row of its own", "peer: TRL default")
    };
    lines.add("data.text.packing", text.packing, why, source);
    let why = match question.task {
        Task::Domain => "plain texts are learnt as a whole",
        _ => "prompts are given, answers are learnt",
    };
    lines.add("data.text.train_on", text.train_on.name(), why, "peer: TRL default");
    let why = "it has to learn when to stop";
    lines.add("data.text.append_eos", text.append_eos, why, "peer: TRL");
}
