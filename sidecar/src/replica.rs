//! The replica on disk: all of the sidecar's SQL. Read once at the start; afterwards memory serves and this file follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use weir_feed::frames::Partition;
use weir_feed::grant::Seal;
use weir_feed::holder::journal::{Changes, Entry, Meta};
use weir_feed::holder::rows::{Document, Judged, Row, Rows, Stopped};
use weir_feed::holder::step::Stored;

/// The replica's file in the data directory.
pub const FILE: &str = "replica.sqlite3";

/// Migrations, in order; `user_version` counts those that were carried out.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        id            INTEGER PRIMARY KEY CHECK (id = 1),
        namespace     TEXT NOT NULL,
        streamer      TEXT NOT NULL,
        synced        INTEGER NOT NULL DEFAULT 0,
        revision      INTEGER NOT NULL DEFAULT 0,
        term          INTEGER,
        term_seal     TEXT,
        highest_term  INTEGER NOT NULL DEFAULT 0,
        periods       TEXT,
        heard         INTEGER
    );
    CREATE TABLE streams (
        name              TEXT PRIMARY KEY,
        epoch             INTEGER NOT NULL,
        grant_seal        TEXT NOT NULL,
        is_static         INTEGER NOT NULL,
        partition         TEXT NOT NULL,
        hash              TEXT NOT NULL,
        document          TEXT NOT NULL,
        judged            TEXT NOT NULL,
        message           TEXT,
        accepted_hash     TEXT,
        accepted_document TEXT
    ) WITHOUT ROWID;
    CREATE TABLE holds (
        name  TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE stopped (
        name       TEXT PRIMARY KEY,
        epoch      INTEGER NOT NULL,
        served     INTEGER NOT NULL,
        grant_seal TEXT NOT NULL
    ) WITHOUT ROWID;
    ",
    "ALTER TABLE meta ADD COLUMN asks_by_name INTEGER NOT NULL DEFAULT 0;",
];

/// Why a replica cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// It holds another streamer's streams: nothing of it may be served.
    #[error(
        "{path} is the replica of streamer {found}, and this sidecar serves {expected}: give each streamer a --data directory of its own"
    )]
    Foreign { path: PathBuf, found: String, expected: String },
    /// A newer program has written it.
    #[error("{path} was written by a newer weir-sidecar (schema {found}, this one knows {known})")]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It can be read, and takes no write.
    #[error("{0}")]
    Unwritable(String),
    /// A value that this program cannot have written.
    #[error("it holds {0}")]
    Unreadable(String),
}

impl ReplicaError {
    /// The file is not what was written: it is set aside and filled anew.
    fn is_corrupt(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch};
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase | TypeMismatch)
            }
            Self::Unreadable(_)
            | Self::Sqlite(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..),
            ) => true,
            _ => false,
        }
    }
}

/// What is wrong with a replica that memory can do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be read: memory begins with nothing.
    Unread(String),
    /// It was read, and takes no writes.
    Unwritable(String),
}

/// The one writer of a replica's file.
#[derive(Debug)]
pub struct Replica {
    path: PathBuf,
    namespace: String,
    streamer: String,
    /// `None` while the file cannot be opened; each write tries again.
    connection: Option<Connection>,
}

impl Replica {
    /// Opens the replica in `data`, made if there is none, and reads it. One that cannot be read, made or written leaves
    /// the sidecar to its memory, with the reason; only another streamer's, or a newer program's, is an error.
    pub fn open(data: &Path, namespace: &str, streamer: &str) -> Result<(Self, Stored, Option<Trouble>), ReplicaError> {
        let mut replica = Self {
            path: data.join(FILE),
            namespace: namespace.to_owned(),
            streamer: streamer.to_owned(),
            connection: None,
        };
        match replica.load() {
            Ok((stored, unwritable)) => Ok((replica, stored, unwritable.map(Trouble::Unwritable))),
            Err(error @ (ReplicaError::Foreign { .. } | ReplicaError::Newer { .. })) => Err(error),
            Err(error) if error.is_corrupt() => {
                let aside = replica.set_aside();
                tracing::error!(%error, path = %replica.path.display(), aside = ?aside.as_ref().ok(),
                    "the replica is corrupt: it is set aside, and the operator fills a new one");
                match aside.and_then(|_| replica.load()) {
                    Ok((stored, unwritable)) => Ok((replica, stored, unwritable.map(Trouble::Unwritable))),
                    Err(error) => Ok((replica, Stored::default(), Some(Trouble::Unread(error.to_string())))),
                }
            }
            Err(error) => {
                let error = format!("{}: {error}", replica.path.display());
                Ok((replica, Stored::default(), Some(Trouble::Unread(error))))
            }
        }
    }

    /// Reads the file, and keeps it open if it can be written; otherwise says why not.
    fn load(&mut self) -> Result<(Stored, Option<String>), ReplicaError> {
        self.connection = None;
        if let Some(directory) = self.path.parent() {
            // A directory that cannot be made shows in the open that follows.
            let _ = std::fs::create_dir_all(directory);
        }
        create_private(&self.path);
        let mut connection = Connection::open(&self.path)?;
        let mut unwritable = None;
        // A disk that takes no writes may still hold a whole replica.
        if let Err(error) = self.migrate(&mut connection) {
            if error.is_corrupt() || !matches!(error, ReplicaError::Sqlite(_)) {
                return Err(error);
            }
            let mut why = error.to_string();
            if version(&connection).is_err() {
                connection = self.open_as_it_is()?;
                why = format!("no file can be made beside it ({why}): is its disk read-only?");
            }
            if version(&connection)? != MIGRATIONS.len() {
                return Err(error);
            }
            unwritable = Some(why);
        }
        let check: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if check != "ok" {
            return Err(ReplicaError::Unreadable(format!("damaged pages: {check}")));
        }
        self.owned(&connection)?;
        let stored = read(&connection)?;
        self.connection = Some(connection).filter(|_| unwritable.is_none());
        Ok((stored, unwritable))
    }

    /// Opens a file that was closed in order: SQLite would make files beside it, which a read-only disk does not take.
    fn open_as_it_is(&self) -> Result<Connection, ReplicaError> {
        let log = with_suffix(&self.path, "-wal");
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            // Without it the file is older than what was promised.
            return Err(ReplicaError::Unwritable(format!("{} cannot be read", log.display())));
        }
        let path = self.path.as_os_str().as_encoded_bytes();
        let path = percent_encoding::percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
        Ok(Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?)
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), ReplicaError> {
        let found = version(connection)?;
        if found > MIGRATIONS.len() {
            return Err(ReplicaError::Newer { path: self.path.clone(), found, known: MIGRATIONS.len() });
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction()?;
        for migration in MIGRATIONS.iter().skip(found) {
            transaction.execute_batch(migration)?;
        }
        transaction.execute(
            "INSERT INTO meta (id, namespace, streamer) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING",
            params![self.namespace, self.streamer],
        )?;
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
        transaction.commit()?;
        Ok(())
    }

    fn owned(&self, connection: &Connection) -> Result<(), ReplicaError> {
        let owner: Option<(String, String)> = connection
            .query_row("SELECT namespace, streamer FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((namespace, streamer)) = owner else {
            return Err(ReplicaError::Unreadable("no owner".to_owned()));
        };
        if (&namespace, &streamer) == (&self.namespace, &self.streamer) {
            return Ok(());
        }
        Err(ReplicaError::Foreign {
            path: self.path.clone(),
            found: format!("{namespace}/{streamer}"),
            expected: format!("{}/{}", self.namespace, self.streamer),
        })
    }

    /// Moves the file, and what belongs to it, out of the way. Returns its new path.
    fn set_aside(&mut self) -> Result<PathBuf, ReplicaError> {
        self.connection = None;
        let suffixed = |suffix: &str| with_suffix(&self.path, suffix);
        let free = (1..).map(|number| suffixed(&format!(".corrupt-{number}")));
        let aside = free.into_iter().find(|path| !path.exists()).unwrap_or_else(|| suffixed(".corrupt"));
        std::fs::rename(&self.path, &aside)?;
        for suffix in ["-wal", "-shm"] {
            match std::fs::remove_file(suffixed(suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(aside)
    }

    /// Writes `changes` in one transaction; they are on the disk itself when this returns.
    pub fn write(&mut self, changes: &Changes) -> Result<(), ReplicaError> {
        // A file that was removed or replaced under us would take writes that nobody reads again.
        if !self.path.exists() {
            self.connection = None;
        }
        if self.connection.is_none() {
            let (_, unwritable) = self.load()?;
            if let Some(error) = unwritable {
                return Err(ReplicaError::Unwritable(error));
            }
            if !changes.whole {
                return Err(ReplicaError::Unreadable("another state than this sidecar's memory".to_owned()));
            }
        }
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        let written = transact(&mut connection, changes);
        // A connection that found its file read-only never writes again: the next write opens it anew.
        let read_only = match &written {
            Err(ReplicaError::Sqlite(error)) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly),
            _ => false,
        };
        self.connection = Some(connection).filter(|_| !read_only);
        written
    }
}

/// Writes `changes` as one transaction.
fn transact(connection: &mut Connection, changes: &Changes) -> Result<(), ReplicaError> {
    let transaction = connection.transaction()?;
    if changes.whole {
        transaction.execute_batch("DELETE FROM streams; DELETE FROM holds; DELETE FROM stopped;")?;
    }
    for (name, entry) in &changes.entries {
        write_entry(&transaction, name, entry, changes.whole)?;
    }
    write_meta(&transaction, &changes.meta)?;
    transaction.commit()?;
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes the file, if there is none, readable by its owner alone: documents hold passwords. What SQLite puts beside it
/// gets the same mode. A file that cannot be made shows in the open that follows.
fn create_private(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let _ = options.write(true).create_new(true).mode(0o600).open(path);
}

fn version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn read(connection: &Connection) -> Result<Stored, ReplicaError> {
    let rows = collect(connection, "SELECT * FROM streams", read_row)?;
    let holds = collect(connection, "SELECT name, epoch FROM holds", |row| row.get("epoch"))?;
    let stopped = collect(connection, "SELECT * FROM stopped", |row| {
        Ok(Stopped { epoch: row.get("epoch")?, served: row.get("served")?, grant: Seal(row.get("grant_seal")?) })
    })?;
    let meta = connection.query_row("SELECT * FROM meta", [], read_meta)?;
    Ok(Stored { rows: Rows::new(rows, holds, stopped), meta })
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<BTreeMap<String, T>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get("name")?, read(row)?)))?;
    rows.collect()
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let document = |hash: Option<String>, text: Option<String>| {
        let (hash, text) = (hash?, text?);
        Some(Document { hash, text: text.into() })
    };
    let message: Option<String> = row.get("message")?;
    let judged = match row.get::<_, String>("judged")?.as_str() {
        "accepted" => Judged::Accepted,
        "unseen" => Judged::Unseen,
        refused => Judged::Refused { message: message.unwrap_or_default(), certain: refused == "refused" },
    };
    let partition = match row.get::<_, String>("partition")?.as_str() {
        "StopCapturing" => Partition::StopCapturing,
        _ => Partition::KeepCapturing,
    };
    Ok(Row {
        epoch: row.get("epoch")?,
        grant: Seal(row.get("grant_seal")?),
        is_static: row.get("is_static")?,
        partition,
        current: Document { hash: row.get("hash")?, text: row.get::<_, String>("document")?.into() },
        judged,
        accepted: document(row.get("accepted_hash")?, row.get("accepted_document")?),
    })
}

fn read_meta(row: &rusqlite::Row<'_>) -> rusqlite::Result<Meta> {
    let term: Option<u64> = row.get("term")?;
    let seal: Option<String> = row.get("term_seal")?;
    let periods: Option<String> = row.get("periods")?;
    Ok(Meta {
        synced: row.get("synced")?,
        revision: row.get("revision")?,
        term: term.zip(seal.map(Seal)),
        highest_term: row.get("highest_term")?,
        asks_by_name: row.get("asks_by_name")?,
        // Another version's periods are no loss: the next welcome brings them.
        periods: periods.and_then(|periods| serde_json::from_str(&periods).ok()),
        heard: row.get("heard")?,
    })
}

fn write_entry(transaction: &Transaction<'_>, name: &str, entry: &Entry, fresh: bool) -> rusqlite::Result<()> {
    if !fresh {
        for sql in [
            "DELETE FROM streams WHERE name = ?1",
            "DELETE FROM holds WHERE name = ?1",
            "DELETE FROM stopped WHERE name = ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([name])?;
        }
    }
    if let Some(row) = &entry.row {
        write_row(transaction, name, row)?;
    }
    if let Some(epoch) = entry.hold {
        transaction.prepare_cached("INSERT INTO holds VALUES (?1, ?2)")?.execute(params![name, epoch])?;
    }
    if let Some(stopped) = &entry.stopped {
        transaction.prepare_cached("INSERT INTO stopped VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            name,
            stopped.epoch,
            stopped.served,
            stopped.grant.0
        ])?;
    }
    Ok(())
}

fn write_row(transaction: &Transaction<'_>, name: &str, row: &Row) -> rusqlite::Result<()> {
    let (judged, message) = match &row.judged {
        Judged::Unseen => ("unseen", None),
        Judged::Accepted => ("accepted", None),
        Judged::Refused { message, certain } => {
            let word = if *certain { "refused" } else { "suspected" };
            (word, Some(message))
        }
        // What it was tried with is forgotten with the process: it is tried again.
        Judged::Tried { message } => ("suspected", Some(message)),
    };
    let accepted = row.accepted.as_ref();
    transaction.prepare_cached("INSERT INTO streams VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?.execute(
        params![
            name,
            row.epoch,
            row.grant.0,
            row.is_static,
            row.partition.as_str(),
            row.current.hash,
            row.current.text,
            judged,
            message,
            accepted.map(|document| &document.hash),
            accepted.map(|document| &document.text),
        ],
    )?;
    Ok(())
}

fn write_meta(transaction: &Transaction<'_>, meta: &Meta) -> Result<(), ReplicaError> {
    let periods = meta.periods.map(|periods| serde_json::to_string(&periods));
    let periods = periods.transpose().map_err(|error| ReplicaError::Unreadable(error.to_string()))?;
    transaction
        .prepare_cached(
            "UPDATE meta SET synced = ?1, revision = ?2, term = ?3, term_seal = ?4, highest_term = ?5, periods = ?6,
                             heard = ?7, asks_by_name = ?8",
        )?
        .execute(params![
            meta.synced,
            meta.revision,
            meta.term.as_ref().map(|(term, _)| term),
            meta.term.as_ref().map(|(_, seal)| &seal.0),
            meta.highest_term,
            periods,
            meta.heard,
            meta.asks_by_name,
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests;
