//! Hashes of adapter files as kohya, the WebUI and Civitai compute them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Adapter, AdapterError};
use crate::base::digest::{sha256, sha256_file};
use crate::tensors::{Layout, TensorError, TensorFile};

/// All hashes by which an adapter file is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hashes {
    /// SHA-256 of the whole file.
    pub sha256: String,
    /// Its first 10 digits: Civitai's `AutoV2`, the WebUI's hash of checkpoints.
    pub autov2: String,
    /// First 12 digits of `sshs_model_hash`: Civitai's `AutoV3`, the WebUI's `Lora hashes`.
    pub autov3: String,
    /// SHA-256 of everything after the header. sd-scripts stores it under this name; it survives
    /// edits of the metadata.
    pub sshs_model_hash: String,
    /// First 8 digits of SHA-256 of the 64 KiB at 1 MiB, of the file with its `ss_*` metadata only.
    pub sshs_legacy_hash: String,
}

impl Hashes {
    /// Computes all of them.
    pub fn of(file: &TensorFile) -> Self {
        let sha = sha256(file.bytes());
        let model = sha256(file.data());
        Self {
            autov2: sha[..10].to_owned(),
            autov3: model[..12].to_owned(),
            sha256: sha,
            sshs_model_hash: model,
            sshs_legacy_hash: legacy(file),
        }
    }
}

impl Adapter {
    /// Hash of everything that its effect depends on, by which a run knows it: SHA-256 of its file; of
    /// several files and a PEFT configuration, of their hashes and its text.
    pub fn sha256(&self) -> Result<String, AdapterError> {
        let mut parts = Vec::new();
        for file in &self.files {
            parts.push(sha256_file(file).map_err(|e| TensorError::io(file, e))?);
        }
        if let Some(config) = &self.config {
            parts.push(Value::Object(config.fields.clone()).to_string());
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { sha256(parts.join("\n").as_bytes()) })
    }
}

/// sd-scripts hashes a serialisation that has only the `ss_*` metadata; its header is as long as
/// ours, whatever the order of the keys, and starts no later than the window unless it is huge.
fn legacy(file: &TensorFile) -> String {
    const WINDOW: std::ops::Range<usize> = 0x10_0000..0x11_0000;
    let metadata: BTreeMap<String, String> = file
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("ss_"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let header = Layout::new(file.entries(), &metadata).map_or(Vec::new(), |l| l.header().to_vec());
    let data = file.data();
    let mut window = Vec::with_capacity(WINDOW.len());
    window.extend(header.iter().skip(WINDOW.start).take(WINDOW.len()));
    let start = (WINDOW.start + window.len()).saturating_sub(header.len()).min(data.len());
    let end = (start + WINDOW.len() - window.len()).min(data.len());
    window.extend_from_slice(&data[start..end]);
    sha256(&window)[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tensors::{Float, Limits, Tensor, serialize};

    fn file(elements: usize, metadata: &[(&str, &str)]) -> Hashes {
        let values: Vec<f32> = (0..elements).map(|i| i as f32).collect();
        let tensor = Tensor::from_f32(vec![elements], &values, Float::F32);
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let bytes = serialize(&BTreeMap::from([("x".to_owned(), tensor)]), &metadata).unwrap();
        let path = Path::new("x.safetensors");
        Hashes::of(&TensorFile::from_bytes(path, bytes, Limits::ADAPTER).unwrap())
    }

    #[test]
    fn metadata_changes_the_file_but_not_the_model() {
        let a = file(4, &[("ss_output_name", "a")]);
        let b = file(4, &[("ss_output_name", "other")]);
        assert_ne!(a.sha256, b.sha256);
        assert_eq!(a.sshs_model_hash, b.sshs_model_hash);
        assert_eq!(a.autov3, a.sshs_model_hash[..12]);
    }

    #[test]
    fn small_files_share_the_legacy_hash_of_nothing() {
        assert_eq!(file(4, &[]).sshs_legacy_hash, "e3b0c442");
        assert_ne!(file(300_000, &[]).sshs_legacy_hash, "e3b0c442");
    }

    #[test]
    fn only_training_metadata_shifts_the_legacy_window() {
        let plain = file(300_000, &[("ss_a", "1")]);
        assert_eq!(
            plain.sshs_legacy_hash,
            file(300_000, &[("ss_a", "1"), ("k", "v")]).sshs_legacy_hash
        );
        assert_ne!(
            plain.sshs_legacy_hash,
            file(300_000, &[("ss_a", "1234567890")]).sshs_legacy_hash
        );
    }
}
