//! The file of the cluster's key, which the topology names and does not hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_access::{Key, KeyError};

/// Where the key of all nodes and clients of a cluster is, and the key itself once the file was read.
#[derive(Clone, Debug)]
pub struct ClusterKey {
    path: PathBuf,
    key: Option<Arc<Key>>,
}

impl ClusterKey {
    /// A file that was not read.
    #[must_use]
    pub fn named(path: PathBuf) -> Self {
        Self { path, key: None }
    }

    /// The file, read; a relative path begins at `below`.
    pub(crate) fn load(&self, below: &Path) -> Result<Self, KeyError> {
        let path = below.join(&self.path);
        let key = Key::load(&path)?;
        Ok(Self {
            path,
            key: Some(Arc::new(key)),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key.
    ///
    /// # Panics
    /// If the configuration was not loaded from a file ([`crate::ClusterConfig::load`]): nobody may go on without the key
    /// that the text asks for.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.key.as_ref().expect("the key was loaded with its file")
    }
}

/// By the file: of two equal configurations one may have been loaded.
impl PartialEq for ClusterKey {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for ClusterKey {}
