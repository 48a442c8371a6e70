//! What is known of a base: its shapes and how its weights are held.

use super::network::Network;
use super::question::Task;
use crate::config::Precision;

/// A base, as far as advice goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFacts {
    /// As `--base` names it.
    pub name: String,
    /// Its shapes.
    pub network: Network,
    /// The type of its weights.
    pub held: Held,
}

/// How weights lie in their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// As numbers of a type.
    Floats(Precision),
    /// As quantised blocks, so many bytes in all.
    Blocks(u64),
}

impl BaseFacts {
    /// What is taken for a task where no base is given.
    pub fn usual(task: Task) -> Self {
        if task.draws() { Self::sd1() } else { Self::qwen(task == Task::Instruct) }
    }

    /// Stable Diffusion 1.5.
    pub fn sd1() -> Self {
        Self {
            name: "hf:stable-diffusion-v1-5/stable-diffusion-v1-5".to_owned(),
            network: Network::sd1(),
            held: Held::Floats(Precision::F32),
        }
    }

    /// Stable Diffusion XL.
    pub fn sdxl() -> Self {
        Self {
            name: "hf:stabilityai/stable-diffusion-xl-base-1.0".to_owned(),
            network: Network::sdxl(),
            held: Held::Floats(Precision::F16),
        }
    }

    /// Qwen2.5-1.5B: a small language model under a free licence.
    pub fn qwen(instruct: bool) -> Self {
        let end = if instruct { "-Instruct" } else { "" };
        Self {
            name: format!("hf:Qwen/Qwen2.5-1.5B{end}"),
            network: Network::qwen2_5_1_5b(),
            held: Held::Floats(Precision::Bf16),
        }
    }
}

/// Bytes of a number of this type.
pub fn size(precision: Precision) -> u64 {
    match precision {
        Precision::F32 => 4,
        Precision::F16 | Precision::Bf16 => 2,
    }
}
