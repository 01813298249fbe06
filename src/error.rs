//! What a vault can answer instead of what was asked.

use crate::context::Context;
use crate::envelope::{Digest, EnvelopeError};
use crate::failure::Failure;
use crate::key::KeyError;
use crate::name::Name;
use crate::row::SealedRow;
use crate::store::StoreError;
use crate::version::{NoNextVersion, Version};

/// Why a vault could not do what was asked. Absence, conflict, refusal, damage and breakage are different variants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store: no such row, a row that exists already or cannot be read, no store at all, or a failed call.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data key could not be made or unwrapped: a context that does not match, a refusal, or a failed call.
    #[error("{} ERROR: {error}{}", error.service().to_uppercase(), given(error, context_keys))]
    Key {
        /// The credential that was put or read.
        name: Name,
        /// The keys of the context that was given; the values stay untold.
        context_keys: Vec<String>,
        /// What the key service answered.
        #[source]
        error: KeyError,
    },
    /// The row does not hold what was sealed: its contents, its HMAC, its digest or its data key was changed.
    #[error("INTEGRITY ERROR: Computed HMAC on {name} does not match stored HMAC (version {version}, digest {digest})")]
    Integrity {
        /// The damaged credential.
        name: Name,
        /// Its version.
        version: Version,
        /// The digest of the HMAC.
        digest: Digest,
    },
    /// The secret could not be sealed or opened for another reason than integrity.
    #[error("{name}: {error}")]
    Envelope {
        /// The credential.
        name: Name,
        /// What was wrong.
        #[source]
        error: EnvelopeError,
    },
    /// The row is not bound to its name and version, and the vault reads only what is.
    #[error("version {version} of {name} is not bound to its name and version, and only what is bound is to be read")]
    Unbound {
        /// The credential.
        name: Name,
        /// The version of the row.
        version: Version,
    },
    /// There is no version after the newest one.
    #[error("{error}")]
    NoNextVersion {
        /// The credential.
        name: Name,
        /// Why there is none.
        #[source]
        error: NoNextVersion,
    },
    /// The secret is too large for a row.
    #[error(
        "{name} is too large: with a value of {secret} bytes its row has {row} bytes at least, and a row holds at most {} bytes (400 KB); that is room for a value of about {} bytes",
        SealedRow::MAX_SIZE, SealedRow::MAX_SIZE / 4 * 3
    )]
    TooLarge {
        /// The credential.
        name: Name,
        /// The length of the secret, in bytes.
        secret: usize,
        /// The size of its row, as [`SealedRow::size`] counts it.
        row: usize,
    },
}

impl Error {
    pub(crate) fn key(name: &Name, context: &Context, error: KeyError) -> Self {
        let context_keys = context.keys().map(str::to_owned).collect();
        Self::Key { name: name.clone(), context_keys, error }
    }

    /// The one credential that the error is about; `None` when it is about the store.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Store(error) => error.name(),
            Self::Key { name, .. }
            | Self::Integrity { name, .. }
            | Self::Envelope { name, .. }
            | Self::Unbound { name, .. }
            | Self::NoNextVersion { name, .. }
            | Self::TooLarge { name, .. } => Some(name),
        }
    }

    /// What went wrong outside, if that is the cause.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Store(StoreError::Failed(failure)) => Some(failure),
            Self::Key { error, .. } => error.failure(),
            _ => None,
        }
    }
}

/// Which context was given, where that may be what is wrong.
fn given(error: &KeyError, context_keys: &[String]) -> String {
    match (error, context_keys) {
        (KeyError::Mismatch { .. }, []) => " No context was given.".to_owned(),
        (KeyError::Mismatch { .. }, keys) => {
            let bound = keys.iter().any(|key| key == Context::NAME);
            let moved =
                if bound { " It is bound to its name and version, and cannot be read in another place." } else { "" };
            format!(" The given context has the keys: {}.{moved}", keys.join(", "))
        }
        _ => String::new(),
    }
}
