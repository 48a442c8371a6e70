//! How far an adapter moves its base, by strength, with the library instead of the program:
//!
//! `cargo run --release --example strength_sweep -- BASE ADAPTER`

use std::path::Path;

use lora_eval::adapter::Adapter;
use lora_eval::adapter::combine::Weighted;
use lora_eval::merge::{Request, merge};
use lora_eval::model::Base;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, adapter] = arguments.as_slice() else {
        return Err("expected BASE ADAPTER".into());
    };
    let base = Base::open(Path::new(base))?;
    let adapter = Adapter::open(Path::new(adapter))?;
    let folder = tempfile::tempdir()?;
    println!("strength  ‖ΔW‖/‖W‖  lost to rounding");
    for strength in [0.25, 0.5, 1.0, 2.0] {
        let adapters = [Weighted {
            adapter: adapter.clone(),
            text_encoder: strength,
            unet: strength,
            blocks: Vec::new(),
        }];
        let out = folder.path().join("merged.safetensors");
        let request =
            Request { base: &base, adapters: &adapters, out: &out, dtype: None, strict: false };
        let report = merge(&request, &|_| {})?;
        println!("{strength:<9} {:<10.4} {:.1} %", report.relative_change, 100.0 * report.lost);
    }
    Ok(())
}
