//! Floor 4: adapters folded into a base, `W' = round(W + Σ sₖ·ΔWₖ)`, rounded once.
//!
//! - [`merge`]: the whole of it; [`measure`]: the same without writing
//! - [`Report`]: what was done, and what it did to the weights
//!
//! A merge is planned in full before a byte is written (`plan`): which tensors change and by
//! what. Then every file of the base is written as a stream (`write`): tensors that no adapter
//! touches are copied, not decoded; the others go through f32 some rows at a time. The result
//! appears by a rename, so a failed merge leaves what was there before.

mod error;
mod folder;
mod plan;
mod report;
mod rows;
mod write;

use std::path::Path;
use std::time::Instant;

pub use error::MergeError;
pub use report::{BlockChange, Coverage, Report};

use crate::adapter::combine::Weighted;
use crate::base::atomic::{AtomicFile, AtomicFolder, collides};
use crate::model::{Base, Fit, Shape, fit};
use crate::tensors::{Float, TensorError};
use plan::Plan;

/// What to merge.
#[derive(Debug)]
pub struct Request<'a> {
    /// The base.
    pub base: &'a Base,
    /// The adapters and their strengths.
    pub adapters: &'a [Weighted],
    /// Where the result goes: a file for a file, a folder for a folder.
    pub out: &'a Path,
    /// The float type of the result; `None` keeps each tensor's own.
    pub dtype: Option<Float>,
    /// Modules that do not fit are an error.
    pub strict: bool,
}

/// Merges adapters into a base. `progress` is told how many bytes were written, again and again.
pub fn merge(request: &Request<'_>, progress: &(dyn Fn(u64) + Sync)) -> Result<Report, MergeError> {
    let start = Instant::now();
    let fits = fit_all(request)?;
    check_out(request)?;
    let plan = Plan::new(request.base, request.adapters, &fits)?;
    let changes = match request.base.shape {
        Shape::File => {
            let out = request.out;
            let file = AtomicFile::create(out).map_err(|e| TensorError::io(out, e))?;
            let metadata = report::provenance(request, &request.base.files[0].file);
            let job = write::Job::new(request, &plan, 0, out, &metadata)?;
            let changes = job.run(file.file(), progress)?;
            file.commit().map_err(|e| TensorError::io(out, e))?;
            changes
        }
        Shape::Model(_) | Shape::Pipeline => {
            let out = request.out;
            let folder = AtomicFolder::create(out).map_err(|e| TensorError::io(out, e))?;
            let changes = folder::write(request, &plan, folder.path(), progress)?;
            folder.commit().map_err(|e| TensorError::io(out, e))?;
            changes
        }
    };
    Ok(Report::new(request, &fits, &plan, &changes, start.elapsed()))
}

/// What a merge would do to the weights, without writing anything.
pub fn measure(
    base: &Base,
    adapters: &[Weighted],
    dtype: Option<Float>,
) -> Result<Report, MergeError> {
    let start = Instant::now();
    let request = Request { base, adapters, out: Path::new(""), dtype, strict: false };
    let fits = fit_all(&request)?;
    let plan = Plan::new(base, adapters, &fits)?;
    let changes = write::measure(&request, &plan)?;
    Ok(Report::new(&request, &fits, &plan, &changes, start.elapsed()))
}

/// Lays every adapter over the base; with `strict`, everything must fit.
fn fit_all<'a>(request: &Request<'a>) -> Result<Vec<Fit<'a>>, MergeError> {
    let mut fits = Vec::new();
    for input in request.adapters {
        let fit = fit(&input.adapter, request.base)?;
        if request.strict && !fit.unmatched.is_empty() {
            let shown: Vec<String> =
                fit.unmatched.iter().map(|u| format!("{} ({})", u.module, u.reason)).collect();
            return Err(MergeError::Strict {
                adapter: input.adapter.path.clone(),
                count: shown.len(),
                modules: crate::base::hint::first_few(&shown),
            });
        }
        fits.push(fit);
    }
    Ok(fits)
}

/// A bad destination fails before the work starts. Nothing that was not written by a merge is ever
/// replaced as a folder.
fn check_out(request: &Request<'_>) -> Result<(), MergeError> {
    let out = request.out;
    let refuse = |problem: &'static str, hint: &'static str| {
        Err(MergeError::Out { path: out.to_owned(), problem, hint })
    };
    if collides(out, &request.base.path) {
        return refuse(
            "is the base, holds it or lies inside it",
            "write to another place; the base is never changed",
        );
    }
    if request.adapters.iter().any(|input| collides(out, &input.adapter.path)) {
        return refuse("is an adapter, or holds one that is merged", "write to another place");
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if parent.is_some_and(|parent| !parent.is_dir()) {
        return refuse("its folder does not exist", "make the folder first");
    }
    match request.base.shape {
        Shape::File if out.is_dir() => refuse(
            "is a folder, and the base is a file",
            "name a .safetensors file; a file is merged to a file, a folder to a folder",
        ),
        Shape::File => Ok(()),
        Shape::Model(_) | Shape::Pipeline if out.exists() && !out.is_dir() => refuse(
            "is a file, and the base is a folder",
            "name a new folder; a file is merged to a file, a folder to a folder",
        ),
        Shape::Model(_) | Shape::Pipeline if folder::can_replace(out, &request.base.path) => Ok(()),
        Shape::Model(_) | Shape::Pipeline => refuse(
            "is a folder with other things in it than an earlier merge of this base",
            "name a new folder",
        ),
    }
}
