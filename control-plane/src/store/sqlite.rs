//! The store in one SQLite file, or in memory.
//!
//! One connection behind a lock, used on the blocking pool: one writer at a time is what SQLite does anyway. The journal is a write-ahead log and
//! `synchronous` is `FULL`, so what was written is on disk.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade::BoxFuture;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::{AuditLine, MAX_AUDIT_PAGE, Store, StoreError, StoreErrorKind};
use crate::record::{AuditEntry, Change, Kind, Record};

/// Marks the file as ours: "XFAD".
const APPLICATION_ID: i64 = 0x5846_4144;
/// Version of the tables below.
const SCHEMA_VERSION: i64 = 1;
/// Lines of the audit log that are kept: some 100 MB.
const MOST_AUDIT_LINES: i64 = 200_000;
/// How long a write waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE epoch (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), epoch INTEGER NOT NULL);
    INSERT INTO epoch VALUES (1, 0);
    CREATE TABLE row (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, entry TEXT NOT NULL);
";

/// A store in SQLite.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    place: Arc<str>,
    epoch: u64,
}

impl SqliteStore {
    /// Opens `sqlite://FILE` (made when missing) or `sqlite::memory:`, and takes an epoch.
    ///
    /// # Errors
    /// [`StoreErrorKind::InvalidAddress`], [`StoreErrorKind::Unreadable`], [`StoreErrorKind::Unavailable`].
    ///
    /// # Cancellation
    /// The epoch may have been taken: an older control plane on the same store then stops.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        let place = Place::parse(address)?;
        let shown: Arc<str> = address.into();
        let name = Arc::clone(&shown);
        blocking(&shown, move || {
            let mut connection = connect(&place, &name)?;
            let epoch = prepare(&mut connection, &name)?;
            Ok(SqliteStore {
                connection: Arc::new(Mutex::new(connection)),
                place: name,
                epoch,
            })
        })
        .await
    }

    /// All rows of a store that may be in use, without taking an epoch; none when there is no store yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn peek(address: &str) -> Result<Vec<Record>, StoreError> {
        let Place::File(file) = Place::parse(address)? else {
            return Ok(Vec::new());
        };
        let place = address.to_owned();
        blocking(address, move || {
            if !file.exists() {
                return Ok(Vec::new());
            }
            let read = |error| failed(&place, "read its rows", error);
            let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .map_err(read)?;
            connection.busy_timeout(BUSY).map_err(read)?;
            match connection.table_exists(None, "row").map_err(read)? {
                true => rows(&connection, &place),
                false => Ok(Vec::new()),
            }
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let place = Arc::clone(&self.place);
        blocking(&self.place, move || {
            // A panic under this lock rolls its transaction back, so the connection is still good.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection, &place)
        })
        .await
    }
}

impl Store for SqliteStore {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.with(|connection, place| rows(connection, place)))
    }

    fn apply(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>> {
        let epoch = self.epoch;
        Box::pin(self.with(move |connection, place| {
            let transaction = begin(connection, place)?;
            hold_epoch(&transaction, place, epoch)?;
            write(&transaction, epoch, &change)
                .and_then(|()| transaction.commit())
                .map_err(|error| failed(place, "write a change", error))
        }))
    }

    fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        let before = before.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        let limit = limit.min(MAX_AUDIT_PAGE);
        Box::pin(self.with(move |connection, place| {
            let mut statement = connection
                .prepare("SELECT number, at_ms, epoch, entry FROM audit WHERE number < ?1 ORDER BY number DESC LIMIT ?2")
                .map_err(|error| failed(place, "read the audit log", error))?;
            let rows = statement
                .query_map(params![before, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .map_err(|error| failed(place, "read the audit log", error))?;
            let mut lines = Vec::new();
            for row in rows {
                let (number, at_ms, epoch, entry): (i64, i64, i64, String) =
                    row.map_err(|error| failed(place, "read the audit log", error))?;
                let entry: AuditEntry = serde_json::from_str(&entry).map_err(|error| {
                    unreadable(place, format!("line {number} of the audit log is damaged")).with_source(error)
                })?;
                lines.push(AuditLine { number: unsigned(number), at_ms: unsigned(at_ms), epoch: unsigned(epoch), entry });
            }
            Ok(lines)
        }))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let epoch = self.epoch;
        Box::pin(self.with(move |connection, place| {
            let transaction = begin(connection, place)?;
            hold_epoch(&transaction, place, epoch)
        }))
    }
}

enum Place {
    Memory,
    File(PathBuf),
}

impl Place {
    fn parse(address: &str) -> Result<Self, StoreError> {
        if address == "sqlite::memory:" {
            return Ok(Place::Memory);
        }
        match address.strip_prefix("sqlite://") {
            Some(file) if !file.is_empty() => Ok(Place::File(file.into())),
            _ => Err(StoreError::new(
                StoreErrorKind::InvalidAddress,
                format!(
                    "store {address}: write sqlite://FILE, or sqlite::memory: for one that ends with the process"
                ),
            )),
        }
    }
}

fn connect(place: &Place, name: &str) -> Result<Connection, StoreError> {
    let connection = match place {
        Place::Memory => Connection::open_in_memory(),
        Place::File(file) => {
            let folder = file.parent().filter(|folder| *folder != Path::new(""));
            if folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    format!("store {name}: its folder does not exist; make it first"),
                ));
            }
            Connection::open(file)
        }
    };
    connection.map_err(|error| failed(name, "open the file", error))
}

/// Makes the tables or checks them, then takes the next epoch.
fn prepare(connection: &mut Connection, place: &str) -> Result<u64, StoreError> {
    let open = |error| failed(place, "open the file", error);
    connection.busy_timeout(BUSY).map_err(open)?;
    // The first statement that reads the file: one that is no database is told apart here.
    let application: i64 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .map_err(open)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(open)?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(unreadable(
            place,
            "the file is a database of another program".into(),
        ));
    }
    connection
        .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .map_err(open)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(open)?;

    let transaction = begin(connection, place)?;
    let version: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(open)?;
    match version {
        0 => transaction
            .execute_batch(&format!("{SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"))
            .map_err(|error| failed(place, "make its tables", error))?,
        SCHEMA_VERSION => {}
        newer => {
            return Err(unreadable(
                place,
                format!("its tables have version {newer}; this program knows version {SCHEMA_VERSION}: use the newer program"),
            ));
        }
    }
    let epoch: i64 = transaction
        .query_row(
            "UPDATE epoch SET epoch = epoch + 1 RETURNING epoch",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed(place, "take an epoch", error))?;
    transaction
        .commit()
        .map_err(|error| failed(place, "take an epoch", error))?;
    Ok(unsigned(epoch))
}

/// A write transaction from its first statement on, so that no other process can take an epoch between check and write.
fn begin<'a>(connection: &'a mut Connection, place: &str) -> Result<Transaction<'a>, StoreError> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed(place, "begin a write", error))
}

fn hold_epoch(transaction: &Transaction<'_>, place: &str, epoch: u64) -> Result<(), StoreError> {
    let current: Option<i64> = transaction
        .query_row("SELECT epoch FROM epoch", [], |row| row.get(0))
        .optional()
        .map_err(|error| failed(place, "read the epoch", error))?;
    match current.map(unsigned) {
        Some(current) if current == epoch => Ok(()),
        Some(current) => Err(StoreError::new(
            StoreErrorKind::Superseded,
            format!(
                "store {place}: another control plane has started on it (epoch {current}, this one has {epoch}); this one must stop"
            ),
        )),
        None => Err(unreadable(place, "the row of the epoch is missing".into())),
    }
}

fn write(transaction: &Transaction<'_>, epoch: u64, change: &Change) -> rusqlite::Result<()> {
    for record in &change.puts {
        transaction
            .prepare_cached("INSERT INTO row VALUES (?1, ?2, ?3) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value")?
            .execute(params![record.kind.as_str(), record.key, record.value.to_string()])?;
    }
    for (kind, key) in &change.deletes {
        transaction
            .prepare_cached("DELETE FROM row WHERE kind = ?1 AND key = ?2")?
            .execute(params![kind.as_str(), key])?;
    }
    for entry in &change.audit {
        let body = serde_json::to_string(entry)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        transaction
            .prepare_cached("INSERT INTO audit (at_ms, epoch, actor, action, subject, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![now_ms(), signed(epoch), entry.actor, entry.action, entry.subject, body])?;
    }
    if !change.audit.is_empty() {
        prune(transaction, MOST_AUDIT_LINES)?;
    }
    Ok(())
}

/// Keeps the newest lines of the audit log.
fn prune(transaction: &Transaction<'_>, most: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1")?
        .execute(params![most])
}

fn rows(connection: &Connection, place: &str) -> Result<Vec<Record>, StoreError> {
    let read = |error| failed(place, "read its rows", error);
    let mut statement = connection
        .prepare("SELECT kind, key, value FROM row ORDER BY kind, key")
        .map_err(read)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(read)?;
    let mut records = Vec::new();
    for row in rows {
        let (kind, key, value): (String, String, String) = row.map_err(read)?;
        records.push(record(place, &kind, key, &value)?);
    }
    Ok(records)
}

fn record(place: &str, kind: &str, key: String, value: &str) -> Result<Record, StoreError> {
    let Some(kind) = Kind::from_name(kind) else {
        return Err(unreadable(
            place,
            format!("a row has the unknown kind {kind:?}"),
        ));
    };
    let value = serde_json::from_str(value).map_err(|error| {
        unreadable(
            place,
            format!("the row {} {key:?} is damaged", kind.as_str()),
        )
        .with_source(error)
    })?;
    Ok(Record { kind, key, value })
}

async fn blocking<T: Send + 'static>(
    place: &str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(StoreError::new(
            StoreErrorKind::Unavailable,
            format!("store {place}: the call was cut off"),
        )
        .with_source(error)),
    }
}

fn failed(place: &str, what: &str, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let (kind, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (
            StoreErrorKind::Unreadable,
            "the file is not a database or is damaged; put a backup back, or name another file",
        ),
        Some(ErrorCode::DiskFull) => (StoreErrorKind::Unavailable, "the disk is full"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            StoreErrorKind::Unavailable,
            "another process holds the file",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
            StoreErrorKind::Unavailable,
            "check that this user may write the file and its folder",
        ),
        _ => (StoreErrorKind::Unavailable, "nothing was changed"),
    };
    StoreError::new(
        kind,
        format!("store {place}: cannot {what}: {error}: {advice}"),
    )
    .with_source(error)
}

fn unreadable(place: &str, what: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unreadable, format!("store {place}: {what}"))
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(key: &str, value: u32) -> Change {
        Change {
            puts: vec![Record {
                kind: Kind::Topic,
                key: key.into(),
                value: json!(value),
            }],
            audit: vec![AuditEntry {
                actor: "operator".into(),
                action: "add".into(),
                subject: key.into(),
                ..AuditEntry::default()
            }],
            ..Change::default()
        }
    }

    fn address(folder: &tempfile::TempDir) -> String {
        format!("sqlite://{}", folder.path().join("store.db").display())
    }

    #[tokio::test]
    async fn rows_and_audit_survive_a_restart_and_the_epoch_grows() {
        let folder = tempfile::tempdir().unwrap();
        let first = SqliteStore::open(&address(&folder)).await.unwrap();
        first.apply(put("a", 1)).await.unwrap();
        first.apply(put("b", 2)).await.unwrap();
        let deletes = vec![(Kind::Topic, "a".to_owned())];
        first
            .apply(Change {
                deletes,
                ..put("b", 3)
            })
            .await
            .unwrap();
        drop(first);
        let second = SqliteStore::open(&address(&folder)).await.unwrap();
        assert_eq!(second.epoch(), 2);
        let rows = second.load().await.unwrap();
        assert_eq!(rows, put("b", 3).puts);
        let page = second.audit(None, 2).await.unwrap();
        assert_eq!(
            page.iter().map(|line| line.number).collect::<Vec<_>>(),
            [3, 2]
        );
        let rest = second.audit(Some(2), 10).await.unwrap();
        assert_eq!(rest[0].entry.subject, "a");
        assert_eq!(rest[0].epoch, 1);
    }

    #[tokio::test]
    async fn newest_lines_of_the_audit_log_are_kept() {
        let store = SqliteStore::open("sqlite::memory:").await.unwrap();
        for number in 0..5 {
            store.apply(put("a", number)).await.unwrap();
        }
        {
            let mut connection = store.connection.lock().unwrap();
            let transaction = begin(&mut connection, "here").unwrap();
            assert_eq!(prune(&transaction, 5).unwrap(), 0);
            assert_eq!(prune(&transaction, 2).unwrap(), 3);
            transaction.commit().unwrap();
        }
        let kept = store.audit(None, 10).await.unwrap();
        let kept: Vec<u64> = kept.iter().map(|line| line.number).collect();
        assert_eq!(kept, [5, 4]);
    }

    #[tokio::test]
    async fn superseded_control_plane_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let old = SqliteStore::open(&address(&folder)).await.unwrap();
        let new = SqliteStore::open(&address(&folder)).await.unwrap();
        let error = old.apply(put("a", 1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Superseded);
        assert_eq!(
            old.check().await.unwrap_err().kind(),
            StoreErrorKind::Superseded
        );
        assert!(new.load().await.unwrap().is_empty());
        assert!(new.audit(None, 10).await.unwrap().is_empty());
        new.check().await.unwrap();
    }

    #[tokio::test]
    async fn file_that_is_no_store_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let text =
            "this is a text file, and one that is long enough to be read as a header of something "
                .repeat(20);
        std::fs::write(&file, &text).unwrap();
        let error = SqliteStore::open(&address(&folder)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreadable);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

        let other = folder.path().join("other.db");
        let connection = Connection::open(&other).unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(connection);
        let error = SqliteStore::open(&format!("sqlite://{}", other.display()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreadable);
    }

    #[tokio::test]
    async fn address_that_cannot_be_used_says_so() {
        for address in ["", "sqlite://", "postgres://x", "store.db"] {
            let error = SqliteStore::open(address).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::InvalidAddress, "{address}");
        }
        let error = SqliteStore::open("sqlite:///no/such/folder/store.db")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn newer_tables_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(&address(&folder)).await.unwrap());
        let connection = Connection::open(folder.path().join("store.db")).unwrap();
        connection.execute_batch("PRAGMA user_version = 9").unwrap();
        drop(connection);
        let error = SqliteStore::open(&address(&folder)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreadable);
    }
}
