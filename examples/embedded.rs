//! A program that keeps its own credentials, with no cloud and no server: an SQLite file, and a key file beside it.
//!
//! ```sh
//! cargo run --example embedded -- ~/.local/share/my-app
//! ```
//!
//! Each run puts one more version and reads it back. Both files are made, with mode 0600, if they are not there. The
//! key belongs in the backup as much as the database does, but not in the same one.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use credstash::{Context, Draft, LocalKey, Name, Select, Sqlite, Vault};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: embedded FOLDER")?;
    let store = Sqlite::open_or_create(&folder.join("credentials.db"))?;
    let vault = Vault::new(store, LocalKey::read_or_create(&folder.join("key"))?);

    let name = Name::new("db.password")?;
    let version = vault.put(Draft::next(name.clone(), "hunter2".into())).await?;
    let secret = vault.get(&name, &Select::Latest, &Context::new()).await?;

    let mut stdout = std::io::stdout();
    write!(stdout, "version {version} of {name} is ")?;
    stdout.write_all(secret.expose())?; // any bytes, which need not be text
    writeln!(stdout)?;
    Ok(())
}
