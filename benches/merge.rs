//! Merging against copying: `cargo bench --bench merge`.
//!
//! Makes a 2 GB f16 base with Stable Diffusion 1.5's own names and shapes and a rank-16 LoRA on its
//! UNet and text encoder, both of random weights, in a temporary folder, and prints:
//!
//! - the time of `lora-eval merge` as a ratio to `cp` of the same file on the same disk, page cache
//!   warm for both, rounds alternating, medians;
//! - the same with every tensor of the UNet's convolutions adapted too (LoCon);
//! - the merge's peak of anonymous memory (what is not the mapped file);
//! - with `LORA_EVAL_PEER_PYTHON=python` (torch, peft, diffusers), the time of the peers' merge.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lora_eval::adapter::ldm::unet_to_ldm;
use lora_eval::tensors::{Dtype, Float, Layout, Tensor, write_file};

const ROUNDS: usize = 5;
const RANK: usize = 16;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only checks that it builds
    }
    let folder = tempfile::Builder::new().prefix("lora-eval-bench-").tempdir_in("target").unwrap();
    let base = folder.path().join("base.safetensors");
    let modules = sd15();
    make_base(&base, &modules);
    let lora = folder.path().join("lora.safetensors");
    make_lora(&lora, &modules, false);
    let locon = folder.path().join("locon.safetensors");
    make_lora(&locon, &modules, true);
    let size = std::fs::metadata(&base).unwrap().len() as f64 / 1e9;
    println!("base {size:.2} GB f16, {} threads", rayon::current_num_threads());
    for (name, adapter) in [("LoRA, rank 16", &lora), ("LoCon, rank 16", &locon)] {
        compare(name, &base, adapter, folder.path());
    }
    if let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/merge_peer.py");
        let status = Command::new(python).arg(script).args([&base, &lora]).status().unwrap();
        assert!(status.success(), "the peer failed");
    }
}

fn compare(name: &str, base: &Path, adapter: &Path, folder: &Path) {
    let (copy, out) = (folder.join("copy.safetensors"), folder.join("out.safetensors"));
    let (mut copies, mut merges, mut memory) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        for path in [&copy, &out] {
            let _ = std::fs::remove_file(path);
        }
        let _ = Command::new("sync").status(); // neither waits for the other's pages
        let start = Instant::now();
        assert!(Command::new("cp").args([base, &copy]).status().unwrap().success());
        copies.push(start.elapsed().as_secs_f64());
        std::fs::remove_file(&copy).unwrap();
        let _ = Command::new("sync").status();
        let start = Instant::now();
        memory = memory.max(merge(base, adapter, &out));
        merges.push(start.elapsed().as_secs_f64());
    }
    let (copy, merge) = (median(copies), median(merges));
    println!(
        "{name}: cp {copy:.2} s, merge {merge:.2} s, ratio {:.2}; anonymous memory {} MB",
        merge / copy,
        memory / 1000
    );
}

/// Runs the program and gives its peak of anonymous memory in kB.
fn merge(base: &Path, adapter: &Path, out: &Path) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lora-eval"))
        .args(["merge", "-q", "--base"])
        .arg(base)
        .arg("--lora")
        .arg(format!("{}:0.8", adapter.display()))
        .arg("--out")
        .arg(out)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find(|line| line.starts_with("RssAnon"));
            let kb = line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
            peak = peak.max(kb.unwrap_or(0));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A module: its key in the base, kohya's name, its shape, whether a plain LoRA adapts it.
struct Module {
    key: String,
    kohya: String,
    shape: Vec<usize>,
    linear: bool,
}

/// The modules of Stable Diffusion 1.5 (UNet and text encoder), in shape and number as released.
fn sd15() -> Vec<Module> {
    let mut unet: Vec<(String, Vec<usize>, bool)> = Vec::new();
    let widths = [320, 640, 1280, 1280];
    let mut resnet = |path: String, from: usize, to: usize| {
        unet.push((format!("{path}.conv1"), vec![to, from, 3, 3], false));
        unet.push((format!("{path}.conv2"), vec![to, to, 3, 3], false));
        unet.push((format!("{path}.time_emb_proj"), vec![to, 1280], false));
        if from != to {
            unet.push((format!("{path}.conv_shortcut"), vec![to, from, 1, 1], false));
        }
    };
    let mut attentions = Vec::new();
    for (b, width) in widths.iter().enumerate() {
        for l in 0..2 {
            let from = if l == 0 { widths[b.saturating_sub(1)] } else { *width };
            resnet(format!("down_blocks.{b}.resnets.{l}"), from, *width);
            if b < 3 {
                attentions.push((format!("down_blocks.{b}.attentions.{l}"), *width));
            }
        }
    }
    resnet("mid_block.resnets.0".to_owned(), 1280, 1280);
    resnet("mid_block.resnets.1".to_owned(), 1280, 1280);
    attentions.push(("mid_block.attentions.0".to_owned(), 1280));
    for (b, width) in widths.iter().rev().enumerate() {
        for l in 0..3 {
            let below = widths[3 - b];
            let above = if b == 0 { 1280 } else { widths[4 - b] };
            let skip = if l == 2 { widths[(3 - b).saturating_sub(1)] } else { below };
            let from = if l == 0 { above } else { *width } + skip;
            resnet(format!("up_blocks.{b}.resnets.{l}"), from, *width);
            if b > 0 {
                attentions.push((format!("up_blocks.{b}.attentions.{l}"), *width));
            }
        }
    }
    for (path, w) in attentions {
        unet.push((format!("{path}.proj_in"), vec![w, w, 1, 1], true));
        unet.push((format!("{path}.proj_out"), vec![w, w, 1, 1], true));
        let block = format!("{path}.transformer_blocks.0");
        for (attn, context) in [("attn1", w), ("attn2", 768)] {
            unet.push((format!("{block}.{attn}.to_q"), vec![w, w], true));
            unet.push((format!("{block}.{attn}.to_k"), vec![w, context], true));
            unet.push((format!("{block}.{attn}.to_v"), vec![w, context], true));
            unet.push((format!("{block}.{attn}.to_out.0"), vec![w, w], true));
        }
        unet.push((format!("{block}.ff.net.0.proj"), vec![8 * w, w], true));
        unet.push((format!("{block}.ff.net.2"), vec![w, 4 * w], true));
    }
    let mut modules: Vec<Module> = unet
        .into_iter()
        .map(|(path, shape, linear)| Module {
            key: format!("model.diffusion_model.{}", unet_to_ldm(&path, 2, |b| b > 0).unwrap()),
            kohya: format!("lora_unet_{}", path.replace('.', "_")),
            shape,
            linear,
        })
        .collect();
    for i in 0..12 {
        for (name, out, inside) in [
            ("self_attn.q_proj", 768, 768),
            ("self_attn.k_proj", 768, 768),
            ("self_attn.v_proj", 768, 768),
            ("self_attn.out_proj", 768, 768),
            ("mlp.fc1", 3072, 768),
            ("mlp.fc2", 768, 3072),
        ] {
            let path = format!("text_model.encoder.layers.{i}.{name}");
            modules.push(Module {
                key: format!("cond_stage_model.transformer.{path}"),
                kohya: format!("lora_te_{}", path.replace('.', "_")),
                shape: vec![out, inside],
                linear: true,
            });
        }
    }
    modules
}

/// Cheap noise of a plausible size, as f16.
fn noise(elements: usize) -> Vec<u8> {
    let mut state = 1u32;
    let values: Vec<f32> = (0..elements)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.1
        })
        .collect();
    let mut bytes = vec![0; 2 * elements];
    Float::F16.encode(&values, &mut bytes);
    bytes
}

fn make_base(path: &Path, modules: &[Module]) {
    use std::io::Write as _;
    let mut entries: Vec<(String, Vec<usize>)> =
        modules.iter().map(|m| (format!("{}.weight", m.key), m.shape.clone())).collect();
    // What no adapter touches: the VAE and the token embedding, up to the released file's size.
    let token = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
    entries.push((token.to_owned(), vec![49_408, 768]));
    entries.push(("first_stage_model.decoder.conv_in.weight".to_owned(), vec![83_653, 1000]));
    let layout = Layout::new(
        entries.iter().map(|(name, shape)| (name.as_str(), Dtype::F16, shape.as_slice())),
        &BTreeMap::new(),
    )
    .unwrap();
    let block = noise(1 << 20);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(layout.header()).unwrap();
    let mut left = usize::try_from(layout.file_size()).unwrap() - layout.header().len();
    while left > 0 {
        let n = left.min(block.len());
        file.write_all(&block[..n]).unwrap();
        left -= n;
    }
}

fn make_lora(path: &Path, modules: &[Module], convolutions: bool) {
    let f16 = |shape: Vec<usize>| {
        let bytes = noise(shape.iter().product());
        Tensor::from_bytes(Dtype::F16, shape, bytes)
    };
    let mut tensors = BTreeMap::new();
    for module in modules.iter().filter(|module| module.linear || convolutions) {
        let mut down = vec![RANK];
        down.extend(&module.shape[1..]);
        let mut up = vec![module.shape[0], RANK];
        up.extend(module.shape[2..].iter().map(|_| 1));
        tensors.insert(format!("{}.lora_down.weight", module.kohya), f16(down));
        tensors.insert(format!("{}.lora_up.weight", module.kohya), f16(up));
        let alpha = Tensor::scalar(8.0, Float::F16);
        tensors.insert(format!("{}.alpha", module.kohya), alpha);
    }
    write_file(path, &tensors, &BTreeMap::new()).unwrap();
}
