//! Writes the parts of `examples/demo/` that are drawn: `cargo run --example demo_materials`.

use std::fs;
use std::path::Path;

use lora_eval::demo::Materials;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    fs::create_dir_all(folder.join("references"))?;
    for (path, bytes) in Materials::suites()? {
        fs::write(folder.join(path), bytes)?;
    }
    Ok(())
}
