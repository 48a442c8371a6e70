//! What the article on LoRA training says and the advice does not follow.

use serde::Serialize;

/// How a claim of the article stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does not hold.
    False,
    /// The opposite holds.
    Reversed,
    /// It holds once corrected.
    Corrected,
    /// A habit without a source: a start, not a rule.
    Folklore,
}

/// A claim that is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Its number in the order of the article.
    pub number: u8,
    /// What the article says.
    pub says: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What holds instead, and is done.
    pub instead: &'static str,
    /// From where that is known.
    pub source: &'static str,
    /// Whether it speaks of pictures only.
    #[serde(skip)]
    pictures: bool,
}

impl Verdict {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Reversed => "reversed",
            Self::Corrected => "corrected",
            Self::Folklore => "folklore",
        }
    }
}

/// The claims that concern a task of pictures (`draws`) or of texts.
pub fn not_followed(draws: bool) -> Vec<&'static Claim> {
    CLAIMS.iter().filter(|claim| draws || !claim.pictures).collect()
}

const fn claim(
    number: u8,
    verdict: Verdict,
    says: &'static str,
    instead: &'static str,
    source: &'static str,
) -> Claim {
    Claim { number, says, verdict, instead, source, pictures: false }
}

const CLAIMS: [Claim; 17] = [
    claim(
        1,
        Verdict::Corrected,
        "the update is A·B, A of 768×r and B of r×768",
        "ΔW = alpha/rank · B·A, A of r×in and B of out×r; alpha, which the article never names, is \
         given, as it decides the size of the change",
        "paper: Hu et al., 2021; peer: PEFT, sd-scripts",
    ),
    claim(
        2,
        Verdict::Corrected,
        "a rank above 32 is nearly full fine-tuning and pointless",
        "rank 32 on 768×768 is 8.3 % of the parameters, as many as full only at 384; higher ranks \
         can fit better and drift further, so both are measured",
        "paper: Biderman et al., 2024; peer: PEFT's benchmark (rank 64 with rsLoRA 51.3 %, 32 47.8 %)",
    ),
    claim(
        3,
        Verdict::Folklore,
        "ranks by subject: style 4–6, face 8–12, professional 16 and no more",
        "taken as a start; raised where the texts hold more than the adapter can, and whenever the \
         held-out loss of a higher rank is lower",
        "peer: sd-scripts 4–128, torchtune 8–256",
    ),
    claim(
        5,
        Verdict::False,
        "rank 64 explodes the memory and makes a file larger than the base",
        "on Stable Diffusion 1.x a rank costs 589 824 parameters: rank 64 is 75 MB in f16, the base \
         2.1 GB; only about rank 1800 would be as large",
        "computed",
    ),
    claim(
        6,
        Verdict::False,
        "short of memory, lower the rank before the batch",
        "a rank costs 9 MiB with gradient and moments, a picture of a batch gigabytes of \
         activations: micro-batch first, then checkpointing, never the rank",
        "computed; peer: axolotl's order",
    ),
    claim(
        9,
        Verdict::Corrected,
        "the rate may be higher than in full training because few parameters give less noise",
        "it may, about tenfold, and half as much again in runs below 100 steps, as B begins at 0",
        "paper: Thinking Machines, 2025; peer: TRL",
    ),
    claim(
        11,
        Verdict::Corrected,
        "a large rank (16) wants a lower rate, 1.5e-4",
        "with alpha/rank fixed the best rate hardly depends on the rank; from rank 64 on rsLoRA \
         holds the size of a step",
        "paper: Thinking Machines, 2025; Kalajdzievski, 2023",
    ),
    claim(
        14,
        Verdict::False,
        "accumulating four times makes gradients four times as large, so the rate is doubled or more",
        "losses are averaged: the gradient keeps its size and loses noise, and the rate stays \
         (`lr_scaling: none`)",
        "paper: Malladi et al., 2022; peer: transformers, torchtune",
    ),
    claim(
        16,
        Verdict::Corrected,
        "batches by card: 3060 8 GB 1–2, 3090 and 4090 16 GB 4–8",
        "these cards have 12 and 24 GB; the batch follows from the model, its size and \
         checkpointing, item by item in the plan below",
        "computed",
    ),
    claim(
        18,
        Verdict::Reversed,
        "accumulation differs from a batch because of BatchNorm, which matters for texts",
        "no model here has BatchNorm; what matters for texts is that rows differ in length, so \
         losses are weighted by tokens",
        "peer: transformers #34191, torchtune #1875",
    ),
    claim(
        19,
        Verdict::False,
        "out of memory also lower rank and rate and train longer",
        "with smaller micro-batches and more accumulation the effective batch is the same, and with \
         it rate and steps",
        "computed; peer: axolotl",
    ),
    claim(
        20,
        Verdict::Corrected,
        "a falling loss and no change in pictures: rank too low or bad captions",
        "first: alpha/rank tiny, captions not read, the adapter not matched, the rate too low; \
         `prove: true` shows before the first step that everything learns",
        "peer: kohya_ss #927, sd-scripts #2133",
    ),
    Claim {
        pictures: true,
        ..claim(
            21,
            Verdict::Corrected,
            "pictures of one size, crops and colour changes for more variety",
            "buckets take all sizes; crops and colour changes forbid keeping latents and spoil \
             colours that are to be learnt",
            "peer: sd-scripts",
        )
    },
    claim(
        23,
        Verdict::Corrected,
        "a loss that explodes midway: accumulation, or the card is hot",
        "losses and gradients are checked before each step and the sample is named: a bad example, \
         16-bit overflow, a row without trained tokens; heat slows, it does not make NaN",
        "peer: LLaMA-Factory #8088, OneTrainer #1147",
    ),
    claim(
        24,
        Verdict::Corrected,
        "after NaN go on from the newest checkpoint at half the rate",
        "the newest may be spoilt: the last one verified finite is taken, moments included",
        "peer: sd-scripts #201, kohya_ss #1112",
    ),
    Claim {
        pictures: true,
        ..claim(
            26,
            Verdict::Corrected,
            "a good loss curve is smooth as a ski slope",
            "a denoiser's loss follows the timestep that was drawn and is rough; the held-out loss \
             at fixed noise is what is looked at",
            "peer: sd-scripts' validation",
        )
    },
    claim(
        27,
        Verdict::Corrected,
        "out of memory raise accumulation",
        "accumulation alone frees nothing: the micro-batch has to become smaller",
        "computed",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_stand_in_the_articles_order_once() {
        let numbers: Vec<u8> = CLAIMS.iter().map(|claim| claim.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.iter().all(|number| (1..=31).contains(number)));
    }

    #[test]
    fn texts_are_not_told_of_pictures() {
        let of = |draws| not_followed(draws).iter().map(|claim| claim.number).collect::<Vec<_>>();
        assert!(of(true).contains(&21) && of(true).contains(&26));
        assert!(!of(false).contains(&21) && !of(false).contains(&26));
        assert!(of(false).contains(&18));
    }
}
