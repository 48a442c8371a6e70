//! One file of a base written with its changes, as a stream and in parallel.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Request;
use super::error::MergeError;
use super::plan::{Change, Plan};
use super::rows::{Conversion, Effect, Put};
use crate::adapter::ModuleId;
use crate::base::atomic::{copy_range, write_at};
use crate::model::BaseFile;
use crate::tensors::{Dtype, Float, Layout, Tensor, TensorError};

/// What the change of one module's weight or bias did.
#[derive(Debug, Clone)]
pub(super) struct TensorEffect {
    pub id: ModuleId,
    pub effect: Effect,
}

/// The output of one file, planned.
pub(super) struct Job<'a> {
    source: &'a BaseFile,
    out: PathBuf,
    layout: Layout,
    pieces: Vec<Piece<'a>>,
}

/// A part of the output that one thread makes.
enum Piece<'a> {
    /// Neighbouring tensors that stay as they are, or a part of them.
    Copy { start: u64, offset: u64, length: u64 },
    /// A tensor that changes, or only its type does.
    Convert {
        name: String,
        key: String,
        dtypes: (Float, Float),
        changes: &'a [Change<'a>],
        offset: u64,
    },
}

/// Largest piece that is copied at once, so that copying and computing interleave.
const COPY: u64 = 32 << 20;

impl<'a> Job<'a> {
    pub(super) fn new(
        request: &Request<'a>,
        plan: &'a Plan<'a>,
        index: usize,
        out: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, MergeError> {
        let source = &request.base.files[index];
        let retype = |dtype: Dtype| match (request.dtype, Float::of(dtype)) {
            (Some(float), Some(_)) => float.dtype(),
            _ => dtype,
        };
        let untied = plan.untied.as_ref().filter(|untied| untied.file == index);
        let mut entries: Vec<(&str, &str, Dtype, &[usize])> =
            source.file.entries().map(|(name, dtype, shape)| (name, name, dtype, shape)).collect();
        if let Some(untied) = untied {
            let embedding = entries.iter().find(|(name, ..)| *name == untied.embedding).copied();
            entries
                .extend(embedding.map(|(_, key, dtype, shape)| (untied.name, key, dtype, shape)));
        }
        let layout = Layout::new(
            entries.iter().map(|(name, _, dtype, shape)| (*name, retype(*dtype), *shape)),
            metadata,
        )
        .map_err(|e| TensorError::io(out, e.into()))?;
        let mut job = Self { source, out: out.to_owned(), layout, pieces: Vec::new() };
        for (i, (name, key, dtype, _)) in entries.iter().enumerate() {
            let changes: &[Change<'_>] = match untied.filter(|untied| untied.name == *name) {
                Some(untied) => &untied.changes,
                None => plan.tensors.get(&(index, (*name).to_owned())).map_or(&[], Vec::as_slice),
            };
            job.add(i, (name, key), (*dtype, retype(*dtype)), changes)?;
        }
        Ok(job)
    }

    /// Plans the `i`-th tensor.
    fn add(
        &mut self,
        i: usize,
        (name, key): (&str, &str),
        (from, to): (Dtype, Dtype),
        changes: &'a [Change<'a>],
    ) -> Result<(), MergeError> {
        let range = self.layout.range(i);
        let Some(source) = self.source.file.range(key) else {
            return Ok(());
        };
        if changes.is_empty() && from == to {
            let start = source.start as u64;
            if let Some(Piece::Copy { start: s, offset, length }) = self.pieces.last_mut()
                && *s + *length == start
                && *offset + *length == range.start
                && *length < COPY
            {
                *length += source.len() as u64;
            } else {
                let length = source.len() as u64;
                self.pieces.push(Piece::Copy { start, offset: range.start, length });
            }
            return Ok(());
        }
        let float = |dtype: Dtype| {
            let name = key.to_owned();
            Float::of(dtype).ok_or(TensorError::NotFloat { name, dtype })
        };
        let dtypes = (float(from)?, float(to)?);
        let (name, key) = (name.to_owned(), key.to_owned());
        self.pieces.push(Piece::Convert { name, key, dtypes, changes, offset: range.start });
        Ok(())
    }

    /// Bytes of the output's tensors.
    pub(super) fn data_size(&self) -> u64 {
        self.layout.file_size() - self.layout.header().len() as u64
    }

    /// Writes it all into `file`.
    pub(super) fn run(
        &self,
        file: &File,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<TensorEffect>, MergeError> {
        let io = |e| MergeError::from(TensorError::io(&self.out, e));
        file.set_len(self.layout.file_size()).map_err(io)?;
        write_at(file, self.layout.header(), 0).map_err(io)?;
        let effects: Vec<Vec<TensorEffect>> = self
            .pieces
            .par_iter()
            .with_max_len(1)
            .map(|piece| self.write(piece, file, progress))
            .collect::<Result<_, MergeError>>()?;
        Ok(effects.into_iter().flatten().collect())
    }

    fn write(
        &self,
        piece: &Piece<'_>,
        file: &File,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<TensorEffect>, MergeError> {
        let io = |e| MergeError::from(TensorError::io(&self.out, e));
        match piece {
            Piece::Copy { start, offset, length } => {
                self.copy(file, *start, *offset, *length).map_err(io)?;
                progress(*length);
                Ok(Vec::new())
            }
            Piece::Convert { name, key, dtypes, changes, offset } => {
                let Some(tensor) = self.source.file.get(key) else { return Ok(Vec::new()) };
                convert(name, &tensor, *dtypes, changes, &mut |bytes, at| {
                    write_at(file, bytes, offset + at).map_err(io)?;
                    progress(bytes.len() as u64);
                    Ok(())
                })
            }
        }
    }

    /// Copies inside the system where it can, through the mapping where not.
    fn copy(&self, to: &File, start: u64, offset: u64, length: u64) -> std::io::Result<()> {
        let source = &self.source.file;
        let done = match source.file() {
            Some(from) => copy_range(from, start, to, offset, length)?,
            None => 0,
        };
        let bytes = source.bytes().get(usize::try_from(start + done).unwrap_or(usize::MAX)..);
        let rest = usize::try_from(length - done).unwrap_or(usize::MAX);
        match bytes.and_then(|bytes| bytes.get(..rest)) {
            Some(bytes) => write_at(to, bytes, offset + done),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Takes one tensor through its changes.
fn convert(
    name: &str,
    tensor: &Tensor,
    (from, to): (Float, Float),
    changes: &[Change<'_>],
    put: Put<'_>,
) -> Result<Vec<TensorEffect>, MergeError> {
    let columns = tensor.shape().iter().skip(1).product();
    let conversion = Conversion { name, source: tensor.bytes(), from, to, columns };
    let effects = conversion.run(changes, put)?;
    let named = changes.iter().zip(effects);
    Ok(named.map(|(c, effect)| TensorEffect { id: c.id.clone(), effect }).collect())
}

/// The effects of all changes, computed as in a merge and thrown away.
pub(super) fn measure(
    request: &Request<'_>,
    plan: &Plan<'_>,
) -> Result<Vec<TensorEffect>, MergeError> {
    let head = plan.untied.iter().map(|u| ((u.file, u.embedding.as_str()), u.changes.as_slice()));
    let rest = plan.tensors.iter().map(|((file, key), c)| ((*file, key.as_str()), c.as_slice()));
    let all: Vec<((usize, &str), &[Change<'_>])> = rest.chain(head).collect();
    let effects: Vec<Vec<TensorEffect>> = all
        .par_iter()
        .with_max_len(1)
        .map(|((file, key), changes)| {
            let Some(tensor) = request.base.files[*file].file.get(key) else {
                return Ok(Vec::new());
            };
            let from = tensor.float(key)?;
            convert(
                key,
                &tensor,
                (from, request.dtype.unwrap_or(from)),
                changes,
                &mut |_, _| Ok(()),
            )
        })
        .collect::<Result<_, MergeError>>()?;
    Ok(effects.into_iter().flatten().collect())
}
