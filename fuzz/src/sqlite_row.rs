//! Rows of an SQLite file that somebody else has changed: each is read as it was stored, or is an error that names it.

use std::path::PathBuf;

use credstash::{
    Context, Draft, Error, LocalKey, MalformedAttribute, Name, NewVersion, Select, Sqlite, Store as _, StoreError,
    Vault, Version,
};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::cases::Input;

const COLUMNS: [&str; 7] = ["name", "version", "key", "contents", "hmac", "digest", "comment"];

/// The name and the secret of the row that is changed, and of the one that is not.
const CHANGED: (&str, &str) = ("changed", "the secret");
const SOUND: (&str, &str) = ("sound", "another secret");

/// Takes the columns to change, each with a value of any type.
pub fn check(case: &[u8]) {
    thread_local! {
        static WORLD: World = World::new();
    }
    WORLD.with(|world| world.check(Input::new(case)));
}

struct World {
    runtime: Runtime,
    vault: Vault,
    store: Sqlite,
    raw: Connection,
    path: PathBuf,
    row: Vec<Value>,
    _folder: TempDir,
}

impl World {
    /// A store whose table takes values of any type: the marks of a store can be put on any file.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("credentials.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let store = Sqlite::open_or_create(&path).expect("made");
        let vault = Vault::new(store.clone(), LocalKey::random().expect("random bytes"));
        for (name, secret) in [CHANGED, SOUND] {
            let name = Name::new(name).expect("a name");
            let draft = Draft { version: NewVersion::Exactly(Version::first()), ..Draft::next(name, secret.into()) };
            runtime.block_on(vault.put(draft)).expect("stored");
        }
        let raw = Connection::open(&path).expect("opened");
        raw.execute_batch(
            "ALTER TABLE credential RENAME TO strict;
             CREATE TABLE credential (name, version, key, contents, hmac, digest, comment, bound DEFAULT 0);
             INSERT INTO credential SELECT name, version, key, contents, hmac, digest, comment, bound FROM strict;
             DROP TABLE strict;
             PRAGMA synchronous = OFF;",
        )
        .expect("changed");
        let values = |row: &rusqlite::Row<'_>| (0..COLUMNS.len()).map(|column| row.get(column)).collect();
        let row = raw.query_row("SELECT * FROM credential WHERE name = ?", [CHANGED.0], values).expect("a row");
        Self { runtime, vault, store, raw, path, row, _folder: folder }
    }

    fn check(&self, mut input: Input<'_>) {
        let mut row = self.row.clone();
        while !input.is_empty() {
            let column = input.below(COLUMNS.len());
            row[column] = value(&mut input, &row[column]);
        }
        // Whatever name the last case gave its row.
        let others = "DELETE FROM credential WHERE rowid <> (SELECT min(rowid) FROM credential WHERE name IS ?)";
        self.raw.execute(others, [SOUND.0]).expect("deleted");
        let stored = self.raw.execute("INSERT INTO credential VALUES (?, ?, ?, ?, ?, ?, ?, 0)", params_from_iter(&row));
        stored.expect("stored");
        self.make_text_of_blobs(&row);
        self.read(&row);
    }

    /// A text that is not UTF-8 can be had only by a cast: of a Blob that begins with ff.
    fn make_text_of_blobs(&self, row: &[Value]) {
        for (column, value) in COLUMNS.iter().zip(row) {
            if matches!(value, Value::Blob(blob) if blob.first() == Some(&0xff)) {
                let cast = format!("UPDATE credential SET {column} = CAST({column} AS TEXT) WHERE name IS NOT ?");
                self.raw.execute(&cast, [SOUND.0]).expect("changed");
            }
        }
    }

    fn read(&self, row: &[Value]) {
        let name = match &row[0] {
            Value::Text(name) => Name::new(name.as_str()).ok(),
            _ => None,
        };
        let context = Context::new();
        let sound = Name::new(SOUND.0).expect("a name");
        let is_sound = name.as_ref() != Some(&sound);
        if is_sound {
            let read = self.runtime.block_on(self.vault.get(&sound, &Select::Latest, &context));
            assert_eq!(read.expect("nothing is wrong with it").expose(), SOUND.1.as_bytes());
        }
        let right = |read: &credstash::Secret, what: &str| {
            assert_eq!(read.expose(), CHANGED.1.as_bytes(), "{what}: a wrong secret of {row:?}");
            assert_eq!(row[3..5], self.row[3..5], "{what}: changed and not refused");
        };
        if let Some(name) = name.as_ref().filter(|_| is_sound) {
            match self.runtime.block_on(self.vault.get(name, &Select::Latest, &context)) {
                Ok(secret) => right(&secret, "get"),
                Err(error) => self.names(&error, name),
            }
        }
        match self.runtime.block_on(self.vault.get_all(None, &Select::Latest, &context, &|_| ())) {
            Ok(collected) => {
                let name = name.as_ref().expect("only a name can be read");
                assert_eq!(collected.secrets.len() + collected.failures.len(), 1 + usize::from(is_sound));
                if is_sound {
                    assert_eq!(collected.secrets[&sound].expose(), SOUND.1.as_bytes());
                    match (collected.secrets.get(name), collected.failures.get(name)) {
                        (Some(secret), None) => right(secret, "getall"),
                        (None, Some(error)) => self.names(error, name),
                        both => panic!("{both:?}"),
                    }
                }
            }
            Err(error) => self.is_about_the_store(&error, row),
        }
        match self.runtime.block_on(self.store.entries()) {
            Ok(entries) => assert_eq!(entries.len(), 2),
            Err(error) => self.is_about_the_store(&error.into(), row),
        }
    }

    /// The error names the credential, and the attribute if it is the store that cannot read it.
    fn names(&self, error: &Error, name: &Name) {
        match error {
            Error::Store(StoreError::Malformed { malformed: MalformedAttribute { attribute, .. }, .. }) => {
                assert!(COLUMNS[2..6].contains(attribute), "{error}");
            }
            // The version of the row is not one.
            Error::Store(StoreError::Failed(_)) => {
                return assert!(error.to_string().contains(self.path.to_str().expect("UTF-8")), "{error}");
            }
            _ => {}
        }
        assert_eq!(error.name(), Some(name), "{error}");
    }

    /// The row has no name or no version by which it could be named, so the store is.
    fn is_about_the_store(&self, error: &Error, row: &[Value]) {
        assert!(error.to_string().contains(self.path.to_str().expect("UTF-8")), "{error}");
        let is_text = |value: &Value| matches!(value, Value::Text(text) if !text.is_empty() && text.len() <= 2048);
        assert!(!is_text(&row[0]) || !matches!(row[1], Value::Text(_)), "{error} in {row:?}");
    }
}

/// A value of any type, or the one that was there with a change in it.
fn value(input: &mut Input<'_>, old: &Value) -> Value {
    match input.byte() % 7 {
        0 => Value::Null,
        1 => Value::Integer(i64::from(input.byte()) - 1),
        2 => Value::Real(f64::from(input.byte()) / 3.0),
        3 | 4 => Value::Text(input.text()),
        5 => Value::Blob(input.bytes().to_vec()),
        _ => match old {
            Value::Blob(bytes) if !bytes.is_empty() => {
                let mut bytes = bytes.clone();
                let at = input.below(bytes.len());
                bytes[at] ^= input.byte();
                Value::Blob(bytes)
            }
            old => old.clone(),
        },
    }
}
