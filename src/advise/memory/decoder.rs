//! A decoder's forward pass, as `model::decoder` runs it.

use super::tape::{Scores, Sizes, Tape, product};
use crate::advise::network::Decoder;

/// Adds a pass of `rows` rows of `length` tokens, up to the last norm.
pub fn pass(tape: &mut Tape<'_>, shape: &Decoder, rows: usize, length: usize) {
    let tokens = product(&[rows, length]);
    let stream = tokens.saturating_mul(shape.hidden as u64);
    tape.table(shape.vocabulary, shape.hidden);
    if !shape.tied {
        tape.table(shape.vocabulary, shape.hidden);
    }
    tape.made(stream);
    for index in 0..shape.layers {
        let at = format!("model.layers.{index}");
        tape.block(stream, |tape| {
            attention(tape, shape, &at, (rows, length));
            feed_forward(tape, shape, &at, tokens);
        });
    }
    tape.rms_norm(stream, shape.hidden);
}

fn attention(tape: &mut Tape<'_>, shape: &Decoder, at: &str, (rows, length): (usize, usize)) {
    let Decoder { hidden, heads, groups, head, bias, .. } = *shape;
    let tokens = product(&[rows, length]);
    let stream = tokens.saturating_mul(hidden as u64);
    let (wide, narrow) = (heads * head, groups * head);
    let (of_q, of_k) = (product(&[rows, length, wide]), product(&[rows, length, narrow]));
    let sizes = |inputs, outputs, bias| Sizes { inputs, outputs, bias };
    tape.rms_norm(stream, hidden);
    if shape.fused {
        let path = format!("{at}.self_attn.qkv_proj");
        tape.linear(&path, tokens, sizes(hidden, wide + 2 * narrow, bias));
        // the three parts, each laid side by side
        tape.made(of_q.saturating_add(of_k.saturating_mul(2)));
    } else {
        for (name, outputs) in [("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)] {
            let path = format!("{at}.self_attn.{name}");
            tape.linear(&path, tokens, sizes(hidden, outputs, bias));
        }
    }
    if shape.head_norms {
        tape.rms_norm(of_q, head);
        tape.rms_norm(of_k, head);
    }
    tape.rotary(of_q);
    tape.rotary(of_k);
    let masked = true;
    let scores = Scores { rows, heads, groups, width: head, queries: length, keys: length, masked };
    tape.attention(scores);
    tape.linear(&format!("{at}.self_attn.o_proj"), tokens, sizes(wide, hidden, shape.output_bias));
    if shape.sandwich {
        tape.rms_norm(stream, hidden);
    }
    tape.made(stream);
}

fn feed_forward(tape: &mut Tape<'_>, shape: &Decoder, at: &str, tokens: u64) {
    let Decoder { hidden, inner, .. } = *shape;
    let stream = tokens.saturating_mul(hidden as u64);
    let middle = tokens.saturating_mul(inner as u64);
    let sizes = |inputs, outputs| Sizes { inputs, outputs, bias: shape.inner_bias };
    tape.rms_norm(stream, hidden);
    if shape.fused {
        tape.linear(&format!("{at}.mlp.gate_up_proj"), tokens, sizes(hidden, 2 * inner));
        tape.made(middle.saturating_mul(2));
    } else {
        for name in ["gate_proj", "up_proj"] {
            tape.linear(&format!("{at}.mlp.{name}"), tokens, sizes(hidden, inner));
        }
    }
    tape.gate(middle);
    tape.linear(&format!("{at}.mlp.down_proj"), tokens, sizes(inner, hidden));
    if shape.sandwich {
        tape.rms_norm(stream, hidden);
    }
    tape.made(stream);
}
