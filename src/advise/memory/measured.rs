//! Counted bytes against bytes that an allocator saw.
//!
//! Measured with an allocator that counts, around the forward pass and `backward` of `Decoder::hidden`
//! and `Unet::forward` on the CPU in f32, weights of random numbers in files, an adapter of rank 8 on
//! all linear layers, whose matrices are variables; the inputs of the layers' own backward passes were
//! detached. "Composed" are the same with the CPU's fused layers switched off, as on another device.

use super::tape::{F32, Tape};
use super::{decoder, denoiser};
use crate::advise::network::{Decoder, Unet};

/// Bytes in the graph after the forward pass, and the most besides it in the backward pass.
struct Measured {
    name: &'static str,
    fused: bool,
    forward: u64,
    backward: u64,
}

fn llama() -> Decoder {
    Decoder {
        hidden: 256,
        inner: 704,
        vocabulary: 1000,
        layers: 4,
        heads: 8,
        groups: 2,
        head: 32,
        bias: false,
        output_bias: false,
        inner_bias: false,
        head_norms: false,
        sandwich: false,
        fused: false,
        tied: false,
        context: 4096,
    }
}

/// Channels 64, 128, 256, 256 and a context of width 24.
fn unet() -> Unet {
    Unet::new(&[64, 128, 256, 256], &[1, 1, 1, 0], 1, (24, &|_| 8))
}

fn counted(fused: bool, pass: impl FnOnce(&mut Tape<'_>)) -> (u64, u64) {
    let in_blocks = |path: &str, kernel: usize| {
        (kernel == 1 && (path.contains("layers.") || path.contains(".attentions."))).then_some(8)
    };
    let mut tape = Tape::new(fused, F32, &in_blocks);
    pass(&mut tape);
    (tape.activations(false), tape.working(false))
}

fn check(measured: &Measured, (forward, backward): (u64, u64)) {
    let Measured { name, fused, .. } = measured;
    let of = |counted: u64, measured: u64| counted as f64 / measured as f64;
    let (forward, backward) = (of(forward, measured.forward), of(backward, measured.backward));
    assert!((0.99..1.04).contains(&forward), "{name}, fused {fused}: forward {forward:.3}");
    assert!((0.95..1.75).contains(&backward), "{name}, fused {fused}: backward {backward:.3}");
}

#[test]
fn two_rows_of_512_tokens_take_what_was_measured() {
    let qwen2 = Decoder { bias: true, tied: true, ..llama() };
    let qwen3 = Decoder { head_norms: true, ..llama() };
    let phi3 = Decoder { fused: true, ..llama() };
    let gemma2 = Decoder { sandwich: true, tied: true, ..llama() };
    for (name, shape, fused, forward, backward) in [
        ("llama", &llama(), true, 160_367_796, 31_452_128),
        ("qwen2", &qwen2, true, 165_090_636, 36_173_096),
        ("qwen3", &qwen3, true, 165_613_172, 31_454_384),
        ("phi3", &phi3, true, 188_930_388, 37_783_680),
        ("gemma2", &gemma2, true, 168_758_828, 31_461_032),
        ("llama", &llama(), false, 621_227_224, 604_241_832),
        ("qwen2", &qwen2, false, 625_950_064, 608_962_800),
        ("qwen3", &qwen3, false, 637_796_312, 619_977_000),
        ("phi3", &phi3, false, 626_705_400, 599_766_784),
    ] {
        let measured = Measured { name, fused, forward, backward };
        check(&measured, counted(fused, |tape| decoder::pass(tape, shape, 2, 512)));
    }
}

#[test]
fn a_denoiser_takes_what_was_measured() {
    for (rows, side, fused, forward, backward) in [
        (1, 32, true, 211_812_016, 54_362_448),
        (2, 32, true, 422_989_488, 98_275_632),
        (1, 64, true, 830_985_904, 184_857_936),
        (1, 32, false, 1_092_200_768, 582_251_928),
        (1, 64, false, 12_933_825_848, 4_404_760_352),
    ] {
        let measured = Measured { name: "unet", fused, forward, backward };
        let pass = |tape: &mut Tape<'_>| {
            denoiser::pass(tape, &unet(), (rows, 77), (side, side));
        };
        check(&measured, counted(fused, pass));
    }
}
