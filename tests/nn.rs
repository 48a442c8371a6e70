//! Layers: every gradient against finite differences, every adapter against its merged weight, and
//! rows at strength 0 against the same batch without adapters.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use lora_eval::adapter::{Adapter, Component, Module, RowDelta};
use lora_eval::nn::attention::Attention;
use lora_eval::nn::gated::{Activation, activate, gated, geglu};
use lora_eval::nn::pixels::{to_pixels, to_tokens};
use lora_eval::nn::rotary::Angles;
use lora_eval::nn::{
    Conv2d, ConvConfig, Embedding, GroupNorm, LayerNorm, Linear, Part, RmsNorm, Strengths, Weight,
};
use lora_eval::tensors::{self, Float};

const CPU: Device = Device::Cpu;

/// Numbers that look random, the same every time.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    Tensor::from_vec(values(shape.iter().product(), seed), shape, &CPU).unwrap()
}

/// Σ y⊙r in f64, for a fixed r.
fn loss(y: &Tensor) -> f64 {
    let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    y.iter().zip(values(y.len(), 99)).map(|(y, r)| f64::from(*y) * f64::from(r)).sum()
}

/// Compares the gradient of Σ y⊙r with central differences, element by element, for every input.
fn check_gradients(name: &str, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&tracked).unwrap();
    let r = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), &CPU).unwrap();
    let gradients = (y * r).unwrap().sum_all().unwrap().backward().unwrap();
    for (place, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var);
        assert!(gradient.is_some(), "{name}: input {place} has no gradient");
        let gradient = gradient.unwrap();
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = gradient.iter().fold(0f32, |a, g| a.max(g.abs()));
        assert!(largest > 0.0, "{name}: the gradient of input {place} is 0");
        let start = inputs[place].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, gradient) in gradient.iter().enumerate() {
            let step = 1e-2f32;
            let at = |by: f32| {
                let mut moved = start.clone();
                moved[i] += by;
                let mut all = inputs.to_vec();
                all[place] = Tensor::from_vec(moved, inputs[place].shape(), &CPU).unwrap();
                loss(&f(&all).unwrap())
            };
            // Richardson: the error of the central difference goes with step⁴
            let wide = (at(step) - at(-step)) / f64::from(2.0 * step);
            let fine = (at(step / 2.0) - at(-step / 2.0)) / f64::from(step);
            let expected = (4.0 * fine - wide) / 3.0;
            let error = (f64::from(*gradient) - expected).abs();
            assert!(
                error < 2e-3 * f64::from(largest.max(1.0)),
                "{name}: input {place} element {i}: {gradient} instead of {expected}"
            );
        }
    }
}

fn stored(tensor: &Tensor, float: Float) -> Weight {
    let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let stored = tensors::Tensor::from_f32(tensor.dims().to_vec(), &flat, float);
    Weight::load(&stored, (None, DType::F32), &CPU).unwrap()
}

#[test]
fn gradients_of_linear_layers() {
    for (name, weight) in [
        ("stored f32", stored(&tensor(&[5, 7], 1), Float::F32)),
        ("stored bf16", stored(&tensor(&[5, 7], 1), Float::BF16)),
        ("dense", Weight::Dense(tensor(&[5, 7], 1))),
    ] {
        let strengths = Strengths::new(vec![vec![0.0, 0.0], vec![0.7, -0.4], vec![0.0, 1.0]]);
        let inputs = [
            tensor(&[3, 2, 7], 2),
            tensor(&[2, 7], 3),
            tensor(&[5, 2], 4),
            tensor(&[3, 7], 5),
            tensor(&[5, 3], 6),
        ];
        check_gradients(name, &inputs, &|i| {
            let mut layer = Linear::new(weight.clone(), Some(tensor(&[5], 7)));
            layer.attach_low_rank(0, 0.5, i[1].clone(), i[2].clone())?;
            layer.attach_low_rank(1, 2.0, i[3].clone(), i[4].clone())?;
            layer.forward(&i[0], &strengths)
        });
    }
}

#[test]
fn gradients_of_quantised_linear_layers() {
    let w = tensor(&[4, 32], 1);
    let quantized =
        candle_core::quantized::QTensor::quantize(&w, candle_core::quantized::GgmlDType::F32);
    let layer = Linear::new(Weight::Quantized(quantized.unwrap().into()), None);
    let strengths = Strengths::none(2);
    check_gradients("quantised", &[tensor(&[2, 1, 32], 2)], &|i| layer.forward(&i[0], &strengths));
}

#[test]
fn gradients_of_convolutions() {
    let strengths = Strengths::new(vec![vec![0.8, 0.3], vec![0.0, 0.0]]);
    let config = ConvConfig { padding: 1, stride: 2, ..ConvConfig::default() };
    let weight = tensor(&[4, 3, 3, 3], 1);
    let inputs = [
        tensor(&[2, 3, 8, 8], 2),
        tensor(&[2, 3, 3, 3], 3),
        tensor(&[4, 2, 1, 1], 4),
        tensor(&[1, 3, 3, 3], 5),
        tensor(&[4, 1, 1, 1], 6),
    ];
    check_gradients("convolution", &inputs, &|i| {
        let mut layer = Conv2d::new(&weight, Some(tensor(&[4], 7)), config).unwrap();
        layer.attach_low_rank(0, 0.5, i[1].clone(), i[2].clone());
        layer.attach_low_rank(1, 1.5, i[3].clone(), i[4].clone());
        layer.forward(&i[0], &strengths)
    });
}

#[test]
fn gradients_of_embeddings() {
    let table = stored(&tensor(&[6, 4], 1), Float::F32);
    let ids = Tensor::new(&[[1u32, 5, 1], [0, 2, 3]], &CPU).unwrap();
    let strengths = Strengths::new(vec![vec![0.0], vec![0.6]]);
    check_gradients("embedding", &[tensor(&[6, 2], 2), tensor(&[4, 2], 3)], &|i| {
        let mut layer = Embedding::new(table.clone(), DType::F32);
        layer.attach_low_rank(0, 0.5, i[0].clone(), i[1].clone());
        layer.forward(&ids, &strengths)
    });
}

#[test]
fn gradients_of_norms_gates_and_rotations() {
    check_gradients("norm", &[tensor(&[2, 3, 9], 1), tensor(&[9], 2)], &|i| {
        RmsNorm::new(i[1].clone(), 1e-5).forward(&i[0])
    });
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        check_gradients("gate", &[tensor(&[3, 8], 1), tensor(&[3, 8], 2)], &|i| {
            gated(&i[0], &i[1], activation)
        });
    }
    let angles: Vec<f32> = values(2 * 3 * 2, 3);
    let (cos, sin) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let angles = Angles::new(cos, sin, (2, 3, 2), &CPU).unwrap();
    check_gradients("rotation", &[tensor(&[2, 2, 3, 6], 4)], &|i| angles.rotate(&i[0]));
}

fn attentions() -> Vec<(&'static str, Attention)> {
    let plain = Attention { causal: true, ..Attention::over_all(0.5, Vec::new()) };
    vec![
        ("causal", plain.clone()),
        (
            "window, softcap, padding",
            Attention { softcap: Some(2.0), window: Some(2), starts: vec![0, 2], ..plain.clone() },
        ),
        ("two texts", Attention { texts: vec![0, 3], ..plain.clone() }),
        ("full", Attention { causal: false, ..plain }),
    ]
}

#[test]
fn gradients_of_attention() {
    for (name, attention) in attentions() {
        let inputs = [tensor(&[2, 4, 3, 4], 1), tensor(&[2, 2, 5, 4], 2), tensor(&[2, 2, 5, 4], 3)];
        check_gradients(name, &inputs, &|i| attention.forward(&i[0], &i[1], &i[2]));
    }
}

/// The definition, one number at a time.
#[test]
fn attention_is_its_definition() {
    for (name, attention) in attentions() {
        let (q, k, v) =
            (tensor(&[2, 4, 3, 4], 1), tensor(&[2, 2, 5, 4], 2), tensor(&[2, 2, 5, 4], 3));
        let y = attention.forward(&q, &k, &v).unwrap();
        let at = |t: &Tensor, i: [usize; 4]| {
            let mut t = t.clone();
            for i in i {
                t = t.get(i).unwrap();
            }
            f64::from(t.to_scalar::<f32>().unwrap())
        };
        for row in 0..2 {
            for head in 0..4 {
                for t in 0..3 {
                    let group = head / 2;
                    let own = if attention.causal { 2 + t } else { 4 };
                    let text =
                        |place: usize| attention.texts.partition_point(|start| *start <= place);
                    let sees = |key: usize| {
                        key <= own
                            && text(key) == text(2 + t)
                            && key >= attention.starts.get(row).copied().unwrap_or(0)
                            && attention.window.is_none_or(|window| key + window > own)
                    };
                    let score = |key: usize| {
                        let dot: f64 = (0..4)
                            .map(|i| at(&q, [row, head, t, i]) * at(&k, [row, group, key, i]))
                            .sum();
                        let score = dot * 0.5;
                        attention
                            .softcap
                            .map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                    };
                    let weights: Vec<f64> =
                        (0..5).map(|key| if sees(key) { score(key).exp() } else { 0.0 }).collect();
                    let sum: f64 = weights.iter().sum();
                    for i in 0..4 {
                        let expected: f64 = (0..5)
                            .map(|key| weights[key] / sum * at(&v, [row, group, key, i]))
                            .sum();
                        let found = at(&y, [row, head, t, i]);
                        assert!((found - expected).abs() < 1e-5, "{name} {row} {head} {t} {i}");
                    }
                }
            }
        }
    }
}

/// Modules of an adapter of the parity fixtures that have this component.
fn modules(name: &str, component: Component) -> Vec<Module> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/adapters").join(name);
    let adapter = Adapter::open(&path).unwrap();
    adapter.modules.into_values().filter(|module| module.id.component == component).collect()
}

/// W + s·ΔW by the code that merges, which the peers' merged weights confirm.
fn merged(module: &Module, w: &Tensor, strength: f32) -> Tensor {
    let mut values = w.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let base = values.clone();
    let rows = w.dim(0).unwrap();
    if let Some(mut delta) = RowDelta::new(module, w.dims(), false, strength).unwrap() {
        if delta.needs_column_norms() {
            delta.see_rows(0..rows, &base);
        }
        delta.add_rows(0..rows, &base, &mut values);
    }
    Tensor::from_vec(values, w.shape(), &CPU).unwrap()
}

/// Every kind of module on linear layers and convolutions: a batch of strengths equals the merged
/// weights one by one, and its row at 0 has the bits of a batch without adapters.
#[test]
fn a_batch_of_strengths_is_the_merged_weights_one_by_one() {
    let strengths = [0.0f32, 1.0, -0.5, 0.8];
    let batch = Strengths::new(strengths.iter().map(|s| vec![*s]).collect());
    let (mut linear, mut convolutions) = (0, 0);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/adapters");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with("sd1-") || !name.ends_with(".safetensors") {
            continue;
        }
        for module in modules(&name, Component::Unet) {
            let Some((out, columns)) = module.extent() else { continue };
            let wide = module
                .tensors()
                .iter()
                .any(|(_, t)| t.shape().len() == 4 && t.shape()[2..] == [3, 3]);
            if wide && columns % 9 == 0 {
                let w = tensor(&[out, columns / 9, 3, 3], 1);
                let config = ConvConfig { padding: 1, ..ConvConfig::default() };
                let bias = Some(tensor(&[out], 8));
                let mut layer = Conv2d::new(&w, bias.clone(), config).unwrap();
                let plain = layer.clone();
                layer.attach(0, &module, &CPU).unwrap();
                let x = tensor(&[4, columns / 9, 5, 5], 2);
                let y = layer.forward(&x, &batch).unwrap();
                same_bits(&y, &plain.forward(&x, &Strengths::none(4)).unwrap());
                if module.bias.is_some() {
                    continue; // the merged bias is the other test's business
                }
                for (row, strength) in strengths.iter().enumerate() {
                    let w = merged(&module, &w, *strength);
                    let alone = Conv2d::new(&w, bias.clone(), config).unwrap();
                    close(
                        &name,
                        &y.get(row).unwrap(),
                        &alone.forward(&x, &Strengths::none(4)).unwrap().get(row).unwrap(),
                    );
                }
                convolutions += 1;
            } else if !wide {
                let w = tensor(&[out, columns], 1);
                let bias = Some(tensor(&[out], 8));
                let mut layer = Linear::new(stored(&w, Float::F32), bias.clone());
                let plain = layer.clone();
                layer.attach(0, &module, &Part::Whole, &CPU).unwrap();
                let x = tensor(&[4, 3, columns], 2);
                let y = layer.forward(&x, &batch).unwrap();
                same_bits(&y, &plain.forward(&x, &Strengths::none(4)).unwrap());
                if module.bias.is_some() {
                    continue;
                }
                for (row, strength) in strengths.iter().enumerate() {
                    let w = merged(&module, &w, *strength);
                    let alone = Linear::new(stored(&w, Float::F32), bias.clone());
                    close(
                        &name,
                        &y.get(row).unwrap(),
                        &alone.forward(&x, &Strengths::none(4)).unwrap().get(row).unwrap(),
                    );
                }
                linear += 1;
            }
        }
    }
    assert!(linear > 50 && convolutions > 10, "{linear} {convolutions}");
}

/// Row 0 to the bit.
fn same_bits(y: &Tensor, plain: &Tensor) {
    let bits = |t: &Tensor| -> Vec<u32> {
        let row = t.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        row.iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(y), bits(plain));
}

fn close(name: &str, a: &Tensor, b: &Tensor) {
    let largest = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference <= 1e-4 * largest.max(1.0), "{name}: {difference} of {largest}");
}

#[test]
fn two_adapters_add_up_and_an_infinite_one_leaves_the_base_row_alone() {
    let w = stored(&tensor(&[6, 8], 1), Float::F32);
    let mut layer = Linear::new(w.clone(), None);
    layer.attach_low_rank(0, 1.0, tensor(&[2, 8], 2), tensor(&[6, 2], 3)).unwrap();
    layer.attach_low_rank(1, 0.5, tensor(&[3, 8], 4), tensor(&[6, 3], 5)).unwrap();
    let x = tensor(&[3, 2, 8], 6);
    let y = layer
        .forward(&x, &Strengths::new(vec![vec![0.5, 2.0], vec![0.5, 0.0], vec![0.0, 2.0]]))
        .unwrap();
    let base = Linear::new(w.clone(), None).forward(&x, &Strengths::none(3)).unwrap();
    let one = |number: usize, row: usize| {
        let mut only = Linear::new(w.clone(), None);
        let (a, b, scale) = if number == 0 { (2, 3, 1.0) } else { (4, 5, 0.5) };
        let rank = 2 + number;
        only.attach_low_rank(0, scale, tensor(&[rank, 8], a), tensor(&[6, rank], b)).unwrap();
        let strength = if number == 0 { 0.5 } else { 2.0 };
        let y = only.forward(&x, &Strengths::new(vec![vec![strength]; 3])).unwrap();
        (y - &base).unwrap().get(row).unwrap()
    };
    let sum = ((one(0, 0) + one(1, 0)).unwrap() + base.get(0).unwrap()).unwrap();
    close("sum", &y.get(0).unwrap(), &sum);
    close("first alone", &y.get(1).unwrap(), &(one(0, 1) + base.get(1).unwrap()).unwrap());

    let mut broken = Linear::new(w, None);
    let infinite = Tensor::full(f32::INFINITY, (2, 8), &CPU).unwrap();
    broken.attach_low_rank(0, 1.0, infinite, tensor(&[6, 2], 3)).unwrap();
    let y = broken.forward(&x, &Strengths::new(vec![vec![0.0], vec![1.0], vec![0.0]])).unwrap();
    same_bits(&y, &base);
}

/// f16 takes the way of other devices, which is composed of differentiable operations; f64 would
/// not do, since they are made in f32.
fn composed_equals_fused(name: &str, x: &Tensor, f: &dyn Fn(&Tensor) -> Result<Tensor>) {
    let half = x.to_dtype(DType::F16).unwrap();
    let fused = f(&half.to_dtype(DType::F32).unwrap()).unwrap();
    let composed = f(&half).unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(fused.dims(), composed.dims(), "{name}");
    let largest = fused.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let error = (fused - composed).unwrap().abs().unwrap().max_all().unwrap();
    let error = error.to_scalar::<f32>().unwrap();
    assert!(error <= 4e-3 * largest.max(1.0), "{name}: {error}");
}

#[test]
fn gradients_of_layer_and_group_norms() {
    let inputs = [tensor(&[2, 3, 9], 1), tensor(&[9], 2), tensor(&[9], 3)];
    check_gradients("layer norm", &inputs, &|i| {
        LayerNorm::new(i[1].clone(), i[2].clone(), 1e-5).forward(&i[0])
    });
    let inputs = [tensor(&[2, 6, 2, 3], 1), tensor(&[6], 2), tensor(&[6], 3)];
    check_gradients("group norm", &inputs, &|i| {
        GroupNorm::new(i[1].clone(), i[2].clone(), 3, 1e-5).forward(&i[0])
    });
    check_gradients("group norm, silu", &inputs, &|i| {
        GroupNorm::new(i[1].clone(), i[2].clone(), 3, 1e-5).forward_silu(&i[0])
    });
}

#[test]
fn tokens_are_pixels_turned_and_so_are_their_gradients() {
    let x = tensor(&[2, 5, 3, 7], 1);
    let tokens = to_tokens(&x).unwrap();
    let expected = x.flatten_from(2).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
    assert_eq!(tokens.dims(), expected.dims());
    assert_eq!(flat(&tokens), flat(&expected));
    assert_eq!(flat(&to_pixels(&tokens, (3, 7)).unwrap()), flat(&x));
    check_gradients("tokens", std::slice::from_ref(&x), &|i| to_tokens(&i[0]));
    check_gradients("pixels", &[tokens], &|i| to_pixels(&i[0], (3, 7)));
    assert!(to_pixels(&x.flatten_from(2).unwrap(), (3, 7)).is_err(), "5 tokens are not 3 by 7");
}

#[test]
fn frozen_weights_of_norms_get_no_gradient() {
    let (w, b) = (tensor(&[6], 2), tensor(&[6], 3));
    let x = Var::from_tensor(&tensor(&[2, 6, 6], 1)).unwrap();
    let group = GroupNorm::new(w.clone(), b.clone(), 3, 1e-5);
    let layer = LayerNorm::new(w.clone(), b.clone(), 1e-5);
    let norm = RmsNorm::new(w.clone(), 1e-5);
    let y = norm.forward(&layer.forward(&group.forward_silu(x.as_tensor()).unwrap()).unwrap());
    let gradients = y.unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some());
    assert!(gradients.get(&w).is_none() && gradients.get(&b).is_none());
}

#[test]
fn gradients_of_activations_and_geglu() {
    for activation in
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu]
    {
        check_gradients("activation", &[tensor(&[3, 19], 1)], &|i| activate(&i[0], activation));
    }
    check_gradients("geglu", &[tensor(&[3, 2, 38], 1)], &|i| geglu(&i[0]));
}

#[test]
fn fused_norms_and_activations_equal_the_composed_ones() {
    let (w, b) = (tensor(&[6], 2), tensor(&[6], 3));
    let group = GroupNorm::new(w.clone(), b.clone(), 3, 1e-5);
    let x = tensor(&[2, 6, 5, 3], 1);
    composed_equals_fused("group norm", &x, &|x| group.forward(x));
    composed_equals_fused("group norm, silu", &x, &|x| group.forward_silu(x));
    let layer = LayerNorm::new(w, b, 1e-5);
    composed_equals_fused("layer norm", &tensor(&[2, 5, 6], 1), &|x| layer.forward(x));
    composed_equals_fused("geglu", &tensor(&[2, 5, 6], 1), &geglu);
    for activation in
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu]
    {
        composed_equals_fused("activation", &x, &|x| activate(x, activation));
    }
}

#[test]
fn norms_and_gates_that_do_not_fit_are_errors() {
    let (w, b) = (tensor(&[6], 2), tensor(&[6], 3));
    let group = GroupNorm::new(w.clone(), b.clone(), 4, 1e-5);
    assert!(group.forward(&tensor(&[2, 6, 5], 1)).is_err(), "6 channels in 4 groups");
    let group = GroupNorm::new(w.clone(), b.clone(), 3, 1e-5);
    assert!(group.forward(&tensor(&[2, 5, 6], 1)).is_err(), "5 channels for 6 weights");
    assert!(group.forward(&tensor(&[6], 1)).is_err(), "no rows");
    assert!(LayerNorm::new(w, b, 1e-5).forward(&tensor(&[2, 5], 1)).is_err());
    assert!(geglu(&tensor(&[2, 5], 1)).is_err());
    assert!(gated(&tensor(&[2, 3], 1), &tensor(&[3, 2], 1), Activation::Silu).is_err());
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The definition in f64: (rows, queries, heads, width).
fn exact(attention: &Attention, [q, k, v]: [&Tensor; 3]) -> Vec<f64> {
    let (rows, heads, queries, width) = q.dims4().unwrap();
    let (_, groups, keys, _) = k.dims4().unwrap();
    let (q, k, v) = (flat(q), flat(k), flat(v));
    let mut y = Vec::new();
    for (row, t, head) in
        (0..rows * queries * heads).map(|i| (i / heads / queries, i / heads % queries, i % heads))
    {
        let group = row * groups + head / (heads / groups);
        let q = &q[((row * heads + head) * queries + t) * width..][..width];
        let feature =
            |of: &[f32], key: usize, i: usize| f64::from(of[(group * keys + key) * width + i]);
        let visible = attention.visible(row, t, queries, keys);
        let weights: Vec<f64> = visible
            .clone()
            .map(|key| {
                let dot: f64 = (0..width).map(|i| f64::from(q[i]) * feature(&k, key, i)).sum();
                let score = dot * f64::from(attention.scale);
                let cap = attention.softcap.map(f64::from);
                cap.map_or(score, |cap| cap * (score / cap).tanh()).exp()
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        y.extend((0..width).map(|i| {
            let of = |(key, weight): (usize, &f64)| weight / sum * feature(&v, key, i);
            visible.clone().zip(&weights).map(of).sum::<f64>()
        }));
    }
    y
}

/// Every mask, for two rows.
fn masks() -> [(&'static str, Attention); 8] {
    let full = Attention::over_all(0.7, Vec::new());
    let causal = Attention { causal: true, ..full.clone() };
    let padded = Attention { starts: vec![0, 140], ..causal.clone() };
    let capped = Attention { softcap: Some(1.5), ..full.clone() };
    let window = Attention { window: Some(37), starts: vec![3, 60], ..causal.clone() };
    let all_padding = Attention { starts: vec![400, 0], ..full.clone() };
    let texts = Attention { texts: vec![0, 5, 6, 200], ..causal.clone() };
    let both_ways = Attention { texts: vec![0, 90], ..full.clone() };
    [
        ("full", full),
        ("causal", causal),
        ("padded", padded),
        ("capped", capped),
        ("window", window),
        ("all padding", all_padding),
        ("texts", texts),
        ("texts, both ways", both_ways),
    ]
}

/// Many queries, which go in blocks: odd sizes, groups of heads, every mask.
#[test]
fn attention_of_many_queries_is_its_definition() {
    for (name, attention) in masks() {
        for (queries, keys, width, (heads, groups)) in
            [(16, 16, 1, (1, 1)), (77, 150, 19, (4, 2)), (131, 400, 40, (2, 2))]
        {
            let q = tensor(&[2, heads, queries, width], 1);
            let k = tensor(&[2, groups, keys, width], 2);
            let v = tensor(&[2, groups, keys, width], 3);
            let y = flat(&attention.forward_joined(&q, &k, &v).unwrap());
            for (i, (y, expected)) in y.iter().zip(exact(&attention, [&q, &k, &v])).enumerate() {
                let error = (f64::from(*y) - expected).abs();
                assert!(error < 2e-6, "{name} {queries} {keys} {width} {i}: {y}, {expected}");
            }
        }
    }
}

/// (rows, tokens, heads, width) seen as (rows, heads, tokens, width) needs no copy and gives the
/// same bits as one that was made, in both layouts of the result.
#[test]
fn attention_of_views_is_that_of_copies() {
    for queries in [3, 100] {
        let attention = Attention { causal: true, ..Attention::over_all(0.4, vec![1, 0]) };
        let token = |n: usize, heads: usize, seed| {
            tensor(&[2, n, heads, 10], seed).transpose(1, 2).unwrap()
        };
        let (q, k, v) = (token(queries, 4, 1), token(150, 2, 2), token(150, 2, 3));
        let copy = |x: &Tensor| x.contiguous().unwrap();
        let y = attention.forward(&q, &k, &v).unwrap();
        let copied = attention.forward(&copy(&q), &copy(&k), &copy(&v)).unwrap();
        assert_eq!(y.dims(), [2, 4, queries, 10]);
        assert_eq!(flat(&y), flat(&copied));
        let joined = attention.forward_joined(&q, &k, &v).unwrap();
        assert_eq!(joined.dims(), [2, queries, 40]);
        assert_eq!(flat(&joined), flat(&y.transpose(1, 2).unwrap()));
        // keys and queries that are one tensor's parts have their features side by side too
        let wide = tensor(&[2, queries, 4, 30], 4);
        let part = |from| wide.narrow(3, from, 10).unwrap().transpose(1, 2).unwrap();
        let y = attention.forward(&part(0), &part(10), &part(20)).unwrap();
        let copied = attention.forward(&copy(&part(0)), &copy(&part(10)), &copy(&part(20)));
        assert_eq!(flat(&y), flat(&copied.unwrap()));
    }
}

/// To the bit: a query of a longer prompt, of a batch, behind padding, on any number of threads.
#[test]
fn a_query_does_not_depend_on_what_stands_beside_it() {
    for window in [None, Some(150)] {
        let attention = |starts: Vec<usize>| Attention {
            causal: true,
            window,
            ..Attention::over_all(0.5, starts)
        };
        let (q, k, v) =
            (tensor(&[1, 2, 300, 24], 1), tensor(&[1, 2, 300, 24], 2), tensor(&[1, 2, 300, 24], 3));
        let alone = attention(Vec::new()).forward_joined(&q, &k, &v).unwrap();
        let in_front = |x: &Tensor, seed| {
            let padded = Tensor::cat(&[&tensor(&[1, 2, 45, 24], seed), x], 2).unwrap();
            Tensor::cat(&[&tensor(&[1, 2, 345, 24], seed + 1), &padded], 0).unwrap()
        };
        let batch = [in_front(&q, 4), in_front(&k, 6), in_front(&v, 8)];
        let both = attention(vec![0, 45]).forward_joined(&batch[0], &batch[1], &batch[2]).unwrap();
        let row = both.get(1).unwrap().narrow(0, 45, 300).unwrap();
        assert_eq!(flat(&alone), flat(&row));
        let padding = both.get(1).unwrap().narrow(0, 0, 45).unwrap();
        assert!(flat(&padding).iter().all(|y| *y == 0.0));
        let last = q.narrow(2, 200, 100).unwrap();
        let last = attention(Vec::new()).forward_joined(&last, &k, &v).unwrap();
        assert_eq!(flat(&alone.narrow(1, 200, 100).unwrap()), flat(&last));
        for threads in [1, 3, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let y = pool.install(|| attention(Vec::new()).forward_joined(&q, &k, &v)).unwrap();
            assert_eq!(flat(&alone), flat(&y), "{threads} threads");
        }
    }
}

#[test]
fn nan_and_large_scores_of_many_queries() {
    let attention = Attention::over_all(1.0, Vec::new());
    let (q, k, v) =
        (tensor(&[1, 1, 20, 8], 1), tensor(&[1, 1, 300, 8], 2), tensor(&[1, 1, 300, 8], 3));
    let large = (&q * 1e4).unwrap();
    let y = flat(&attention.forward_joined(&large, &k, &v).unwrap());
    for (y, expected) in y.iter().zip({
        // one key has all the weight
        let (q, k, v) = (flat(&large), flat(&k), flat(&v));
        (0..20).flat_map(move |t| {
            let score = |key: usize| -> f64 {
                (0..8).map(|i| f64::from(q[t * 8 + i]) * f64::from(k[key * 8 + i])).sum()
            };
            let best = (0..300).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
            v[best * 8..best * 8 + 8].to_vec()
        })
    }) {
        assert!((y - expected).abs() < 1e-5, "{y}, {expected}");
    }
    let mut broken = flat(&k);
    broken[250 * 8] = f32::NAN;
    let broken = Tensor::from_vec(broken, k.shape(), &CPU).unwrap();
    let y = flat(&attention.forward_joined(&q, &broken, &v).unwrap());
    assert!(y.iter().all(|y| y.is_nan()));
}

type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// The cases of `tests/parity/nn.py`.
fn torch_cases() -> Vec<(&'static str, Vec<Tensor>, Function)> {
    let layer = vec![tensor(&[2, 3, 40], 1), tensor(&[40], 2), tensor(&[40], 3)];
    let group = vec![tensor(&[2, 8, 5, 3], 1), tensor(&[8], 2), tensor(&[8], 3)];
    let norm = |i: &[Tensor]| GroupNorm::new(i[1].clone(), i[2].clone(), 4, 1e-6);
    let cross =
        vec![tensor(&[2, 4, 21, 8], 1), tensor(&[2, 2, 30, 8], 2), tensor(&[2, 2, 30, 8], 3)];
    let square = (1..4).map(|seed| tensor(&[1, 2, 33, 8], seed)).collect();
    let attend = |causal: bool| -> Function {
        let attention = Attention { causal, ..Attention::over_all(1.0 / 8f32.sqrt(), Vec::new()) };
        Box::new(move |i| attention.forward(&i[0], &i[1], &i[2]))
    };
    let mut cases: Vec<(&str, Vec<Tensor>, Function)> = vec![
        (
            "layer_norm",
            layer,
            Box::new(|i| LayerNorm::new(i[1].clone(), i[2].clone(), 1e-5).forward(&i[0])),
        ),
        ("group_norm", group.clone(), Box::new(move |i| norm(i).forward(&i[0]))),
        ("group_norm_silu", group, Box::new(move |i| norm(i).forward_silu(&i[0]))),
        ("geglu", vec![tensor(&[3, 2, 38], 1)], Box::new(|i| geglu(&i[0]))),
        ("attention", cross, attend(false)),
        ("attention_causal", square, attend(true)),
    ];
    for (name, activation) in [
        ("silu", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
        ("quick_gelu", Activation::QuickGelu),
    ] {
        let function = move |i: &[Tensor]| activate(&(&i[0] * 5.0)?, activation);
        cases.push((name, vec![tensor(&[150], 1)], Box::new(function)));
    }
    cases
}

#[test]
fn results_and_gradients_are_torch_s() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/nn.json"));
    let peer: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
    let numbers = |of: &serde_json::Value| -> Vec<f64> {
        of.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let cases = torch_cases();
    assert_eq!(cases.len(), peer["cases"].as_object().unwrap().len());
    for (name, inputs, function) in cases {
        let compare = |what: &str, found: &Tensor, expected: Vec<f64>| {
            let found = flat(found);
            assert_eq!(found.len(), expected.len(), "{name} {what}");
            let largest = expected.iter().fold(1.0, |a: f64, x| a.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-6 * largest, "{name} {what}: {found} instead of {expected}");
            }
        };
        let case = &peer["cases"][name];
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = function(&tracked).unwrap();
        compare("result", &y, numbers(&case["y"]));
        let r = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), &CPU).unwrap();
        let gradients = (y * r).unwrap().sum_all().unwrap().backward().unwrap();
        for (i, var) in vars.iter().enumerate() {
            let gradient = gradients.get(var).unwrap();
            compare(&format!("gradient {i}"), gradient, numbers(&case["gradients"][i]));
        }
    }
}

/// The gradients of the blocked way against those of the composed one, which f64 takes.
#[test]
fn gradients_of_attention_of_many_queries() {
    for (name, attention) in masks() {
        for (queries, keys, width, (heads, groups)) in
            [(20, 20, 1, (1, 1)), (150, 300, 19, (4, 2)), (7, 140, 40, (2, 2))]
        {
            // views, as a linear layer gives them
            let token = |n: usize, heads: usize, seed| tensor(&[2, n, heads, width], seed);
            let inputs = [token(queries, heads, 1), token(keys, groups, 2), token(keys, groups, 3)];
            let gradients = |dtype: DType| -> Vec<Vec<f64>> {
                let vars: Vec<Var> = inputs
                    .iter()
                    .map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap())
                    .collect();
                let [q, k, v] = [0, 1, 2].map(|i| vars[i].transpose(1, 2).unwrap());
                let y = attention.forward_joined(&q, &k, &v).unwrap();
                let r = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), &CPU).unwrap();
                let loss = (y * r.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
                let gradients = loss.backward().unwrap();
                let of = |var: &Var| gradients.get(var).unwrap().to_dtype(DType::F64).unwrap();
                vars.iter().map(|var| of(var).flatten_all().unwrap().to_vec1().unwrap()).collect()
            };
            let (fused, composed) = (gradients(DType::F32), gradients(DType::F64));
            for (i, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
                let largest = composed.iter().fold(1.0, |a: f64, x| a.max(x.abs()));
                for (fused, composed) in fused.iter().zip(composed) {
                    let error = (fused - composed).abs();
                    let what = format!("{name} {queries} input {i}: {fused}, {composed}");
                    assert!(error < 4e-6 * largest, "{what}");
                }
            }
        }
    }
}
