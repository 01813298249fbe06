//! `credstash setup`

use credstash::{Billing, Context, Setup, SetupOutcome, SetupStep};

use crate::config::{self, Address};
use crate::global::Global;
use crate::open::{Access, open};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, Failed};

/// Make the store: the DynamoDB table, or the embedded store and its key
#[derive(clap::Args)]
#[command(before_help = "\
Example: credstash setup --tags team=infra --pitr --deletion-protection
         credstash --store local setup")]
pub(crate) struct Args {
    /// Save this region in ~/.credstash as the one of the KMS key
    #[arg(long, value_name = "REGION")]
    save_kms_region: Option<String>,

    /// Tags of the table, key=value each
    #[arg(long, value_name = "TAG", num_args = 0..)]
    tags: Option<Vec<String>>,

    /// How the table is paid for [default: on-demand]
    #[arg(long, value_name = "MODE")]
    billing: Option<Mode>,

    /// Turn point-in-time recovery on
    #[arg(long)]
    pitr: bool,

    /// Refuse to delete the table
    #[arg(long)]
    deletion_protection: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    /// Each request by itself
    OnDemand,
    /// One read and one write unit, as the original makes its table
    Provisioned,
}

impl Args {
    fn check(&self) -> Result<Setup, Failed> {
        let tag = |word: &String| {
            Context::parse_pair(word).map_err(|error| Failed::Usage(format!("argument --tags: '{word}' {error}")))
        };
        Ok(Setup {
            tags: self.tags.iter().flatten().map(tag).collect::<Result<_, _>>()?,
            billing: self.billing.map(|mode| match mode {
                Mode::OnDemand => Billing::OnDemand,
                Mode::Provisioned => Billing::Provisioned,
            }),
            point_in_time_recovery: self.pitr,
            deletion_protection: self.deletion_protection,
        })
    }
}

pub(crate) async fn run(args: Args, global: &Global, out: &mut Output) -> Result<(), Failed> {
    let options = args.check()?;
    // What cannot be opened is refused before anything is saved.
    Address::new(global)?;
    if let Some(region) = args.save_kms_region.as_ref().filter(|region| !region.is_empty()) {
        config::save_kms_region(region)?;
        out.line(&format!("KMS region set to {region}"))?;
    }
    let vault = open(global, None, Access::Write).await?;
    let progress = Progress::new("waiting for the table");
    let step = |step| {
        progress.clear();
        // What is lost if nobody reads it is a line, not the table.
        let _ = Output::stdout().line(match step {
            SetupStep::Creating => "Creating table...",
            SetupStep::Waiting => "Waiting for table to be created...",
            SetupStep::Tagging => "Adding tags...",
            SetupStep::EnablingRecovery => "Turning point-in-time recovery on...",
        });
    };
    let outcome = progress.during(vault.setup(&options, &step)).await?;
    progress.clear();
    match outcome {
        SetupOutcome::Existed => {
            if options.billing.is_some() || options.deletion_protection {
                report::warn("the table was there already, and its billing and protection stay as they are");
            }
            Ok(out.line("Credential Store table already exists")?)
        }
        SetupOutcome::Created => Ok(out.line(&match Address::new(global)? {
            Address::DynamoDb { .. } => {
                "Table has been created. Go read the README about how to create your KMS key".to_owned()
            }
            Address::Sqlite { key, .. } => format!(
                "Table has been created. Keep a copy of the key {}: without it nothing can be read",
                key.display()
            ),
        })?),
    }
}
