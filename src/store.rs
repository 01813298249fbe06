//! Stores: they keep sealed rows, and never see a secret, a data key or a context.

#[cfg(feature = "aws")]
pub mod dynamodb;
pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::failure::Failure;
use crate::name::Name;
use crate::row::{Entry, MalformedAttribute, SealedRow};
use crate::version::{Select, Version};

/// Keeps sealed rows, at most one for each name and version, none of which is ever changed.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes the place where rows are kept, unless it is there; `step` hears what is being done. Point-in-time recovery
    /// is turned on for a place that is there too.
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError>;

    /// Every version of every name, without its sealed part, in no particular order.
    async fn entries(&self) -> Result<Vec<Entry>, StoreError>;

    /// The versions of `name`, in ascending order; empty when there is none.
    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError>;

    /// The newest version of `name`. Sees every put that ended before.
    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError>;

    /// The selected row of `name`. The latest one is that of [`Store::newest`].
    ///
    /// [`StoreError::NotFound`] when there is none.
    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError>;

    /// One pass over the store: for each name the selected row, as soon as it is known.
    ///
    /// An error that has a [`StoreError::name`] is about that name only, and the stream goes on; after any other
    /// error it ends. A name that has no selected row gives [`StoreError::NotFound`].
    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>>;

    /// Stores a row if there is none of its name and version, else gives [`StoreError::Exists`]. An empty comment is
    /// none. Where an answer can be lost on its way, the row itself, there because of an earlier attempt, is no conflict.
    async fn put(&self, row: &SealedRow) -> Result<(), StoreError>;

    /// How many puts to have under way at a time. A store whose puts wait together for the same disk or transaction
    /// gains by more than one whose puts travel one by one.
    fn puts_at_once(&self) -> usize {
        64
    }

    /// Deletes one version of a name; deleting what is not there is no error.
    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError>;

    /// Gets ready to be called soon; the vault calls it while it waits for the key service. It may do nothing, and
    /// what goes wrong here shows in the call that follows.
    async fn prepare(&self) {}
}

/// What may be asked of [`Store::setup`]. A store refuses what it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Labels to put on the store.
    pub tags: BTreeMap<String, String>,
    /// How reads and writes are paid for.
    pub billing: Option<Billing>,
    /// Keep backups from which each moment of the last 35 days can be restored.
    pub point_in_time_recovery: bool,
    /// Refuse to delete the store as a whole.
    pub deletion_protection: bool,
}

impl Setup {
    /// For stores that have nothing to choose.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] names the first option that was asked for.
    pub fn refuse_all(&self, store: &'static str) -> Result<(), StoreError> {
        let asked = [
            (!self.tags.is_empty(), "tags"),
            (self.billing.is_some(), "billing"),
            (self.point_in_time_recovery, "point-in-time recovery"),
            (self.deletion_protection, "deletion protection"),
        ];
        match asked.into_iter().find(|(asked, _)| *asked) {
            Some((_, option)) => Err(StoreError::Unsupported { store, option }),
            None => Ok(()),
        }
    }
}

/// How reads and writes of a DynamoDB table are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// Each request by itself, at any rate.
    OnDemand,
    /// One read unit and one write unit a second, as the original makes its table.
    Provisioned,
}

/// What [`Store::setup`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// Asks for the table to be made.
    Creating,
    /// Waits until the table can be used.
    Waiting,
    /// Puts the tags on the table.
    Tagging,
    /// Turns point-in-time recovery on.
    EnablingRecovery,
}

/// What [`Store::setup`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupOutcome {
    /// The store was there already and stays as it was.
    Existed,
    /// The store was made.
    Created,
}

/// What a store can answer instead of what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such row.
    #[error("no such credential")]
    NotFound {
        /// The name that was asked for.
        name: Name,
        /// The version that was asked for; `None` for the latest.
        version: Option<Version>,
    },
    /// There is such a row already.
    #[error("version {version} of {name} exists")]
    Exists {
        /// The name of the row.
        name: Name,
        /// The version of the row.
        version: Version,
    },
    /// The row is there and cannot be read.
    #[error("version {version} of {name}: {malformed}")]
    Malformed {
        /// The name of the row.
        name: Name,
        /// The version of the row.
        version: Version,
        /// The attribute, and what is wrong with it.
        malformed: MalformedAttribute,
    },
    /// The store itself is not there: it was never set up, or is elsewhere.
    #[error("{message}")]
    NotSetUp {
        /// Where the store was looked for.
        place: String,
        /// What was found instead.
        message: String,
    },
    /// There is something at the store's place that is no credential store.
    #[error("{place} is not a credential store: {reason}")]
    NotAStore {
        /// Where it is.
        place: String,
        /// How one can tell.
        reason: String,
    },
    /// The store does not have what [`Setup`] asks for.
    #[error("{store} has no {option}")]
    Unsupported {
        /// What kind of store it is.
        store: &'static str,
        /// What was asked for.
        option: &'static str,
    },
    /// The store could not be reached, or refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl StoreError {
    /// That no row of `name` answers to `select`.
    #[must_use]
    pub fn not_found(name: &Name, select: &Select) -> Self {
        let version = match select {
            Select::Latest => None,
            Select::Exactly(asked) => Some(asked.padded().clone()),
        };
        Self::NotFound { name: name.clone(), version }
    }

    /// The one name that the error is about; `None` when it is about the store.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::NotFound { name, .. } | Self::Exists { name, .. } | Self::Malformed { name, .. } => Some(name),
            _ => None,
        }
    }
}
