//! AWS KMS as the key service: GenerateDataKey and Decrypt, under one KMS key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_kms::primitives::Blob;

use super::{KeyError, KeyService};
use crate::aws::{LeaveThrottledToPace, Pace, RefuseStrangers, Session, classify, code, into_opening};
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::secret::{DataKey, WrappedKey};

const SERVICE: &str = "KMS";

/// Wraps data keys under a KMS key. Unwrapping needs no name of a key: KMS reads it from the wrapped key.
#[derive(Clone, Debug)]
pub struct Kms {
    client: Client,
    key_id: String,
    pace: Arc<Pace>,
    prepared: Arc<AtomicBool>,
}

impl Kms {
    /// The key that is used when none is named.
    pub const DEFAULT_KEY: &str = "alias/credstash";

    /// A key service that makes data keys under `key_id`: an alias, an id or an ARN.
    #[must_use]
    pub fn new(session: &Session, key_id: impl Into<String>) -> Self {
        let config = aws_sdk_kms::config::Builder::from(&session.kms_config())
            // Calls that fail are not a reason to give up on others: Pace sees to the service's health.
            .retry_partition(RetryPartition::custom("credstash-kms").token_bucket(TokenBucket::unlimited()).build())
            .retry_classifier(LeaveThrottledToPace)
            .interceptor(RefuseStrangers)
            .build();
        Self {
            client: Client::from_conf(config),
            key_id: key_id.into(),
            pace: Arc::default(),
            prepared: Arc::default(),
        }
    }
}

#[async_trait]
impl KeyService for Kms {
    async fn generate(&self, len: usize, context: &Context) -> Result<(DataKey, WrappedKey), KeyError> {
        log::trace!("KMS GenerateDataKey, key {}", self.key_id);
        let failed = |failure| KeyError::Generate { service: SERVICE, key: self.key_id.clone(), failure };
        let request = self
            .client
            .generate_data_key()
            .key_id(&self.key_id)
            .number_of_bytes(i32::try_from(len).unwrap_or(i32::MAX))
            .set_encryption_context(Some(pairs(context)));
        let answer = self
            .pace
            .run("GenerateDataKey", || request.clone().send())
            .await
            .map_err(|error| failed(classify("GenerateDataKey", &error)))?;
        match (answer.plaintext, answer.ciphertext_blob) {
            (Some(plaintext), Some(wrapped)) => {
                Ok((DataKey::new(plaintext.into_inner()), WrappedKey::new(wrapped.into_inner())))
            }
            _ => Err(failed(incomplete("GenerateDataKey"))),
        }
    }

    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &Context) -> Result<DataKey, KeyError> {
        log::trace!("KMS Decrypt");
        let request = self
            .client
            .decrypt()
            .ciphertext_blob(Blob::new(wrapped.as_bytes()))
            .set_encryption_context(Some(pairs(context)));
        let answer = self.pace.run("Decrypt", || request.clone().send()).await.map_err(|error| match code(&error) {
            Some("InvalidCiphertextException") => KeyError::Mismatch { service: SERVICE },
            _ => KeyError::Unwrap { service: SERVICE, failure: classify("Decrypt", &error) },
        })?;
        match answer.plaintext {
            Some(plaintext) => Ok(DataKey::new(plaintext.into_inner())),
            None => Err(KeyError::Unwrap { service: SERVICE, failure: incomplete("Decrypt") }),
        }
    }

    async fn prepare(&self) {
        if self.prepared.swap(true, Ordering::Relaxed) {
            return;
        }
        let once = aws_sdk_kms::Config::builder().retry_config(RetryConfig::disabled());
        let opening =
            self.client.describe_key().key_id("-").customize().config_override(once).mutate_request(into_opening);
        // What goes wrong goes wrong again for the next call, which says so.
        let _ = opening.send().await;
    }
}

fn pairs(context: &Context) -> HashMap<String, String> {
    context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn incomplete(operation: &str) -> Failure {
    let message = format!("The answer to the {operation} operation is incomplete");
    Failure::new(FailureKind::Other, message)
}
