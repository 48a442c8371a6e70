//! `KEY=V1,V2,…`

use lora_eval::base::digest::sha256;
use lora_eval::base::terminal::printable;

/// A key and the values that it is to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Vary<'a> {
    /// The key as written.
    pub key: &'a str,
    /// The values as written.
    pub values: Vec<&'a str>,
}

/// Most values of an experiment.
const MOST: usize = 100;

/// Reads the key and its values. Commas in brackets or quotes part nothing, so that lists are
/// values too.
pub fn parse(text: &str) -> Result<Vary<'_>, String> {
    let shown = printable(text);
    let (key, list) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty()).ok_or_else(
        || format!("--vary {shown}: expected `KEY=V1,V2,…`\nhint: for example `--vary lora_rank=4,8,16`"),
    )?;
    let values: Vec<&str> = split(list).into_iter().map(str::trim).collect();
    if let Some(place) = values.iter().position(|value| value.is_empty()) {
        let hint = "write every value out; `null` is none";
        return Err(format!("--vary {shown}: value {} is empty\nhint: {hint}", place + 1));
    }
    if values.len() > MOST {
        let count = values.len();
        return Err(format!(
            "--vary {shown}: {count} values, expected at most {MOST}\nhint: begin with few that are far apart"
        ));
    }
    Ok(Vary { key: key.trim(), values })
}

/// Parts at commas outside of brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{' | '(') => depth += 1,
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// `KEY=VALUE` as the name of a folder: what not every file system takes is replaced, and a hash of the
/// value tells such names apart.
pub fn folder(key: &str, value: &str) -> String {
    const LONGEST: usize = 60;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-+._".contains(c) { c } else { '_' };
    let name = |text: &str| -> String { text.chars().take(LONGEST).map(plain).collect() };
    let (key, shown) = (name(key), name(value));
    if shown == value {
        return format!("{key}={shown}");
    }
    let hash = sha256(value.as_bytes());
    format!("{key}={shown}-{}", hash.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_lists_and_quotes_part_nothing() {
        let vary = parse("targets=[q_proj,v_proj], all-linear ,\"a,b\"").unwrap();
        assert_eq!(vary.key, "targets");
        assert_eq!(vary.values, ["[q_proj,v_proj]", "all-linear", "\"a,b\""]);
        assert_eq!(parse("run.seed=1,-2").unwrap().values, ["1", "-2"]);
        assert_eq!(split("a)],b"), ["a)]", "b"]);
    }

    #[test]
    fn what_is_no_list_of_values_is_refused() {
        let wrong = ["lora_rank", "=4,8", "lora_rank=4,,8", "lora_rank=4,8,"];
        let said: Vec<String> = wrong.iter().map(|text| parse(text).unwrap_err()).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        --vary lora_rank: expected `KEY=V1,V2,…`
        hint: for example `--vary lora_rank=4,8,16`
        --vary =4,8: expected `KEY=V1,V2,…`
        hint: for example `--vary lora_rank=4,8,16`
        --vary lora_rank=4,,8: value 2 is empty
        hint: write every value out; `null` is none
        --vary lora_rank=4,8,: value 3 is empty
        hint: write every value out; `null` is none
        ");
        assert!(parse(&format!("r={}1", "1,".repeat(100))).is_err());
    }

    #[test]
    fn folders_of_other_values_have_other_names() {
        assert_eq!(folder("lora_rank", "8"), "lora_rank=8");
        assert_eq!(folder("learning_rate", "1e-4"), "learning_rate=1e-4");
        let (a, b) = (folder("targets", "[q,v]"), folder("targets", "(q,v)"));
        assert!(a.starts_with("targets=_q_v_-") && a != b, "{a} {b}");
        assert!(folder("a", "../..").starts_with("a=.._..-"));
        assert!(folder("base", &"x".repeat(300)).len() < 80);
    }
}
