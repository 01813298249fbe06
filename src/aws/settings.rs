//! What the environment and the profile say, where the SDK would read it otherwise than every AWS tool: it takes an empty
//! variable for a value, does not know botocore's `legacy` mode, and ends the program over what it cannot read.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_config::profile::ProfileSet;
use aws_config::retry::RetryConfig;
use aws_runtime::env_config::EnvConfigValue;
use aws_types::os_shim_internal::Env;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use super::{ATTEMPTS, FIRST_BACKOFF, malconfigured};
use crate::failure::Failure;

/// More than anybody waits for; the SDK counts through all of them before it sends anything.
const MOST_ATTEMPTS: u32 = 1000;

/// An environment variable of AWS's; an empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    Env::real().get(name).ok().filter(|value| !value.is_empty())
}

/// How often a call that failed is tried, and after which pauses.
pub(super) fn retries(profiles: &ProfileSet) -> Result<RetryConfig, Failure> {
    let setting = |name: &str, member: &str| {
        let of_profile = || Some((member.to_owned(), profiles.get(member)?.to_owned()));
        variable(name).map(|value| (name.to_owned(), value)).or_else(of_profile)
    };
    let config = match setting("AWS_RETRY_MODE", "retry_mode") {
        None => RetryConfig::standard(),
        Some((name, value)) => match value.as_str() {
            "standard" | "legacy" => RetryConfig::standard(),
            "adaptive" => RetryConfig::adaptive(),
            _ => return Err(malconfigured(format!("{name} must be standard, adaptive or legacy, and is '{value}'"))),
        },
    };
    let attempts = match setting("AWS_MAX_ATTEMPTS", "max_attempts") {
        None => ATTEMPTS,
        Some((name, value)) => match value.trim().parse::<u64>() {
            Ok(attempts @ 1..) => u32::try_from(attempts).map_or(MOST_ATTEMPTS, |attempts| attempts.min(MOST_ATTEMPTS)),
            _ => return Err(malconfigured(format!("{name} must be a number from 1 on, and is '{value}'"))),
        },
    };
    Ok(config.with_max_attempts(attempts).with_initial_backoff(FIRST_BACKOFF))
}

/// Refuses keys that no request can carry, as from a file whose lines end in CRLF.
pub(super) fn check_keys() -> Result<(), Failure> {
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        if variable(name).is_some_and(|key| key.contains(char::is_control)) {
            let reason = format!("{name} holds a control character, such as the end of a line");
            return Err(malconfigured(reason));
        }
    }
    Ok(())
}

/// The same configuration, for which the variables that are empty do not name an endpoint.
pub(super) fn without_empty_endpoints(config: &SdkConfig, profiles: ProfileSet) -> SdkConfig {
    let endpoint = config.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned);
    let endpoints = Endpoints { config: config.clone(), profiles };
    let mut config = config.to_builder().service_config(endpoints);
    config.set_endpoint_url(endpoint);
    config.build()
}

/// The settings of single services.
#[derive(Debug)]
struct Endpoints {
    config: SdkConfig,
    profiles: ProfileSet,
}

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let (name, member, service) = (key.env().to_owned(), key.profile().to_owned(), key.service_id().to_owned());
        let found = self.config.service_config()?.load_config(key)?;
        if !found.is_empty() {
            return Some(found);
        }
        let of_service = format!("{name}_{}", service.to_uppercase());
        let set = [&name, &of_service].into_iter().filter_map(|name| Some((name.clone(), variable(name)?)));
        let set = Env::from(set.collect::<HashMap<_, _>>());
        let setting = EnvConfigValue::new().env(&name).profile(&member).service_id(&service);
        let (found, _) = setting.load(&set, Some(&self.profiles))?;
        Some(found.into_owned()).filter(|value| !value.is_empty())
    }
}
