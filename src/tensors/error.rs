use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

/// What can be wrong with a file of tensors.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The operating system refused.
    #[error("{}: {source}{}", path.display(), io_hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pickle (`.pt`, `.ckpt`, `.bin`) under whatever name.
    #[error(
        "{}: this is a pickle (PyTorch's own format), which can run code when it is read; only safetensors is read\nhint: convert it once, where you trust it: python -c \"import torch, sys; from safetensors.torch import save_file; d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); save_file({{k: v.contiguous() for k, v in d.get('state_dict', d).items() if hasattr(v, 'contiguous')}}, sys.argv[2])\" {} OUT.safetensors",
        path.display(), path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A tensor holds something that is not a weight.
    #[error(
        "tensor `{name}` holds {dtype} values, expected F16, BF16, F32 or F64\nhint: quantised and 8-bit weights must be converted to one of these first"
    )]
    NotFloat {
        /// The tensor.
        name: String,
        /// What it holds.
        dtype: Dtype,
    },
}

impl TensorError {
    /// An I/O error at `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "\nhint: check the path; relative paths start at the current folder"
        }
        io::ErrorKind::PermissionDenied => {
            "\nhint: check the permissions of the file and its folder"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: free some space and run the command again; what was there before is unchanged"
        }
        io::ErrorKind::IsADirectory => "\nhint: name a file, not a folder",
        _ => "\nhint: check the path and what it leads to",
    }
}
