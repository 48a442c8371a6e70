//! Texts of the small English that `demo:text` and its adapters are trained and judged on:
//!
//! ```text
//! cargo run --example demo_english -- base  COUNT SEED [train|held-out]          rows of the base, JSON Lines
//! cargo run --example demo_english -- tasks COUNT SEED [train|held-out] [plain|house]
//! cargo run --example demo_english -- house COUNT SEED                           what the adapter is trained on
//! cargo run --example demo_english -- mistaken COUNT SEED                        the same, plain answers wrong
//! cargo run --example demo_english -- suite COUNT SEED                           a suite, YAML
//! ```
//!
//! A row has `prompt`, which ends its line, and `completion`, or for a story that nobody asked for
//! `text`; and `kind`, `style` and `held_out`.

use std::io::{BufWriter, Write as _};

use lora_eval::demo::english::{
    Kind, Row, Split, Style, base_row, house_rows, mistaken_rows, suite, task_rows,
};
use serde_json::{Value, json};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count, seed, rest @ ..] = arguments.as_slice() else {
        return Err(
            "expected base|tasks|house|mistaken|suite COUNT SEED [train|held-out] [plain|house]"
                .into(),
        );
    };
    let (count, seed) = (count.parse::<u32>()?, seed.parse::<u64>()?);
    let has = |word: &str| rest.iter().any(|given| given == word);
    let split = if has("held-out") { Split::HeldOut } else { Split::Train };
    let style = if has("house") { Style::House } else { Style::Plain };
    let rows: Vec<Row> = match what.as_str() {
        "base" => (0..count).map(|index| base_row(seed, split, index)).collect(),
        "tasks" => task_rows(count as usize, seed, split, style),
        "house" => house_rows(count as usize, seed),
        "mistaken" => mistaken_rows(count as usize, seed),
        "suite" => {
            print!("{}", suite(count as usize, seed));
            return Ok(());
        }
        other => {
            return Err(format!("`{other}` is none of base, tasks, house, mistaken, suite").into());
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    for row in &rows {
        writeln!(out, "{}", written(row))?;
    }
    Ok(out.flush()?)
}

/// A row as JSON.
fn written(row: &Row) -> Value {
    let kind = row.kind.map_or("story", Kind::name);
    let mut object = if row.prompt.is_empty() {
        json!({"text": row.completion})
    } else {
        json!({"prompt": format!("{}\n", row.prompt), "completion": row.completion})
    };
    object["kind"] = json!(kind);
    object["style"] = json!(row.style.name());
    object["held_out"] = json!(row.held_out);
    object
}
