//! PEFT's `adapter_config.json`.
//!
//! Read for what changes the mathematics: ranks, alphas, rsLoRA, DoRA, transposed bases. Settings
//! that change it in ways not implemented here are refused by name when they are active; unknown
//! ones are reported. See `peft.LoraConfig` (PEFT 0.21).

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value};

use super::error::AdapterError;
use crate::base::terminal::printable;

/// The part of `adapter_config.json` that matters here.
#[derive(Debug, Clone)]
pub struct PeftConfig {
    /// All fields as read, kept for writing the adapter again.
    pub fields: Map<String, Value>,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// `use_rslora`: the scale is alpha/√rank.
    pub rslora: bool,
    /// `fan_in_fan_out`: the base keeps these weights as (in, out).
    pub fan_in_fan_out: bool,
    /// Settings that were not understood, for a warning.
    pub unknown: Vec<String>,
    rank: f32,
    alpha: f32,
    ranks: Vec<(Regex, f32)>,
    alphas: Vec<(Regex, f32)>,
}

/// Fields without influence on the weights' meaning, or that are handled by the tensors present.
const HARMLESS: [&str; 33] = [
    "peft_type",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "lora_bias",
    "modules_to_save",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "init_lora_weights",
    "megatron_core",
    "megatron_config",
    "loftq_config",
    "eva_config",
    "corda_config",
    "runtime_config",
    "ensure_weight_tying",
    "qalora_group_size",
    "lora_ga_config",
    "_comment",
];

/// Fields that change the mathematics and are not implemented.
const NOT_IMPLEMENTED: [&str; 10] = [
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "arrow_config",
    "kasa_config",
    "use_bdlora",
    "monteclora_config",
    "velora_config",
];

impl PeftConfig {
    /// Reads `path`, an `adapter_config.json`.
    pub fn open(path: &Path) -> Result<Self, AdapterError> {
        let refuse = |problem: String, hint: &str| AdapterError::File {
            path: path.to_owned(),
            problem,
            hint: hint.to_owned(),
        };
        let text = std::fs::read_to_string(path).map_err(|e| {
            refuse(
                format!("cannot be read: {e}"),
                "a PEFT folder holds adapter_config.json beside its weights",
            )
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            refuse(format!("is not valid JSON: {e}"), "fetch or write the file again")
        })?;
        let Value::Object(fields) = value else {
            return Err(refuse("is not a JSON object".to_owned(), "fetch or write the file again"));
        };
        Self::from_fields(&fields, path)
    }

    /// Takes the fields of a `LoraConfig`; `path` names their file in errors.
    pub fn from_fields(fields: &Map<String, Value>, path: &Path) -> Result<Self, AdapterError> {
        let reader = Reader { fields, path };
        let kind = reader.text("peft_type")?.unwrap_or("LORA");
        if !kind.eq_ignore_ascii_case("lora") {
            return Err(
                reader.refuse("peft_type", &format!("`{kind}` is not supported, only LORA is"))
            );
        }
        for name in NOT_IMPLEMENTED {
            if fields.get(name).is_some_and(is_active) {
                return Err(reader.refuse(name, "this setting is not supported"));
            }
        }
        let init = fields.get("init_lora_weights").and_then(Value::as_str).unwrap_or("");
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|p| init.starts_with(p)) {
            let problem = format!(
                "`{init}` changed the base when training began, so the adapter fits only that base; save it with `path_initial_model_for_weight_conversion` in PEFT"
            );
            return Err(reader.refuse("init_lora_weights", &problem));
        }
        let known = |name: &String| {
            HARMLESS.contains(&name.as_str()) || NOT_IMPLEMENTED.contains(&name.as_str())
        };
        let unknown = fields
            .iter()
            .filter(|(name, value)| !known(name) && is_active(value))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self {
            base_model: reader.text("base_model_name_or_path")?.map(str::to_owned),
            rslora: reader.flag("use_rslora")?,
            fan_in_fan_out: reader.flag("fan_in_fan_out")?,
            rank: reader.number("r")?.unwrap_or(8.0),
            alpha: reader.number("lora_alpha")?.unwrap_or(8.0),
            ranks: reader.pattern("rank_pattern")?,
            alphas: reader.pattern("alpha_pattern")?,
            unknown,
            fields: fields.clone(),
        })
    }

    /// The rank configured for a module, by its path without `base_model.model.`.
    pub fn rank(&self, path: &str) -> f32 {
        lookup(&self.ranks, path).unwrap_or(self.rank)
    }

    /// The alpha configured for a module.
    pub fn alpha(&self, path: &str) -> f32 {
        lookup(&self.alphas, path).unwrap_or(self.alpha)
    }

    /// The scale of a module of this rank: alpha/rank, or alpha/√rank with rsLoRA.
    pub fn scale(&self, path: &str, rank: usize) -> f32 {
        let rank = rank as f32;
        self.alpha(path) / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// The first pattern that matches wins, in the file's order.
fn lookup(patterns: &[(Regex, f32)], path: &str) -> Option<f32> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(path)).map(|(_, value)| *value)
}

fn is_active(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    path: &'a Path,
}

impl Reader<'_> {
    fn refuse(&self, key: &str, problem: &str) -> AdapterError {
        AdapterError::File {
            path: PathBuf::from(self.path),
            problem: format!("key `{key}`: {problem}"),
            hint: "see PEFT's LoraConfig for what the key may hold".to_owned(),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, AdapterError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self
                .refuse(key, &format!("expected text, found `{}`", printable(&other.to_string())))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, AdapterError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.refuse(
                key,
                &format!("expected true or false, found `{}`", printable(&other.to_string())),
            )),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f32>, AdapterError> {
        self.fields.get(key).filter(|v| !v.is_null()).map(|v| self.finite(key, v)).transpose()
    }

    fn finite(&self, key: &str, value: &Value) -> Result<f32, AdapterError> {
        #[expect(clippy::cast_possible_truncation, reason = "alpha is used as f32 everywhere")]
        value.as_f64().map(|number| number as f32).filter(|number| number.is_finite()).ok_or_else(
            || {
                self.refuse(
                    key,
                    &format!("expected a number, found `{}`", printable(&value.to_string())),
                )
            },
        )
    }

    fn pattern(&self, key: &str) -> Result<Vec<(Regex, f32)>, AdapterError> {
        let map = match self.fields.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            Some(other) => {
                return Err(self.refuse(
                    key,
                    &format!("expected a map, found `{}`", printable(&other.to_string())),
                ));
            }
        };
        map.iter()
            .map(|(pattern, value)| {
                // PEFT: re.match(rf"(.*\.)?({key})$", path)
                let regex = regex::RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|e| {
                        self.refuse(
                            key,
                            &format!(
                                "`{}` is not a pattern: {}",
                                printable(pattern),
                                printable(&e.to_string())
                            ),
                        )
                    })?;
                Ok((regex, self.finite(key, value)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Result<PeftConfig, AdapterError> {
        let Value::Object(fields) = serde_json::from_str(json).unwrap() else { unreachable!() };
        PeftConfig::from_fields(&fields, Path::new("adapter_config.json"))
    }

    #[test]
    fn patterns_match_suffixes_in_order() {
        let config = config(
            r#"{"r": 4, "lora_alpha": 8, "alpha_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 16}}"#,
        )
        .unwrap();
        assert_eq!(config.alpha("model.layers.0.self_attn.q_proj"), 2.0);
        assert_eq!(config.alpha("model.layers.3.self_attn.q_proj"), 16.0);
        assert_eq!(config.alpha("model.layers.3.self_attn.k_proj"), 8.0);
        assert_eq!(config.scale("model.layers.3.self_attn.k_proj", 4), 2.0);
    }

    #[test]
    fn rslora_divides_by_the_root() {
        let config = config(r#"{"r": 16, "lora_alpha": 8, "use_rslora": true}"#).unwrap();
        assert_eq!(config.scale("x", 16), 2.0);
    }

    #[test]
    fn what_changes_the_meaning_is_refused_by_name() {
        for (json, key) in [
            (r#"{"peft_type": "VERA"}"#, "peft_type"),
            (r#"{"layer_replication": [[0, 4]]}"#, "layer_replication"),
            (r#"{"init_lora_weights": "pissa_niter_4"}"#, "init_lora_weights"),
            (r#"{"r": "many"}"#, "`r`"),
            (r#"{"alpha_pattern": {"(": 1}}"#, "alpha_pattern"),
        ] {
            let error = config(json).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert_eq!(
            config(r#"{"use_new_thing": true, "other": false}"#).unwrap().unknown,
            ["use_new_thing"]
        );
    }
}
