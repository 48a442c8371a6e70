//! Event files against TensorBoard: what torch wrote is read, and what is written here is left where
//! `tests/parity/events.py check` reads it with TensorBoard.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lora_eval::events::{EventReader, EventWriter, is_event_file, read_scalars};
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

/// Event files of a folder, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| is_event_file(path)).collect();
    files.sort();
    files
}

#[derive(Deserialize)]
struct Expected {
    record: Vec<u8>,
    curves: BTreeMap<String, Vec<(i64, f64)>>,
}

#[test]
fn what_torch_writes_is_read_as_tensorboard_reads_it() {
    let text = std::fs::read_to_string(fixtures().join("events.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    let mut scalars = read_scalars(&files(&fixtures().join("events"))).unwrap();
    let bad = scalars.series.remove("bad").unwrap();
    assert!(bad.iter().all(|point| point.step == 10 && point.value.is_nan()));
    let curves: BTreeMap<String, Vec<(i64, f64)>> = scalars
        .series
        .into_iter()
        .map(|(tag, curve)| (tag, curve.iter().map(|point| (point.step, point.value)).collect()))
        .collect();
    assert_eq!(curves, expected.curves);
    assert!(scalars.torn.is_empty());
    assert_eq!(expected.record.len(), 17);
}

#[test]
fn what_is_written_is_read_back_and_left_for_tensorboard() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("events");
    let _ = std::fs::remove_dir_all(&folder);
    let mut writer = EventWriter::create(&folder, None).unwrap();
    for step in 1..=6 {
        let (loss, rate) = (1.0 / step as f64, 1e-4 * step as f64);
        writer.scalars(step, &[("loss/train", loss), ("lr/unet", rate)]).unwrap();
    }
    let mut png = Vec::new();
    let picture = image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    writer.image(2, "sample/0", (2, 1), &png).unwrap();
    writer.text(2, "sample/text", "a *text* of step 2").unwrap();
    let mut resumed = EventWriter::create(&folder, Some(4)).unwrap();
    resumed.scalars(5, &[("loss/train", 0.2), ("lr/unet", 0.0)]).unwrap();

    let scalars = read_scalars(&files(&folder)).unwrap();
    let steps = |tag: &str| scalars.series[tag].iter().map(|p| p.step).collect::<Vec<_>>();
    assert_eq!(steps("loss/train"), [1, 2, 3, 4, 5]);
    assert_eq!(steps("lr/unet"), [1, 2, 3, 4, 5]);
    assert_eq!(scalars.series["lr/unet"][4].value, 0.0);
}

#[test]
fn a_torn_end_costs_the_last_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), None).unwrap();
    for step in 1..=3 {
        writer.scalars(step, &[("loss", 0.5)]).unwrap();
    }
    let path = writer.path().to_owned();
    let bytes = std::fs::read(&path).unwrap();
    let mut lengths = Vec::new();
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let mut reader = EventReader::open(&path).unwrap();
        let events: Result<Vec<_>, _> = reader.by_ref().collect();
        // Less than a first record could be any file; nothing at all is a file just started.
        match events {
            Ok(events) => lengths.push(events.len()),
            Err(error) => {
                assert!(lengths.len() == 1 && reader.torn_at().is_none(), "{error}");
            }
        }
    }
    assert!(lengths.is_sorted());
    assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&4)));
}

#[test]
fn other_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.out.tfevents.1.x");
    std::fs::write(&path, "not events at all, but long enough").unwrap();
    let error = read_scalars(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(error.contains("tfevents.1.x: not an event file"), "{error}");
    let error = read_scalars(&[dir.path().join("absent")]).unwrap_err().to_string();
    assert!(error.contains("absent: ") && error.contains("hint: "), "{error}");
}
