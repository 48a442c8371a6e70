//! Metadata of adapter files: sd-scripts' `ss_*`, Stability's `modelspec.*`, the `sshs_*` hashes.
//!
//! Values are text: `True`/`False`, numbers as digits, JSON for structures. What a training wrote is
//! kept when an adapter is written again; what describes the tensors is brought up to date.

use std::collections::BTreeMap;
use std::path::Path;

use super::fingerprint::{Family, family};
use super::hashes::Hashes;
use super::{Adapter, AdapterError};
use crate::tensors::{Limits, Tensor, TensorError, TensorFile, serialize};

/// Keys that describe tensors that are being replaced.
const STALE: [&str; 5] = [
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.hash_sha256",
    "lora_adapter_metadata",
    "format",
];

/// The adapter's metadata without what would no longer be true of other tensors.
pub fn kept(adapter: &Adapter) -> BTreeMap<String, String> {
    let mut metadata = adapter.metadata.clone();
    metadata.retain(|key, _| !STALE.contains(&key.as_str()));
    metadata
}

/// Brings sd-scripts' minimum set up to date: network module, rank and alpha, base version.
///
/// `ranks_alphas` are those of the low-rank modules; when they differ, sd-scripts says `Dynamic`.
pub fn describe_network(
    metadata: &mut BTreeMap<String, String>,
    adapter: &Adapter,
    ranks_alphas: &[(usize, f32)],
) {
    let one = |values: Vec<String>| match values.split_first() {
        Some((first, rest)) if rest.iter().all(|value| value == first) => first.clone(),
        _ => "Dynamic".to_owned(),
    };
    if !ranks_alphas.is_empty() {
        let ranks = ranks_alphas.iter().map(|(rank, _)| rank.to_string()).collect();
        let alphas = ranks_alphas.iter().map(|(_, alpha)| alpha.to_string()).collect();
        metadata.insert("ss_network_dim".to_owned(), one(ranks));
        metadata.insert("ss_network_alpha".to_owned(), one(alphas));
    }
    let plain = adapter.kinds().keys().all(|k| matches!(k, super::Kind::LoRA | super::Kind::LoCon));
    let module = if plain { "networks.lora" } else { "lycoris.kohya" };
    metadata.entry("ss_network_module".to_owned()).or_insert_with(|| module.to_owned());
    // The WebUI takes any file with metadata and without these for one of SD1.
    let (version, v2) = match family(adapter) {
        Some(Family::Sd1) => ("sd_v1", "False"),
        Some(Family::Sd2) => ("sd_v2", "True"),
        Some(Family::Sdxl) => ("sdxl_base_v1-0", "False"),
        None => return,
    };
    for (key, value) in [("ss_base_model_version", version), ("ss_v2", v2)] {
        metadata.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
}

/// Serialises a kohya file with the hashes of its own tensors in its metadata.
pub fn with_hashes(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    mut metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, AdapterError> {
    let encode = |metadata: &BTreeMap<String, String>| {
        serialize(tensors, metadata)
            .map_err(|e| AdapterError::Tensors(TensorError::io(path, e.into())))
    };
    let file = TensorFile::from_bytes(path, encode(&metadata)?, Limits::BASE)?;
    let hashes = Hashes::of(&file);
    metadata.insert("sshs_model_hash".to_owned(), hashes.sshs_model_hash);
    metadata.insert("sshs_legacy_hash".to_owned(), hashes.sshs_legacy_hash);
    encode(&metadata)
}
