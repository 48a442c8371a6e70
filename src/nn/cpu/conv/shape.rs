//! The sizes of a convolution.

use std::ops::Range;

/// Sizes of a two-dimensional convolution: x (rows, inputs, height, width), a weight (outputs,
/// inputs / groups, kernel) and y (rows, outputs, [`Shape::output`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub rows: usize,
    /// Channels of x.
    pub inputs: usize,
    /// Height of x in pixels.
    pub height: usize,
    /// Width of x in pixels.
    pub width: usize,
    /// Channels of y.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Step.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Distance of the kernel's positions.
    pub dilation: usize,
    /// Groups of channels.
    pub groups: usize,
}

/// Why a convolution cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ConvError {
    /// A size that must not be 0.
    #[error("a convolution with {what} `0`\nhint: {what} must be at least 1")]
    Zero {
        /// Which.
        what: &'static str,
    },
    /// Channels that do not divide into the groups.
    #[error(
        "`{inputs}` input and `{outputs}` output channels in `{groups}` groups\n\
         hint: the number of groups must divide both"
    )]
    Groups {
        /// Channels of x.
        inputs: usize,
        /// Channels of y.
        outputs: usize,
        /// Groups.
        groups: usize,
    },
    /// A kernel that does not fit into the padded image.
    #[error(
        "an image of `{height}`×`{width}` pixels is smaller than the kernel: {shape:?}\n\
         hint: use a larger image"
    )]
    TooSmall {
        /// Height of x.
        height: usize,
        /// Width of x.
        width: usize,
        /// All sizes.
        shape: Shape,
    },
    /// More values than can be counted.
    #[error("a convolution of too many values: {shape:?}\nhint: use a smaller image or batch")]
    TooLarge {
        /// All sizes.
        shape: Shape,
    },
    /// Values that are not as many as the shape says.
    #[error("{what} of a convolution: expected `{expected}` values, found `{found}`\nhint: {HINT}")]
    Length {
        /// Of what.
        what: &'static str,
        /// As the shape says.
        expected: usize,
        /// As there are.
        found: usize,
    },
}

const HINT: &str = "the input's channels and the weight's shape must fit together";

impl Shape {
    /// Height and width of y in pixels, and a check of all sizes.
    pub fn output(&self) -> Result<(usize, usize), ConvError> {
        let shape = *self;
        let sizes = [
            (self.kernel.0.min(self.kernel.1), "kernel size"),
            (self.stride, "stride"),
            (self.dilation, "dilation"),
            (self.groups, "groups"),
        ];
        if let Some((_, what)) = sizes.into_iter().find(|(size, _)| *size == 0) {
            return Err(ConvError::Zero { what });
        }
        let Self { inputs, outputs, groups, height, width, .. } = shape;
        if inputs % groups != 0 || outputs % groups != 0 {
            return Err(ConvError::Groups { inputs, outputs, groups });
        }
        let along = |size: usize, kernel: usize| {
            let padded = self.padding.checked_mul(2).and_then(|both| both.checked_add(size));
            let extent = self.dilation.checked_mul(kernel - 1).and_then(|all| all.checked_add(1));
            let (Some(padded), Some(extent)) = (padded, extent) else {
                return Err(ConvError::TooLarge { shape });
            };
            let room = padded.checked_sub(extent);
            room.map(|room| room / self.stride + 1).ok_or(ConvError::TooSmall {
                height,
                width,
                shape,
            })
        };
        let out = (along(height, self.kernel.0)?, along(width, self.kernel.1)?);
        let counted = |factors: [usize; 4]| {
            let product = factors.into_iter().try_fold(4_usize, usize::checked_mul);
            product.filter(|bytes| isize::try_from(*bytes).is_ok())
        };
        let all = [
            counted([self.rows, inputs, height, width]),
            counted([self.rows, outputs, out.0, out.1]),
            counted([outputs, inputs, self.kernel.0, self.kernel.1]),
            // also in a batch of no images
            counted([2, out.0.saturating_add(4), out.1.saturating_add(4), 1]),
        ];
        if all.contains(&None) { Err(ConvError::TooLarge { shape }) } else { Ok(out) }
    }

    /// Values of one output channel's kernel.
    pub fn depth(&self) -> usize {
        self.inputs / self.groups * self.kernel.0 * self.kernel.1
    }

    /// The input channels of a group.
    pub(super) fn inputs_of(&self, group: usize) -> Range<usize> {
        let count = self.inputs / self.groups;
        group * count..(group + 1) * count
    }

    /// The output channels of a group.
    pub(super) fn outputs_of(&self, group: usize) -> Range<usize> {
        let count = self.outputs / self.groups;
        group * count..(group + 1) * count
    }

    /// Checks the lengths of slices that hold x, the weight and y.
    pub(super) fn check(
        &self,
        x: Option<usize>,
        weight: Option<usize>,
        y: Option<usize>,
    ) -> Result<(usize, usize), ConvError> {
        let (height, width) = self.output()?;
        let expected = [
            ("the input", x, self.rows * self.inputs * self.height * self.width),
            ("the weight", weight, self.outputs * self.depth()),
            ("the gradient", y, self.rows * self.outputs * height * width),
        ];
        for (what, found, expected) in expected {
            if let Some(found) = found
                && found != expected
            {
                return Err(ConvError::Length { what, expected, found });
            }
        }
        Ok((height, width))
    }
}
