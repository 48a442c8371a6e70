//! Floor 2: a training's configuration.

mod settings;

pub use settings::*;
