//! Floor 1: from the name of a base to a path.
//!
//! A base is named by a path, or as `hf:OWNER/NAME[@REVISION]`, which is looked up in the local cache
//! of Hugging Face's tools (`HF_HUB_CACHE`, `HF_HOME`, else `~/.cache/huggingface/hub`). Nothing is
//! downloaded.

use std::path::{Path, PathBuf};

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
    /// A base that this build does not ship.
    #[error(
        "`{name}` is not shipped with this version\nhint: name a folder or a .safetensors file"
    )]
    Demo {
        /// What was given.
        name: String,
    },
}

/// The path of a base, looked up in the cache where it is named `hf:…`.
pub fn resolve(base: &str) -> Result<PathBuf, HubError> {
    if base.starts_with("demo:") && !Path::new(base).exists() {
        return Err(HubError::Demo { name: base.to_owned() });
    }
    match base.strip_prefix("hf:") {
        Some(name) => in_cache(base, name, &cache()),
        None => Ok(PathBuf::from(base)),
    }
}

/// Where Hugging Face's tools keep models.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(cache) = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        return cache.into();
    }
    let home = set("HF_HOME").map(PathBuf::from);
    let home = home.or_else(|| {
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| Some(std::env::home_dir()?.join(".cache"))).map(|c| c.join("huggingface"))
    });
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
