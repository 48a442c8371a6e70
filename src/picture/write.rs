use png::text_metadata::{ITXtChunk, TEXtChunk};
use png::{BitDepth, ColorType, Compression, Encoder};

use super::{MAX_TEXT, Picture, PictureError};

/// A PNG of the picture with `text`, (key, value) in order, in front of the pixels.
///
/// A value of Latin-1 characters becomes a `tEXt` chunk, any other an uncompressed `iTXt`, as Pillow's
/// `PngInfo.add_text` does; the WebUI's key is [`super::PARAMETERS`]. Nothing else is written (no
/// time, no profile), so the bytes depend on picture, text and the encoder's version alone.
pub fn encode_png(picture: &Picture, text: &[(&str, &str)]) -> Result<Vec<u8>, PictureError> {
    let Picture { width, height, ref rgb } = *picture;
    let expected = (u64::from(width) * u64::from(height)).saturating_mul(3);
    if expected == 0 || rgb.len() as u64 != expected {
        return Err(PictureError::Pixels { width, height, expected, found: rgb.len() });
    }
    let mut bytes = Vec::with_capacity(rgb.len() / 2);
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    let mut writer = encoder.write_header()?;
    for &(key, value) in text {
        check(key, value)?;
        if value.chars().all(|c| u32::from(c) < 256) {
            writer.write_text_chunk(&TEXtChunk::new(key, value))?;
        } else {
            writer.write_text_chunk(&ITXtChunk::new(key, value))?;
        }
    }
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn check(key: &str, value: &str) -> Result<(), PictureError> {
    let printable = key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !(1..=79).contains(&key.len()) || !printable || key.trim() != key {
        return Err(PictureError::Key { key: key.to_owned() });
    }
    if value.len() > MAX_TEXT {
        return Err(PictureError::LongText { key: key.to_owned(), found: value.len() });
    }
    Ok(())
}
