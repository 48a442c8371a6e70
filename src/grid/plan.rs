//! What a run will make: cells, and which of them belong into one batch.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::{GridError, PromptProblem};
use crate::base::digest::sha256_file;
use crate::base::hint::nearest;
use crate::base::terminal::printable;
use crate::prompt;
use crate::run::{AdapterAt, PlanRecord, cell_id, plan_hash};
use crate::suite::{self, Input, Settings, Suite};

/// What is planned from.
#[derive(Debug)]
pub struct Request<'a> {
    /// The suite, with strengths and seeds as the command line leaves them.
    pub suite: &'a Suite,
    /// Fingerprint of the base.
    pub base: &'a str,
    /// The adapters.
    pub adapters: &'a [Axis],
    /// `text` or `image`.
    pub kind: &'a str,
    /// `--dtype` that makes the same weights.
    pub dtype: &'a str,
    /// `cpu` or `cuda`: they round differently.
    pub device: &'a str,
    /// Most rows of a batch, where that was limited.
    pub max_batch: Option<usize>,
}

/// An adapter of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The name that prompts call it by.
    pub name: String,
    /// Fingerprint of its file.
    pub sha256: String,
    /// The strength it has wherever no prompt gives it one; `None`: it is on the strength axis.
    pub fixed: Option<f64>,
    /// Its fixed strength in the text encoders of an image model, where that is another.
    pub fixed_text: Option<f64>,
    /// Its weights by block as they were written, where no prompt gives it some; empty if all are 1.
    pub blocks: Vec<f64>,
    /// It acts only where a prompt names it (`--lora-dir`).
    pub on_demand: bool,
    /// The hash that the WebUI writes beside its name (the first digits of AutoV3).
    pub short_hash: Option<String>,
}

/// All cells of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order in which they are made: prompt by prompt, so that seeds follow each other.
    pub units: Vec<Unit>,
}

/// One prompt × seed × point of the further axes, at every strength: one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Index of the prompt in the suite.
    pub prompt: usize,
    /// The prompt's text without its adapter tags, or a conversation.
    pub input: Input,
    /// The seed.
    pub seed: u64,
    /// The point of the further axes.
    pub axes: BTreeMap<String, Value>,
    /// What it is generated with.
    pub settings: Settings,
    /// One cell a strength, strength 0 first.
    pub cells: Vec<PlannedCell>,
}

/// A cell to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCell {
    /// Hash of everything that determines it.
    pub id: String,
    /// The value on the strength axis.
    pub strength: f64,
    /// A strength for each adapter of the request; in an image model, that in the denoiser.
    pub strengths: Vec<f64>,
    /// The same in the text encoders of an image model.
    pub text_strengths: Vec<f64>,
    /// What the strengths are multiplied by in each block of the model, by the number of the adapter, as
    /// it was written.
    pub blocks: BTreeMap<usize, Vec<f64>>,
}

impl Plan {
    /// Multiplies prompts, seeds, axes and strengths.
    pub fn new(request: &Request<'_>) -> Result<Self, GridError> {
        let suite = request.suite;
        suite.cells()?;
        check_adapter_axis(request)?;
        let points = points(&suite.axes);
        let mut units = Vec::new();
        for (index, prompt) in suite.prompts.iter().enumerate() {
            let failed = |problem: PromptProblem| GridError::about(suite, index, &problem);
            let references = references(request, prompt);
            let (input, named) = read(request, &prompt.input).map_err(failed)?;
            for point in &points {
                let mut settings = suite.settings(prompt);
                for (axis, value) in point.iter().filter(|(axis, _)| *axis != "adapter") {
                    settings.set(axis, value).map_err(|e| failed(e.into()))?;
                }
                for seed in &suite.seeds {
                    let references = &references;
                    let unit = UnitOf { request, prompt: index, input: &input, references, point };
                    units.push(unit.make(&named, *seed, &settings));
                }
            }
        }
        Ok(Self { units })
    }

    /// All cells, in the order of the plan.
    pub fn record(&self) -> PlanRecord {
        let cells: Vec<String> =
            self.units.iter().flat_map(|unit| unit.cells.iter().map(|c| c.id.clone())).collect();
        PlanRecord { sha256: plan_hash(&cells), cells }
    }
}

impl Unit {
    /// Adapters and their strengths in a cell, for its record.
    pub fn adapters_at(&self, cell: &PlannedCell, adapters: &[Axis]) -> Vec<AdapterAt> {
        adapters
            .iter()
            .zip(cell.strengths.iter().zip(&cell.text_strengths))
            .enumerate()
            .filter(|(_, (adapter, (unet, text)))| {
                !adapter.on_demand || **unet != 0.0 || **text != 0.0
            })
            .map(|(number, (adapter, (unet, text)))| AdapterAt {
                name: adapter.name.clone(),
                strength: *unet,
                text_encoder: (text != unet).then_some(*text),
                blocks: cell.blocks.get(&number).cloned().unwrap_or_default(),
            })
            .collect()
    }
}

fn check_adapter_axis(request: &Request<'_>) -> Result<(), GridError> {
    let known: Vec<&str> = request.adapters.iter().map(|a| a.name.as_str()).collect();
    for value in request.suite.axes.get("adapter").into_iter().flatten() {
        let name = value.as_str().unwrap_or_default();
        if !known.contains(&name) {
            return Err(GridError::Axis {
                path: request.suite.path.clone(),
                axis: "adapter".to_owned(),
                problem: PromptProblem::UnknownAdapter {
                    name: printable(name).to_string(),
                    near: did_you_mean(name, &known),
                }
                .to_string(),
            });
        }
    }
    Ok(())
}

fn did_you_mean(name: &str, known: &[&str]) -> String {
    nearest(name, known.iter().copied())
        .map(|near| format!("; did you mean `{}`?", printable(near)))
        .unwrap_or_default()
}

/// Every combination of the axes' values, the first axis slowest.
fn points(axes: &BTreeMap<String, Vec<Value>>) -> Vec<BTreeMap<String, Value>> {
    let mut points = vec![BTreeMap::new()];
    for (axis, values) in axes {
        points = points
            .iter()
            .flat_map(|point| {
                values.iter().map(move |value| {
                    let mut point = point.clone();
                    point.insert(axis.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    points
}

/// What tags give, by the index of the adapter.
#[derive(Default)]
struct Named {
    /// Strengths in the text encoders and in the denoiser.
    strengths: BTreeMap<usize, (f64, f64)>,
    /// Weights by block, where a tag has some.
    blocks: BTreeMap<usize, Vec<f64>>,
}

/// The text without its tags, and the strengths that the tags give.
fn read(request: &Request<'_>, input: &Input) -> Result<(Input, Named), PromptProblem> {
    let mut named = Named::default();
    let images = request.kind == "image";
    let mut take = |text: &str| -> Result<String, PromptProblem> {
        let parsed =
            if images { prompt::Prompt::parse(text)? } else { prompt::Prompt::parse_text(text)? };
        for tag in &parsed.adapters {
            let place = request.adapters.iter().position(|adapter| adapter.name == tag.name);
            let known: Vec<&str> = request.adapters.iter().map(|a| a.name.as_str()).collect();
            let place = place.ok_or_else(|| PromptProblem::UnknownAdapter {
                name: printable(&tag.name).to_string(),
                near: did_you_mean(&tag.name, &known),
            })?;
            if !tag.blocks.is_empty() {
                named.blocks.insert(place, tag.blocks.clone());
            }
            let strengths = named.strengths.entry(place).or_insert((0.0, 0.0));
            let text = if images { tag.text_encoder } else { tag.unet };
            *strengths = (strengths.0 + text, strengths.1 + tag.unet);
        }
        if images {
            return Ok(parsed.text);
        }
        Ok(without_gap(text, &parsed.text, !parsed.adapters.is_empty()).to_owned())
    };
    let input = match input {
        Input::Prompt(text) => Input::Prompt(take(text)?),
        Input::Messages(_) if images => return Err(PromptProblem::Messages),
        Input::Messages(messages) => {
            let mut messages = messages.clone();
            for message in &mut messages {
                message.content = take(&message.content)?;
            }
            Input::Messages(messages)
        }
    };
    Ok((input, named))
}

/// The space that parted a tag from the text at either end goes with the tag: it would be a token.
fn without_gap<'a>(source: &str, text: &'a str, tagged: bool) -> &'a str {
    let mut kept = text;
    if tagged && source.starts_with('<') {
        kept = kept.trim_start_matches(' ');
    }
    if tagged && source.ends_with('>') {
        kept = kept.trim_end_matches(' ');
    }
    kept
}

/// A prompt's references as they determine scores: texts, or pictures with what their files hold. One
/// that cannot be read is reported before anything is drawn.
fn references(request: &Request<'_>, prompt: &suite::Prompt) -> Value {
    if request.kind != "image" {
        return json!(prompt.references);
    }
    let of = |reference: &String| {
        let digest = sha256_file(&request.suite.folder().join(reference)).unwrap_or_default();
        json!([reference, digest])
    };
    prompt.references.iter().map(of).collect()
}

/// Everything about a unit but its seed and settings.
struct UnitOf<'a> {
    request: &'a Request<'a>,
    prompt: usize,
    input: &'a Input,
    references: &'a Value,
    point: &'a BTreeMap<String, Value>,
}

impl UnitOf<'_> {
    fn make(&self, named: &Named, seed: u64, settings: &Settings) -> Unit {
        let adapters = self.request.adapters;
        let only = self.point.get("adapter").and_then(Value::as_str);
        let at = |strength: f64| -> (Vec<f64>, Vec<f64>) {
            let of = |(index, adapter): (usize, &Axis)| match (
                named.strengths.get(&index),
                adapter.fixed,
            ) {
                (Some(given), _) => *given,
                _ if adapter.on_demand => (0.0, 0.0),
                (None, Some(fixed)) => (adapter.fixed_text.unwrap_or(fixed), fixed),
                (None, None) if only.is_some_and(|only| only != adapter.name) => (0.0, 0.0),
                (None, None) => (strength, strength),
            };
            adapters.iter().enumerate().map(of).unzip()
        };
        let mut all = self.request.suite.strengths.values().to_vec();
        all.sort_by_key(|strength| *strength != 0.0); // stable: only 0 moves, to the front
        let own = adapters.iter().map(|adapter| adapter.blocks.clone()).enumerate();
        let mut blocks: BTreeMap<usize, Vec<f64>> =
            own.filter(|(_, weights)| !weights.is_empty()).collect();
        blocks.extend(named.blocks.clone());
        let both = all.iter().map(|s| at(*s)).collect::<Vec<_>>();
        let common = self.common(seed, settings, &both, &blocks);
        let cells = all.iter().map(|strength| {
            let (text_strengths, strengths) = at(*strength);
            PlannedCell {
                id: cell_id(&json!({ "unit": common, "strength": strength })),
                strength: *strength,
                strengths,
                text_strengths,
                blocks: blocks.clone(),
            }
        });
        Unit {
            prompt: self.prompt,
            input: self.input.clone(),
            seed,
            axes: self.point.clone(),
            settings: settings.clone(),
            cells: cells.collect(),
        }
    }

    /// Everything that determines the cells of a unit. All strengths belong to it: they are one batch,
    /// and scores compare with its first row.
    fn common(
        &self,
        seed: u64,
        settings: &Settings,
        all: &[(Vec<f64>, Vec<f64>)],
        blocks: &BTreeMap<usize, Vec<f64>>,
    ) -> Value {
        let (text, strengths): (Vec<_>, Vec<_>) =
            all.iter().map(|(text, unet)| (text, unet)).unzip();
        let apart = (text != strengths).then_some(text);
        let prompt = &self.request.suite.prompts[self.prompt];
        let input = match self.input {
            Input::Prompt(text) => json!(text),
            Input::Messages(messages) => {
                json!(messages.iter().map(|m| json!([m.role, m.content])).collect::<Vec<_>>())
            }
        };
        let adapters: Vec<Value> =
            self.request.adapters.iter().map(|a| json!([a.name, a.sha256])).collect();
        let mut parts = json!({
            "format": crate::run::FORMAT,
            "kind": self.request.kind,
            "base": self.request.base,
            "dtype": self.request.dtype,
            "device": self.request.device,
            "max_batch": self.request.max_batch,
            "adapters": adapters,
            "prompt": input,
            "prompt_id": prompt.id,
            "group": prompt.group,
            "references": self.references,
            "settings": settings.to_json(),
            "axes": self.point,
            "seed": seed,
            "strengths": strengths,
        });
        if let Some(text) = apart {
            parts["text_strengths"] = json!(text);
        }
        if !blocks.is_empty() {
            parts["blocks"] = json!(blocks);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(yaml: &str, adapters: &[Axis]) -> Result<Plan, GridError> {
        let suite = Suite::parse(Path::new("suite.yaml"), yaml).unwrap();
        let request = Request {
            suite: &suite,
            base: "b",
            adapters,
            kind: "text",
            dtype: "f32",
            device: "cpu",
            max_batch: None,
        };
        Plan::new(&request)
    }

    fn adapter(name: &str) -> Axis {
        Axis {
            name: name.to_owned(),
            sha256: "s".to_owned(),
            fixed: None,
            fixed_text: None,
            blocks: Vec::new(),
            on_demand: false,
            short_hash: None,
        }
    }

    const SUITE: &str = "
strengths: [0, 0.5]
seeds: [1, 2]
prompts:
  - {id: a, prompt: one}
  - {id: b, prompt: 'two <lora:x:0.7>'}
";

    #[test]
    fn a_unit_has_all_strengths_and_a_tag_fixes_one() {
        let plan = plan(SUITE, &[adapter("x"), adapter("y")]).unwrap();
        assert_eq!(plan.units.len(), 4);
        let of = |unit: usize| -> Vec<Vec<f64>> {
            plan.units[unit].cells.iter().map(|c| c.strengths.clone()).collect()
        };
        assert_eq!(of(0), [[0.0, 0.0], [0.5, 0.5]]);
        assert_eq!(of(2), [[0.7, 0.0], [0.7, 0.5]]);
        assert_eq!(plan.units[2].input, Input::Prompt("two".to_owned()));
        let ids: std::collections::BTreeSet<_> = plan.record().cells.into_iter().collect();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn strength_0_comes_first_wherever_it_was_written() {
        for strengths in ["[1, 0]", "'-1:1:1'", "[0.5]"] {
            let yaml = SUITE.replace("[0, 0.5]", strengths);
            let plan = plan(&yaml, &[adapter("x")]).unwrap();
            assert!(plan.units.iter().all(|unit| unit.cells[0].strength == 0.0), "{strengths}");
        }
    }

    #[test]
    fn axes_multiply_and_the_adapter_axis_picks_one() {
        let yaml = format!("{SUITE}axes: {{adapter: [x, y], temperature: [0, 1]}}\n");
        let plan = plan(&yaml, &[adapter("x"), adapter("y")]).unwrap();
        assert_eq!(plan.units.len(), 16);
        assert_eq!(plan.units[0].cells[1].strengths, [0.5, 0.0]);
        assert_eq!(plan.units[0].settings.temperature, Some(0.0));
        assert_eq!(plan.units[2].settings.temperature, Some(1.0));
    }

    #[test]
    fn whatever_determines_a_cell_changes_its_id() {
        let first = |plan: Plan| plan.units[0].cells[0].id.clone();
        let id = first(plan(SUITE, &[adapter("x")]).unwrap());
        assert_eq!(first(plan(SUITE, &[adapter("x")]).unwrap()), id);
        let other_file = Axis { sha256: "t".to_owned(), ..adapter("x") };
        assert_ne!(first(plan(SUITE, &[other_file]).unwrap()), id);
        for (from, to) in
            [("one", "ones"), ("0.5", "0.6"), ("[1, 2]", "[3, 4]"), ("id: a", "id: c")]
        {
            let plan = plan(&SUITE.replace(from, to), &[adapter("x")]).unwrap();
            assert_ne!(first(plan), id, "{from}");
        }
    }

    #[test]
    fn an_unknown_adapter_is_named_with_the_nearest() {
        let error = plan(SUITE, &[adapter("xx")]).unwrap_err().to_string();
        assert!(error.contains("line 6, prompt `b`"), "{error}");
        assert!(error.contains("`x`, which was not given; did you mean `xx`?"), "{error}");
    }
}
