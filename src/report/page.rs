//! The report as the template sees it, and the template.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, HtmlEscape, Output, State, Value, escape_formatter};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::blame::{self, Blame};
use super::chart::Look;
use super::curves::{self, Curves};
use super::grid::{self, Grid};
use super::head::{self, Head};
use super::ranking::{self, Ranking};
use super::summary::{self, Table};
use super::{ReportError, RunView, picture, text, verdict};
use crate::run::{Experiment, RunKind};

/// Name of the template; its ending turns escaping on.
const TEMPLATE: &str = "report.html";

static STYLE: LazyLock<String> = LazyLock::new(|| asset(include_str!("../../reports/style.css")));
static SCRIPT: LazyLock<String> = LazyLock::new(|| asset(include_str!("../../reports/script.js")));
/// What pages with pictures have besides.
static PICTURES: LazyLock<String> =
    LazyLock::new(|| asset(include_str!("../../reports/pictures.js")));

#[derive(Serialize)]
struct Page {
    title: String,
    policy: String,
    style: Value,
    script: Value,
    several: bool,
    ranking: Option<Ranking>,
    /// Some run is of pictures.
    pictures: bool,
    legend: Vec<Look>,
    curves: Vec<Curves>,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    index: usize,
    head: Head,
    verdict: Option<verdict::View>,
    tables: Vec<Table>,
    blame: Option<Blame>,
    grid: Grid,
}

/// The whole page, to lie in `folder`.
pub fn page(
    runs: &[RunView],
    folder: &Path,
    experiment: Option<&Experiment>,
) -> Result<String, ReportError> {
    let pictures = runs.iter().any(|run| run.record.kind == RunKind::Image);
    let script = if pictures { format!("{}{}", *SCRIPT, *PICTURES) } else { SCRIPT.clone() };
    let titles: Vec<String> = runs.iter().map(|run| run.title.clone()).collect();
    let page = Page {
        title: titles.join(" · "),
        policy: policy(&script, pictures),
        style: Value::from_safe_string(STYLE.clone()),
        script: Value::from_safe_string(script),
        several: runs.len() > 1,
        ranking: experiment.map(ranking::ranking),
        pictures,
        legend: curves::legend(runs),
        curves: curves::curves(runs),
        runs: runs
            .iter()
            .enumerate()
            .map(|(index, run)| {
                let pictures = picture::pictures(run, folder);
                Ok(Run {
                    index,
                    head: head::head(run)?,
                    verdict: verdict::view(run, &pictures),
                    tables: summary::tables(&run.scores),
                    blame: run.ablation.as_ref().map(blame::blame),
                    grid: grid::grid(run, index, &pictures),
                })
            })
            .collect::<Result<_, ReportError>>()?,
    };
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(show);
    environment.add_filter("marked", marked);
    environment.add_template(TEMPLATE, include_str!("../../reports/report.html"))?;
    Ok(environment.get_template(TEMPLATE)?.render(Value::from(Serde(page)))?)
}

/// Writes a value of the template: whatever is text is first made visible, then escaped.
fn show(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(raw) if !value.is_safe() => match text::visible(raw) {
            std::borrow::Cow::Borrowed(_) => escape_formatter(out, state, value),
            std::borrow::Cow::Owned(shown) => escape_formatter(out, state, &Value::from(shown)),
        },
        _ => escape_formatter(out, state, value),
    }
}

/// A sentence of ours with what it quotes (`` `--clip` ``) as code.
fn marked(sentence: &str) -> Value {
    let shown = text::visible(sentence);
    let pieces: Vec<&str> = shown.split('`').collect();
    // a name with a backtick of its own: which ones belong together cannot be told
    if pieces.len().is_multiple_of(2) {
        return Value::from(shown.into_owned());
    }
    let pieces = pieces.into_iter().map(HtmlEscape).enumerate();
    let html: String = pieces
        .map(
            |(at, piece)| {
                if at % 2 == 1 { format!("<code>{piece}</code>") } else { piece.to_string() }
            },
        )
        .collect();
    Value::from_safe_string(html)
}

/// The content security policy: only this style and this script; pictures as data, and where the
/// report has some, whole ones from where it lies.
fn policy(script: &str, pictures: bool) -> String {
    let hash = |content: &str| STANDARD.encode(Sha256::digest(content.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src {}data:; \
         base-uri 'none'; form-action 'none'",
        hash(&STYLE),
        hash(script),
        if pictures { "'self' " } else { "" }
    )
}

/// A file compiled in, with the line ends that an HTML parser makes of it: the hash is over those.
fn asset(content: &str) -> String {
    content.replace("\r\n", "\n")
}
