//! A store of one's own: a text file, one row a line, for which a vault works as it does for any other store.
//!
//! ```sh
//! cargo run --example own_store -- /tmp/credentials.txt
//! ```
//!
//! Rows are sealed before a store sees them, so that such a file may lie in a git repository, where each change shows
//! as a line that came or went. A [`Store`] needs no more than the eight functions below, and must keep two promises:
//! a row that is there is never overwritten, however many put at once; and versions sort by their bytes.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use credstash::{
    Attributes, Context, Draft, Entry, Failure, FailureKind, LocalKey, MalformedAttribute, Name, SealedRow, Select,
    Setup, SetupOutcome, SetupStep, Store, StoreError, Vault, Version,
};
use futures_util::stream::{self, BoxStream, StreamExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: own_store FILE")?;
    let key = LocalKey::read_or_create(&path.with_extension("key"))?;
    let vault = Vault::new(TextFile::open(&path)?, key);

    let name = Name::new("db.password")?;
    vault.put(Draft::next(name.clone(), "hunter2".into())).await?;
    for Entry { name, version, .. } in vault.list().await? {
        writeln!(io::stdout(), "{name} -- version {version}")?;
    }
    let secret = vault.get(&name, &Select::Latest, &Context::new()).await?;
    assert_eq!(secret.expose(), b"hunter2");
    Ok(())
}

/// Rows in a text file, sorted: name, version, comment, key, contents, hmac and digest, with a tab between them.
///
/// Its functions wait for the disk. A program that serves others meanwhile would move that to
/// `tokio::task::spawn_blocking`.
pub struct TextFile(PathBuf);

impl TextFile {
    /// The store in the file at `path`, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }

    fn read(&self) -> Result<Vec<Row>, StoreError> {
        let text = fs::read_to_string(&self.0).map_err(failed)?;
        let rows: Option<Vec<Row>> = text.split_terminator('\n').map(Row::from_line).collect();
        rows.ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "a line that is no row")))
    }

    /// Lets `change` change the rows while no other writer does, and stores what it leaves. Readers see the old file
    /// or the new one, never a part.
    fn write(&self, change: impl FnOnce(&mut Vec<Row>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let lock = File::create(self.0.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?; // until it is dropped
        let mut rows = self.read()?;
        change(&mut rows)?;
        rows.sort_by(|one, other| one.entry.cmp(&other.entry));
        let text: String = rows.iter().map(Row::to_line).collect();
        let draft = self.0.with_extension("draft");
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&draft, &self.0)).map_err(failed)
    }
}

#[async_trait]
impl Store for TextFile {
    async fn setup(&self, options: &Setup, _: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        if *options != Setup::default() {
            return Err(StoreError::Unsupported { store: "a text file", option: "options" });
        }
        Ok(SetupOutcome::Existed)
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.read()?.into_iter().map(|row| row.entry).collect())
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        let entries = self.entries().await?.into_iter();
        Ok(entries.filter(|entry| entry.name == *name).map(|entry| entry.version).collect())
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        Ok(self.versions(name).await?.pop())
    }

    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
        let rows = self.read()?;
        let of_name: Vec<&Row> = rows.iter().filter(|row| row.entry.name == *name).collect();
        selected(name, &of_name, select)
    }

    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        let results = match self.read() {
            Ok(rows) => {
                let rows: Vec<&Row> = rows.iter().collect();
                let names = rows.chunk_by(|one, other| one.entry.name == other.entry.name);
                names.map(|of_name| selected(&of_name[0].entry.name, of_name, select)).collect()
            }
            Err(error) => vec![Err(error)],
        };
        stream::iter(results).boxed()
    }

    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let Entry { name, version, .. } = row.entry.clone();
        self.write(|rows| {
            if rows.iter().any(|row| row.entry.name == name && row.entry.version == version) {
                return Err(StoreError::Exists { name, version });
            }
            rows.push(Row { entry: row.entry.clone(), attributes: Attributes::from(&row.sealed) });
            Ok(())
        })
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        self.write(|rows| {
            rows.retain(|row| row.entry.name != *name || row.entry.version != *version);
            Ok(())
        })
    }
}

/// The selected one of the rows of `name`, which are sorted.
fn selected(name: &Name, rows: &[&Row], select: &Select) -> Result<SealedRow, StoreError> {
    let (row, version) = match select {
        Select::Latest => (rows.last(), None),
        Select::Exactly(asked) => {
            let find = |version: &Version| rows.iter().find(|row| row.entry.version == *version);
            (asked.candidates().find_map(find), Some(asked.padded().clone()))
        }
    };
    row.ok_or_else(|| StoreError::NotFound { name: name.clone(), version })?.to_sealed_row()
}

/// A line of the file.
struct Row {
    entry: Entry,
    attributes: Attributes,
}

impl Row {
    fn to_line(&self) -> String {
        let Entry { name, version, comment } = &self.entry;
        let Attributes { key, contents, hmac, digest, bound } = &self.attributes;
        let hmac = hmac.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let text = |attribute: &Option<String>| escape(attribute.as_deref().unwrap_or_default());
        let fields = [
            escape(name.as_str()),
            escape(version.as_str()),
            text(comment),
            text(key),
            text(contents),
            escape(&hmac),
            text(digest),
            text(bound),
        ];
        fields.join("\t") + "\n"
    }

    fn from_line(line: &str) -> Option<Self> {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let [name, version, comment, key, contents, hmac, digest, bound] = <[String; 8]>::try_from(fields).ok()?;
        let unless_empty = |text: String| Some(text).filter(|text| !text.is_empty());
        Some(Self {
            entry: Entry {
                name: Name::new(name).ok()?,
                version: Version::stored(version),
                comment: unless_empty(comment),
            },
            attributes: Attributes {
                key: Some(key),
                contents: Some(contents),
                hmac: Some(hmac.into_bytes()),
                digest: Some(digest),
                bound: unless_empty(bound),
            },
        })
    }

    /// The row as a vault takes it. What cannot be read concerns this row alone.
    fn to_sealed_row(&self) -> Result<SealedRow, StoreError> {
        let malformed = |malformed: MalformedAttribute| {
            let Entry { name, version, .. } = self.entry.clone();
            StoreError::Malformed { name, version, malformed }
        };
        Ok(SealedRow { entry: self.entry.clone(), sealed: self.attributes.clone().decode().map_err(malformed)? })
    }
}

/// A text without tabs and line feeds.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\t', r"\t").replace('\n', r"\n")
}

fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let next = || match characters.next()? {
        '\\' => match characters.next()? {
            't' => Some('\t'),
            'n' => Some('\n'),
            other => Some(other),
        },
        other => Some(other),
    };
    std::iter::from_fn(next).collect()
}

/// Every store tells of its failures in these words, so that whoever uses a vault need not know which store it has.
fn failed(error: io::Error) -> StoreError {
    StoreError::Failed(Failure::new(FailureKind::Io, format!("the text file of credentials: {error}")))
}
