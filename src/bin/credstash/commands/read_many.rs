//! Reading credentials, one or many: what `getall` and `get` have in common.

use credstash::{Collected, Context, Pattern, Select, Vault};

use crate::config;
use crate::format::{Binary, Format, Unfit};
use crate::progress::Progress;
use crate::report::{self, Failed};

/// Which credentials are read, and how many of them are written.
#[derive(clap::Args)]
pub(crate) struct ReadOptions {
    /// How to write several credentials
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    pub(crate) format: Format,

    /// How to write values that are not UTF-8 text; without it they are an error
    #[arg(long, value_name = "HOW")]
    binary: Option<Binary>,

    /// Leave out credentials that cannot be read, and name them on stderr
    #[arg(long)]
    skip_undecryptable: bool,

    /// Refuse what is not bound to its name and version; see `put --bind`
    /// [default: CREDSTASH_REQUIRE_BOUND, "require-bound" in ~/.credstash, no]
    #[arg(long)]
    require_bound: bool,
}

impl ReadOptions {
    /// The vault, as it is to be read.
    pub(super) fn vault(&self, vault: Vault) -> Result<Vault, Failed> {
        Ok(if config::requires_bound(self.require_bound)? { vault.requiring_bound() } else { vault })
    }

    /// The credentials that match `pattern`, all of them without one, in the chosen format: complete, or an error
    /// after every one that cannot be read was named.
    pub(super) async fn read(
        &self,
        vault: &Vault,
        pattern: Option<&Pattern>,
        select: &Select,
        context: &Context,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, Failed> {
        let progress = Progress::new("reading");
        let collected = vault
            .get_all(pattern, select, context, &|count| progress.show(format_args!("{count} credentials")))
            .await?;
        drop(progress);
        let Collected { secrets, failures } = collected;
        for (name, error) in &failures {
            match self.skip_undecryptable {
                true => report::left_out(name, error),
                false => report::about(name, error),
            }
        }
        if !failures.is_empty() && !self.skip_undecryptable {
            return Err(Failed::Reported);
        }
        self.format.write(&secrets, self.binary).map_err(|Unfit(messages)| {
            messages.iter().for_each(|message| report::warn(message));
            Failed::Reported
        })
    }
}
