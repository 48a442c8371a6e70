//! Attaching adapters to a decoder.

use super::{Decoder, DecoderError};
use crate::adapter::{Adapter, Component, Module};
use crate::model::{Base, Unmatched, fit};
use crate::nn::{Attachment, Linear, Part, Slot, Trained};

/// What came of attaching an adapter.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Modules that act.
    pub matched: usize,
    /// Modules that find no place in the base.
    pub unmatched: Vec<Unmatched>,
    /// What a user should know.
    pub notes: Vec<String>,
}

impl Decoder {
    /// Attaches an adapter as number `number` of [`crate::nn::Strengths`].
    ///
    /// A module that fits the base and cannot act at run time is an error: an adapter is applied
    /// whole or not at all.
    pub fn attach(
        &mut self,
        number: usize,
        adapter: &Adapter,
        base: &Base,
    ) -> Result<Attached, DecoderError> {
        let fit = fit(adapter, base).map_err(Box::new)?;
        for (module, target) in &fit.matched {
            let slot = Slot { adapter: number, block: self.block_list.of_module(&target.id) };
            self.attach_module(slot, module, &target.id.path).map_err(|reason| {
                DecoderError::Attachment {
                    adapter: adapter.path.clone(),
                    module: module.key.clone(),
                    reason,
                }
            })?;
        }
        Ok(Attached { matched: fit.matched.len(), unmatched: fit.unmatched, notes: fit.notes })
    }

    fn attach_module(&mut self, slot: Slot, module: &Module, path: &str) -> Result<(), String> {
        let device = self.device.clone();
        let said = |error: Attachment| error.to_string();
        if path == "lm_head" {
            return self.head.attach(slot, module, &Part::Whole, &device).map_err(said);
        }
        if path.ends_with("embed_tokens") {
            return self.embedding.attach(slot, module, &device).map_err(said);
        }
        debug_assert_eq!(module.id.component, Component::Language);
        match self.find(path) {
            Some((layer, part)) => layer.attach(slot, module, &part, &device).map_err(said),
            None => Err("it changes a norm or another part that is not a linear layer".to_owned()),
        }
    }

    /// The linear layer of a block by its module's path.
    fn find(&mut self, path: &str) -> Option<(&mut Linear, Part)> {
        let (index, rest) = path.split_once("layers.")?.1.split_once('.')?;
        self.blocks.get_mut(index.parse::<usize>().ok()?)?.find(rest)
    }

    /// Attaches a change that is trained, as adapter number 0; whether there is such a layer.
    pub fn train(&mut self, path: &str, trained: Trained) -> bool {
        let layer = match path {
            "lm_head" => Some(&mut self.head),
            _ => match self.find(path) {
                Some((layer, Part::Whole)) => Some(layer),
                _ => None,
            },
        };
        layer.map(|layer| layer.train(0, trained)).is_some()
    }
}
