//! Floor 1: from the name of a base to a path.
//!
//! A base is named by a path; as `demo:image` or `demo:text`, which are part of the program and are
//! unpacked to its cache; or as `hf:OWNER/NAME[@REVISION]`, which is looked up in the local cache of
//! Hugging Face's tools (`HF_HUB_CACHE`, `HF_HOME`, else `~/.cache/huggingface/hub`). Nothing is
//! downloaded.

mod shipped;

use std::io;
use std::path::{Path, PathBuf};

use shipped::Shipped;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not of the form `hf:OWNER/NAME[@REVISION]`.
    #[error(
        "`{name}` is not the name of a model\nhint: write `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// Not in the cache.
    #[error(
        "`{name}` is not in the local cache ({})\nhint: fetch it once with `hf download {repository}`, or name a folder",
        cache.display()
    )]
    NotCached {
        /// What was given.
        name: String,
        /// The repository.
        repository: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// Not a model that is part of the program.
    #[error(
        "`{name}` is not a model that comes with this program\nhint: there are `demo:image` and `demo:text`"
    )]
    Demo {
        /// What was given.
        name: String,
    },
    /// A model of the program cannot be unpacked.
    #[error(
        "{}: `{name}` cannot be unpacked there: {error}\nhint: set `XDG_CACHE_HOME` to a folder that can be written",
        path.display()
    )]
    Unpack {
        /// What was given.
        name: &'static str,
        /// The file that could not be read or written.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The path of a base: that of a `demo:…` after it is unpacked, that of an `hf:…` in the cache.
pub fn resolve(base: &str) -> Result<PathBuf, HubError> {
    if base.starts_with("demo:") && !Path::new(base).exists() {
        let shipped = Shipped::named(base);
        let shipped = shipped.ok_or_else(|| HubError::Demo { name: base.to_owned() })?;
        return shipped.unpack(&caches().unwrap_or_else(std::env::temp_dir).join("lora-eval"));
    }
    match base.strip_prefix("hf:") {
        Some(name) => in_cache(base, name, &cache()),
        None => Ok(PathBuf::from(base)),
    }
}

/// What an environment variable holds, unless that is nothing.
fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where programs keep what they can make again.
fn caches() -> Option<PathBuf> {
    set("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")))
}

/// Where Hugging Face's tools keep models.
fn cache() -> PathBuf {
    if let Some(cache) = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        return cache;
    }
    let home = set("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
    home.unwrap_or_default().join("hub")
}

fn in_cache(base: &str, name: &str, cache: &Path) -> Result<PathBuf, HubError> {
    let bad_name = || HubError::Name { name: base.to_owned() };
    let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
    let (owner, model) = repository.split_once('/').ok_or_else(bad_name)?;
    if !is_plain(owner) || !is_plain(model) || !revision.split('/').all(is_plain) {
        return Err(bad_name());
    }
    let folder = cache.join(format!("models--{owner}--{model}"));
    let commit = std::fs::read_to_string(folder.join("refs").join(revision));
    let commit = commit.as_deref().map_or(revision, str::trim);
    let snapshot = folder.join("snapshots").join(commit);
    if is_plain(commit) && snapshot.is_dir() {
        return Ok(snapshot);
    }
    Err(HubError::NotCached {
        name: base.to_owned(),
        repository: repository.to_owned(),
        cache: cache.to_owned(),
    })
}

/// A name that is one harmless path segment.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.chars().all(allowed) && !name.contains("..") && name != "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--meta--llama");
        std::fs::create_dir_all(model.join("snapshots/abc123")).unwrap();
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::write(model.join("refs/main"), "abc123\n").unwrap();
        let find = |name: &str| in_cache("hf:…", name, cache.path());
        assert!(find("meta/llama").unwrap().ends_with("snapshots/abc123"));
        assert!(find("meta/llama@abc123").unwrap().ends_with("snapshots/abc123"));
        assert!(matches!(find("meta/llama@other"), Err(HubError::NotCached { .. })));
        assert!(matches!(find("meta/other"), Err(HubError::NotCached { .. })));
    }

    #[test]
    fn names_lead_only_into_the_cache() {
        for name in ["llama", "../x/y", "a/..", "a/b@../../c", "a/b@", "/a", "a/b/c", "a b/c"] {
            assert!(
                matches!(in_cache("hf:…", name, Path::new("/")), Err(HubError::Name { .. })),
                "{name}"
            );
        }
    }
}
