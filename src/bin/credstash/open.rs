//! Opens the vault: the one `match` that chooses a store and its key service.

use std::path::Path;

use credstash::Vault;

use crate::config::Address;
use crate::global::Global;
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
        Address::DynamoDb { table } => dynamodb(global, table, key).await,
        Address::Sqlite { .. } if key.is_some() => {
            Err(Failed::Usage("argument -k/--key: names a KMS key, and this store has its own key file".to_owned()))
        }
        // It may wait for the disk and for other processes.
        Address::Sqlite { path, key, made_by_readers } => {
            let opened = tokio::task::spawn_blocking(move || sqlite(&path, &key, access, made_by_readers)).await;
            opened.unwrap_or_else(|panic| Err(Failed::Message(panic.to_string())))
        }
    }
}

#[cfg(feature = "aws")]
async fn dynamodb(global: &Global, table: String, key: Option<&str>) -> Result<Vault, Failed> {
    use credstash::{DynamoDb, Kms, Session};

    let session = Session::open(crate::config::session_options(global)?).await?;
    Ok(Vault::new(DynamoDb::new(&session, table), Kms::new(&session, key.unwrap_or(Kms::DEFAULT_KEY))))
}

#[cfg(not(feature = "aws"))]
async fn dynamodb(_: &Global, _: String, _: Option<&str>) -> Result<Vault, Failed> {
    Err(Failed::Message("this build has no DynamoDB store; give --store local or --store sqlite:PATH".to_owned()))
}

/// A store that is there has its key: a new key could open nothing of it, so one is made only for a new store.
#[cfg(feature = "sqlite")]
fn sqlite(path: &Path, key_file: &Path, access: Access, made_by_readers: bool) -> Result<Vault, Failed> {
    use credstash::{Error, LocalKey, Sqlite};

    let exists = match std::fs::metadata(path) {
        // An empty file that somebody has made for it; with its key it is one that is just being made.
        Ok(found) => found.len() > 0 || key_file.exists(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failed::Message(format!("the store {}: {error}", path.display()))),
    };
    let writes = access == Access::Write;
    let store = match exists {
        true if writes => Sqlite::open_or_create(path),
        false if writes || made_by_readers => {
            // The key first: a store without a key would be of no use, a key without a store is of no harm.
            let key = LocalKey::read_or_create(key_file)?;
            return Ok(Vault::new(Sqlite::open_or_create(path).map_err(Error::from)?, key));
        }
        _ => Sqlite::open(path),
    };
    Ok(Vault::new(store.map_err(Error::from)?, LocalKey::read(key_file)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &Path, _: &Path, _: Access, _: bool) -> Result<Vault, Failed> {
    Err(Failed::Message("this build has no SQLite store; give -t TABLE for one in DynamoDB".to_owned()))
}
