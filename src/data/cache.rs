//! What frozen encoders make of examples, kept between trainings.
//!
//! An entry is a safetensors file called by the hash of all that its content follows from: the bytes of
//! a picture or a caption, what is done to it, the encoder and its type. So an entry is never out of
//! date, one cache serves all trainings at once, and an edited caption leaves latents alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::digest::sha256;
use crate::base::terminal::printable;
use crate::tensors::{Limits, Tensor, TensorError, TensorFile, write_file};

/// Tensors by name.
pub type Entry = BTreeMap<String, Tensor>;

/// What an entry is of: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a kind of entry (`latent`, `text`) and all that its content follows from, in an order
    /// of the kind's own.
    pub fn new(kind: &str, parts: &[&str]) -> Self {
        // lengths keep ("ab", "c") and ("a", "bc") apart
        let parts = [kind]
            .into_iter()
            .chain(parts.iter().copied())
            .map(|part| format!("{}:{part}", part.len()));
        Self(sha256(parts.collect::<Vec<_>>().concat().as_bytes()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why something cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is no folder to keep it in.
    #[error(
        "no folder for the cache: neither `XDG_CACHE_HOME` nor a home folder is set\nhint: set `data.image.cache_dir`"
    )]
    NoFolder,
    /// The cache's folder cannot be made.
    #[error("{}: {source}\nhint: set `data.image.cache_dir` to a folder that can be written to", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An encoder made a NaN or an infinity.
    #[error(
        "{}: `{tensor}` is not finite at element {at}\n\
         hint: the encoder overflowed or the file is damaged; use f32 or bf16 for the encoder",
        printable(of)
    )]
    NotFinite {
        /// What it was made of: a picture's path.
        of: String,
        /// The tensor.
        tensor: String,
        /// The first such element.
        at: usize,
    },
    /// The entry cannot be written.
    #[error(transparent)]
    Write(#[from] TensorError),
}

/// A folder of entries.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// Metadata of an entry: its key, so that a file under another name is not taken for it.
const KEY: &str = "key";
/// Metadata of an entry: CRC-32C of the data, in hexadecimal.
const CHECKSUM: &str = "crc32c";

impl Cache {
    /// The cache in a folder, which is made where it is missing; `None`: [`default_folder`].
    pub fn open(folder: Option<&Path>) -> Result<Self, CacheError> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => default_folder().ok_or(CacheError::NoFolder)?,
        };
        fs::create_dir_all(&folder)
            .map_err(|source| CacheError::Folder { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The entry of a key. One that is damaged is removed and counts as missing, as does one that cannot
    /// be read.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        let path = self.path(key);
        let file = match TensorFile::open(&path, Limits::ADAPTER) {
            Ok(file) if is_whole(&file, key) => file,
            Err(TensorError::Io { .. }) => return None,
            Ok(_) | Err(_) => {
                // another process may have removed it too
                let _ = fs::remove_file(&path);
                return None;
            }
        };
        let names: Vec<String> = file.names().map(ToOwned::to_owned).collect();
        names.into_iter().map(|name| Some((name.clone(), file.get(&name)?))).collect()
    }

    /// Keeps an entry, whole or not at all; `of` names what it was made of if it is not finite.
    pub fn put(&self, key: &Key, entry: &Entry, of: &str) -> Result<(), CacheError> {
        let mut checksum = 0;
        for (name, tensor) in entry {
            let values = tensor.to_f32(name)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let tensor = name.clone();
                return Err(CacheError::NotFinite { of: of.to_owned(), tensor, at });
            }
            checksum = crc32c::crc32c_append(checksum, tensor.bytes());
        }
        let metadata = BTreeMap::from([
            (KEY.to_owned(), key.0.clone()),
            (CHECKSUM.to_owned(), format!("{checksum:08x}")),
        ]);
        let path = self.path(key);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| TensorError::io(folder, source))?;
        }
        Ok(write_file(&path, entry, &metadata)?)
    }

    /// Folders of 256 parts keep listings short.
    fn path(&self, key: &Key) -> PathBuf {
        let (start, rest) = key.0.split_at(2);
        self.folder.join(start).join(format!("{rest}.safetensors"))
    }
}

fn is_whole(file: &Arc<TensorFile>, key: &Key) -> bool {
    let says = |name: &str| file.metadata().get(name).map(String::as_str);
    says(KEY) == Some(key.as_str())
        && says(CHECKSUM) == Some(format!("{:08x}", crc32c::crc32c(file.data())).as_str())
}

/// `lora-eval` in the user's folder for caches: `XDG_CACHE_HOME`, or `.cache` at home.
pub fn default_folder() -> Option<PathBuf> {
    folder_in(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from), std::env::home_dir())
}

fn folder_in(caches: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // the XDG specification has relative paths ignored
    let caches = caches.filter(|path| path.is_absolute());
    let caches = caches.or_else(|| Some(home?.join(".cache")));
    caches.map(|folder| folder.join("lora-eval"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Float;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&folder.path().join("deep/cache"))).unwrap();
        (folder, cache)
    }

    fn entry(values: &[f32]) -> Entry {
        let shape = vec![1, values.len()];
        BTreeMap::from([
            ("mean".to_owned(), Tensor::from_f32(shape.clone(), values, Float::F32)),
            ("half".to_owned(), Tensor::from_f32(shape, values, Float::F16)),
        ])
    }

    fn values(entry: &Entry, name: &str) -> Vec<f32> {
        entry[name].to_f32(name).unwrap()
    }

    #[test]
    fn what_is_put_is_got_again() {
        let (_folder, cache) = cache();
        let key = Key::new("latent", &["a", "b"]);
        assert!(cache.get(&key).is_none());
        cache.put(&key, &entry(&[1.0, -0.5, 0.1]), "a.png").unwrap();
        let found = cache.get(&key).unwrap();
        assert_eq!(values(&found, "mean"), [1.0, -0.5, 0.1]);
        assert_eq!(found["half"].shape(), [1, 3]);
        assert_eq!(found["half"].dtype(), Float::F16.dtype());
        assert!(cache.get(&Key::new("latent", &["a", "c"])).is_none());
    }

    #[test]
    fn keys_know_where_parts_end() {
        assert_ne!(Key::new("k", &["ab", "c"]), Key::new("k", &["a", "bc"]));
        assert_ne!(Key::new("k", &["a"]), Key::new("k", &["a", ""]));
        assert_ne!(Key::new("text", &["a"]), Key::new("latent", &["a"]));
        assert_eq!(Key::new("k", &["a"]).as_str().len(), 64);
    }

    #[test]
    fn a_damaged_entry_is_missing_and_removed() {
        let (_folder, cache) = cache();
        let key = Key::new("latent", &["a"]);
        cache.put(&key, &entry(&[1.0, 2.0]), "a.png").unwrap();
        let path = cache.path(&key);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(cache.get(&key).is_none(), "{length} bytes");
            assert!(!path.exists());
        }
        // one bit of the data
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(cache.get(&key).is_none());
        assert!(!path.exists());
        fs::write(&path, whole).unwrap();
        assert!(cache.get(&key).is_some());
    }

    #[test]
    fn an_entry_under_another_name_is_not_taken_for_it() {
        let (_folder, cache) = cache();
        let (key, other) = (Key::new("latent", &["a"]), Key::new("latent", &["b"]));
        cache.put(&key, &entry(&[1.0]), "a.png").unwrap();
        fs::create_dir_all(cache.path(&other).parent().unwrap()).unwrap();
        fs::copy(cache.path(&key), cache.path(&other)).unwrap();
        assert!(cache.get(&other).is_none());
    }

    #[test]
    fn what_is_not_finite_is_refused_and_its_picture_named() {
        let (_folder, cache) = cache();
        let key = Key::new("latent", &["a"]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = cache.put(&key, &entry(&[1.0, bad]), "x/a.png").unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("x/a.png: `half` is not finite at element 1\nhint: "),
                "{text}"
            );
        }
        assert!(cache.get(&key).is_none());
    }

    #[test]
    fn many_writers_leave_one_whole_entry() {
        let (_folder, cache) = cache();
        let key = Key::new("latent", &["a"]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        cache.put(&key, &entry(&[3.0; 100]), "a.png").unwrap();
                        assert_eq!(values(&cache.get(&key).unwrap(), "mean"), [3.0; 100]);
                    }
                });
            }
        });
        let files = fs::read_dir(cache.path(&key).parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1);
    }

    #[test]
    fn the_folder_is_the_users_for_caches() {
        let folder = |caches: &str, home: Option<&str>| {
            folder_in(Some(caches.into()), home.map(PathBuf::from))
        };
        let root = std::env::temp_dir();
        let caches = root.join("caches");
        let set = folder(caches.to_str().unwrap(), Some("home"));
        assert_eq!(set, Some(caches.join("lora-eval")));
        let at_home = Some(PathBuf::from("home/.cache/lora-eval"));
        assert_eq!(folder("relative", Some("home")), at_home);
        assert_eq!(folder("", Some("home")), at_home);
        assert_eq!(folder("", None), None);
    }

    #[test]
    fn a_file_where_the_folder_should_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = Cache::open(Some(&path)).unwrap_err();
        assert!(error.to_string().ends_with("a folder that can be written to"), "{error}");
    }
}
