//! Choices between names.

use serde::{Deserialize, Serialize};

/// A choice between names, as configurations write them.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All names.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// Its name in a configuration.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The choice of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

choice!(
    /// What is trained.
    Task {
        /// A denoiser, from pictures with captions.
        Image = "image",
        /// A language model, from texts.
        Text = "text",
    }
);

choice!(
    /// Numbers of a file or of a computation.
    Precision {
        /// 32 bits.
        F32 = "f32",
        /// IEEE's 16 bits.
        F16 = "f16",
        /// 16 bits with the exponent of f32.
        Bf16 = "bf16",
    }
);

choice!(
    /// How A begins; B begins at 0.
    Init {
        /// Uniform in ±1/√in: PEFT's default, kohya's `kaiming_uniform_(a=√5)`.
        Kaiming = "kaiming",
        /// Normal of deviation 1/rank: PEFT's and diffusers' `gaussian`.
        Gaussian = "gaussian",
    }
);

choice!(
    /// The format of the finished adapter.
    FileFormat {
        /// `lora_unet_…lora_down.weight`, one file.
        Kohya = "kohya",
        /// `unet.….lora.down.weight`, one file.
        Diffusers = "diffusers",
        /// A folder with `adapter_config.json`.
        Peft = "peft",
    }
);

choice!(
    /// Which tokens the loss counts.
    TrainOn {
        /// Those of completions and of the assistant.
        Answers = "answers",
        /// All.
        All = "all",
    }
);

choice!(
    /// The optimizer.
    OptimizerKind {
        /// Loshchilov and Hutter, 2019.
        AdamW = "adamw",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Chen et al., 2023.
        Lion = "lion",
        /// Mishchenko and Defazio, 2023.
        Prodigy = "prodigy",
    }
);

choice!(
    /// How the learning rate follows the effective batch.
    LrScaling {
        /// Not at all.
        None = "none",
        /// With its square root.
        Sqrt = "sqrt",
        /// With its size.
        Linear = "linear",
    }
);

choice!(
    /// The learning rate's course after warm-up.
    ScheduleKind {
        /// It stays.
        Constant = "constant",
        /// Down to 0 in a line.
        Linear = "linear",
        /// Down to 0 along a half cosine.
        Cosine = "cosine",
        /// The cosine several times over.
        CosineWithRestarts = "cosine_with_restarts",
        /// Down to 1e-7 along a power.
        Polynomial = "polynomial",
    }
);
