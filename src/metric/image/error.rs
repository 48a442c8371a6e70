/// What can be wrong with images or features to be compared.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageError {
    /// No pixels, or another number of bytes than the size asks for.
    #[error(
        "expected 3 bytes for each of {width}x{height} pixels, found {found} bytes\n\
         hint: give the width and height of an RGB image of at least one pixel, without padding"
    )]
    Bytes {
        /// The width.
        width: usize,
        /// The height.
        height: usize,
        /// Bytes given.
        found: usize,
    },
    /// Two sizes where pixels are compared one by one.
    #[error(
        "expected two images of one size, found `{}x{}` and `{}x{}`\n\
         hint: resize one of the two; only hashes and histograms compare images of two sizes",
        first.0, first.1, second.0, second.1
    )]
    Sizes {
        /// Width and height of the first.
        first: (usize, usize),
        /// Width and height of the second.
        second: (usize, usize),
    },
    /// An image that the metric's window does not fit into.
    #[error(
        "expected sides of at least {least} pixels for {metric}, found `{width}x{height}`\nhint: {hint}"
    )]
    Small {
        /// The metric.
        metric: &'static str,
        /// The shortest side that it can do with.
        least: usize,
        /// The width.
        width: usize,
        /// The height.
        height: usize,
        /// What to do.
        hint: &'static str,
    },
    /// Sides that a hash cannot shrink.
    #[error(transparent)]
    Resize(#[from] crate::picture::ResizeError),
    /// Features that are no whole rows.
    #[error(
        "expected whole rows of {width} features, found {found} numbers\n\
         hint: give every image's features in one row of the same width"
    )]
    Ragged {
        /// Features an image.
        width: usize,
        /// Numbers given.
        found: usize,
    },
    /// A feature that is no number.
    #[error(
        "expected finite features, found `{found}` in row {row}\n\
         hint: the model that made them overflowed; compute features in f32"
    )]
    NotFinite {
        /// The row, from 0.
        row: usize,
        /// The value.
        found: String,
    },
    /// Features of two models.
    #[error(
        "expected features of one width, found {first} and {second}\n\
         hint: compute both sets with the same model"
    )]
    Widths {
        /// Width of the first set.
        first: usize,
        /// Width of the second set.
        second: usize,
    },
    /// Too few images to estimate from.
    #[error(
        "expected at least 2 images in each set, found {first} and {second}\n\
         hint: an unbiased estimate compares images of one set with each other; give more"
    )]
    FewImages {
        /// Images in the first set.
        first: usize,
        /// Images in the second set.
        second: usize,
    },
    /// An option that cannot be.
    #[error(
        "expected {name} of at least {least}, found `{found}`\nhint: the usual value is {usual}"
    )]
    Option {
        /// The option.
        name: &'static str,
        /// Its least value.
        least: usize,
        /// Its usual value.
        usual: usize,
        /// The value given.
        found: usize,
    },
}
