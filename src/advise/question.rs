//! What advice is asked for.

use super::facts::BaseFacts;

/// What is to be learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// How pictures look.
    Style,
    /// A person or figure.
    Character,
    /// An object, a pose, a place.
    Concept,
    /// Answers of a form.
    Instruct,
    /// Texts of a field.
    Domain,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Style, Self::Character, Self::Concept, Self::Instruct, Self::Domain];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Character => "character",
            Self::Concept => "concept",
            Self::Instruct => "instruct",
            Self::Domain => "domain",
        }
    }

    /// The task of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }

    /// Whether it is one of pictures.
    pub fn draws(self) -> bool {
        matches!(self, Self::Style | Self::Character | Self::Concept)
    }
}

/// Where the training computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// In f32, weights in their file.
    Cpu,
    /// In the base's own type, weights on the device.
    Gpu,
}

/// What is known before a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What is to be learnt.
    pub task: Task,
    /// Pictures, or lines of text.
    pub examples: usize,
    /// Tokens of all lines together, if known.
    pub tokens: Option<u64>,
    /// Where it computes.
    pub device: Device,
    /// Bytes of the device's memory, if known.
    pub memory: Option<u64>,
    /// The base.
    pub base: BaseFacts,
}
