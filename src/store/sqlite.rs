//! The embedded store: rows in one SQLite file, which several processes may use at once.
//!
//! The write-ahead log lets readers and a writer go on side by side. Files have mode 0600, and a folder that is made
//! for them 0700.
//!
//! A put that ended survives the loss of power. For that, this must reach the disk in this order, each step flushed
//! before the next begins (`strace -f -e trace=openat,write,pwrite64,fsync,fdatasync,unlink` shows it):
//!
//! 1. Of a new store: the key's bytes, then its name in its folder; the folders that were made; the file with its header,
//!    and its name; the schema. A store that is there has its key.
//! 2. The row in the log. With `synchronous=EXTRA` SQLite flushes the log at the end of each transaction, and a new log's
//!    name before that (SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous").
//! 3. Only then the put ends, and the program says so.
//!
//! When the last connection is closed the rows move from the log into the file, which is flushed before the log goes.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior, named_params, params,
};
use tokio::sync::oneshot;

use self::file::{Makes, Unprepared, prepare};
use super::{Setup, SetupOutcome, SetupStep, Store, StoreError};
use crate::envelope::{Digest, Sealed, Suite};
use crate::failure::{Failure, FailureKind};
use crate::files::{make_folder_of, new_private_file};
use crate::name::Name;
use crate::row::{Entry, MalformedAttribute, SealedRow};
use crate::secret::WrappedKey;
use crate::version::{Select, Version};

const ROW: &str = "name, version, comment, key, contents, hmac, digest, bound";

/// A credential store in an SQLite file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    waiting: Arc<Mutex<Vec<Put>>>,
    place: Arc<str>,
    made: bool,
}

/// A row that waits for a transaction.
#[derive(Debug)]
struct Put {
    row: SealedRow,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Stores what waits, or, when the runtime ends before that, lets nobody wait for it: the puts in the queue fail, and the
/// next one is the first again.
struct Runner(Option<Sqlite>);

impl Runner {
    fn put_waiting(mut self, connection: &Connection) {
        if let Some(store) = self.0.take() {
            store.put_waiting(connection);
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(store) = &self.0 {
            store.waiting().clear();
        }
    }
}

impl Sqlite {
    /// The store in the file at `path`.
    ///
    /// # Errors
    /// [`StoreError::NotSetUp`] when there is no such file, or one that is empty and stays so for three seconds;
    /// [`StoreError::NotAStore`] when it is something else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match std::fs::metadata(path) {
            Ok(_) => Self::connect(path, Makes::Nothing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::NotSetUp {
                place: path.display().to_string(),
                message: format!("there is no credential store at {}", path.display()),
            }),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// The store in the file at `path`, which is made, with the folders above it, if it is not there.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] when the file is something else, [`StoreError::Failed`] when it cannot be made.
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        make_folder_of(path).map_err(|error| failed(path, error))?;
        // SQLite would make the file with the process's umask, and gives its mode to the files beside it.
        match new_private_file().open(path) {
            Ok(_) => Self::connect(path, Makes::File),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::connect(path, Makes::Table),
            Err(error) => Err(failed(path, error)),
        }
    }

    fn connect(path: &Path, makes: Makes) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let connection = prepare(path, makes).map_err(|error| match error {
            Unprepared::Empty => StoreError::NotSetUp {
                message: format!("the file {place} is empty, and no credential store"),
                place: place.clone(),
            },
            Unprepared::Unreachable(error) => failed(path, error),
            Unprepared::Foreign(reason) => StoreError::NotAStore { place: place.clone(), reason },
            Unprepared::Failed(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                StoreError::NotAStore { place: place.clone(), reason: error.to_string() }
            }
            Unprepared::Failed(error) => failed(path, error),
        })?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            waiting: Arc::default(),
            place: place.into(),
            made: makes == Makes::File,
        })
    }

    /// The rows are whole at any time, so a poisoned lock is as good as any.
    fn waiting(&self) -> MutexGuard<'_, Vec<Put>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores all rows that wait, in one transaction, and tells each put what became of its own.
    fn put_waiting(&self, connection: &Connection) {
        let (rows, answers): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *self.waiting()).into_iter().map(|put| (put.row, put.answer)).unzip();
        match insert(connection, &rows) {
            Ok(stored) => {
                for ((row, answer), stored) in rows.into_iter().zip(answers).zip(stored) {
                    let Entry { name, version, .. } = row.entry;
                    // Whoever does not wait any more needs no answer.
                    let _ = answer.send(if stored { Ok(()) } else { Err(StoreError::Exists { name, version }) });
                }
            }
            Err(error) => {
                let error = failed(Path::new(&*self.place), error);
                answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
            }
        }
    }

    /// Runs `work` where it may block: SQLite waits for the disk, and for other processes.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A panic elsewhere has rolled its transaction back: a poisoned lock is as good as any.
            work(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.unwrap_or_else(|error| Err(failed(Path::new(&*self.place), error)))
    }

    /// As [`Sqlite::run`], for work that fails in no other way than by SQLite.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = PathBuf::from(&*self.place);
        self.run(move |connection| work(connection).map_err(|error| failed(&place, error))).await
    }

    /// As [`Sqlite::query`], for work that must miss no row: those that it sees are of one moment. A damaged page may lack
    /// rows and be read without an error, so that the structure of the file is checked first.
    async fn query_all<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = PathBuf::from(&*self.place);
        self.run(move |connection| {
            let failed = |error| failed(&place, error);
            let snapshot = connection.unchecked_transaction().map_err(failed)?;
            let check = snapshot.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
            let found: String = check.map_err(failed)?;
            match found.as_str() {
                "ok" => work(&snapshot).map_err(failed),
                found => {
                    // The line before says which database it is about.
                    let damage = found.lines().last().unwrap_or_default();
                    Err(self::failed(&place, format_args!("the file is damaged ({damage}): restore a copy of it")))
                }
            }
        })
        .await
    }
}

/// Stores the rows that are not there yet, in one transaction; says of each whether it was stored.
fn insert(connection: &Connection, rows: &[SealedRow]) -> rusqlite::Result<Vec<bool>> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO credential (name, version, comment, key, contents, hmac, digest, bound)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    let stored = rows.iter().map(|SealedRow { entry, sealed }| {
        let Suite::CtrHmac(digest) = sealed.suite;
        let stored = statement.execute(params![
            entry.name.as_str(),
            entry.version.as_str(),
            entry.comment.as_deref().filter(|comment| !comment.is_empty()),
            sealed.wrapped_key.as_bytes(),
            sealed.contents,
            sealed.mac,
            digest.name(),
            sealed.bound,
        ])?;
        Ok(stored == 1)
    });
    let stored = stored.collect::<rusqlite::Result<_>>()?;
    drop(statement);
    transaction.commit()?;
    Ok(stored)
}

#[async_trait]
impl Store for Sqlite {
    async fn setup(&self, options: &Setup, step: &(dyn Fn(SetupStep) + Sync)) -> Result<SetupOutcome, StoreError> {
        options.refuse_all("SQLite")?;
        if !self.made {
            return Ok(SetupOutcome::Existed);
        }
        step(SetupStep::Creating);
        Ok(SetupOutcome::Created)
    }

    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.query_all(|connection| {
            let mut statement = connection.prepare("SELECT name, version, comment FROM credential")?;
            statement.query_map([], read_entry)?.collect()
        })
        .await
    }

    async fn versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        let name = name.clone();
        self.query_all(move |connection| {
            let mut statement = connection.prepare("SELECT version FROM credential WHERE name = ? ORDER BY version")?;
            statement.query_map([name.as_str()], |row| row.get::<_, String>(0).map(Version::stored))?.collect()
        })
        .await
    }

    async fn newest(&self, name: &Name) -> Result<Option<Version>, StoreError> {
        let name = name.clone();
        self.query(move |connection| {
            let sql = "SELECT max(version) FROM credential WHERE name = ?";
            let newest: Option<String> = connection.query_row(sql, [name.as_str()], |row| row.get(0))?;
            Ok(newest.map(Version::stored))
        })
        .await
    }

    async fn get(&self, name: &Name, select: &Select) -> Result<SealedRow, StoreError> {
        let (name, select) = (name.clone(), select.clone());
        let place = PathBuf::from(&*self.place);
        self.run(move |connection| {
            let mut found = None;
            match &select {
                Select::Latest => {
                    let sql = format!("SELECT {ROW} FROM credential WHERE name = ? ORDER BY version DESC LIMIT 1");
                    let row = connection.query_row(&sql, [name.as_str()], read_row).optional();
                    found = row.map_err(|error| failed(&place, error))?;
                }
                Select::Exactly(asked) => {
                    let sql = format!("SELECT {ROW} FROM credential WHERE name = ? AND version = ?");
                    for version in asked.candidates() {
                        let row = connection.query_row(&sql, [name.as_str(), version.as_str()], read_row).optional();
                        found = row.map_err(|error| failed(&place, error))?;
                        if found.is_some() {
                            break;
                        }
                    }
                }
            }
            found.ok_or_else(|| StoreError::not_found(&name, &select))?
        })
        .await
    }

    /// All at once.
    fn rows<'a>(&'a self, select: &'a Select) -> BoxStream<'a, Result<SealedRow, StoreError>> {
        let wanted = select.clone();
        let read = self.query_all(move |connection| match &wanted {
            Select::Latest => {
                let sql = format!(
                    "SELECT {ROW} FROM credential AS this WHERE version IS
                        (SELECT max(version) FROM credential WHERE name IS this.name)"
                );
                let mut statement = connection.prepare(&sql)?;
                statement.query_map([], read_row)?.collect::<rusqlite::Result<Vec<_>>>()
            }
            Select::Exactly(asked) => {
                let padded = asked.padded().as_str();
                let verbatim = asked.candidates().nth(1).map(Version::as_str);
                // One row for each name, with nulls in it where neither version is there.
                let sql = format!(
                    "SELECT {columns} FROM (SELECT DISTINCT name FROM credential) AS known
                        LEFT JOIN credential AS this ON this.name = known.name AND this.version =
                            (SELECT version FROM credential WHERE name = known.name AND version IN (:padded, :verbatim)
                                ORDER BY version <> :padded LIMIT 1)",
                    columns = ROW.replacen("name, version", "known.name, this.version", 1)
                );
                let mut statement = connection.prepare(&sql)?;
                let rows = statement.query_map(named_params! {":padded": padded, ":verbatim": verbatim}, |row| {
                    match row.get_ref(1)? {
                        rusqlite::types::ValueRef::Null => Ok(Err(StoreError::not_found(&read_name(row)?, &wanted))),
                        _ => read_row(row),
                    }
                })?;
                rows.collect()
            }
        });
        stream::once(read)
            .flat_map(|read| match read {
                Ok(rows) => stream::iter(rows).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    /// Puts that are under way together share a transaction, and so the wait for the disk: the first to wait runs it
    /// for all that have come by then. Each ends when its own row is on the disk.
    async fn put(&self, row: &SealedRow) -> Result<(), StoreError> {
        let (answer, stored) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting();
            waiting.push(Put { row: row.clone(), answer });
            waiting.len() == 1
        };
        if is_first {
            let runner = Runner(Some(self.clone()));
            self.run(move |connection| {
                runner.put_waiting(connection);
                Ok(())
            })
            .await?;
        }
        stored.await.unwrap_or_else(|error| Err(failed(Path::new(&*self.place), error)))
    }

    fn puts_at_once(&self) -> usize {
        1024
    }

    async fn delete(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        let (name, version) = (name.clone(), version.clone());
        self.query(move |connection| {
            let sql = "DELETE FROM credential WHERE name = ? AND version = ?";
            connection.execute(sql, [name.as_str(), version.as_str()]).map(drop)
        })
        .await
    }
}

fn read_name(row: &Row<'_>) -> rusqlite::Result<Name> {
    let name: String = row.get(0)?;
    Name::new(name)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

/// Reads the first three columns of [`ROW`].
fn read_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    // A comment that is no text is somebody else's.
    let comment = row.get(2).unwrap_or_default();
    Ok(Entry { name: read_name(row)?, version: Version::stored(row.get::<_, String>(1)?), comment })
}

/// Reads the columns of [`ROW`]; what is wrong with this row alone is the inner error.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Result<SealedRow, StoreError>> {
    let entry = read_entry(row)?;
    Ok(match read_sealed(row) {
        Ok(sealed) => Ok(SealedRow { entry, sealed }),
        Err(malformed) => Err(StoreError::Malformed { name: entry.name, version: entry.version, malformed }),
    })
}

/// Reads the other columns of [`ROW`]. The schema sees to their types, but who changed the file may have changed it.
fn read_sealed(row: &Row<'_>) -> Result<Sealed, MalformedAttribute> {
    let bytes = |column| row.get(column).map_err(|_| MalformedAttribute::new(column, "is no Blob"));
    let digest: String = row.get("digest").map_err(|_| MalformedAttribute::new("digest", "is no text"))?;
    let digest = Digest::from_name(&digest).map_err(|unknown| MalformedAttribute::new("digest", unknown))?;
    Ok(Sealed {
        wrapped_key: WrappedKey::new(bytes("key")?),
        suite: Suite::CtrHmac(digest),
        contents: bytes("contents")?,
        mac: bytes("hmac")?,
        bound: row.get("bound").map_err(|_| MalformedAttribute::new("bound", "is neither 0 nor 1"))?,
    })
}

fn failed(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(Failure::new(FailureKind::Io, format!("the credential store {}: {error}", path.display())))
}
