use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::error::EventError;
use super::record::{Next, Records};
use super::wire::{Fields, Malformed, Value};

/// `DT_FLOAT` and `DT_DOUBLE` of tensorflow's `types.proto`.
const FLOAT: u64 = 1;
const DOUBLE: u64 = 2;
/// `SessionLog.START`.
const START: u64 = 1;

/// What is read of an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// The step.
    pub step: i64,
    /// A program started anew here: what other events say of this step and later ones is out of date.
    pub restart: bool,
    /// Numbers under their tags.
    pub scalars: Vec<(String, f64)>,
}

/// The events of a file, in order.
#[derive(Debug)]
pub struct EventReader {
    path: PathBuf,
    records: Records<BufReader<File>>,
    torn: Option<u64>,
    done: bool,
}

impl EventReader {
    /// Opens a file. One that is being written is read as far as it goes.
    pub fn open(path: &Path) -> Result<Self, EventError> {
        let file = File::open(path).map_err(|e| EventError::read(path, e))?;
        let size = file.metadata().map_err(|e| EventError::read(path, e))?.len();
        let records = Records::new(BufReader::new(file), size);
        Ok(Self { path: path.to_owned(), records, torn: None, done: false })
    }

    /// Where a record is cut off or damaged, once the events have ended.
    pub fn torn_at(&self) -> Option<u64> {
        self.torn
    }

    fn read(&mut self) -> Result<Option<Event>, EventError> {
        match self.records.next().map_err(|e| EventError::read(&self.path, e))? {
            Next::End => Ok(None),
            Next::Torn(0) => Err(EventError::NotEvents { path: self.path.clone() }),
            Next::Torn(at) => {
                self.torn = Some(at);
                Ok(None)
            }
            Next::Record(at, data) => match event(&data) {
                Ok(event) => Ok(Some(event)),
                Err(Malformed) => Err(EventError::NoEvent { path: self.path.clone(), at }),
            },
        }
    }
}

impl Iterator for EventReader {
    type Item = Result<Event, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let event = self.read().transpose();
        self.done = !matches!(event, Some(Ok(_)));
        event
    }
}

/// One number of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The step.
    pub step: i64,
    /// The number; NaN where the file says so.
    pub value: f64,
}

/// The scalars of several files.
#[derive(Debug, Default)]
pub struct Scalars {
    /// Curves by tag, in the order of the files.
    pub series: BTreeMap<String, Vec<Point>>,
    /// Files that end in a record that is cut off.
    pub torn: Vec<PathBuf>,
}

/// Reads files of one training, oldest first.
pub fn read_scalars(files: &[PathBuf]) -> Result<Scalars, EventError> {
    let mut all = Scalars::default();
    for path in files {
        let mut reader = EventReader::open(path)?;
        for event in reader.by_ref() {
            let event = event?;
            if event.restart {
                all.series.values_mut().for_each(|curve| curve.retain(|p| p.step < event.step));
            }
            for (tag, value) in event.scalars {
                all.series.entry(tag).or_default().push(Point { step: event.step, value });
            }
        }
        if reader.torn_at().is_some() {
            all.torn.push(path.clone());
        }
    }
    all.series.retain(|_, curve| !curve.is_empty());
    Ok(all)
}

/// Whether `TensorBoard` would read a file of that name.
pub fn is_event_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("tfevents"))
}

/// `Event`: `wall_time` = 1, step = 2, summary = 5, `session_log` = 7.
fn event(bytes: &[u8]) -> Result<Event, Malformed> {
    let mut event = Event::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Fixed64(time)) => event.wall_time = f64::from_le_bytes(time),
            (2, Value::Varint(step)) => event.step = step.cast_signed(),
            (5, Value::Bytes(summary)) => {
                for value in Fields(summary) {
                    if let (1, Value::Bytes(value)) = value? {
                        event.scalars.extend(scalar(value)?);
                    }
                }
            }
            (7, Value::Bytes(log)) => {
                for field in Fields(log) {
                    event.restart |= field? == (1, Value::Varint(START));
                }
            }
            _ => {}
        }
    }
    Ok(event)
}

/// `Summary.Value`: tag = 1, `simple_value` = 2, tensor = 8, metadata = 9. A tensor is a scalar where
/// it has one number and its metadata name no other plugin than that of scalars.
fn scalar(bytes: &[u8]) -> Result<Option<(String, f64)>, Malformed> {
    let (mut tag, mut number, mut other_plugin) = (String::new(), None, false);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(name)) => tag = String::from_utf8_lossy(name).into_owned(),
            (2, Value::Fixed32(value)) => number = Some(f64::from(f32::from_le_bytes(value))),
            (8, Value::Bytes(value)) => number = tensor(value)?,
            (9, Value::Bytes(metadata)) => other_plugin = !may_be_scalar(metadata)?,
            _ => {}
        }
    }
    Ok(number.filter(|_| !other_plugin).map(|number| (tag, number)))
}

/// `SummaryMetadata`: `plugin_data` = 1, of which `plugin_name` = 1.
fn may_be_scalar(metadata: &[u8]) -> Result<bool, Malformed> {
    for field in Fields(metadata) {
        let (1, Value::Bytes(plugin)) = field? else { continue };
        for field in Fields(plugin) {
            if let (1, Value::Bytes(name)) = field? {
                return Ok(name.is_empty() || name == b"scalars");
            }
        }
    }
    Ok(true)
}

/// The number of a `TensorProto` of one f32 or f64: dtype = 1, `tensor_content` = 4, `float_val` = 5,
/// `double_val` = 6 (packed or not).
fn tensor(bytes: &[u8]) -> Result<Option<f64>, Malformed> {
    let mut dtype = 0;
    let mut number: Option<Vec<u8>> = None;
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(code)) => dtype = code,
            (5, Value::Fixed32(value)) => number = Some(value.to_vec()),
            (6, Value::Fixed64(value)) => number = Some(value.to_vec()),
            (4..=6, Value::Bytes(content)) => number = Some(content.to_vec()),
            _ => {}
        }
    }
    let bytes = number.unwrap_or_default();
    let f32 = || bytes.as_slice().try_into().ok().map(f32::from_le_bytes).map(f64::from);
    let f64 = || bytes.as_slice().try_into().ok().map(f64::from_le_bytes);
    Ok(match dtype {
        FLOAT => f32(),
        DOUBLE => f64(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::Message;
    use super::*;
    use proptest::prelude::*;

    fn value(tensor: &Message, plugin: Option<&[u8]>) -> Vec<u8> {
        let value = Message::default().bytes(1, b"t").message(8, tensor);
        let value = match plugin {
            Some(name) => {
                let data = Message::default().bytes(1, name);
                value.message(9, &Message::default().message(1, &data))
            }
            None => value,
        };
        value.finish()
    }

    #[test]
    fn a_tensor_of_one_number_is_a_scalar_unless_another_plugin_s() {
        let one = || Message::default().varint(1, FLOAT).float(5, 0.5);
        let packed = Message::default().varint(1, DOUBLE).bytes(6, &0.25f64.to_le_bytes());
        let content = Message::default().varint(1, DOUBLE).bytes(4, &2f64.to_le_bytes());
        let two = Message::default().varint(1, FLOAT).bytes(4, &[0; 8]);
        let number = |bytes: &[u8]| scalar(bytes).unwrap().map(|(_, number)| number);
        assert_eq!(number(&value(&one(), None)), Some(0.5));
        assert_eq!(number(&value(&one(), Some(b"scalars"))), Some(0.5));
        assert_eq!(number(&value(&one(), Some(b"histograms"))), None);
        assert_eq!(number(&value(&packed, None)), Some(0.25));
        assert_eq!(number(&value(&content, None)), Some(2.0));
        assert_eq!(number(&value(&two, None)), None);
    }

    proptest! {
        #[test]
        fn any_record_is_an_event_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = event(&bytes);
            let inside = Message::default().bytes(5, &bytes).finish();
            let _ = event(&inside);
        }
    }
}
