//! From what was typed, the environment and `~/.credstash` to what to open: the one place that knows which wins.

use std::env::VarError;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::global::Global;
use crate::report::Failed;

/// The table of the original.
const DEFAULT_TABLE: &str = "credential-store";

/// The member of `~/.credstash` that the original knows.
const KMS_REGION: &str = "kms-region";

/// More bytes than anybody saves in `~/.credstash`.
const LARGEST_SAVED: u64 = 1 << 20;

/// Where credentials are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A DynamoDB table, with KMS.
    DynamoDb { table: String },
    /// An SQLite file, with a local key in a file.
    Sqlite { path: PathBuf, key: PathBuf, made_by_readers: bool },
}

impl Address {
    /// The flag wins over the environment, a store over a table.
    pub(crate) fn new(global: &Global) -> Result<Self, Failed> {
        if global.store.is_some() && global.table.is_some() {
            return Err(Failed::Usage("argument -t/--table: not allowed with argument --store".to_owned()));
        }
        if let Some(store) = &global.store {
            return parse(store).map_err(|reason| Failed::Usage(format!("argument --store: {reason}")));
        }
        if let Some(table) = &global.table {
            return dynamodb(table).map_err(|reason| Failed::Usage(format!("argument -t/--table: {reason}")));
        }
        if let Some(store) = variable("CREDSTASH_STORE")? {
            return parse(&store).map_err(|reason| Failed::Usage(format!("CREDSTASH_STORE: {reason}")));
        }
        let table = variable("CREDSTASH_DEFAULT_TABLE")?.unwrap_or_else(|| DEFAULT_TABLE.to_owned());
        dynamodb(&table).map_err(|reason| Failed::Usage(format!("CREDSTASH_DEFAULT_TABLE: {reason}")))
    }
}

fn parse(url: &str) -> Result<Address, String> {
    if url == "local" {
        let folder = data_folder()?;
        let (path, key) = (folder.join("credentials.db"), folder.join("key"));
        return Ok(Address::Sqlite { path, key, made_by_readers: true });
    }
    match url.split_once(':') {
        Some(("dynamodb", "")) => dynamodb(DEFAULT_TABLE),
        Some(("dynamodb", table)) => dynamodb(table),
        Some(("sqlite", rest)) => sqlite(rest),
        _ => Err(format!("'{url}' is none of dynamodb:TABLE, local, sqlite:PATH, sqlite:PATH?key=FILE")),
    }
}

/// The names that DynamoDB allows.
fn dynamodb(table: &str) -> Result<Address, String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if !(3..=255).contains(&table.len()) || !table.chars().all(allowed) {
        return Err(format!(
            "'{table}' cannot be the name of a table, which has 3 to 255 letters, digits, '_', '.' and '-'"
        ));
    }
    Ok(Address::DynamoDb { table: table.to_owned() })
}

fn sqlite(rest: &str) -> Result<Address, String> {
    let (path, key) = match rest.split_once("?key=") {
        Some((path, key)) => (path, key.to_owned()),
        None => (rest, format!("{rest}.key")),
    };
    if path.is_empty() || key.is_empty() {
        return Err("sqlite: needs the path of a file, as in sqlite:./credentials.db".to_owned());
    }
    Ok(Address::Sqlite { path: path.into(), key: key.into(), made_by_readers: false })
}

/// Where this user's data lives (XDG Base Directory Specification).
fn data_folder() -> Result<PathBuf, String> {
    let base = match std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(base) => base,
        None => home()?.join(".local/share"),
    };
    Ok(base.join("credstash"))
}

fn home() -> Result<PathBuf, String> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| "the home folder of this user is not known; set HOME".to_owned())
}

/// The value of an environment variable; an empty one counts as not set. What is no text is an error: taken for not set, it
/// would lead to another store, or take a protection away.
fn variable(name: &str) -> Result<Option<String>, Failed> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failed::Usage(format!("{name} is not UTF-8"))),
    }
}

/// Whether what is put is to be bound to its name and version, given whether `--bind` was typed.
pub(crate) fn binds(typed: bool) -> Result<bool, Failed> {
    is_on(typed, "CREDSTASH_BIND", "bind")
}

/// Whether what is not bound is to be refused, given whether `--require-bound` was typed.
pub(crate) fn requires_bound(typed: bool) -> Result<bool, Failed> {
    is_on(typed, "CREDSTASH_REQUIRE_BOUND", "require-bound")
}

/// The flag wins over the environment, and that over `~/.credstash`. What is neither yes nor no is an error: taken for
/// no, it would take a protection away.
fn is_on(typed: bool, name: &str, member: &str) -> Result<bool, Failed> {
    if typed {
        return Ok(true);
    }
    match variable(name)?.as_deref() {
        Some("1" | "true") => return Ok(true),
        Some("0" | "false") => return Ok(false),
        Some(_) => return Err(Failed::Usage(format!("{name} must be 1 or 0"))),
        None => {}
    }
    match saved(member)? {
        None => Ok(false),
        Some((_, Value::Bool(is_on))) => Ok(is_on),
        Some((path, _)) => Err(Failed::Message(format!("{}: \"{member}\" must be true or false", path.display()))),
    }
}

/// A member of `~/.credstash`, with the path of that file.
fn saved(member: &str) -> Result<Option<(PathBuf, Value)>, Failed> {
    let Ok(home) = home() else { return Ok(None) };
    let path = home.join(".credstash");
    Ok(read_saved(&path)?.remove(member).map(|value| (path, value)))
}

/// What to open an AWS session with.
#[cfg(feature = "aws")]
pub(crate) fn session_options(global: &Global) -> Result<credstash::SessionOptions, Failed> {
    if global.profile.is_some() && global.arn.is_some() {
        return Err(Failed::Usage("argument -n/--arn: not allowed with argument -p/--profile".to_owned()));
    }
    if global.mfa_serial.is_some() && global.arn.is_none() {
        return Err(Failed::Usage("argument --mfa-serial: needs the role that asks for it, -n ARN".to_owned()));
    }
    let kms_region = match global.kms_region.clone() {
        Some(region) => Some(region),
        None => saved_kms_region()?,
    };
    let given = |typed: &Option<String>| typed.clone().filter(|typed| !typed.is_empty());
    Ok(credstash::SessionOptions {
        region: given(&global.region),
        kms_region: given(&kms_region),
        profile: given(&global.profile),
        role: global.arn.clone().map(|arn| role(arn, global)).transpose()?,
        trust: global.trust.clone().map(trust),
        connect_timeout: global.timeout_connect,
        read_timeout: global.timeout_read,
    })
}

#[cfg(feature = "aws")]
fn trust(file: PathBuf) -> credstash::Trust {
    match file.to_str() {
        Some("system") => credstash::Trust::System,
        _ => credstash::Trust::File(file),
    }
}

#[cfg(feature = "aws")]
fn role(arn: String, global: &Global) -> Result<credstash::Role, Failed> {
    let mfa = match &global.mfa_serial {
        None => None,
        Some(serial) => {
            let code = crate::terminal::ask(&format!("MFA code of {serial}: "))?;
            let code = String::from_utf8_lossy(code.expose()).trim().to_owned();
            Some(credstash::Mfa { serial: serial.clone(), code })
        }
    };
    Ok(credstash::Role { arn, session_name: global.session_name.clone(), mfa })
}

#[cfg(feature = "aws")]
fn saved_kms_region() -> Result<Option<String>, Failed> {
    match saved(KMS_REGION)? {
        None | Some((_, Value::Null)) => Ok(None),
        Some((_, Value::String(region))) => Ok(Some(region)),
        Some((path, _)) => {
            Err(Failed::Message(format!("{}: the value of \"{KMS_REGION}\" is no text", path.display())))
        }
    }
}

/// Saves `region` in `~/.credstash`, beside what else is in it; the file changes in one step. Whoever could write it
/// could send this user's requests to another region, so it is the owner's only, whatever the umask is.
pub(crate) fn save_kms_region(region: &str) -> Result<(), Failed> {
    let path = home().map_err(Failed::Message)?.join(".credstash");
    let mut saved = read_saved(&path)?;
    saved.insert(KMS_REGION.to_owned(), Value::String(region.to_owned()));
    // A link stays a link.
    let path = fs::canonicalize(&path).unwrap_or(path);
    let draft = path.with_file_name(format!(".credstash.{}", std::process::id()));
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    let written =
        new.and_then(|mut file| writeln!(file, "{}", Value::Object(saved))).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        Failed::Message(format!("{} cannot be written: {error}", path.display()))
    })
}

/// What `~/.credstash` holds; nothing, if it is not there. A pipe in its place is not waited for, and a disk's worth is
/// not read.
fn read_saved(path: &Path) -> Result<Map<String, Value>, Failed> {
    let unusable = |reason: String| Failed::Message(format!("{}: {reason}", path.display()));
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(unusable("is no file".to_owned())),
        Ok(found) if found.len() > LARGEST_SAVED => return Err(unusable("is too large".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(unusable(error.to_string())),
    }
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(saved)) => Ok(saved),
        Ok(_) => Err(unusable(format!("holds no JSON object, such as {{\"{KMS_REGION}\": \"us-east-1\"}}"))),
        Err(error) => Err(unusable(format!("is no JSON: {error}"))),
    }
}

/// What must hold of all addresses and of all that is saved, for a test and for the fuzz target `config`.
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/src/config.rs"]
pub(crate) mod property;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fuzzed_holds() {
        crate::cases::replay("config", property::check);
    }

    #[test]
    fn stores_have_addresses() {
        let table = |table: &str| Ok(Address::DynamoDb { table: table.to_owned() });
        assert_eq!(parse("dynamodb:team.a"), table("team.a"));
        assert_eq!(parse("dynamodb:"), table(DEFAULT_TABLE));
        let file =
            |path: &str, key: &str| Ok(Address::Sqlite { path: path.into(), key: key.into(), made_by_readers: false });
        assert_eq!(parse("sqlite:a/b.db"), file("a/b.db", "a/b.db.key"));
        assert_eq!(parse("sqlite:b.db?key=/k"), file("b.db", "/k"));
        for bad in ["", "x", "s3://b/p", "sqlite:", "sqlite:?key=x", "sqlite:x?key=", "dynamodb:a b", "dynamodb:ab"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
