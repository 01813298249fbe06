//! The options of `put` and `putall`, and the drafts that follow from them.

use clap::builder::PossibleValuesParser;
use credstash::{Context, Digest, Draft, Name, NewVersion, Secret, Version};

use crate::config;
use crate::report::Failed;

/// How a credential is written.
#[derive(clap::Args)]
pub(crate) struct WriteOptions {
    /// KMS key that wraps the one-time key: an alias, an id or an ARN [default: alias/credstash]
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// Comment, for all to see who may list
    #[arg(short, long, value_name = "TEXT")]
    comment: Option<String>,

    /// Version to store: a number, padded with zeros, or any other text; it must not exist yet [default: 1, of putall 0]
    #[arg(short, long, value_name = "VERSION")]
    pub(crate) version: Option<String>,

    /// Store the version after the newest one; -v is then ignored
    #[arg(short, long)]
    pub(crate) autoversion: bool,

    /// Bind it to its name and version, so that it can be read in no other place; the original then needs both as context
    /// [default: CREDSTASH_BIND, "bind" in ~/.credstash, no]
    #[arg(long)]
    bind: bool,

    /// Digest of the HMAC
    #[arg(short, long, value_name = "DIGEST", default_value = "SHA256", value_parser = digests())]
    digest: String,
}

fn digests() -> PossibleValuesParser {
    PossibleValuesParser::new(Digest::WRITABLE.map(Digest::name))
}

impl WriteOptions {
    /// The draft of one credential; `default_version` is what a missing `-v` means.
    pub(super) fn draft(
        &self,
        name: &str,
        secret: Secret,
        context: Context,
        default_version: &str,
    ) -> Result<Draft, Failed> {
        let refused = |error: &dyn std::fmt::Display| Failed::Message(error.to_string());
        let version = match self.autoversion {
            true => NewVersion::Next,
            false => {
                let typed = self.version.as_deref().unwrap_or(default_version);
                NewVersion::Exactly(Version::padded(typed).map_err(|error| refused(&error))?)
            }
        };
        Ok(Draft {
            name: Name::new(name).map_err(|error| refused(&error))?,
            secret,
            version,
            comment: self.comment.clone().filter(|comment| !comment.is_empty()),
            context,
            digest: Digest::from_name(&self.digest).map_err(|error| refused(&error))?,
            bind: config::binds(self.bind)?,
        })
    }
}
