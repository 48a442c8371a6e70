//! Layers by their names in diffusers, whatever the layout of the base.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::DiffusionError;
use crate::adapter::{Adapter, Component, Module, ModuleId};
use crate::model::layout::Target;
use crate::model::{Base, Blocks, Unmatched, fit};
use crate::nn::{
    Attachment, Conv2d, ConvConfig, Embedding, GroupNorm, LayerNorm, Linear, Part, Slot, Trained,
    Weight,
};
use crate::tensors::{self, Float, TensorError};

/// Where a model computes and in which type.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// The type of activations: f32 on the CPU.
    pub dtype: DType,
    /// A type that weights are rounded to first, where one was asked for.
    pub stored: Option<DType>,
}

impl Placement {
    /// As `--device` and `--dtype` say: f32 on a CPU, the base's own type on a GPU.
    pub fn new(base: &Base, device: &Device, dtype: Option<DType>) -> Self {
        let own = || {
            let conv_in = base.table.get(&ModuleId::new(Component::Unet, "conv_in"));
            let float = conv_in.and_then(|t| base.tensor(&t.weight)).map(|t| Float::of(t.dtype()));
            match float.flatten() {
                Some(Float::F16) => DType::F16,
                Some(Float::BF16) => DType::BF16,
                _ => DType::F32,
            }
        };
        let computed = if device.is_cpu() { DType::F32 } else { dtype.unwrap_or_else(own) };
        Self { device: device.clone(), dtype: computed, stored: dtype }
    }

    /// The type that weights have, by name: for records and signatures.
    pub fn name(&self, base: &Base) -> &'static str {
        let widest = Self::new(base, &self.device, None).dtype;
        self.stored.unwrap_or(if self.device.is_cpu() { DType::F32 } else { widest }).as_str()
    }
}

/// What came of laying adapters over a base.
#[derive(Debug, Clone, Default)]
pub struct Attached {
    /// Modules that act.
    pub matched: usize,
    /// Modules that find no place in the base.
    pub unmatched: Vec<Unmatched>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// The modules of all adapters by the layer that they change.
#[derive(Debug, Default)]
pub struct Adapters<'a> {
    by_layer: BTreeMap<(Component, String), Vec<Change<'a>>>,
    trained: BTreeMap<(Component, String), Trained>,
}

#[derive(Debug, Clone, Copy)]
struct Change<'a> {
    slot: Slot,
    module: &'a Module,
    adapter: &'a Adapter,
}

impl<'a> Adapters<'a> {
    /// Finds the place of each module. The result has one entry an adapter.
    pub fn new(
        adapters: &'a [Adapter],
        base: &'a Base,
    ) -> Result<(Self, Vec<Attached>), DiffusionError> {
        let mut all = Self::default();
        let blocks = Blocks::of(base);
        let mut attached = Vec::new();
        // numbered as `Strengths` counts them
        for (number, adapter) in adapters.iter().enumerate() {
            let fit = fit(adapter, base).map_err(Box::new)?;
            for (module, target) in &fit.matched {
                let layer = (target.id.component, target.id.path.clone());
                let slot = Slot { adapter: number, block: blocks.of_module(&target.id) };
                all.by_layer.entry(layer).or_default().push(Change { slot, module, adapter });
            }
            attached.push(Attached {
                matched: fit.matched.len(),
                unmatched: fit.unmatched,
                notes: fit.notes,
            });
        }
        Ok((all, attached))
    }

    /// One adapter, number 0, that is trained.
    pub fn trained(modules: impl IntoIterator<Item = (ModuleId, Trained)>) -> Self {
        let by_path = |(id, trained): (ModuleId, Trained)| ((id.component, id.path), trained);
        Self { by_layer: BTreeMap::new(), trained: modules.into_iter().map(by_path).collect() }
    }

    fn trained_at(&self, component: Component, path: &str) -> Option<Trained> {
        self.trained.get(&(component, path.to_owned())).cloned()
    }

    fn at(&self, component: Component, path: &str) -> &[Change<'a>] {
        self.by_layer.get(&(component, path.to_owned())).map_or(&[], Vec::as_slice)
    }
}

impl Change<'_> {
    fn refused(&self, reason: &Attachment) -> DiffusionError {
        DiffusionError::Attachment {
            adapter: self.adapter.path.clone(),
            module: self.module.key.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Builds the layers of one component of a base, adapters attached.
pub struct Parts<'a> {
    base: &'a Base,
    component: Component,
    placement: &'a Placement,
    adapters: &'a Adapters<'a>,
    taken: RefCell<BTreeSet<String>>,
}

impl<'a> Parts<'a> {
    /// Layers of a component.
    pub fn new(
        base: &'a Base,
        component: Component,
        placement: &'a Placement,
        adapters: &'a Adapters<'a>,
    ) -> Self {
        Self { base, component, placement, adapters, taken: RefCell::default() }
    }

    /// Where and how it computes.
    pub fn placement(&self) -> &Placement {
        self.placement
    }

    /// The component's configuration, where the base is a folder.
    pub fn config(&self) -> Option<(PathBuf, &'a serde_json::Value)> {
        let own = || self.base.path.join(self.component.name());
        let folder = self.file().and_then(Path::parent).map_or_else(own, Path::to_owned);
        Some((folder.join("config.json"), self.base.configs.get(&self.component)?))
    }

    /// The first file of this component alone: an autoencoder may lie elsewhere.
    fn file(&self) -> Option<&'a Path> {
        let of = |file: &&crate::model::BaseFile| file.component == Some(self.component);
        self.base.files.iter().find(of).map(|file| file.file.path())
    }

    /// What errors name.
    fn path(&self) -> PathBuf {
        match self.file() {
            Some(file) if self.component == Component::Vae => file.to_owned(),
            _ => self.base.path.clone(),
        }
    }

    /// Whether there is a layer of that name.
    pub fn has(&self, path: &str) -> bool {
        self.target(path).is_some()
    }

    /// Whether its names in the file are those of OpenCLIP.
    pub fn is_open_clip(&self) -> bool {
        let target = self.target("encoder.layers.0.self_attn.q_proj");
        target.is_some_and(|target| target.weight.key.contains("in_proj"))
    }

    /// The shape of a layer's weight.
    pub fn shape(&self, path: &str) -> Result<Vec<usize>, DiffusionError> {
        Ok(self.target(path).ok_or_else(|| self.missing(path))?.weight.shape.clone())
    }

    /// An error if the component has a weight that no layer took.
    pub fn finish(&self) -> Result<(), DiffusionError> {
        let taken = self.taken.borrow();
        let left = self.base.table.targets().find(|target| {
            target.id.component == self.component && !taken.contains(&target.id.path)
        });
        match left {
            None => Ok(()),
            Some(target) => Err(DiffusionError::Unknown {
                path: self.path(),
                part: self.component.name(),
                name: crate::base::terminal::printable(&target.id.path).to_string(),
            }),
        }
    }

    fn target(&self, path: &str) -> Option<&'a Target> {
        self.base.table.get(&ModuleId::new(self.component, path))
    }

    fn missing(&self, name: &str) -> DiffusionError {
        DiffusionError::MissingTensor {
            path: self.path(),
            part: self.component.name(),
            name: name.to_owned(),
        }
    }

    /// An error about the shape of a layer's weight.
    pub fn misshapen(&self, name: &str, found: &[usize], expected: String) -> DiffusionError {
        DiffusionError::Shape {
            path: self.path(),
            part: self.component.name(),
            name: name.to_owned(),
            found: found.to_vec(),
            expected,
        }
    }

    fn at(&self, source: TensorError) -> DiffusionError {
        DiffusionError::At { path: self.path(), source }
    }

    /// The weight of a layer, and its bias.
    fn take(
        &self,
        path: &str,
    ) -> Result<(tensors::Tensor, Option<tensors::Tensor>), DiffusionError> {
        let target = self.target(path).ok_or_else(|| self.missing(path))?;
        self.taken.borrow_mut().insert(target.id.path.clone());
        let weight = self.base.tensor(&target.weight).ok_or_else(|| self.missing(path))?;
        weight.float(path).map_err(|source| self.at(source))?;
        let bias = target.bias.as_ref().and_then(|slot| self.base.tensor(slot));
        if !target.transposed {
            return Ok((weight, bias));
        }
        let [rows, columns] = *weight.shape() else {
            return Err(self.misshapen(path, weight.shape(), "a matrix".to_owned()));
        };
        let values = weight.to_f32(path).map_err(|source| self.at(source))?;
        let float = weight.float(path).map_err(|source| self.at(source))?;
        let turned = crate::linalg::transpose(&values, rows, columns);
        Ok((tensors::Tensor::from_f32(vec![columns, rows], &turned, float), bias))
    }

    fn vector(
        &self,
        path: &str,
        tensor: &tensors::Tensor,
        length: usize,
        dtype: DType,
    ) -> Result<Tensor, DiffusionError> {
        if tensor.shape() != [length] {
            return Err(self.misshapen(path, tensor.shape(), format!("[{length}]")));
        }
        let values = tensor.to_f32(path).map_err(|source| self.at(source))?;
        Ok(Tensor::from_vec(values, length, &self.placement.device)?.to_dtype(dtype)?)
    }

    /// A linear layer of so many inputs.
    pub fn linear(&self, path: &str, inputs: usize) -> Result<Linear, DiffusionError> {
        let (mut weight, bias) = self.take(path)?;
        if let [out, found, 1, 1] = *weight.shape() {
            weight = weight.reshape(vec![out, found]);
        }
        let [out, found] = *weight.shape() else {
            return Err(self.misshapen(path, weight.shape(), format!("(outputs, {inputs})")));
        };
        if found != inputs {
            return Err(self.misshapen(path, weight.shape(), format!("{inputs} inputs")));
        }
        let Placement { device, dtype, stored } = self.placement;
        let bias = match &bias {
            Some(bias) => Some(self.vector(&format!("{path}.bias"), bias, out, *dtype)?),
            None => None,
        };
        let mut layer = Linear::new(Weight::load(&weight, (*stored, *dtype), device)?, bias);
        if let Some(trained) = self.adapters.trained_at(self.component, path) {
            layer.train(0, trained);
        }
        for change in self.adapters.at(self.component, path) {
            layer
                .attach(change.slot, change.module, &Part::Whole, device)
                .map_err(|reason| change.refused(&reason))?;
        }
        Ok(layer)
    }

    /// A convolution of so many input channels.
    pub fn conv(
        &self,
        path: &str,
        inputs: usize,
        config: ConvConfig,
    ) -> Result<Conv2d, DiffusionError> {
        let (weight, bias) = self.take(path)?;
        let [out, found, _, _] = *weight.shape() else {
            let expected = format!("(outputs, {inputs}, height, width)");
            return Err(self.misshapen(path, weight.shape(), expected));
        };
        if found != inputs {
            return Err(self.misshapen(path, weight.shape(), format!("{inputs} input channels")));
        }
        let Placement { device, dtype, stored } = self.placement;
        let bias = match &bias {
            Some(bias) => Some(self.vector(&format!("{path}.bias"), bias, out, *dtype)?),
            None => None,
        };
        let mut layer = Conv2d::load(&weight, bias, config, (*stored, *dtype), device)?;
        if let Some(trained) = self.adapters.trained_at(self.component, path) {
            layer.train(0, trained);
        }
        for change in self.adapters.at(self.component, path) {
            layer
                .attach(change.slot, change.module, device)
                .map_err(|reason| change.refused(&reason))?;
        }
        Ok(layer)
    }

    /// Weight and bias of a norm over so many channels, f32.
    fn norm(&self, path: &str, width: usize) -> Result<(Tensor, Tensor), DiffusionError> {
        let (weight, bias) = self.take(path)?;
        let bias = bias.ok_or_else(|| self.missing(&format!("{path}.bias")))?;
        if let Some(change) = self.adapters.at(self.component, path).first() {
            return Err(change.refused(&Attachment::Unsupported("it changes a norm")));
        }
        Ok((
            self.vector(path, &weight, width, DType::F32)?,
            self.vector(path, &bias, width, DType::F32)?,
        ))
    }

    /// A layer norm.
    pub fn layer_norm(
        &self,
        path: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<LayerNorm, DiffusionError> {
        let (weight, bias) = self.norm(path, width)?;
        Ok(LayerNorm::new(weight, bias, epsilon))
    }

    /// A group norm.
    pub fn group_norm(
        &self,
        path: &str,
        channels: usize,
        (groups, epsilon): (usize, f64),
    ) -> Result<GroupNorm, DiffusionError> {
        let (weight, bias) = self.norm(path, channels)?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let expected = format!("a multiple of {groups} groups");
            return Err(self.misshapen(path, &[channels], expected));
        }
        Ok(GroupNorm::new(weight, bias, groups, epsilon))
    }

    /// An embedding table, and its size (entries, width).
    pub fn embedding(&self, path: &str) -> Result<(Embedding, (usize, usize)), DiffusionError> {
        let (weight, _) = self.take(path)?;
        let [entries, width] = *weight.shape() else {
            return Err(self.misshapen(path, weight.shape(), "(entries, width)".to_owned()));
        };
        let Placement { device, dtype, stored } = self.placement;
        let mut layer = Embedding::new(Weight::load(&weight, (*stored, *dtype), device)?, *dtype);
        for change in self.adapters.at(self.component, path) {
            layer
                .attach(change.slot, change.module, device)
                .map_err(|reason| change.refused(&reason))?;
        }
        Ok((layer, (entries, width)))
    }
}
