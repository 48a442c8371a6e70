use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{MAX_BYTES, MAX_SIDE, Picture, PictureError};

/// Reads a PNG, JPEG or WebP file; its first bytes tell which it is.
///
/// As the WebUI does, turns the picture as its EXIF orientation says and puts what is transparent on
/// white. Channels of 16 bits are rounded to 8, grey becomes RGB. Of an animation, the first frame.
pub fn read(path: &Path) -> Result<Picture, PictureError> {
    let (reader, _) = open(path)?;
    let image = decode(reader).map_err(|error| PictureError::image(path, error))?;
    let (width, height) = (image.width(), image.height());
    let rgb = if image.color().has_alpha() {
        on_white(&image.into_rgba8().into_raw())
    } else {
        image.into_rgb8().into_raw()
    };
    Ok(Picture { width, height, rgb })
}

/// Width and height of the picture that [`read`] gives, from the file's header alone.
pub fn size(path: &Path) -> Result<(u32, u32), PictureError> {
    let (reader, _) = open(path)?;
    let header = |reader: ImageReader<BufReader<File>>| {
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok((decoder.dimensions(), orientation))
    };
    let ((width, height), orientation) =
        header(reader).map_err(|error| PictureError::image(path, error))?;
    Ok(match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    })
}

/// A limited reader of a file that looks like a picture.
pub(super) fn open(
    path: &Path,
) -> Result<(ImageReader<BufReader<File>>, ImageFormat), PictureError> {
    let io = |source| PictureError::io(path, source);
    let metadata = std::fs::metadata(path).map_err(io)?;
    // to open a pipe would wait for its other end
    if !metadata.is_file() {
        return Err(PictureError::Format { path: path.to_owned() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(PictureError::TooLarge { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io)?;
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(io)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    match reader.format() {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => {
            Ok((reader, format))
        }
        _ => Err(PictureError::Format { path: path.to_owned() }),
    }
}

fn decode(reader: ImageReader<BufReader<File>>) -> image::ImageResult<DynamicImage> {
    let mut decoder = reader.into_decoder()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    limits.reserve(decoder.total_bytes())?;
    // an orientation that cannot be read is none
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// RGBA on white, rounded as Pillow's `paste` with a mask does.
fn on_white(rgba: &[u8]) -> Vec<u8> {
    let (pixels, _) = rgba.as_chunks::<4>();
    pixels
        .iter()
        .flat_map(|&[red, green, blue, alpha]| [red, green, blue].map(|value| over(value, alpha)))
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a weighted mean of two bytes is a byte")]
fn over(value: u8, alpha: u8) -> u8 {
    let alpha = u32::from(alpha);
    let sum = u32::from(value) * alpha + 255 * (255 - alpha) + 128;
    ((sum + (sum >> 8)) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_is_white_and_opaque_is_itself() {
        for value in 0..=255 {
            assert_eq!(over(value, 0), 255);
            assert_eq!(over(value, 255), value);
            assert_eq!(over(255, value), 255);
        }
        // Pillow 13.0.0: Image.new("RGBA", (1, 1), "#ffffff").paste(picture, mask=picture)
        assert_eq!(on_white(&[0, 100, 200, 128]), [127, 177, 227]);
        assert_eq!(on_white(&[10, 20, 30, 3]), [252, 252, 252]);
    }
}
