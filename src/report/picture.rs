//! Pictures of cells: small ones for the page, and where the whole ones lie as seen from it.
//!
//! A thumbnail is a WebP file without loss or a JPEG file of quality 85, whichever is smaller: flat
//! drawings stay exact, photographs take a fifth. At 256 pixels, photographs of scikit-image take
//! 10–23 kB as JPEG, 56–100 kB as WebP and 44–116 kB as PNG; a chessboard 7.5, 0.6 and 0.7 kB.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use minijinja::Value;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{RunView, text};
use crate::picture::{self, Filter};
use crate::run::{Cell, RunKind};

/// Longest side of a thumbnail, in pixels.
const SIDE: u32 = 256;
/// Pictures up to this side are shown larger than they are, so they are kept without loss.
const TINY: u32 = 128;
const QUALITY: u8 = 85;
/// Longest path in words, in characters.
const NAMED: usize = 30;

/// The picture of a cell.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// What the page shows; nothing where there is a problem.
    thumbnail: Option<Thumbnail>,
    /// Why there is none, in words.
    problem: String,
    /// The URL of the whole picture as seen from the report; empty where no path leads there.
    link: String,
    /// SHA-256 of size and pixels.
    #[serde(skip)]
    pixels: Option<[u8; 32]>,
}

/// A small picture as a data URI.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Thumbnail {
    uri: Value,
    width: u32,
    height: u32,
    tiny: bool,
}

/// Why a picture cannot be shown.
#[derive(Debug, thiserror::Error)]
enum PictureProblem {
    #[error("its output `{0}` is not below the run")]
    Outside(String),
    #[error("its picture `{0}` is missing; run the same `grid` command again to make it")]
    Missing(String),
    #[error("its picture cannot be read: {0}")]
    Unreadable(String),
    #[error("its picture cannot be encoded: {0}")]
    Encoding(#[from] image::ImageError),
    #[error("its picture cannot be made smaller: {0}")]
    Resize(#[from] picture::ResizeError),
}

impl Picture {
    /// Whether it has the size and every pixel of `other`.
    pub fn same(&self, other: &Self) -> bool {
        self.pixels.is_some() && self.pixels == other.pixels
    }
}

/// The pictures of a run's cells by the cells' ids; none for texts. The report that shows them is to
/// lie in `folder`.
pub fn pictures(run: &RunView, folder: &Path) -> BTreeMap<String, Picture> {
    if run.record.kind == RunKind::Text {
        return BTreeMap::new();
    }
    let way = way(folder, &run.path);
    let one = |cell: &Cell| (cell.cell.clone(), picture(run, cell, way.as_deref()));
    run.cells.par_iter().map(one).collect()
}

fn picture(run: &RunView, cell: &Cell, way: Option<&str>) -> Picture {
    let found = place(run, cell).and_then(|path| read(&path));
    let pixels = found.as_ref().ok().map(digest);
    match found.and_then(|picture| thumbnail(&picture)) {
        Ok(thumbnail) => Picture {
            thumbnail: Some(thumbnail),
            problem: String::new(),
            link: way.map(|way| format!("{way}{}", url(&cell.output))).unwrap_or_default(),
            pixels,
        },
        Err(problem) => {
            let problem = problem.to_string();
            Picture { thumbnail: None, problem, link: String::new(), pixels: None }
        }
    }
}

fn place(run: &RunView, cell: &Cell) -> Result<PathBuf, PictureProblem> {
    let shown = || text::cut(&cell.output, NAMED);
    let path = cell.output_below(&run.path).ok_or_else(|| PictureProblem::Outside(shown()))?;
    if path.is_file() { Ok(path) } else { Err(PictureProblem::Missing(shown())) }
}

/// The pixels of a file. Its errors name the whole path, which a page should not show.
fn read(path: &Path) -> Result<RgbImage, PictureProblem> {
    let whole = path.display().to_string();
    let read = picture::read(path).map_err(|e| {
        let words = e.to_string().replace(&format!("{whole}: "), "");
        PictureProblem::Unreadable(words.lines().next().unwrap_or_default().to_owned())
    })?;
    RgbImage::from_raw(read.width, read.height, read.rgb)
        .ok_or_else(|| PictureProblem::Unreadable("it has too few pixels".to_owned()))
}

fn digest(picture: &RgbImage) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(picture.width().to_le_bytes());
    hash.update(picture.height().to_le_bytes());
    hash.update(picture.as_raw());
    hash.finalize().into()
}

/// A picture of at most [`SIDE`] pixels a side; one that is smaller stays as it is.
fn thumbnail(picture: &RgbImage) -> Result<Thumbnail, PictureProblem> {
    let small = shrink(picture)?;
    let (width, height) = small.dimensions();
    let tiny = width.max(height) <= TINY;
    let mut exact = Vec::new();
    WebPEncoder::new_lossless(&mut exact).write_image(
        &small,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    let mut lossy = Vec::new();
    if !tiny {
        JpegEncoder::new_with_quality(&mut lossy, QUALITY).write_image(
            &small,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?;
    }
    let (kind, bytes) =
        if tiny || exact.len() <= lossy.len() { ("webp", exact) } else { ("jpeg", lossy) };
    // base64 has no character that HTML gives a meaning to
    let uri = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes));
    Ok(Thumbnail { uri: Value::from_safe_string(uri), width, height, tiny })
}

fn shrink(picture: &RgbImage) -> Result<RgbImage, PictureProblem> {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= SIDE {
        return Ok(picture.clone());
    }
    let scaled = |side: u32| {
        let rounded =
            (u64::from(side) * u64::from(SIDE) + u64::from(longest) / 2) / u64::from(longest);
        u32::try_from(rounded).unwrap_or(SIDE).max(1)
    };
    let (to_width, to_height) = (scaled(width), scaled(height));
    let sides = |width: u32, height: u32| (width as usize, height as usize);
    let (from, to) = (sides(width, height), sides(to_width, to_height));
    let small = picture::resize_rgb(picture.as_raw(), from, to, Filter::Lanczos)?;
    Ok(RgbImage::from_raw(to_width, to_height, small).unwrap_or_default())
}

/// The URL that leads from a page in `folder` to what lies in `run`: empty or with a slash at its
/// end. `None` where one of them is not there, or no relative URL leads from one to the other.
fn way(folder: &Path, run: &Path) -> Option<String> {
    let (from, to) = (fs::canonicalize(folder).ok()?, fs::canonicalize(run).ok()?);
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return None;
    }
    let mut way = "../".repeat(from.components().count() - common);
    for part in to.components().skip(common) {
        way.push_str(&encoded(part.as_os_str().to_str()?));
        way.push('/');
    }
    Some(way)
}

/// A relative path as a relative URL.
fn url(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// One part of a path for a URL. Everything but RFC 3986's unreserved characters is encoded, so that
/// no name is taken for a scheme, a query or a fragment.
fn encoded(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb};

    use super::*;

    fn decoded(thumbnail: &Thumbnail) -> (ImageFormat, RgbImage) {
        let uri = thumbnail.uri.to_string();
        let bytes = STANDARD.decode(uri.split_once(',').unwrap().1).unwrap();
        let format = image::guess_format(&bytes).unwrap();
        assert!(uri.starts_with(&format!("data:{};base64,", format.to_mime_type())));
        (format, image::load_from_memory(&bytes).unwrap().into_rgb8())
    }

    /// A smooth surface with grain, as a photograph has.
    fn photograph(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 13 & 15;
            Rgb([x * 200 / width + grain, y * 200 / height + grain, 90 + grain]
                .map(|v| u8::try_from(v).unwrap_or(u8::MAX)))
        })
    }

    #[test]
    fn flat_drawings_stay_exact_and_photographs_become_jpeg() {
        let flat = RgbImage::from_fn(256, 200, |x, _| Rgb([if x < 90 { 10 } else { 240 }; 3]));
        let (format, again) = decoded(&thumbnail(&flat).unwrap());
        assert_eq!((format, again), (ImageFormat::WebP, flat));
        let (format, again) = decoded(&thumbnail(&photograph(256, 200)).unwrap());
        assert_eq!((format, again.dimensions()), (ImageFormat::Jpeg, (256, 200)));
    }

    #[test]
    fn tiny_pictures_are_exact_whatever_they_show() {
        let tiny = photograph(64, 64);
        let small = thumbnail(&tiny).unwrap();
        assert!(small.tiny);
        assert_eq!(decoded(&small), (ImageFormat::WebP, tiny));
    }

    #[test]
    fn the_longest_side_is_256_and_the_shape_is_kept() {
        let sizes = [
            ((512, 384), (256, 192)),
            ((300, 1200), (64, 256)),
            ((3000, 1), (256, 1)),
            ((257, 257), (256, 256)),
            ((256, 40), (256, 40)),
        ];
        for ((width, height), expected) in sizes {
            let small = thumbnail(&photograph(width, height)).unwrap();
            assert_eq!((small.width, small.height), expected, "{width}×{height}");
            assert_eq!(decoded(&small).1.dimensions(), expected);
        }
    }

    #[test]
    fn one_colour_stays_that_colour_when_it_shrinks() {
        let small = shrink(&RgbImage::from_pixel(700, 500, Rgb([12, 200, 77]))).unwrap();
        assert!(small.pixels().all(|pixel| *pixel == Rgb([12, 200, 77])));
    }

    #[test]
    fn names_are_never_schemes_queries_or_fragments() {
        assert_eq!(url("outputs/0a.png"), "outputs/0a.png");
        assert_eq!(url("javascript:alert(1)"), "javascript%3Aalert%281%29");
        assert_eq!(url("a?b#c d/%41/ä\""), "a%3Fb%23c%20d/%2541/%C3%A4%22");
    }

    #[test]
    fn the_way_leads_from_the_report_to_the_run() {
        let root = tempfile::tempdir().unwrap();
        let (run, other) = (root.path().join("a run"), root.path().join("x/y"));
        fs::create_dir_all(&run).unwrap();
        fs::create_dir_all(&other).unwrap();
        assert_eq!(way(&run, &run).as_deref(), Some(""));
        assert_eq!(way(&other, &run).as_deref(), Some("../../a%20run/"));
        assert_eq!(way(root.path(), &run).as_deref(), Some("a%20run/"));
        assert_eq!(way(root.path(), &root.path().join("none")), None);
    }
}
