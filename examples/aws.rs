//! Reads a credential from a credstash table: DynamoDB, and a data key that KMS unwraps.
//!
//! ```sh
//! cargo run --example aws -- db.password            # the newest version
//! cargo run --example aws -- db.password env=prod   # one that was put with a context
//! ```
//!
//! Region, credentials and endpoints come from where every AWS tool takes them: the environment and the files in
//! `~/.aws`. It needs the permissions dynamodb:Query and kms:Decrypt.

use std::error::Error;
use std::io::Write as _;

use credstash::{Context, DynamoDb, Kms, Name, Select, Session, SessionOptions, StoreError, Vault};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = Name::new(args.next().ok_or("usage: aws NAME [KEY=VALUE ..]")?)?;
    let context = args.map(|pair| Context::parse_pair(&pair)).collect::<Result<Context, _>>()?;

    let session = Session::open(SessionOptions::default()).await?;
    let store = DynamoDb::new(&session, DynamoDb::DEFAULT_TABLE);
    let vault = Vault::new(store, Kms::new(&session, Kms::DEFAULT_KEY));

    match vault.get(&name, &Select::Latest, &context).await {
        Ok(secret) => std::io::stdout().write_all(secret.expose())?,
        // Absence is no failure like the others: only here may a program go on with a default.
        Err(credstash::Error::Store(StoreError::NotFound { .. })) => return Err(format!("there is no {name}").into()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
