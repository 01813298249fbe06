//! The options that every command has: which store, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Which store and whose credentials; before the command, and for the most part after it too.
#[derive(Args)]
#[command(next_help_heading = "Which store, and as whom")]
pub(crate) struct Global {
    /// AWS region of the table [default: AWS_DEFAULT_REGION, AWS_REGION, the profile's, us-east-1]
    #[arg(short, long, global = true, value_name = "REGION")]
    pub(crate) region: Option<String>,

    /// AWS region of the KMS key [default: the one saved by `setup --save-kms-region`, else that of the table]
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) kms_region: Option<String>,

    /// DynamoDB table [default: CREDSTASH_DEFAULT_TABLE, credential-store]
    // `--t` was short for it alone, before there were other options that begin so.
    #[arg(short, long, alias = "t", global = true, value_name = "TABLE", conflicts_with = "store")]
    pub(crate) table: Option<String>,

    /// Where credentials are kept: dynamodb:TABLE, local, sqlite:PATH or sqlite:PATH?key=FILE
    /// [default: CREDSTASH_STORE, the table]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,

    /// Profile of ~/.aws/config to take AWS credentials from
    #[arg(short, long, global = true, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// AWS role to assume; before the command, since `get -n` is another option
    #[arg(short = 'n', long, value_name = "ARN")]
    pub(crate) arn: Option<String>,

    /// Name of the role's session, as CloudTrail shows it
    #[arg(long, global = true, value_name = "NAME", default_value = DEFAULT_SESSION_NAME)]
    pub(crate) session_name: String,

    /// Device whose code the role asks for; the code is asked for on the terminal
    #[arg(long, global = true, value_name = "SERIAL")]
    pub(crate) mfa_serial: Option<String>,

    /// Whom to trust with TLS: a PEM file of authorities, or `system` for those of this machine
    /// [default: AWS_CA_BUNDLE, the profile's ca_bundle, SSL_CERT_FILE, Mozilla's, which are built in]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,

    /// Give up after this long, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Wait this long for a connection before trying again, in seconds [default: 3]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout_connect: Option<Duration>,

    /// Wait this long for an answer of AWS before trying again, in seconds [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout_read: Option<Duration>,

    /// Say on stderr, or in the log file, what goes on: ERROR, WARNING, INFO, DEBUG, or TRACE for every call
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Append the log to this file; without it there is none
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or("it must be a number of seconds above 0, such as 30 or 0.5")
}

/// The session name of the original.
const DEFAULT_SESSION_NAME: &str = "AssumeRoleCredstashSession1";
