//! Layers: every gradient against finite differences, every adapter against its merged weight, and
//! rows at strength 0 against the same batch without adapters.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use lora_eval::adapter::{Adapter, Component, Module, RowDelta};
use lora_eval::nn::attention::Attention;
use lora_eval::nn::gated::{Activation, gated};
use lora_eval::nn::rotary::Angles;
use lora_eval::nn::{Conv2d, ConvConfig, Embedding, Linear, Part, RmsNorm, Strengths, Weight};
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
    let plain =
        Attention { scale: 0.5, softcap: None, causal: true, window: None, starts: Vec::new() };
    vec![
        ("causal", plain.clone()),
        (
            "window, softcap, padding",
            Attention { softcap: Some(2.0), window: Some(2), starts: vec![0, 2], ..plain.clone() },
        ),
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
                    let sees = |key: usize| {
                        key <= own
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
