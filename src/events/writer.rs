use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::EventError;
use super::record::frame;
use super::wire::Message;

/// The version that `TensorBoard` expects first; from 2 on it understands restarts.
const VERSION: &[u8] = b"brain.Event:2";
/// `DT_STRING` of tensorflow's `types.proto`.
const STRING: u64 = 7;
/// `SessionLog.START`.
const START: u64 = 1;

/// An event file that grows by whole records.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    length: u64,
}

impl EventWriter {
    /// Starts a file in `folder`, which is made where it is missing:
    /// `events.out.tfevents.SECONDS.HOST.lora-eval`. A training that goes on from a checkpoint gives
    /// the step it had reached: what older files say of later steps is then out of date, which
    /// `TensorBoard` is told.
    pub fn create(folder: &Path, reached: Option<u64>) -> Result<Self, EventError> {
        fs::create_dir_all(folder).map_err(|e| EventError::write(folder, e))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (path, file) = create_new(folder, since.as_secs(), &host())?;
        let mut writer = Self { path, file, length: 0 };
        writer.add(Message::default().bytes(3, VERSION), 0)?;
        if let Some(step) = reached {
            // TensorBoard drops what is at the step of a start or after it.
            let start = Message::default().varint(1, START);
            writer.add(Message::default().message(7, &start), step.saturating_add(1))?;
        }
        Ok(writer)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers of a step, each under its tag, as one event.
    #[expect(clippy::cast_possible_truncation, reason = "TensorBoard keeps scalars as f32")]
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), EventError> {
        let summary = values.iter().fold(Message::default(), |summary, (tag, value)| {
            let value = Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary.message(1, &value)
        });
        self.add(Message::default().message(5, &summary), step)
    }

    /// A picture of `(width, height)` as an RGB file (PNG, JPEG).
    pub fn image(
        &mut self,
        step: u64,
        tag: &str,
        (width, height): (u32, u32),
        encoded: &[u8],
    ) -> Result<(), EventError> {
        let image = Message::default()
            .varint(1, u64::from(height))
            .varint(2, u64::from(width))
            .varint(3, 3)
            .bytes(4, encoded);
        self.value(step, &Message::default().bytes(1, tag.as_bytes()).message(4, &image))
    }

    /// A text, read as Markdown.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<(), EventError> {
        let plugin = Message::default().bytes(1, b"text");
        let one = Message::default().varint(1, 1);
        let shape = Message::default().message(2, &one);
        let tensor =
            Message::default().varint(1, STRING).message(2, &shape).bytes(8, text.as_bytes());
        let value = Message::default()
            .bytes(1, tag.as_bytes())
            .message(8, &tensor)
            .message(9, &Message::default().message(1, &plugin));
        self.value(step, &value)
    }

    fn value(&mut self, step: u64, value: &Message) -> Result<(), EventError> {
        let summary = Message::default().message(1, value);
        self.add(Message::default().message(5, &summary), step)
    }

    /// Adds time and step, and writes the record at once. What a failed write left is cut off again.
    fn add(&mut self, event: Message, step: u64) -> Result<(), EventError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = event.double(1, now.as_secs_f64()).varint(2, step);
        let record = frame(&event.finish());
        if let Err(error) = self.file.write_all(&record) {
            let _ = self.file.set_len(self.length);
            return Err(EventError::write(&self.path, error));
        }
        self.length += record.len() as u64;
        Ok(())
    }
}

/// A file of that second, or of the first later one whose name is free: names sort by age.
fn create_new(folder: &Path, second: u64, host: &str) -> Result<(PathBuf, File), EventError> {
    let mut second = second;
    loop {
        let path = folder.join(format!("events.out.tfevents.{second}.{host}.lora-eval"));
        // Appending: cutting off a torn record must not leave a hole before the next.
        match fs::OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => second += 1,
            Err(e) => return Err(EventError::write(&path, e)),
        }
    }
}

/// The machine's name, of letters, digits and hyphens.
fn host() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = told.or_else(|| std::env::var("COMPUTERNAME").ok());
    let told = told.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = told.trim().chars().take(64).map(plain).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::{EventReader, read_scalars};
    use super::*;

    #[test]
    fn files_of_one_second_have_names_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3).map(|_| create_new(dir.path(), 7, "host").unwrap().0).collect();
        assert!(names.is_sorted());
        assert_eq!(names[0], dir.path().join("events.out.tfevents.7.host.lora-eval"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn going_on_from_a_checkpoint_takes_the_place_of_what_came_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(dir.path(), None).unwrap();
        for step in 1..=5 {
            first.scalars(step, &[("loss", 1.0), ("lr", 0.5)]).unwrap();
        }
        let mut second = EventWriter::create(dir.path(), Some(3)).unwrap();
        second.scalars(4, &[("loss", 2.0)]).unwrap();
        let files = [first.path().to_owned(), second.path().to_owned()];
        let scalars = read_scalars(&files).unwrap();
        let loss: Vec<_> = scalars.series["loss"].iter().map(|p| (p.step, p.value)).collect();
        assert_eq!(loss, [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]);
        assert_eq!(scalars.series["lr"].len(), 3);
    }

    #[test]
    fn pictures_and_texts_are_no_scalars() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), None).unwrap();
        writer.image(1, "sample", (2, 1), b"png").unwrap();
        writer.text(1, "note", "some *text*").unwrap();
        writer.scalars(2, &[("loss", f64::NAN)]).unwrap();
        let events: Vec<_> =
            EventReader::open(writer.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(events.len(), 4);
        assert!(events[..3].iter().all(|event| event.scalars.is_empty()));
        assert!(events[3].scalars[0].1.is_nan());
        assert_eq!(events[3].step, 2);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = EventWriter::create(&file.join("logs"), None).unwrap_err().to_string();
        assert!(error.contains("logs: cannot be written") && error.contains("hint: "), "{error}");
    }
}
