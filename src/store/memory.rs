//! A store in memory, for tests and examples: gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::{Setup, SetupOutcome, SetupStep, Store, StoreError};
use crate::name::Name;
use crate::row::{Entry, SealedRow};
use crate::version::{Select, Version};

/// Sealed rows, by name and version.
#[derive(Debug, Default)]
pub struct Memory {
    rows: Mutex<BTreeMap<Name, BTreeMap<Version, SealedRow>>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A panic elsewhere leaves no half-made row behind, so a poisoned lock is as good as any.
    fn rows(&self) -> MutexGuard<'_, BTreeMap<Name, BTreeMap<Version, SealedRow>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The selected one of the versions of one name.
fn select<'a>(versions: &'a BTreeMap<Version, SealedRow>, select: &Select) -> Option<&'a SealedRow> {
    match select {
        Select::Latest => versions.values().next_back(),
        Select::Exactly(asked) => asked.candidates().find_map(|version| versions.get(version)),
    }
}

#[async_trait]
impl Store for Memory {
    async fn setup(&self, options: &Setup, _step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        options.refuse_all("memory")?;
        Ok(SetupOutcome::Existed)
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.rows().values().flat_map(BTreeMap::values).map(|row| row.entry.clone()).collect())
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        Ok(self.rows().get(name).into_iter().flat_map(BTreeMap::keys).cloned().collect())
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        Ok(self.rows().get(name).and_then(|versions| versions.keys().next_back().cloned()))
    }

    async fn get(&self, name: &Name, wanted: &Select) -> Result<SealedRow, StoreError> {
        let rows = self.rows();
        let row = rows.get(name).and_then(|versions| select(versions, wanted));
        row.cloned().ok_or_else(|| StoreError::not_found(name, wanted))
    }

    fn rows<'a>(&'a self, wanted: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        let selected: Vec<_> = (self.rows().iter())
            .map(|(name, versions)| {
                select(versions, wanted).cloned().ok_or_else(|| StoreError::not_found(name, wanted))
            })
            .collect();
        stream::iter(selected).boxed()
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let Entry { name, version, .. } = row.entry.clone();
        let mut rows = self.rows();
        let versions = rows.entry(name.clone()).or_default();
        if versions.contains_key(&version) {
            return Err(StoreError::Exists { name, version });
        }
        let mut row = row.clone();
        row.entry.comment = row.entry.comment.filter(|comment| !comment.is_empty());
        versions.insert(version, row);
        Ok(())
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        let mut rows = self.rows();
        if let Some(versions) = rows.get_mut(name) {
            versions.remove(version);
            if versions.is_empty() {
                rows.remove(name);
            }
        }
        Ok(())
    }
}
