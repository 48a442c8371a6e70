use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use image::{ImageDecoder, ImageFormat, ImageReader};
use png::DecodingError;

use super::{MAX_TEXT, PARAMETERS, PictureError, exif, read};

/// Bytes that a PNG decoder may take for all text, profiles and the like of one file.
const MAX_PNG_METADATA: usize = 64 << 20;

/// The text under `key` in a picture's file, if it has one.
///
/// - PNG: the last `iTXt`, `zTXt` or `tEXt` chunk of that key, looked for in this order, also behind
///   the pixels. Text in front of them is found in a file that is cut off after it.
/// - JPEG, WebP: EXIF's `UserComment`, where the WebUI keeps what is `parameters` in a PNG; these
///   files have no text under any other key.
pub fn read_text(path: &Path, key: &str) -> Result<Option<String>, PictureError> {
    let (reader, format) = read::open(path)?;
    let text = if format == ImageFormat::Png {
        png_text(path, reader, key)?
    } else if key == PARAMETERS {
        user_comment(path, reader)?
    } else {
        None
    };
    match text {
        Some(text) if text.len() > MAX_TEXT => {
            Err(PictureError::TextTooLarge { path: path.to_owned() })
        }
        text => Ok(text),
    }
}

fn png_text(
    path: &Path,
    reader: ImageReader<BufReader<File>>,
    key: &str,
) -> Result<Option<String>, PictureError> {
    let failed = |error: DecodingError| match error {
        DecodingError::IoError(source) if source.kind() != ErrorKind::UnexpectedEof => {
            PictureError::io(path, source)
        }
        DecodingError::LimitsExceeded => PictureError::TextTooLarge { path: path.to_owned() },
        other => PictureError::Damaged { path: path.to_owned(), problem: other.to_string() },
    };
    let limits = png::Limits { bytes: MAX_PNG_METADATA };
    let mut reader =
        png::Decoder::new_with_limits(reader.into_inner(), limits).read_info().map_err(failed)?;
    let unpacked = |error: DecodingError| PictureError::Text {
        path: path.to_owned(),
        key: key.to_owned(),
        problem: error.to_string(),
    };
    if let Some(text) = find(reader.info(), key).map_err(unpacked)? {
        return Ok(Some(text));
    }
    reader.finish().map_err(failed)?;
    find(reader.info(), key).map_err(unpacked)
}

fn find(info: &png::Info<'_>, key: &str) -> Result<Option<String>, DecodingError> {
    if let Some(chunk) = info.utf8_text.iter().rfind(|chunk| chunk.keyword == key) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT)?;
        return chunk.get_text().map(Some);
    }
    if let Some(chunk) = info.compressed_latin1_text.iter().rfind(|chunk| chunk.keyword == key) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT)?;
        return chunk.get_text().map(Some);
    }
    let chunk = info.uncompressed_latin1_text.iter().rfind(|chunk| chunk.keyword == key);
    Ok(chunk.map(|chunk| chunk.text.clone()))
}

fn user_comment(
    path: &Path,
    reader: ImageReader<BufReader<File>>,
) -> Result<Option<String>, PictureError> {
    let exif = reader.into_decoder().and_then(|mut decoder| decoder.exif_metadata());
    let exif = exif.map_err(|error| PictureError::image(path, error))?;
    Ok(exif.and_then(|bytes| exif::user_comment(&bytes)))
}
