//! Key services: they make one-time data keys, wrap them under a master key, and unwrap them. They never see a row.

#[cfg(feature = "aws")]
pub mod kms;
pub mod local;

use async_trait::async_trait;

use crate::context::Context;
use crate::failure::Failure;
use crate::secret::{DataKey, WrappedKey};

/// Wraps and unwraps data keys under one master key.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Makes a random data key of `len` bytes: the key itself, and its wrapped form bound to `context`.
    async fn generate(&self, len: usize, context: &Context) -> Result<(DataKey, WrappedKey), KeyError>;

    /// Gives back the data key of `wrapped`, which needs the `context` it was made with.
    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, KeyError>;

    /// Gets ready to be called soon; the vault calls it while it waits for the store. It may do nothing, and what
    /// goes wrong here shows in the call that follows.
    async fn prepare(&self) {}
}

/// Why a data key could not be made or unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The wrapped key is damaged, or the context is not the one it was made with: the two cannot be told apart.
    #[error(
        "Could not decrypt hmac key with {service}. The encryption context provided may not match the one used when the credential was stored."
    )]
    Mismatch {
        /// What the key service calls itself.
        service: &'static str,
    },
    /// No data key could be made.
    #[error("Could not generate key using {service} key {key} (Details: {failure})")]
    Generate {
        /// What the key service calls itself.
        service: &'static str,
        /// The master key, as it was named.
        key: String,
        /// What went wrong.
        failure: Failure,
    },
    /// The data key could not be unwrapped.
    #[error("Decryption error {failure}")]
    Unwrap {
        /// What the key service calls itself.
        service: &'static str,
        /// What went wrong.
        failure: Failure,
    },
}

impl KeyError {
    /// What the key service calls itself.
    #[must_use]
    pub fn service(&self) -> &'static str {
        match self {
            Self::Mismatch { service } | Self::Generate { service, .. } | Self::Unwrap { service, .. } => service,
        }
    }

    /// What went wrong outside, if that is the cause.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Mismatch { .. } => None,
            Self::Generate { failure, .. } | Self::Unwrap { failure, .. } => Some(failure),
        }
    }
}
