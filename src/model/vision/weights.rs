//! Weights by their names, as layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::VisionError;
use crate::base::terminal::printable;
use crate::model::source::weight_files;
use crate::nn::{Conv2d, ConvConfig, Embedding, LayerNorm, Linear, Weight};
use crate::tensors::{self, Limits, TensorError, TensorFile};

/// The tensors of one model. Arithmetic is f32 on every device; what a file holds in 16 bits is
/// widened exactly.
#[derive(Debug)]
pub(super) struct Weights {
    path: PathBuf,
    device: Device,
    tensors: BTreeMap<String, tensors::Tensor>,
}

impl Weights {
    /// Of a transformers folder: `model.safetensors`, or the shards of an index.
    pub fn of_model(folder: &Path, device: &Device) -> Result<Self, VisionError> {
        let files: Vec<_> = weight_files(folder)?.iter().map(|name| folder.join(name)).collect();
        Self::of_files(folder, &files, device)
    }

    /// Of a `.safetensors` file, or of all of them in a folder.
    pub fn of_path(path: &Path, device: &Device) -> Result<Self, VisionError> {
        if !path.is_dir() {
            return Self::of_files(path, &[path.to_owned()], device);
        }
        let entries = std::fs::read_dir(path).map_err(|e| TensorError::io(path, e))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "safetensors"));
        files.sort();
        if files.is_empty() {
            return Err(VisionError::NotAModel {
                path: path.to_owned(),
                problem: "holds no .safetensors file".to_owned(),
                hint: "give the file of weights, or the folder that it lies in",
            });
        }
        Self::of_files(path, &files, device)
    }

    fn of_files(path: &Path, files: &[PathBuf], device: &Device) -> Result<Self, VisionError> {
        let mut all = BTreeMap::new();
        for file in files {
            let file = TensorFile::open(file, Limits::BASE)?;
            file.will_need();
            for name in file.names() {
                let Some(tensor) = file.get(name) else { continue };
                if all.insert(name.to_owned(), tensor).is_some() {
                    return Err(VisionError::NotAModel {
                        path: path.to_owned(),
                        problem: format!("tensor `{}` stands in two files", printable(name)),
                        hint: "leave one model's files in the folder",
                    });
                }
            }
        }
        Ok(Self { path: path.to_owned(), device: device.clone(), tensors: all })
    }

    /// Where they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where layers are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor; empty if there is none of that name.
    pub fn shape(&self, name: &str) -> &[usize] {
        self.tensors.get(name).map_or(&[], tensors::Tensor::shape)
    }

    fn get(&self, name: &str) -> Result<&tensors::Tensor, VisionError> {
        let missing =
            || VisionError::MissingTensor { path: self.path.clone(), name: name.to_owned() };
        let tensor = self.tensors.get(name).ok_or_else(missing)?;
        tensor.float(name).map_err(|source| self.at(source))?;
        Ok(tensor)
    }

    fn at(&self, source: TensorError) -> VisionError {
        VisionError::At { path: self.path.clone(), source }
    }

    /// An error about the shape of a tensor.
    pub fn misshapen(&self, name: &str, expected: String) -> VisionError {
        VisionError::Shape {
            path: self.path.clone(),
            name: name.to_owned(),
            found: self.shape(name).to_vec(),
            expected,
        }
    }

    fn loaded(&self, name: &str, tensor: &tensors::Tensor) -> Result<Tensor, VisionError> {
        let values = tensor.to_f32(name).map_err(|source| self.at(source))?;
        Ok(Tensor::from_vec(values, tensor.shape(), &self.device)?)
    }

    /// A tensor of exactly this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, VisionError> {
        let tensor = self.get(name)?;
        if tensor.shape() != shape {
            return Err(self.misshapen(name, format!("{shape:?}")));
        }
        self.loaded(name, tensor)
    }

    /// A table (rows, width) that may have further axes of 1 in front, and its number of rows.
    pub fn table(&self, name: &str, width: usize) -> Result<(Tensor, usize), VisionError> {
        let tensor = self.get(name)?;
        let rows = match *tensor.shape() {
            [rows, found] | [1, rows, found] if found == width && rows > 0 => rows,
            _ => return Err(self.misshapen(name, format!("(rows, {width})"))),
        };
        Ok((self.loaded(name, &tensor.reshape(vec![rows, width]))?, rows))
    }

    /// A linear layer of so many inputs, and outputs where they are known beforehand.
    pub fn linear(
        &self,
        path: &str,
        (inputs, outputs): (usize, Option<usize>),
        bias: bool,
    ) -> Result<Linear, VisionError> {
        let name = format!("{path}.weight");
        let weight = self.get(&name)?;
        let out = match *weight.shape() {
            [out, found] if found == inputs && outputs.is_none_or(|expected| expected == out) => {
                out
            }
            _ => {
                let outputs = outputs.map_or("outputs".to_owned(), |n| n.to_string());
                return Err(self.misshapen(&name, format!("({outputs}, {inputs})")));
            }
        };
        self.flat(weight, bias.then(|| format!("{path}.bias")), out)
    }

    /// A convolution whose stride is its kernel (width, 3, side, side), as a linear layer over
    /// patches of 3·side·side values, and the side.
    pub fn patches(&self, path: &str, bias: bool) -> Result<(Linear, (usize, usize)), VisionError> {
        let name = format!("{path}.weight");
        let weight = self.get(&name)?;
        let [width, 3, side, same] = *weight.shape() else {
            return Err(self.misshapen(&name, "(width, 3, side, side)".to_owned()));
        };
        if side != same || side == 0 || width == 0 {
            return Err(self.misshapen(&name, "(width, 3, side, side)".to_owned()));
        }
        let weight = weight.reshape(vec![width, 3 * side * side]);
        let bias = bias.then(|| format!("{path}.bias"));
        Ok((self.flat(&weight, bias, width)?, (width, side)))
    }

    fn flat(
        &self,
        weight: &tensors::Tensor,
        bias: Option<String>,
        out: usize,
    ) -> Result<Linear, VisionError> {
        let bias = bias.map(|name| self.tensor(&name, &[out])).transpose()?;
        Ok(Linear::new(Weight::load(weight, (None, DType::F32), &self.device)?, bias))
    }

    /// A layer norm.
    pub fn layer_norm(
        &self,
        path: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<LayerNorm, VisionError> {
        let vector = |name: &str| self.tensor(&format!("{path}.{name}"), &[width]);
        Ok(LayerNorm::new(vector("weight")?, vector("bias")?, epsilon))
    }

    /// A convolution of so many input channels and this kernel, with a bias, and its outputs.
    pub fn conv(
        &self,
        path: &str,
        (inputs, kernel): (usize, usize),
        config: ConvConfig,
    ) -> Result<(Conv2d, usize), VisionError> {
        let name = format!("{path}.weight");
        let weight = self.get(&name)?;
        let out = match *weight.shape() {
            [out, found, height, width] if (found, height, width) == (inputs, kernel, kernel) => {
                out
            }
            _ => {
                let expected = format!("(outputs, {inputs}, {kernel}, {kernel})");
                return Err(self.misshapen(&name, expected));
            }
        };
        let bias = self.tensor(&format!("{path}.bias"), &[out])?;
        let layer = Conv2d::load(weight, Some(bias), config, (None, DType::F32), &self.device)?;
        Ok((layer, out))
    }

    /// An embedding table, and its size (entries, width).
    pub fn embedding(&self, path: &str) -> Result<(Embedding, (usize, usize)), VisionError> {
        let name = format!("{path}.weight");
        let weight = self.get(&name)?;
        let [entries, width] = *weight.shape() else {
            return Err(self.misshapen(&name, "(entries, width)".to_owned()));
        };
        let weight = Weight::load(weight, (None, DType::F32), &self.device)?;
        Ok((Embedding::new(weight, DType::F32), (entries, width)))
    }
}
