//! Which metrics there are, and how each is put together from cells.

use crate::metric::{Bleu, Chrf, Combine};
use crate::run::Better;

/// How a metric is put together from cells.
pub(super) enum From {
    Bleu(Against),
    Chrf,
    /// The mean of the cells' own scores.
    Mean,
    /// A score weighted by the tokens it is about.
    Tokens,
    Perplexity,
    /// Decibels of the mean of the cells' mean squared errors.
    Decibels,
    /// The distance of two sets of features, those of this model.
    Kid(&'static str),
}

/// What BLEU compares with.
#[derive(Clone, Copy)]
pub(super) enum Against {
    References,
    Base,
}

impl Against {
    /// Short texts are compared with each other too: orders that they have no n-grams of are left out.
    pub(super) fn bleu(self) -> Bleu {
        Bleu { effective_order: matches!(self, Self::Base), ..Bleu::default() }
    }
}

impl From {
    /// How sums become a score; none of distances of sets, which no sums give.
    pub(super) fn combine(&self) -> Option<Combine> {
        match self {
            Self::Bleu(against) => Some(Combine::Bleu(against.bleu())),
            Self::Chrf => Some(Combine::Chrf(Chrf::default())),
            Self::Mean | Self::Tokens => Some(Combine::Mean),
            Self::Perplexity => Some(Combine::Perplexity),
            Self::Decibels => Some(Combine::Decibels),
            Self::Kid(_) => None,
        }
    }
}

pub(super) struct Metric {
    pub name: &'static str,
    pub label: &'static str,
    pub about: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub from: From,
}

/// Of texts, those that matter most first.
pub(super) const TEXT: [Metric; 10] = [
    Metric {
        name: "chrf",
        label: "chrF",
        about: "character n-gram F-score against the references, of all texts together",
        unit: "points",
        better: Better::Higher,
        from: From::Chrf,
    },
    Metric {
        name: "bleu",
        label: "BLEU",
        about: "n-gram precision against the references, of all texts together",
        unit: "points",
        better: Better::Higher,
        from: From::Bleu(Against::References),
    },
    Metric {
        name: "rouge-l",
        label: "ROUGE-L",
        about: "longest common subsequence with the best reference, F1, mean over the texts",
        unit: "fraction",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "exact-match",
        label: "Exact match",
        about: "share of the texts that equal a reference, white space at the ends aside",
        unit: "fraction",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "perplexity",
        label: "Perplexity",
        about: "of the first reference after the prompt (where there is none, of the base's own text), teacher-forced",
        unit: "per token",
        better: Better::Lower,
        from: From::Perplexity,
    },
    Metric {
        name: "kl",
        label: "KL divergence",
        about: "of the next-token distribution from the base's, along the same text, mean per token",
        unit: "nats",
        better: Better::Lower,
        from: From::Tokens,
    },
    Metric {
        name: "top1",
        label: "Same top token",
        about: "how often the most probable next token is the base's, along the same text",
        unit: "%",
        better: Better::Higher,
        from: From::Tokens,
    },
    Metric {
        name: "base-bleu",
        label: "BLEU against base",
        about: "likeness to what the base itself wrote from the same prompt and seed",
        unit: "points",
        better: Better::Higher,
        from: From::Bleu(Against::Base),
    },
    Metric {
        name: "distinct-2",
        label: "Distinct bigrams",
        about: "different word pairs per word pair within a text, mean over the texts",
        unit: "fraction",
        better: Better::Neither,
        from: From::Mean,
    },
    Metric {
        name: "repetition",
        label: "Repetition",
        about: "share of a text's word 4-grams that occurred in it before, mean over the texts",
        unit: "fraction",
        better: Better::Lower,
        from: From::Mean,
    },
];

/// Of pictures, those that matter most first.
pub(super) const IMAGE: [Metric; 16] = [
    Metric {
        name: "clip-reference",
        label: "CLIP to references",
        about: "cosine of CLIP's features of the picture and of its references, × 100, mean",
        unit: "points",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "dino-reference",
        label: "DINO to references",
        about: "cosine of DINOv2's features of the picture and of its references, × 100, mean",
        unit: "points",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "histogram-reference",
        label: "Colours to references",
        about: "Hellinger distance of the colour histogram from the references', mean",
        unit: "fraction",
        better: Better::Lower,
        from: From::Mean,
    },
    Metric {
        name: "ssim-reference",
        label: "SSIM to references",
        about: "structural likeness to the references of the same size, mean",
        unit: "fraction",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "clip-text",
        label: "CLIP to prompt",
        about: "cosine of CLIP's features of the picture and of its prompt, × 100, mean (CLIPScore)",
        unit: "points",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "clip-image",
        label: "CLIP to base",
        about: "cosine of CLIP's features of the picture and of the base's from the same noise, × 100, mean",
        unit: "points",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "dino",
        label: "DINO to base",
        about: "cosine of DINOv2's features of the picture and of the base's from the same noise, × 100, mean",
        unit: "points",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "ssim",
        label: "SSIM to base",
        about: "structural likeness to the base's picture from the same noise, mean",
        unit: "fraction",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "ms-ssim",
        label: "MS-SSIM to base",
        about: "structural likeness to the base's picture over five scales, mean",
        unit: "fraction",
        better: Better::Higher,
        from: From::Mean,
    },
    Metric {
        name: "lpips",
        label: "LPIPS to base",
        about: "perceptual distance from the base's picture of the same noise, mean",
        unit: "distance",
        better: Better::Lower,
        from: From::Mean,
    },
    Metric {
        name: "psnr",
        label: "PSNR to base",
        about: "of the base's picture from the same noise, all pixels of all pictures together",
        unit: "dB",
        better: Better::Higher,
        from: From::Decibels,
    },
    Metric {
        name: "phash",
        label: "pHash distance",
        about: "differing bits of 64 from the base's picture, mean",
        unit: "bits",
        better: Better::Lower,
        from: From::Mean,
    },
    Metric {
        name: "dhash",
        label: "dHash distance",
        about: "differing bits of 64 from the base's picture, mean",
        unit: "bits",
        better: Better::Lower,
        from: From::Mean,
    },
    Metric {
        name: "histogram",
        label: "Colour distance",
        about: "Hellinger distance of the colour histogram from the base's, mean",
        unit: "fraction",
        better: Better::Lower,
        from: From::Mean,
    },
    Metric {
        name: "kid-dino",
        label: "KID (DINO)",
        about: "distance of the pictures from the base's as two sets, on DINOv2's features",
        unit: "mmd²",
        better: Better::Lower,
        from: From::Kid("dino"),
    },
    Metric {
        name: "kid-clip",
        label: "KID (CLIP)",
        about: "distance of the pictures from the base's as two sets, on CLIP's features",
        unit: "mmd²",
        better: Better::Lower,
        from: From::Kid("clip"),
    },
];
