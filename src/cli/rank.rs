//! `--rank`, `--sv-ratio`, `--sv-fro`, `--sv-cumulative`: how a rank is chosen.

use lora_eval::adapter::RankRule;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rank")]
pub struct RankArgs {
    /// The rank; with one of the rules below, the largest that they may choose
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..),
        required_unless_present = "rule")]
    rank: Option<u16>,
    /// Keep singular values above the largest divided by N
    #[arg(long, value_name = "N", value_parser = ratio, group = "rule")]
    sv_ratio: Option<f64>,
    /// Keep this share of the Frobenius norm, e.g. 0.95
    #[arg(long, value_name = "SHARE", value_parser = share, group = "rule")]
    sv_fro: Option<f64>,
    /// Keep this share of the sum of the singular values, e.g. 0.9
    #[arg(long, value_name = "SHARE", value_parser = share, group = "rule")]
    sv_cumulative: Option<f64>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio > 1.0 && ratio.is_finite() => Ok(ratio),
        _ => Err("expected a number above 1".to_owned()),
    }
}

impl RankArgs {
    /// The rule and the largest rank.
    pub fn rule(&self) -> (RankRule, usize) {
        let rule = match (self.sv_ratio, self.sv_fro, self.sv_cumulative) {
            (Some(ratio), ..) => RankRule::SvRatio(ratio),
            (_, Some(share), _) => RankRule::SvFro(share),
            (.., Some(share)) => RankRule::SvCumulative(share),
            _ => RankRule::Fixed,
        };
        (rule, usize::from(self.rank.unwrap_or(u16::MAX)))
    }
}
