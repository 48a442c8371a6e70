//! LPIPS: how far apart two pictures look (Zhang et al., 2018), version 0.1.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::VisionError;
use super::weights::Weights;
use crate::nn::{Conv2d, ConvConfig, Strengths};
use crate::picture::Picture;

/// The distance of the `lpips` package (0.1.4): features of a classifier after some of its layers,
/// scaled to length 1 in each place, their squared differences weighted channel by channel, averaged
/// over places and added over layers.
///
/// A feature x is divided by |x| + 1e-10, as in `lpips`; torchmetrics divides by √(|x|² + 1e-8), which
/// gives less where features are close to 0.
#[derive(Debug)]
pub struct Lpips {
    net: Net,
    slices: Vec<Vec<Step>>,
    /// Weights of each slice's channels, (1, channels, 1, 1).
    heads: Vec<Tensor>,
    device: Device,
}

/// The classifier whose features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// `AlexNet`, the default of `lpips`.
    Alex,
    /// VGG-16.
    Vgg,
    /// `SqueezeNet` 1.1.
    Squeeze,
}

/// A layer of torchvision's `features`; an activation follows all but pools.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Conv {
        at: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Two convolutions side by side after one that narrows (Iandola et al., 2016).
    Fire {
        at: usize,
    },
    /// Of stride 2.
    Pool {
        kernel: usize,
        /// Whether a window may reach over the edge, so that no pixel is left out.
        ceil: bool,
    },
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few dozen steps")]
enum Step {
    Conv(Conv2d),
    /// The one that narrows, then those of 1×1 and 3×3.
    Fire(Box<[Conv2d; 3]>),
    Pool {
        kernel: usize,
        ceil: bool,
    },
}

const fn conv(at: usize) -> Layer {
    Layer::Conv { at, kernel: 3, stride: 1, padding: 1 }
}

const fn fire(at: usize) -> Layer {
    Layer::Fire { at }
}

const HALVED: Layer = Layer::Pool { kernel: 2, ceil: false };
const POOLED: Layer = Layer::Pool { kernel: 3, ceil: false };
const ALL_POOLED: Layer = Layer::Pool { kernel: 3, ceil: true };

const ALEX: &[&[Layer]] = &[
    &[Layer::Conv { at: 0, kernel: 11, stride: 4, padding: 2 }],
    &[POOLED, Layer::Conv { at: 3, kernel: 5, stride: 1, padding: 2 }],
    &[POOLED, conv(6)],
    &[conv(8)],
    &[conv(10)],
];
const VGG: &[&[Layer]] = &[
    &[conv(0), conv(2)],
    &[HALVED, conv(5), conv(7)],
    &[HALVED, conv(10), conv(12), conv(14)],
    &[HALVED, conv(17), conv(19), conv(21)],
    &[HALVED, conv(24), conv(26), conv(28)],
];
const SQUEEZE: &[&[Layer]] = &[
    &[Layer::Conv { at: 0, kernel: 3, stride: 2, padding: 0 }],
    &[ALL_POOLED, fire(3), fire(4)],
    &[ALL_POOLED, fire(6), fire(7)],
    &[ALL_POOLED, fire(9)],
    &[fire(10)],
    &[fire(11)],
    &[fire(12)],
];

impl Net {
    fn slices(self) -> &'static [&'static [Layer]] {
        match self {
            Self::Alex => ALEX,
            Self::Vgg => VGG,
            Self::Squeeze => SQUEEZE,
        }
    }

    /// The shortest side of a picture that leaves something after every layer.
    fn smallest(self) -> usize {
        const LONGEST: usize = 1 << 10;
        let layers = || self.slices().iter().copied().flatten();
        let fits =
            |side: &usize| layers().try_fold(*side, |side, layer| layer.side(side)).is_some();
        (1..LONGEST).find(fits).unwrap_or(LONGEST)
    }
}

impl Layer {
    /// The side of what comes out; `None` if nothing does.
    fn side(self, side: usize) -> Option<usize> {
        let (padded, kernel, stride) = match self {
            Self::Conv { kernel, stride, padding, .. } => (side + 2 * padding, kernel, stride),
            Self::Fire { .. } => (side, 1, 1),
            Self::Pool { kernel, ceil } => (side + beyond(side, ceil), kernel, 2),
        };
        Some(padded.checked_sub(kernel)? / stride + 1)
    }
}

/// By how much windows of 3 with stride 2 that cover a side reach over its edge.
fn beyond(side: usize, ceil: bool) -> usize {
    usize::from(ceil && side.is_multiple_of(2))
}

impl Lpips {
    /// Opens a `.safetensors` file, or all of them in a folder: the tensors of `lpips.LPIPS`, or
    /// torchvision's `features.…` with the `lin….model.1.weight` of `lpips`. Which net it is follows
    /// from the shapes.
    pub fn open(path: &Path, device: &Device) -> Result<Self, VisionError> {
        let weights = Weights::of_path(path, device)?;
        let net = net(&weights)?;
        let (mut slices, mut heads) = (Vec::new(), Vec::new());
        let mut channels = 3;
        for (number, layers) in net.slices().iter().enumerate() {
            let mut steps = Vec::new();
            for layer in *layers {
                let (step, outputs) = Step::load(&weights, (number, *layer), channels)?;
                steps.push(step);
                channels = outputs;
            }
            slices.push(steps);
            heads.push(weights.tensor(&head(&weights, number), &[1, channels, 1, 1])?);
        }
        Ok(Self { net, slices, heads, device: device.clone() })
    }

    /// The net.
    pub fn net(&self) -> Net {
        self.net
    }

    /// How far apart two pictures of one size look: 0 for the same picture, rarely above 1.
    pub fn distance(&self, a: &Picture, b: &Picture) -> Result<f64, VisionError> {
        if (a.width, a.height) != (b.width, b.height) {
            let expected =
                format!("`{}x{}` as the one that it is compared with", a.width, a.height);
            let hint = "compare pictures of one size; nothing is resized here";
            return Err(VisionError::picture(b, expected, hint));
        }
        let least = self.net.smallest();
        if (a.width.min(a.height) as usize) < least {
            let expected = format!("`{least}` or more on each side");
            let hint = "compare larger pictures, or use another net";
            return Err(VisionError::picture(a, expected, hint));
        }
        Ok(self.between(&Tensor::cat(&[self.input(a)?, self.input(b)?], 0)?)?)
    }

    /// (1, 3, height, width): −1 to 1, then `lpips`' scaling layer.
    fn input(&self, picture: &Picture) -> Result<Tensor, VisionError> {
        const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
        const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
        let (width, height) = (picture.width as usize, picture.height as usize);
        let mut values = Vec::with_capacity(3 * width * height);
        for channel in 0..3 {
            #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
            let value = |level: u8| {
                let centred = (f64::from(level) / 127.5 - 1.0) as f32;
                (centred - SHIFT[channel]) / SCALE[channel]
            };
            values.extend(picture.rgb.iter().skip(channel).step_by(3).map(|byte| value(*byte)));
        }
        Ok(Tensor::from_vec(values, (1, 3, height, width), &self.device)?)
    }

    /// The distance of the two rows of a batch.
    fn between(&self, x: &Tensor) -> candle_core::Result<f64> {
        let mut x = x.clone();
        let mut sum = 0.0;
        for (steps, head) in self.slices.iter().zip(&self.heads) {
            for step in steps {
                x = step.forward(&x)?;
            }
            let length = (x.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?;
            let unit = x.broadcast_div(&length)?;
            let apart = (unit.narrow(0, 0, 1)? - unit.narrow(0, 1, 1)?)?.sqr()?;
            let places = apart.broadcast_mul(head)?.sum(1)?.to_dtype(DType::F64)?;
            sum += places.mean_all()?.to_scalar::<f64>()?;
        }
        Ok(sum)
    }
}

impl Step {
    /// A layer of slice `number`, and the channels that come out.
    fn load(
        weights: &Weights,
        (number, layer): (usize, Layer),
        inputs: usize,
    ) -> Result<(Self, usize), VisionError> {
        match layer {
            Layer::Conv { at, kernel, stride, padding } => {
                let config = ConvConfig { stride, padding, ..ConvConfig::default() };
                let path = name(weights, number, at);
                let (layer, outputs) = weights.conv(&path, (inputs, kernel), config)?;
                Ok((Self::Conv(layer), outputs))
            }
            Layer::Fire { at } => {
                let path = name(weights, number, at);
                let conv = |part: &str, inputs, kernel| {
                    let config = ConvConfig { padding: kernel / 2, ..ConvConfig::default() };
                    weights.conv(&format!("{path}.{part}"), (inputs, kernel), config)
                };
                let (squeeze, narrow) = conv("squeeze", inputs, 1)?;
                let (expand1, left) = conv("expand1x1", narrow, 1)?;
                let (expand3, right) = conv("expand3x3", narrow, 3)?;
                Ok((Self::Fire(Box::new([squeeze, expand1, expand3])), left + right))
            }
            Layer::Pool { kernel, ceil } => Ok((Self::Pool { kernel, ceil }, inputs)),
        }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let none = Strengths::none(x.dim(0)?);
        match self {
            Self::Conv(conv) => conv.forward(x, &none)?.relu(),
            Self::Fire(layers) => {
                let [squeeze, expand1, expand3] = layers.as_ref();
                let x = squeeze.forward(x, &none)?.relu()?;
                Tensor::cat(&[expand1.forward(&x, &none)?, expand3.forward(&x, &none)?], 1)?.relu()
            }
            Self::Pool { kernel, ceil } => {
                // what is pooled is never below 0, so zeros beyond the edge change no maximum
                let (_, _, height, width) = x.dims4()?;
                let x = x.pad_with_zeros(D::Minus2, 0, beyond(height, *ceil))?.pad_with_zeros(
                    D::Minus1,
                    0,
                    beyond(width, *ceil),
                )?;
                x.max_pool2d_with_stride(*kernel, 2)
            }
        }
    }
}

fn net(weights: &Weights) -> Result<Net, VisionError> {
    let first = format!("{}.weight", name(weights, 0, 0));
    if !weights.has(&first) {
        return Err(VisionError::NotAModel {
            path: weights.path().to_owned(),
            problem: format!(
                "there is neither `net.slice1.0.weight` nor `{first}`, the first layer of LPIPS"
            ),
            hint: "make the file once: python -c \"import lpips; from safetensors.torch import save_model; save_model(lpips.LPIPS(net='alex'), 'lpips.safetensors')\"",
        });
    }
    Ok(if weights.shape(&first).last() == Some(&11) {
        Net::Alex
    } else if weights.has(&format!("{}.squeeze.weight", name(weights, 1, 3))) {
        Net::Squeeze
    } else {
        Net::Vgg
    })
}

/// A layer's name in `lpips`, or else in torchvision.
fn name(weights: &Weights, slice: usize, at: usize) -> String {
    if weights.has("net.slice1.0.weight") {
        format!("net.slice{}.{at}", slice + 1)
    } else {
        format!("features.{at}")
    }
}

/// The name of a slice's weights: `lpips` has each under two, of which `save_model` keeps one.
fn head(weights: &Weights, slice: usize) -> String {
    let usual = format!("lin{slice}.model.1.weight");
    let others = [format!("lins.{slice}.model.1.weight"), format!("lin{slice}.model.0.weight")];
    if weights.has(&usual) {
        return usual;
    }
    others.into_iter().find(|name| weights.has(name)).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_picture_is_torchs() {
        // torch 2.15 on lpips' nets: one pixel less and a pool has no output
        assert_eq!(Net::Alex.smallest(), 31);
        assert_eq!(Net::Vgg.smallest(), 16);
        assert_eq!(Net::Squeeze.smallest(), 17);
    }
}
