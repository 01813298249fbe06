//! Opens the vault: the one `match` that chooses a store and its key service.

use credstash::Vault;

use crate::args::Global;
use crate::config::Address;
use crate::report::Failed;

/// Whether a command may make a store that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The store must be there: a mistyped path must not read as an empty store.
    Read,
    /// An embedded store is made on first use.
    Write,
}

/// The vault at the address that `global` gives, with `key` as the master key of new credentials.
pub(crate) async fn open(global: &Global, key: Option<&str>, access: Access) -> Result<Vault, Failed> {
    match Address::new(global)? {
        #[cfg(feature = "aws")]
        Address::DynamoDb { table } => {
            let session = credstash::Session::open(crate::config::session_options(global)?).await?;
            let store = credstash::DynamoDb::new(&session, table);
            Ok(Vault::new(store, credstash::Kms::new(&session, key.unwrap_or(credstash::Kms::DEFAULT_KEY))))
        }
        #[cfg(not(feature = "aws"))]
        Address::DynamoDb { .. } => Err(Failed::Message(
            "this build has no DynamoDB store; give --store local or --store sqlite:PATH".to_owned(),
        )),
        #[cfg(feature = "sqlite")]
        Address::Sqlite { path, key: key_file, made_by_readers } => {
            if key.is_some() {
                return Err(Failed::Usage(
                    "argument -k/--key: names a KMS key, and this store has its own key file".to_owned(),
                ));
            }
            sqlite(&path, &key_file, made_by_readers || access == Access::Write)
        }
        #[cfg(not(feature = "sqlite"))]
        Address::Sqlite { .. } => Err(Failed::Message("this build has no SQLite store".to_owned())),
    }
}

/// A store that is there has its key: a new key could open nothing of it, so one is made only for a new store.
#[cfg(feature = "sqlite")]
fn sqlite(path: &std::path::Path, key_file: &std::path::Path, make: bool) -> Result<Vault, Failed> {
    use credstash::{LocalKey, Sqlite};

    if path.try_exists()? || !make {
        let store = Sqlite::open(path).map_err(credstash::Error::from)?;
        return Ok(Vault::new(store, LocalKey::read(key_file)?));
    }
    // The key first: a store without a key would be of no use, a key without a store is of no harm.
    let key = LocalKey::read_or_create(key_file)?;
    let store = Sqlite::open_or_create(path).map_err(credstash::Error::from)?;
    Ok(Vault::new(store, key))
}
