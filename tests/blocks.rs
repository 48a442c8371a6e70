//! Strengths by block: a block at 0 is the adapter without that block's tensors, to the bit, in a batch
//! with other rows, in a merge and through the program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device};
use lora_eval::adapter::combine::Weighted;
use lora_eval::adapter::{Adapter, ModuleId};
use lora_eval::generate::image::{ImageModel, Job, RowStrengths};
use lora_eval::merge::{Request, merge};
use lora_eval::model::decoder::{Decoder, Want};
use lora_eval::model::diffusion::noise::NoiseSource;
use lora_eval::model::diffusion::sampler::Choice;
use lora_eval::model::{Base, Blocks, fit};
use lora_eval::nn::{BlockWeights, Strengths};
use lora_eval::prompt::Prompt;
use lora_eval::tensors::{Limits, TensorFile};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path)
}

fn open(path: &str) -> (Base, Blocks) {
    let base = Base::open_to_run(&fixture(path)).unwrap();
    let blocks = Blocks::of(&base);
    (base, blocks)
}

/// Weights by block of adapter 0: 1, but 0 in `off`.
fn without(blocks: &Blocks, off: usize) -> Vec<f32> {
    (0..blocks.names().len()).map(|block| if block == off { 0.0 } else { 1.0 }).collect()
}

/// The adapter without the modules that a block holds.
fn cut(adapter: &Adapter, base: &Base, (blocks, off): (&Blocks, usize)) -> Adapter {
    let mut left = adapter.clone();
    let gone: Vec<ModuleId> = fit(adapter, base)
        .unwrap()
        .matched
        .iter()
        .filter(|(_, target)| blocks.of_module(&target.id) == Some(off))
        .map(|(module, _)| module.id.clone())
        .collect();
    left.modules.retain(|id, _| !gone.contains(id));
    assert_eq!(left.modules.len() + gone.len(), adapter.modules.len());
    left
}

/// Cases of `tests/parity/decoders` of many kinds: model and adapters.
const DECODERS: [(&str, &str); 6] = [
    ("llama/model", "llama/adapter"),
    ("llama/model", "adapter-dora/adapter"),
    ("llama/model", "adapter-embed-head/adapter"),
    ("phi3/model", "phi3/adapter"),
    ("gemma2/model", "gemma2/adapter"),
    ("gguf-llama-q8_0/gguf-llama-q8_0.gguf", "gguf-llama-q8_0/adapter"),
];

const TOKENS: [u32; 7] = [5, 9, 100, 23, 64, 7, 31];

/// Logits of each row: strengths and weights by block of adapter 0.
fn logits(decoder: &Decoder, rows: &[(f32, Option<Vec<f32>>)]) -> Vec<Vec<f32>> {
    let strengths = Strengths::new(rows.iter().map(|(strength, _)| vec![*strength]).collect());
    let weights = rows.iter().map(|(_, weights)| match weights {
        Some(weights) => BlockWeights::from([(0, weights.clone())]),
        None => BlockWeights::new(),
    });
    let strengths = strengths.with_blocks(weights.collect());
    let mut cache = decoder.cache(vec![0; rows.len()], false);
    let tokens = vec![TOKENS.to_vec(); rows.len()];
    let logits = decoder.forward(&tokens, &mut cache, &strengths, Want::All).unwrap();
    (0..rows.len())
        .map(|row| logits.get(row).unwrap().flatten_all().unwrap())
        .map(|row| row.to_vec1().unwrap())
        .collect()
}

fn decoder(base: &Base, adapter: &Adapter) -> Decoder {
    let mut decoder = Decoder::load(base, Some(DType::F32), &Device::Cpu).unwrap();
    decoder.attach(0, adapter, base).unwrap();
    decoder
}

#[test]
fn a_row_with_one_block_at_0_has_the_logits_of_the_adapter_without_it() {
    for (model, adapter) in DECODERS {
        let (base, blocks) = open(&format!("decoders/{model}"));
        let adapter = Adapter::open(&fixture(&format!("decoders/{adapter}"))).unwrap();
        let whole = decoder(&base, &adapter);
        let count = blocks.names().len();
        let mut rows = vec![(0.0, None), (0.8, None), (0.8, Some(vec![1.0; count]))];
        rows.extend((0..count).map(|off| (0.8, Some(without(&blocks, off)))));
        let together = logits(&whole, &rows);
        assert_eq!(together[1], together[2], "{model}: weights of 1");
        // as many rows as the batch with weights has, so that products are cut alike
        let plain: Vec<_> = rows.iter().map(|(strength, _)| (*strength, None)).collect();
        assert_eq!(together[..2], logits(&whole, &plain)[..2], "{model}: rows without weights");
        let acting = blocks.acting(&adapter, &base).unwrap();
        for off in 0..count {
            let less = decoder(&base, &cut(&adapter, &base, (&blocks, off)));
            let name = &blocks.names()[off];
            assert_eq!(together[3 + off], logits(&less, &plain)[1], "{model}: {name}");
            assert_eq!(together[3 + off] != together[1], acting.contains(&off), "{model}: {name}");
        }
    }
}

#[test]
fn weights_multiply_the_strength() {
    let (base, blocks) = open("decoders/llama/model");
    let adapter = Adapter::open(&fixture("decoders/llama/adapter")).unwrap();
    let whole = decoder(&base, &adapter);
    let half = Some(vec![0.5; blocks.names().len()]);
    let rows = logits(&whole, &[(0.5, None), (1.0, half.clone()), (-1.0, half), (-0.5, None)]);
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[2], rows[3]);
    assert_ne!(rows[0], rows[2]);
}

/// Weights of one adapter leave another alone.
#[test]
fn two_adapters_have_weights_of_their_own() {
    let (base, blocks) = open("decoders/llama/model");
    let adapters = ["adapter-two/adapter-a", "adapter-two/adapter-b"]
        .map(|path| Adapter::open(&fixture(&format!("decoders/{path}"))).unwrap());
    let model = |adapters: [&Adapter; 2]| {
        let mut decoder = Decoder::load(&base, Some(DType::F32), &Device::Cpu).unwrap();
        for (number, adapter) in adapters.into_iter().enumerate() {
            decoder.attach(number, adapter, &base).unwrap();
        }
        decoder
    };
    let run = |decoder: &Decoder, weights: BlockWeights| -> Vec<f32> {
        let strengths = Strengths::new(vec![vec![0.7, 1.0]]).with_blocks(vec![weights]);
        let mut cache = decoder.cache(vec![0], false);
        let logits = decoder.forward(&[TOKENS.to_vec()], &mut cache, &strengths, Want::All);
        logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (a, b) = (&adapters[0], &adapters[1]);
    let less = cut(b, &base, (&blocks, 1));
    let found = run(&model([a, b]), BTreeMap::from([(1, without(&blocks, 1))]));
    let expected = run(&model([a, &less]), BlockWeights::new());
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off}");
    assert_ne!(found, run(&model([a, b]), BlockWeights::new()));
}

const FAMILIES: [&str; 3] = ["sd1", "sd2", "sdxl"];

fn latents(model: &ImageModel, rows: &[RowStrengths]) -> Vec<Vec<f32>> {
    let prompt = Prompt::parse("a red fox in the (snow:1.2)").unwrap();
    let job = Job {
        prompt: &prompt,
        negative: Some("grey"),
        width: 64,
        height: 64,
        steps: 2,
        guidance: 5.0,
        guidance_rescale: 0.0,
        sampler: Choice::parse("euler_a", None).unwrap(),
        clip_skip: 1,
        seed: 3,
        source: NoiseSource::Cpu,
    };
    let all = model.latents(&job, rows, &|_| {}).unwrap();
    all.chunks(all.len() / rows.len()).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_row_with_one_block_at_0_has_the_latents_of_the_adapter_without_it() {
    for family in FAMILIES {
        let (base, blocks) = open(&format!("diffusion/{family}"));
        let adapter = fixture(&format!("diffusion/{family}-lora.safetensors"));
        let adapter = [Adapter::open(&adapter).unwrap()];
        let open =
            |adapter: &[Adapter]| ImageModel::open(&base, adapter, None, &Device::Cpu).unwrap().0;
        let model = open(&adapter);
        let row = |strength: f32, weights: Option<Vec<f32>>| RowStrengths {
            text: vec![strength],
            unet: vec![strength],
            blocks: weights.map(|weights| (0, weights)).into_iter().collect(),
        };
        let acting = blocks.acting(&adapter[0], &base).unwrap();
        assert!(acting.contains(&Blocks::BASE) && acting.len() > 10, "{family}: {acting:?}");
        // the text encoders, an input block, the middle and an output block
        let middle = blocks.names().iter().position(|name| name == "MID").unwrap();
        let some = [Blocks::BASE, 6, middle, middle + 5];
        let ones = vec![1.0; blocks.names().len()];
        let mut rows = vec![row(0.0, None), row(0.8, None), row(0.8, Some(ones))];
        rows.extend(some.map(|off| row(0.8, Some(without(&blocks, off)))));
        let together = latents(&model, &rows);
        assert_eq!(together[1], together[2], "{family}: weights of 1");
        let plain: Vec<_> = rows.iter().map(|given| row(given.unet[0], None)).collect();
        assert_eq!(together[..2], latents(&model, &plain)[..2], "{family}: rows without weights");
        for (place, off) in some.into_iter().enumerate() {
            let left = [cut(&adapter[0], &base, (&blocks, off))];
            let less = open(&left);
            let expected = &latents(&less, &plain)[1];
            let found = &together[3 + place];
            let name = &blocks.names()[off];
            assert_eq!(found, expected, "{family} {name}");
            assert_ne!(found, &together[1], "{family} {name}");
        }
    }
}

/// Tensors of a merge by name.
fn merged(base: &Base, adapter: &Adapter, blocks: &[f64]) -> BTreeMap<String, Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out.safetensors");
    let weighted = Weighted {
        adapter: adapter.clone(),
        text_encoder: 0.8,
        unet: 0.5,
        blocks: blocks.to_vec(),
    };
    let adapters = [weighted];
    let request = Request { base, adapters: &adapters, out: &out, dtype: None, strict: true };
    merge(&request, &|_| {}).unwrap();
    let file = TensorFile::open(&out, Limits::BASE).unwrap();
    file.names().map(|name| (name.to_owned(), file.get(name).unwrap().bytes().to_vec())).collect()
}

#[test]
fn a_merge_with_one_block_at_0_is_that_of_the_adapter_without_it() {
    for family in FAMILIES {
        let (base, blocks) = open(&format!("diffusion/{family}.safetensors"));
        let adapter = fixture(&format!("diffusion/{family}-lora.safetensors"));
        let adapter = Adapter::open(&adapter).unwrap();
        let count = blocks.names().len();
        let whole = merged(&base, &adapter, &[]);
        assert!(whole == merged(&base, &adapter, &vec![1.0; count]), "{family}: weights of 1");
        let acting: Vec<usize> = blocks.acting(&adapter, &base).unwrap().into_iter().collect();
        for off in [0, 1, acting.len() / 2, acting.len() - 1].map(|place| acting[place]) {
            let weights: Vec<f64> =
                without(&blocks, off).iter().map(|weight| f64::from(*weight)).collect();
            let found = merged(&base, &adapter, &weights);
            let name = &blocks.names()[off];
            assert!(found != whole, "{family}: {name}");
            let less = cut(&adapter, &base, (&blocks, off));
            assert!(found == merged(&base, &less, &[]), "{family}: {name}");
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Through the program

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    command.env("NO_COLOR", "1").args(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn bad(code: i32, arguments: &[&str]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.contains("hint: "), "{errors}");
    errors
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tag_and_a_flag_with_weights_write_what_the_merged_model_writes() {
    let (model, adapter) = (fixture("decoders/chat/model"), fixture("decoders/chat/adapter"));
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("merged");
    let with = |ending: &str| format!("x={}{ending}", text(&adapter));
    let weighed = with(":1.5:lbw=0,1");
    good(&["merge", "--base", text(&model), "--lora", &weighed, "--out", text(&out)]);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let from = model.join(name);
        if from.is_file() && !out.join(name).exists() {
            std::fs::copy(from, out.join(name)).unwrap();
        }
    }
    let write = |prompt: &str, base: &Path, lora: &[&str]| {
        let start = ["generate", prompt, "--base", text(base), "--max-new-tokens", "24", "--json"];
        let json: serde_json::Value =
            serde_json::from_str(&good(&[&start, lora].concat())).unwrap();
        json["tokens"].clone()
    };
    let expected = write("The fox", &out, &[]);
    let tagged = "The fox<lora:x:1.5:lbw=0,1>";
    assert_eq!(write(tagged, &model, &["--lora", &with("")]), expected);
    assert_eq!(write("The fox", &model, &["--lora", &weighed]), expected);
    let long = "The fox<lora:x:1.5:lbw=1,0,1>";
    assert_eq!(write(long, &model, &["--lora", &with("")]), expected);
    assert_ne!(write("The fox<lora:x:1.5>", &model, &["--lora", &with("")]), expected);
}

#[test]
fn lists_of_another_length_are_errors_that_name_the_blocks() {
    let (model, adapter) = (fixture("decoders/chat/model"), fixture("decoders/chat/adapter"));
    let lora = format!("x={}", text(&adapter));
    let prompt = "The fox<lora:x:1:lbw=1,0,1,1>";
    let error = bad(1, &["generate", prompt, "--base", text(&model), "--lora", &lora]);
    let expected = "the adapter `x` has 4 weights by block, expected 3 or 2";
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("3 are BASE, L00, L01; 2 are L00, L01"), "{error}");
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("merged");
    let lora = format!("{lora}:1:lbw=1");
    let error = bad(1, &["merge", "--base", text(&model), "--lora", &lora, "--out", text(&out)]);
    assert!(error.contains("1 weights by block") && !out.exists(), "{error}");
    let out = place.path().join("one.safetensors");
    let error = bad(2, &["combine", &lora, "--out", text(&out)]);
    assert!(error.contains("needs a base"), "{error}");
    let error = bad(2, &["merge", "--base", text(&model), "--lora", "x:1:lbw=MIDD", "--out", "y"]);
    assert!(error.contains("presets by name are not known"), "{error}");
}

#[test]
fn a_picture_carries_its_weights_by_block_and_is_drawn_again_from_them() {
    let (base, adapter) = (fixture("diffusion/sd1"), fixture("diffusion/sd1-lora.safetensors"));
    let place = tempfile::tempdir().unwrap();
    let (first, again) = (place.path().join("a.png"), place.path().join("b.png"));
    let lora = format!("x={}", text(&adapter));
    let weights = format!("{}0.5", "1,".repeat(16));
    let prompt = format!("a fox <lora:x:0.8:lbw={weights}>");
    let size = ["--width", "64", "--height", "64", "--steps", "2", "--sampler", "euler_a"];
    let given = ["--base", text(&base), "--lora", &lora];
    good(&[&["generate", &prompt, "--out", text(&first)], &given[..], &size].concat());
    let about = lora_eval::picture::read_text(&first, lora_eval::picture::PARAMETERS);
    let about = about.unwrap().unwrap();
    assert!(about.starts_with(&format!("a fox <lora:x:0.8:lbw={weights}>\n")), "{about}");
    good(&[&["generate", "--like", text(&first), "--out", text(&again)], &given[..]].concat());
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(again).unwrap());
}
