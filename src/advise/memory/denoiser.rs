//! The forward passes of Stable Diffusion's denoiser and text encoders, as `model::diffusion` runs
//! them.

use super::tape::{Scores, Sizes, Tape, product};
use crate::advise::network::{Layer, Text, Unet};

/// The time embedding is so many times as wide as the first level.
const TIME: usize = 4;
/// A transformer's feed-forward layer is so many times as wide as its stream.
const FEED_FORWARD: usize = 4;

/// What every layer of a pass is told.
#[derive(Clone, Copy)]
struct Pass<'a> {
    shape: &'a Unet,
    rows: usize,
    /// Tokens of a caption.
    caption: usize,
}

fn sizes(inputs: usize, outputs: usize, bias: bool) -> Sizes {
    Sizes { inputs, outputs, bias }
}

/// Adds a pass of `rows` latents of this height and width, each with a caption of so many tokens.
pub fn pass(
    tape: &mut Tape<'_>,
    shape: &Unet,
    (rows, caption): (usize, usize),
    (height, width): (usize, usize),
) {
    let (batch, first) = (rows as u64, shape.channels);
    let time = TIME * first;
    tape.linear("time_embedding.linear_1", batch, sizes(first, time, true));
    tape.linear("time_embedding.linear_2", batch, sizes(time, time, true));
    if let Some(added) = shape.added {
        tape.linear("add_embedding.linear_1", batch, sizes(added, time, true));
        tape.linear("add_embedding.linear_2", batch, sizes(time, time, true));
    }
    let pass = Pass { shape, rows, caption };
    let mut size = (height, width);
    let all = pixels(rows, size);
    tape.conv("conv_in", (all, all), 3, sizes(shape.latents, first, true));
    for (index, level) in shape.down.iter().enumerate() {
        let at = format!("down_blocks.{index}");
        for (index, layer) in level.layers.iter().enumerate() {
            add_layer(tape, pass, (&at, index), *layer, size);
        }
        if let Some(last) = level.layers.last().filter(|_| level.resamples) {
            let before = pixels(rows, size);
            size = (size.0.div_ceil(2), size.1.div_ceil(2));
            let path = format!("{at}.downsamplers.0.conv");
            let same = sizes(last.outputs, last.outputs, true);
            tape.conv(&path, (before, pixels(rows, size)), 3, same);
        }
    }
    for (index, layer) in shape.mid.iter().enumerate() {
        add_layer(tape, pass, ("mid_block", index), *layer, size);
    }
    for (index, level) in shape.up.iter().enumerate() {
        let at = format!("up_blocks.{index}");
        for (index, layer) in level.layers.iter().enumerate() {
            // joined with what was kept on the way down
            tape.made(pixels(rows, size).saturating_mul(layer.inputs as u64));
            add_layer(tape, pass, (&at, index), *layer, size);
        }
        if let Some(last) = level.layers.last().filter(|_| level.resamples) {
            size = (2 * size.0, 2 * size.1);
            let after = pixels(rows, size);
            tape.made(after.saturating_mul(last.outputs as u64));
            let same = sizes(last.outputs, last.outputs, true);
            tape.conv(&format!("{at}.upsamplers.0.conv"), (after, after), 3, same);
        }
    }
    tape.norm(all.saturating_mul(first as u64), first, true);
    tape.conv("conv_out", (all, all), 3, sizes(first, shape.latents, true));
}

fn pixels(rows: usize, (height, width): (usize, usize)) -> u64 {
    product(&[rows, height, width])
}

fn add_layer(
    tape: &mut Tape<'_>,
    pass: Pass<'_>,
    (at, index): (&str, usize),
    layer: Layer,
    size: (usize, usize),
) {
    let all = pixels(pass.rows, size);
    tape.block(all.saturating_mul(layer.outputs as u64), |tape| {
        resnet(tape, pass, &format!("{at}.resnets.{index}"), layer, all);
        if layer.blocks > 0 {
            transformer(tape, pass, &format!("{at}.attentions.{index}"), layer, size);
        }
    });
}

fn resnet(tape: &mut Tape<'_>, pass: Pass<'_>, at: &str, layer: Layer, all: u64) {
    let Layer { inputs, outputs, .. } = layer;
    let time = TIME * pass.shape.channels;
    let of = |channels: usize| all.saturating_mul(channels as u64);
    tape.norm(of(inputs), inputs, true);
    tape.conv(&format!("{at}.conv1"), (all, all), 3, sizes(inputs, outputs, true));
    tape.linear(&format!("{at}.time_emb_proj"), pass.rows as u64, sizes(time, outputs, true));
    tape.shifted(of(outputs));
    tape.norm(of(outputs), outputs, true);
    tape.conv(&format!("{at}.conv2"), (all, all), 3, sizes(outputs, outputs, true));
    if inputs != outputs {
        tape.conv(&format!("{at}.conv_shortcut"), (all, all), 1, sizes(inputs, outputs, true));
    }
    tape.made(of(outputs));
}

fn transformer(
    tape: &mut Tape<'_>,
    pass: Pass<'_>,
    at: &str,
    layer: Layer,
    (height, width): (usize, usize),
) {
    let (channels, all) = (layer.outputs, pixels(pass.rows, (height, width)));
    let stream = all.saturating_mul(channels as u64);
    let projection = |tape: &mut Tape<'_>, name: &str| {
        let (path, same) = (format!("{at}.{name}"), sizes(channels, channels, true));
        if pass.shape.linear {
            tape.linear(&path, all, same);
        } else {
            tape.conv(&path, (all, all), 1, same);
        }
        // pixels become tokens or tokens pixels: the other axis comes last
        tape.made(stream);
    };
    tape.norm(stream, channels, false);
    projection(tape, "proj_in");
    for index in 0..layer.blocks {
        let at = format!("{at}.transformer_blocks.{index}");
        let tokens = (pass.rows, height * width);
        cross_attention(tape, &format!("{at}.attn1"), layer, tokens, (tokens.1, channels));
        let context = (pass.caption, pass.shape.context);
        cross_attention(tape, &format!("{at}.attn2"), layer, tokens, context);
        let inner = FEED_FORWARD * channels;
        tape.norm(stream, channels, false);
        tape.linear(&format!("{at}.ff.net.0.proj"), all, sizes(channels, 2 * inner, true));
        tape.gate(all.saturating_mul(inner as u64));
        tape.linear(&format!("{at}.ff.net.2"), all, sizes(inner, channels, true));
        tape.made(stream);
    }
    projection(tape, "proj_out");
    tape.made(stream);
}

/// A norm, attention of `queries` over `keys` tokens of some width, and the sum with the stream.
fn cross_attention(
    tape: &mut Tape<'_>,
    at: &str,
    layer: Layer,
    (rows, queries): (usize, usize),
    (keys, reads): (usize, usize),
) {
    let (channels, heads) = (layer.outputs, layer.heads.max(1));
    let tokens = product(&[rows, queries]);
    let read = product(&[rows, keys]);
    let stream = tokens.saturating_mul(channels as u64);
    tape.norm(stream, channels, false);
    tape.linear(&format!("{at}.to_q"), tokens, sizes(channels, channels, false));
    tape.linear(&format!("{at}.to_k"), read, sizes(reads, channels, false));
    tape.linear(&format!("{at}.to_v"), read, sizes(reads, channels, false));
    tape.attention(Scores {
        rows,
        heads,
        groups: heads,
        width: channels / heads,
        queries,
        keys,
        masked: false,
    });
    tape.linear(&format!("{at}.to_out.0"), tokens, sizes(channels, channels, true));
    tape.made(stream);
}

/// Adds a pass of a text encoder over `rows` captions.
pub fn text(tape: &mut Tape<'_>, shape: &Text, rows: usize) {
    let Text { width, inner, heads, places, .. } = *shape;
    let heads = heads.max(1);
    let tokens = product(&[rows, places]);
    let stream = tokens.saturating_mul(width as u64);
    tape.table(shape.vocabulary, width);
    tape.table(places, width);
    tape.made(stream);
    for index in 0..shape.layers {
        let at = format!("encoder.layers.{index}");
        tape.block(stream, |tape| {
            tape.norm(stream, width, false);
            for name in ["q_proj", "k_proj", "v_proj"] {
                tape.linear(&format!("{at}.self_attn.{name}"), tokens, sizes(width, width, true));
            }
            tape.attention(Scores {
                rows,
                heads,
                groups: heads,
                width: width / heads,
                queries: places,
                keys: places,
                masked: true,
            });
            tape.linear(&format!("{at}.self_attn.out_proj"), tokens, sizes(width, width, true));
            tape.made(stream);
            tape.norm(stream, width, false);
            tape.linear(&format!("{at}.mlp.fc1"), tokens, sizes(width, inner, true));
            tape.gate(tokens.saturating_mul(inner as u64));
            tape.linear(&format!("{at}.mlp.fc2"), tokens, sizes(inner, width, true));
            tape.made(stream);
        });
    }
    tape.norm(stream, width, false);
    if let Some(outputs) = shape.projection {
        tape.linear("text_projection", rows as u64, sizes(width, outputs, false));
    }
}
