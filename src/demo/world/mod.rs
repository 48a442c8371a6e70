//! One shape of one colour on a plain background: what `demo:image` draws.
//!
//! - [`Scene`]: what is to be seen, all [`Scene::all`] of them; [`Scene::held_out`] says which were
//!   kept from training
//! - [`captions`]: the texts that say it
//! - [`draw`]: a scene as a picture, plain or in the [`Look::Striped`] style that adapters learn
//! - [`check`]: what a picture shows
//!
//! Everything is a function of its arguments: scene, look and the numbers that move the shape a little.

mod captions;
mod check;
mod draw;
mod scene;
mod shape;
mod texture;

pub use captions::captions;
pub use check::{CheckError, Seen, Thing, check};
pub use draw::{Look, draw};
pub use scene::{Colour, Place, Scene, Size};
pub use shape::Shape;
pub use texture::textured;

/// Width and height of every picture, in pixels.
pub const SIDE: u32 = 64;

/// Style's name in captions: `…, in striped style`.
pub const STYLE: &str = "striped";
