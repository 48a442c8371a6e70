//! Configurations of other trainers, trained as they stand on a checkpoint in one file.

use std::fs;
use std::path::Path;

use super::program::{Place, copy, fixture, good, text};
use super::tensors;
use super::training::{changes, numbers, of_kind};

/// The article's example: nested, with its comments.
const NESTED: &str = "\
# my_lora_config.yaml
model_config:
  base_model: \"BASE\"
  lora_rank: 8

training_config:
  learning_rate: 2e-4
  optimizer: \"AdamW\"
  lr_scheduler: \"cosine\"
  batch_size: 2
  gradient_accumulation_steps: 2   # four pictures a step
  warmup_steps: 1
  epochs: 3

train_data_dir: \"DATA\"
metadata_path: \"DATA/metadata.csv\"
output_dir: \"OUT\"
";

/// Its block of values to start from, flat, with keys of the articles beside it.
const FLAT: &str = "\
task_type: \"text-to-image\"
base_model: BASE
train_data_dir: DATA
metadata_path: DATA/metadata.csv
output_dir: OUT
lora_rank: 8
learning_rate: 0.0002
batch_size: 4
gradient_accumulation_steps: 1
epochs: 10
lr_scheduler: cosine
save_steps: 5
";

/// sd-scripts' TOML as lora-scripts writes it.
const TOML: &str = "\
[model]
pretrained_model_name_or_path = \"BASE\"
v2 = false
clip_skip = 2
max_token_length = 225

[dataset]
train_data_dir = \"DATA\"
caption_extension = \".txt\"
resolution = \"64,64\"
enable_bucket = true
min_bucket_reso = 64
max_bucket_reso = 128
bucket_reso_steps = 32
shuffle_caption = true
keep_tokens = 1
cache_latents = true

[network]
network_module = \"networks.lora\"
network_dim = 8
network_alpha = 4
network_args = [\"conv_dim=4\", \"conv_alpha=1\"]

[optimizer]
unet_lr = 1e-4
text_encoder_lr = 1e-5
optimizer_type = \"AdamW8bit\"
lr_scheduler = \"cosine_with_restarts\"
lr_scheduler_num_cycles = 1
lr_warmup_steps = 1

[training]
output_dir = \"OUT\"
output_name = \"style\"
save_model_as = \"safetensors\"
save_precision = \"fp16\"
train_batch_size = 2
max_train_epochs = 1
mixed_precision = \"no\"
seed = 1337
min_snr_gamma = 5
noise_offset = 0.05
xformers = true
";

/// Four pictures with captions beside them and in a table.
fn pictures(place: &Place) -> String {
    let data = place.path("data");
    copy(&fixture("train/pictures"), &data);
    let row = |number: usize| {
        let caption = fs::read_to_string(data.join(format!("{number}.txt"))).unwrap();
        format!("{number}.png,\"{}\"\n", caption.trim())
    };
    let rows: String = (0..4).map(row).collect();
    for gone in (4..8).flat_map(|number| [format!("{number}.png"), format!("{number}.txt")]) {
        fs::remove_file(data.join(gone)).unwrap();
    }
    fs::write(data.join("metadata.csv"), format!("file_name,prompt\n{rows}")).unwrap();
    text(&data)
}

/// Trains a configuration as it stands in its own folder, and gives what the program said.
fn trained(place: &Place, name: &str, config: &str, base: &Path, more: &[&str]) -> String {
    let out = place.path("out");
    let config = config.replace("BASE", &text(base)).replace("OUT", &text(&out));
    let config = place.file(name, config.replace("DATA", &place.text("data")));
    let mut arguments = vec!["train".to_owned(), config];
    // the article's pictures are of 512 pixels; these have 64
    arguments.extend(more.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
    let cache = format!("data.image.cache_dir={}", place.text("cache"));
    arguments.extend(["--set".to_owned(), cache]);
    good(&arguments).1
}

/// That an adapter is applied to the checkpoint that it was trained on, and changes what is drawn.
fn draws(place: &Place, base: &Path, adapter: &Path) {
    let (base, adapter) = (text(base), format!("style={}", text(adapter)));
    let draw = |prompt: &str, name: &str| {
        let png = place.text(name);
        let given = ["generate", prompt, "--base", &base, "--lora", &adapter, "--out", &png];
        let more = ["--width", "64", "--height", "64", "--steps", "2", "--seed", "1"];
        let (_, said) = good(&[&given[..], &more[..]].concat());
        assert!(!said.contains("do not fit"), "{said}");
        lora_eval::picture::read(png.as_ref()).unwrap().rgb
    };
    assert!(draw("a cat", "without.png") != draw("a cat <lora:style:40>", "with.png"));
}

#[test]
fn the_articles_configuration_trains_as_it_stands_nested_and_flat() {
    let small = ["data.image.resolution=64"];
    for (name, config, steps) in
        [("my_lora_config.yaml", NESTED, 3), ("lora_default.yaml", FLAT, 10)]
    {
        let place = Place::new();
        let (base, _) = tensors::checkpoint("sd1", &place);
        pictures(&place);
        trained(&place, name, config, &base, &small);
        let out = place.path("out");
        let start = &of_kind(&out, "start")[0];
        assert_eq!((&start["task"], &start["rank"]), (&"image".into(), &8.into()));
        assert_eq!(start["scale"], 1.0, "without an alpha the change is not made small");
        assert_eq!(numbers(&out, "step", "step").last(), Some(&f64::from(steps)));
        let most = numbers(&out, "step", "lr").into_iter().fold(0.0, f64::max);
        assert!((1.5e-4..=2e-4).contains(&most), "{most}");
        let adapter = out.join(name.replace(".yaml", ".safetensors"));
        assert!(changes(&adapter).values().flatten().any(|value| *value != 0.0));
        draws(&place, &base, &adapter);
    }
}

#[test]
fn sd_scripts_configuration_trains_as_it_stands() {
    let place = Place::new();
    let (base, _) = tensors::checkpoint("sd1", &place);
    pictures(&place);
    fs::remove_file(place.path("data/metadata.csv")).unwrap();
    let said = trained(&place, "style.toml", TOML, &base, &[]);
    for words in ["`xformers`", "`AdamW8bit`", "`data.held_out_split` is not given"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let out = place.path("out");
    assert_eq!(of_kind(&out, "start")[0]["scale"], 0.5);
    let adapter = out.join("style.safetensors");
    let (told, _) = good(&["inspect", &text(&adapter), "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let ranks = told["ranks"].as_object().unwrap();
    assert!(ranks.contains_key("8") && ranks.contains_key("4"), "convolutions too: {ranks:?}");
    assert!(told["components"]["text_encoder"].as_u64().unwrap() > 0);
    assert_eq!(told["metadata"]["ss_clip_skip"], "2");
    draws(&place, &base, &adapter);
}
