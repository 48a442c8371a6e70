use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::SuiteError;
use super::settings::Settings;
use super::strengths::Strengths;
use crate::base::digest::{sha256, sha256_file};

/// Most cells of one suite.
pub const MAX_CELLS: u64 = 1_000_000;

/// A suite: what to generate, and what good output looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Its file, for messages; references to images are relative to its folder.
    pub path: PathBuf,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Its name; the file's stem where it has none.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Settings of all prompts.
    pub defaults: Settings,
    /// Seeds, none twice; `[1]` where the file has none.
    pub seeds: Vec<u64>,
    /// The strength axis.
    pub strengths: Strengths,
    /// The prompts in the file's order, at least one.
    pub prompts: Vec<Prompt>,
    /// Further axes by name, each with at least one value and none twice. Values have the type of the
    /// setting, so [`Settings::set`] takes them; those of `adapter` are names.
    pub axes: BTreeMap<String, Vec<Value>>,
    /// What looks like a slip but is allowed, a line each.
    pub warnings: Vec<String>,
}

/// One prompt of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Its id, unique in the suite.
    pub id: String,
    /// Its group: `heldout`, `base`, or another.
    pub group: String,
    /// What the model gets.
    pub input: Input,
    /// Good answers, or paths of images relative to the suite's folder.
    pub references: Vec<String>,
    /// Settings of this prompt alone.
    pub settings: Settings,
    /// Its line in the file, from 1.
    pub line: u32,
}

/// What the model gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A line of the prompt language, or the text to complete.
    Prompt(String),
    /// A conversation; goes through the base's chat template.
    Messages(Vec<Message>),
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
}

impl Suite {
    /// A suite of one prompt at strength 0 of its axis, for a generation outside a grid.
    pub fn single(prompt: &str, seed: u64, settings: Settings) -> Self {
        Self {
            path: PathBuf::from("command line"),
            sha256: String::new(),
            name: "prompt".to_owned(),
            description: None,
            defaults: settings,
            seeds: vec![seed],
            strengths: Strengths::base_only(),
            prompts: vec![Prompt {
                id: "prompt".to_owned(),
                group: "heldout".to_owned(),
                input: Input::Prompt(prompt.to_owned()),
                references: Vec::new(),
                settings: Settings::default(),
                line: 1,
            }],
            axes: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Hash of the suite and of what its references hold, where these are pictures.
    pub fn sha256_with_pictures(&self) -> String {
        let references = self.prompts.iter().flat_map(|prompt| &prompt.references);
        let of =
            |reference: &String| sha256_file(&self.folder().join(reference)).unwrap_or_default();
        let digests: String = references.map(of).collect();
        if digests.is_empty() {
            return self.sha256.clone();
        }
        sha256(format!("{}{digests}", self.sha256).as_bytes())
    }

    /// The folder that references to images are relative to.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// What a prompt is generated with: its own settings, then the defaults.
    pub fn settings(&self, prompt: &Prompt) -> Settings {
        prompt.settings.merged_over(&self.defaults)
    }

    /// How many cells there are: prompts × strengths × seeds × axes. More than [`MAX_CELLS`] is an
    /// error, so that nothing of that size is ever built. Call it again after changing strengths,
    /// seeds or axes.
    pub fn cells(&self) -> Result<u64, SuiteError> {
        let mut factors = vec![
            (self.prompts.len(), "prompts"),
            (self.strengths.values().len(), "strengths"),
            (self.seeds.len(), "seeds"),
        ];
        factors.extend(self.axes.iter().map(|(name, values)| (values.len(), name.as_str())));
        let product = factors
            .iter()
            .try_fold(1u64, |product, (n, _)| product.checked_mul(u64::try_from(*n).ok()?))
            .filter(|product| *product <= MAX_CELLS);
        product.ok_or_else(|| {
            let words: Vec<String> =
                factors.iter().map(|(n, name)| format!("{n} {name}")).collect();
            SuiteError::TooManyCells { path: self.path.clone(), product: words.join(" × ") }
        })
    }

    /// The suite as resolved, for `run.json`: defaults filled in, the settings of each prompt complete.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "defaults": self.defaults.to_json(),
            "seeds": self.seeds,
            "strengths": self.strengths.values(),
            "prompts": self.prompts.iter().map(|p| self.prompt_json(p)).collect::<Vec<_>>(),
            "axes": self.axes,
        })
    }

    fn prompt_json(&self, prompt: &Prompt) -> Value {
        let mut map = Map::new();
        map.insert("id".to_owned(), json!(prompt.id));
        map.insert("group".to_owned(), json!(prompt.group));
        match &prompt.input {
            Input::Prompt(text) => map.insert("prompt".to_owned(), json!(text)),
            Input::Messages(messages) => {
                let list: Vec<Value> = messages
                    .iter()
                    .map(|m| json!({"role": m.role, "content": m.content}))
                    .collect();
                map.insert("messages".to_owned(), json!(list))
            }
        };
        map.insert("references".to_owned(), json!(prompt.references));
        map.insert("settings".to_owned(), json!(self.settings(prompt).to_json()));
        Value::Object(map)
    }
}
