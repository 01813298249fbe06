//! Assuming a role, with a second factor if it asks for one.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};

use super::failure::classify;

/// A role to assume.
#[derive(Clone, Debug)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// The name under which CloudTrail records what the session does.
    pub session_name: String,
    /// The second factor, where the role's trust policy asks for one.
    pub mfa: Option<Mfa>,
}

impl Role {
    /// The session name of the original.
    pub const DEFAULT_SESSION_NAME: &str = "AssumeRoleCredstashSession1";
}

/// A second factor: the device and the code that it shows now. A code works once, so the session lasts as long as
/// the credentials that it gave.
#[derive(Clone)]
pub struct Mfa {
    /// The device's serial number or ARN.
    pub serial: String,
    /// The six digits that it shows.
    pub code: String,
}

impl std::fmt::Debug for Mfa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mfa").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// `config`, with the credentials of `role` in place of those that assume it.
pub(super) fn assume(role: Role, config: &SdkConfig) -> SdkConfig {
    let provider = AssumedRole { role, sts: aws_sdk_sts::Client::new(config) };
    config
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(provider))
        // A cache of its own: the one of `config` holds the credentials that assume the role.
        .identity_cache(aws_config::identity::IdentityCache::lazy().build())
        .build()
}

#[derive(Debug)]
struct AssumedRole {
    role: Role,
    sts: aws_sdk_sts::Client,
}

impl AssumedRole {
    async fn credentials(&self) -> provider::Result {
        let (serial, code) = self.role.mfa.clone().map(|mfa| (mfa.serial, mfa.code)).unzip();
        let answer = self
            .sts
            .assume_role()
            .role_arn(&self.role.arn)
            .role_session_name(&self.role.session_name)
            .set_serial_number(serial)
            .set_token_code(code)
            .send()
            .await
            .map_err(|error| CredentialsError::provider_error(classify("AssumeRole", &error)))?;
        let credentials =
            answer.credentials.ok_or_else(|| CredentialsError::unhandled("AssumeRole answered without credentials"))?;
        let expiry = SystemTime::try_from(credentials.expiration).map_err(CredentialsError::unhandled)?;
        Ok(Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            Some(expiry),
            "AssumeRole",
        ))
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}
