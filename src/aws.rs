//! One session with AWS, from which the DynamoDB store and the KMS key service make their clients: region,
//! credentials, certificates, proxy and time limits are decided here, once.

mod answer;
mod dial;
mod failure;
mod http;
mod pace;
mod role;
mod settings;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use aws_config::profile::{ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::os_shim_internal::{Env, Fs};

use crate::failure::{Failure, FailureKind};

pub(crate) use answer::RefuseStrangers;
pub(crate) use failure::{classify, code};
pub(crate) use http::into_opening;
pub(crate) use pace::{LeaveThrottledToPace, Pace};
pub use role::{Mfa, Role};
use settings::variable;
pub use trust::Trust;

/// Where nothing names a region, as in the original. No metadata service is asked: that can take seconds.
const DEFAULT_REGION: &str = "us-east-1";

/// How long to wait for a connection before the next attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for an answer before the next attempt; DynamoDB and KMS answer in milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a call that failed is attempted where no setting of AWS says so. Of a thousand calls some fail several
/// times in a row: the SDK's three attempts would lose them.
const ATTEMPTS: u32 = 6;

/// The longest pause before the second attempt; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// What to open a [`Session`] with. What is left out comes from where every AWS tool looks: the environment and
/// the files in `~/.aws`. A variable that is empty counts as not set.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// The region of everything; without it AWS_DEFAULT_REGION, AWS_REGION, the profile's, then `us-east-1`.
    pub region: Option<String>,
    /// The region of KMS, where it is another one.
    pub kms_region: Option<String>,
    /// The profile whose credentials to use, whatever keys the environment holds.
    pub profile: Option<String>,
    /// The role to assume with those credentials.
    pub role: Option<Role>,
    /// Whom to trust; without it the file that AWS_CA_BUNDLE, the profile's `ca_bundle` or SSL_CERT_FILE names, then
    /// [`Trust::Bundled`].
    pub trust: Option<Trust>,
    /// How long to wait for a connection before the next attempt; without it 3 s.
    pub connect_timeout: Option<Duration>,
    /// How long to wait for an answer before the next attempt; without it 10 s.
    pub read_timeout: Option<Duration>,
}

/// A session with AWS. Opening one does not use the network.
#[derive(Clone, Debug)]
pub struct Session {
    config: SdkConfig,
    kms_region: Option<Region>,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// When the profile does not exist, the files in `~/.aws` cannot be read, or a setting makes no sense.
    pub async fn open(options: SessionOptions) -> Result<Self, Failure> {
        settings::check_keys()?;
        let profiles = load_profiles(options.profile.as_deref()).await?;
        let region = options
            .region
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| profiles.get("region").map(str::to_owned));
        let region = Region::new(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()));
        let file = |path: String| Trust::File(PathBuf::from(path));
        let trust = options
            .trust
            .or_else(|| variable("AWS_CA_BUNDLE").map(file))
            .or_else(|| profiles.get("ca_bundle").map(str::to_owned).map(file))
            .or_else(|| variable("SSL_CERT_FILE").map(file));
        let http_client = SharedHttpClient::new(http::Client::new(trust.unwrap_or_default()));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.connect_timeout.unwrap_or(CONNECT_TIMEOUT))
            .read_timeout(options.read_timeout.unwrap_or(READ_TIMEOUT));

        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .profile_name(profiles.selected_profile())
            .region(region.clone())
            .http_client(http_client.clone())
            .timeout_config(timeouts.build())
            .retry_config(settings::retries(&profiles)?);
        if let Some(profile) = options.profile {
            loader = loader.credentials_provider(profile_credentials(profile, region, http_client));
        }
        let mut config = settings::without_empty_endpoints(&loader.load().await, profiles);
        if let Some(role) = options.role {
            config = role::assume(role, &config);
        }
        Ok(Self { config, kms_region: options.kms_region.map(Region::new) })
    }

    /// The configuration of every client but that of KMS.
    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The configuration of the KMS client.
    pub(crate) fn kms_config(&self) -> SdkConfig {
        match &self.kms_region {
            Some(region) => self.config.to_builder().region(region.clone()).build(),
            None => self.config.clone(),
        }
    }

    /// The region of everything but KMS.
    #[must_use]
    pub fn region(&self) -> &str {
        self.config.region().map_or(DEFAULT_REGION, Region::as_ref)
    }
}

/// Reads the files in `~/.aws`, and refuses a profile that was asked for, here or by a variable, and is not in them. Of the
/// variables the one wins that boto3 looks at first.
async fn load_profiles(asked: Option<&str>) -> Result<ProfileSet, Failure> {
    const UNASKED: &str = "default";
    let named = || variable("AWS_DEFAULT_PROFILE").or_else(|| variable("AWS_PROFILE"));
    let asked = asked.map(str::to_owned).or_else(named).unwrap_or_else(|| UNASKED.to_owned());
    let profiles = aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), Some(asked.into()))
        .await
        .map_err(|error| malconfigured(failure::chain(&error)))?;
    let selected = profiles.selected_profile();
    if selected != UNASKED && profiles.get_profile(selected).is_none() {
        return Err(malconfigured(format!("The config profile ({selected}) could not be found")));
    }
    Ok(profiles)
}

fn malconfigured(message: String) -> Failure {
    Failure::new(FailureKind::Malconfigured, message)
}

/// The credentials of the profile alone: the default chain would prefer keys in the environment.
fn profile_credentials(
    profile: String,
    region: Region,
    http_client: SharedHttpClient,
) -> ProfileFileCredentialsProvider {
    let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(http_client);
    ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build()
}
