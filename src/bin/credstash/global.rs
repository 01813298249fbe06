//! The options that every command has: which store, and as whom.

use std::path::PathBuf;

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
    #[arg(short, long, global = true, value_name = "TABLE", conflicts_with = "store")]
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

    /// Say on stderr, or in the log file, what goes on: ERROR, WARNING, INFO, DEBUG, or TRACE for every call
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Append the log to this file; without it there is none
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

/// The session name of the original.
const DEFAULT_SESSION_NAME: &str = "AssumeRoleCredstashSession1";
