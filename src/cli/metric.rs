//! `lora-eval metric`: one metric by itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use lora_eval::metric::{
    Bleu, Chrf, ExactMatch, Rouge, RougeKind, Score, Smooth, Ter, Texts, Tokenizer,
};
use serde_json::json;

use super::global::Global;
use super::metric_image::{self, ImageMetric};
use super::output;

/// Score a file of texts against files of references, one segment a line, or an image against another
///
/// The same numbers and signatures as sacreBLEU 2.6 and rouge-score 0.1.2; for images, the same
/// numbers as scikit-image 0.26, torchmetrics 1.9 (MS-SSIM) and `ImageHash` 4.3.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval metric bleu output.txt reference.txt\n  \
    lora-eval metric chrf output.txt first.txt second.txt --word-order 2\n  \
    lora-eval metric ssim with.png without.png")]
pub struct Args {
    #[command(subcommand)]
    metric: Metric,
}

#[derive(Debug, clap::Subcommand)]
enum Metric {
    #[command(flatten)]
    Text(TextMetric),
    #[command(flatten)]
    Image(ImageMetric),
}

#[derive(Debug, clap::Subcommand)]
enum TextMetric {
    /// BLEU: shared n-grams of words
    Bleu(BleuArgs),
    /// chrF and, with `--word-order 2`, chrF++: shared n-grams of characters
    Chrf(ChrfArgs),
    /// Translation edit rate; lower is better
    Ter(TerArgs),
    /// ROUGE-1: shared words
    #[command(name = "rouge-1", alias = "rouge1")]
    Rouge1(RougeArgs),
    /// ROUGE-2: shared pairs of words
    #[command(name = "rouge-2", alias = "rouge2")]
    Rouge2(RougeArgs),
    /// ROUGE-L: longest common subsequence
    #[command(name = "rouge-l", alias = "rougel")]
    RougeL(RougeArgs),
    /// Share of lines that equal a reference
    #[command(name = "exact-match")]
    ExactMatch(ExactArgs),
}

#[derive(Debug, clap::Args)]
struct Files {
    /// The texts to score, one a line
    #[arg(value_name = "HYP")]
    hypotheses: PathBuf,
    /// Their references, one a line; several files are several references for each line
    #[arg(value_name = "REF", required = true)]
    references: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct BleuArgs {
    #[command(flatten)]
    files: Files,
    /// How lines are cut into tokens
    #[arg(long, value_enum, default_value = "13a")]
    tokenize: Tokenize,
    /// What is done where no n-gram of a length matches
    #[arg(long, value_enum, default_value = "exp")]
    smooth: Smoothing,
    /// The value of `floor` [default: 0.1] or `add-k` [default: 1]
    #[arg(long, value_name = "X")]
    smooth_value: Option<f64>,
    /// Compare in lower case
    #[arg(long)]
    lowercase: bool,
    /// Leave out n-grams longer than the texts; for single sentences
    #[arg(long)]
    effective_order: bool,
    /// The longest n-grams
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_order: usize,
}

#[derive(Debug, clap::Args)]
struct ChrfArgs {
    #[command(flatten)]
    files: Files,
    /// The longest n-grams of characters
    #[arg(long, value_name = "N", default_value_t = 6)]
    char_order: usize,
    /// The longest n-grams of words; 2 is chrF++
    #[arg(long, value_name = "N", default_value_t = 0)]
    word_order: usize,
    /// How much more recall counts than precision
    #[arg(long, value_name = "N", default_value_t = 2)]
    beta: u32,
    /// Compare in lower case
    #[arg(long)]
    lowercase: bool,
    /// Keep white space in n-grams of characters
    #[arg(long)]
    whitespace: bool,
    /// Smooth as chrF++.py, NLTK and Moses do
    #[arg(long)]
    eps_smoothing: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
struct TerArgs {
    #[command(flatten)]
    files: Files,
    /// Set punctuation apart and undo XML's escapes
    #[arg(long)]
    normalized: bool,
    /// Remove punctuation
    #[arg(long)]
    no_punct: bool,
    /// Treat Chinese and Japanese characters as words, with `--normalized` or `--no-punct`
    #[arg(long)]
    asian_support: bool,
    /// Do not compare in lower case
    #[arg(long, conflicts_with = "lowercase")]
    case_sensitive: bool,
    /// Compare in lower case; so by default
    #[arg(long, hide = true)]
    lowercase: bool,
}

#[derive(Debug, clap::Args)]
struct RougeArgs {
    #[command(flatten)]
    files: Files,
    /// Compare the stems of English words
    #[arg(long, visible_alias = "use-stemmer")]
    stemmer: bool,
    /// Compare in lower case; always so
    #[arg(long, hide = true)]
    lowercase: bool,
}

#[derive(Debug, clap::Args)]
struct ExactArgs {
    #[command(flatten)]
    files: Files,
    /// Compare in lower case
    #[arg(long)]
    lowercase: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tokenize {
    /// mteval-v13a, for languages with spaces
    #[value(name = "13a")]
    V13a,
    /// All Unicode punctuation and symbols set apart
    Intl,
    /// Chinese
    Zh,
    /// Every character by itself
    Char,
    /// At white space only
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Smoothing {
    /// Half a match, a quarter, …
    Exp,
    /// So many matches
    Floor,
    /// So much added to matches and n-grams
    AddK,
    /// Nothing: the score is 0
    None,
}

impl From<Tokenize> for Tokenizer {
    fn from(name: Tokenize) -> Self {
        match name {
            Tokenize::V13a => Self::V13a,
            Tokenize::Intl => Self::Intl,
            Tokenize::Zh => Self::Zh,
            Tokenize::Char => Self::Char,
            Tokenize::None => Self::None,
        }
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.metric {
        Metric::Text(metric) => run_text(global, metric),
        Metric::Image(metric) => metric_image::run(global, metric),
    }
}

fn run_text(global: &Global, metric: &TextMetric) -> anyhow::Result<()> {
    let (name, files) = match metric {
        TextMetric::Bleu(args) => ("bleu", &args.files),
        TextMetric::Chrf(args) => ("chrf", &args.files),
        TextMetric::Ter(args) => ("ter", &args.files),
        TextMetric::Rouge1(args) => ("rouge-1", &args.files),
        TextMetric::Rouge2(args) => ("rouge-2", &args.files),
        TextMetric::RougeL(args) => ("rouge-l", &args.files),
        TextMetric::ExactMatch(args) => ("exact-match", &args.files),
    };
    let hypotheses = lines(&files.hypotheses)?;
    let references = references(files, hypotheses.len())?;
    if matches!(metric, TextMetric::Ter(_) | TextMetric::RougeL(_)) {
        refuse_huge_lines(files, &hypotheses, &references)?;
    }
    let texts = Texts::new(&hypotheses, &references)?;
    let score = score(metric, &texts)?;
    if global.json {
        return output::json(&json!({
            "metric": name,
            "name": score.metric,
            "score": score.value,
            "signature": score.signature,
            "direction": score.direction,
            "unit": score.unit,
            "segments": texts.len(),
            "references": texts.references(),
            "parts": score.parts,
        }));
    }
    let digits = if score.unit == "percent" { 2 } else { 4 };
    output::print(&format!("{} {:.digits$}\n{}\n", score.metric, score.value, score.signature))
}

/// TER and ROUGE-L keep a table of hypothesis words by reference words.
fn refuse_huge_lines(
    files: &Files,
    hypotheses: &[String],
    references: &[Vec<String>],
) -> anyhow::Result<()> {
    const MOST: usize = 50_000_000;
    let words = |line: &str| line.split_whitespace().count();
    for (i, hypothesis) in hypotheses.iter().enumerate() {
        let longest = references.iter().map(|r| r.get(i).map_or(0, |line| words(line))).max();
        let cells = words(hypothesis).saturating_mul(longest.unwrap_or(0));
        anyhow::ensure!(
            cells <= MOST,
            "{}, line {}: {} words against {} in a reference are too many for this metric\nhint: give one segment a line, not a document",
            files.hypotheses.display(),
            i + 1,
            words(hypothesis),
            longest.unwrap_or(0)
        );
    }
    Ok(())
}

fn score(metric: &TextMetric, texts: &Texts<'_>) -> anyhow::Result<Score> {
    let rouge = |args: &RougeArgs, kind| {
        warn_of_other_scripts(texts);
        Rouge { kind, stemmer: args.stemmer }.corpus(texts)
    };
    let score = match metric {
        TextMetric::Bleu(args) => {
            let bleu = Bleu {
                lowercase: args.lowercase,
                tokenize: args.tokenize.into(),
                smooth: smooth(args.smooth, args.smooth_value)?,
                max_order: args.max_order,
                effective_order: args.effective_order,
            };
            bleu.corpus(texts)
        }
        TextMetric::Chrf(args) => {
            let chrf = Chrf {
                char_order: args.char_order,
                word_order: args.word_order,
                beta: args.beta,
                lowercase: args.lowercase,
                whitespace: args.whitespace,
                eps_smoothing: args.eps_smoothing,
            };
            chrf.corpus(texts)
        }
        TextMetric::Ter(args) => {
            let ter = Ter {
                normalized: args.normalized,
                no_punct: args.no_punct,
                asian_support: args.asian_support,
                case_sensitive: args.case_sensitive,
            };
            ter.corpus(texts)
        }
        TextMetric::Rouge1(args) => rouge(args, RougeKind::One),
        TextMetric::Rouge2(args) => rouge(args, RougeKind::Two),
        TextMetric::RougeL(args) => rouge(args, RougeKind::Longest),
        TextMetric::ExactMatch(args) => ExactMatch { lowercase: args.lowercase }.corpus(texts),
    };
    Ok(score?)
}

fn smooth(name: Smoothing, value: Option<f64>) -> anyhow::Result<Smooth> {
    match (name, value) {
        (Smoothing::Floor, value) => Ok(Smooth::Floor(value.unwrap_or(0.1))),
        (Smoothing::AddK, value) => Ok(Smooth::AddK(value.unwrap_or(1.0))),
        (_, Some(_)) => bail!(
            "--smooth-value: `exp` and `none` have no value\nhint: add `--smooth floor` or `--smooth add-k`"
        ),
        (Smoothing::Exp, None) => Ok(Smooth::Exp),
        (Smoothing::None, None) => Ok(Smooth::None),
    }
}

fn warn_of_other_scripts(texts: &Texts<'_>) {
    let has_tokens = |text: &str| text.chars().any(|c| c.is_ascii_alphanumeric());
    let mut references = texts.iter().flat_map(|(_, references)| references);
    if references.any(|text| text.chars().any(char::is_alphabetic) && !has_tokens(text)) {
        output::warn(
            "ROUGE knows ASCII letters and digits only; lines in other scripts score 0 (chrf does not)",
        );
    }
}

fn references(files: &Files, expected: usize) -> anyhow::Result<Vec<Vec<String>>> {
    let mut all = Vec::with_capacity(files.references.len());
    for path in &files.references {
        let list = lines(path)?;
        let (found, hypotheses) = (list.len(), files.hypotheses.display());
        if found != expected {
            bail!(
                "{}: line {}: expected {expected} lines, as many as in {hypotheses}, found {found}\n\
                 hint: give one reference a line, in the same order; an empty line is an empty text",
                path.display(),
                found.min(expected) + 1
            );
        }
        all.push(list);
    }
    Ok(all)
}

/// A file's lines. The end of the last one starts no further line.
fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    if bytes.is_empty() {
        bail!("{}: the file is empty\nhint: write one segment a line", path.display());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = |(place, line): (usize, &[u8])| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            bail!(
                "{}: line {}: not UTF-8\nhint: convert the file, for example with `iconv -t UTF-8`",
                path.display(),
                place + 1
            );
        };
        // The mark that some editors begin a file with.
        let line = if place == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        Ok(line.to_owned())
    };
    text.split(|byte| *byte == b'\n').enumerate().map(line).collect()
}
