//! The file of the embedded store: its marks, its schema, and how several processes that make it at once make one.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

/// Marks a file as a credential store, in its header: `cred` in ASCII.
const APPLICATION_ID: i32 = 0x6372_6564;

/// The version of the schema below.
const SCHEMA_VERSION: i32 = 2;

/// Texts compare byte for byte, as names and versions do everywhere.
const SCHEMA: &str = "
    CREATE TABLE credential (
        name     TEXT NOT NULL,
        version  TEXT NOT NULL,
        key      BLOB NOT NULL,
        contents BLOB NOT NULL,
        hmac     BLOB NOT NULL,
        digest   TEXT NOT NULL,
        comment  TEXT,
        bound    INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID";

/// What brings a store of version 1 to this one.
const FROM_1: &str = "ALTER TABLE credential ADD COLUMN bound INTEGER NOT NULL DEFAULT 0";

/// How long to wait for another process to finish its write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(300);

/// How long another process may take to make the table in a file that it has made.
const MAKING: Duration = Duration::from_secs(3);

/// How long to sleep between two looks at what another process does.
const PAUSE: Duration = Duration::from_millis(10);

/// What is made of a store that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// The file, just now, and its table.
    File,
    /// The table, if another process has made the file and no more.
    Table,
    /// Nothing: it is to be read.
    Nothing,
}

/// Why a file cannot be used.
pub(super) enum Unprepared {
    /// It holds nothing, and nobody makes a store of it.
    Empty,
    /// It is something else, as the text says.
    Foreign(String),
    /// Its path cannot be told.
    Unreachable(std::io::Error),
    /// SQLite fails.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Unprepared {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// Connects to the file, and makes the table in a new one; of several processes that do so at once, one does.
pub(super) fn prepare(path: &Path, makes: Makes) -> Result<Connection, Unprepared> {
    // SQLite takes names such as `:memory:` and `file:x` for something else than a file of that name, and would make a file
    // with the process's umask.
    let path = std::path::absolute(path).map_err(Unprepared::Unreachable)?;
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let marks = |connection: &Connection| -> rusqlite::Result<(i32, i32)> {
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let schema = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((application, schema))
    };
    let is_empty = |connection: &Connection| {
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get::<_, bool>(0))
    };
    let is_bare =
        |connection: &Connection| Ok::<_, rusqlite::Error>(marks(connection)? == (0, 0) && is_empty(connection)?);
    // Another process may be making the store; else the file was cut, and must not pass for a store without rows.
    let waiting = Instant::now();
    while makes == Makes::Nothing && is_bare(&connection)? {
        if waiting.elapsed() > MAKING {
            return Err(Unprepared::Empty);
        }
        std::thread::sleep(PAUSE);
    }
    // A file of another program stays as it is, down to its journal mode.
    if is_bare(&connection)? {
        use_log(&connection)?;
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
        if is_empty(&transaction)? {
            transaction.execute(SCHEMA, [])?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
    }
    if marks(&connection)? == (APPLICATION_ID, 1) {
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
        // Another process may have been quicker.
        if marks(&transaction)? == (APPLICATION_ID, 1) {
            transaction.execute(FROM_1, [])?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
    }
    match marks(&connection)? {
        (APPLICATION_ID, SCHEMA_VERSION) => {
            // In the other journal modes, to which another program may have turned the file, the name of the journal that
            // goes is flushed too; and macOS flushes to the disk and not only to its cache.
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            connection.pragma_update(None, "fullfsync", true)?;
            connection.pragma_update(None, "checkpoint_fullfsync", true)?;
            Ok(connection)
        }
        (APPLICATION_ID, version) => Err(Unprepared::Foreign(format!(
            "its schema has version {version}, and this program knows version {SCHEMA_VERSION}"
        ))),
        _ => Err(Unprepared::Foreign("it is the database of another program".to_owned())),
    }
}

/// Turns to the write-ahead log, which stays so. Of several processes that do it at once each has the file open for reading
/// and wants it for itself: SQLite lets none of them wait for the others, however long its busy timeout is.
fn use_log(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if is_busy(&error) && began.elapsed() < BUSY_TIMEOUT => std::thread::sleep(PAUSE),
            ended => return ended,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
