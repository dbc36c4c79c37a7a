use std::path::Path;

use tempfile::TempDir;
use weir_feed::frames::Put;
use weir_feed::holder::rows::{Edit, Outcome};
use weir_feed::periods::Periods;

use super::*;

fn put(name: &str, epoch: u64, document: &str) -> Edit {
    Edit::Put(Put {
        name: name.into(),
        epoch,
        grant: Seal(format!("{name}:{epoch}")),
        is_static: epoch.is_multiple_of(2),
        partition: Partition::KeepCapturing,
        hash: weir_feed::digest::document_hash(&[document]),
        document: document.into(),
    })
}

/// Rows of every kind: accepted, refused with and without one to fall back on, held, stopped.
fn rows() -> Rows {
    let mut rows = Rows::default();
    let mut outcome = Outcome::default();
    for (name, epoch) in [("accepted", 4), ("refused", 5), ("never", 6), ("ended", 7)] {
        rows.apply(put(name, epoch, &format!("{{\"name\":\"{name}\"}}")), &mut outcome);
    }
    rows.judge("accepted", Judged::Accepted);
    rows.judge("refused", Judged::Accepted);
    rows.apply(put("refused", 5, "{}"), &mut outcome);
    for (name, certain) in [("refused", true), ("never", false)] {
        let message = "no input".to_owned();
        rows.judge(name, Judged::Refused { message, certain });
    }
    rows.apply(Edit::Delete { name: "ended".into(), epoch: 9 }, &mut outcome);
    rows.apply(Edit::Hold { name: "held".into(), epoch: 3 }, &mut outcome);
    rows
}

fn meta() -> Meta {
    Meta {
        synced: true,
        revision: 12,
        term: Some((u64::MAX >> 1, Seal("k:1".into()))),
        highest_term: u64::MAX >> 1,
        asks_by_name: true,
        periods: Some(Periods::default()),
        heard: Some(1_700_000_000_000),
    }
}

fn changes(rows: &Rows, meta: &Meta, whole: bool) -> Changes {
    let names = rows.all().keys().chain(rows.holds().keys()).chain(rows.stopped().keys());
    let entry = |name: &String| Entry {
        row: rows.row(name).cloned(),
        hold: rows.holds().get(name).copied(),
        stopped: rows.stopped().get(name).cloned(),
    };
    Changes { whole, entries: names.map(|name| (name.clone(), entry(name))).collect(), meta: meta.clone() }
}

fn open(data: &Path) -> (Replica, Stored) {
    let (replica, stored, error) = Replica::open(data, "media", "s1").unwrap();
    assert_eq!(error, None);
    (replica, stored)
}

fn filled(data: &Path) -> Stored {
    let (mut replica, empty) = open(data);
    assert_eq!(empty, Stored::default());
    replica.write(&changes(&rows(), &meta(), false)).unwrap();
    Stored { rows: rows(), meta: meta() }
}

#[test]
fn what_was_written_is_read_again() {
    let data = TempDir::new().unwrap();
    let stored = filled(data.path());
    assert_eq!(open(data.path()).1, stored);
}

#[test]
fn a_name_that_has_nothing_any_more_is_forgotten() {
    let data = TempDir::new().unwrap();
    filled(data.path());
    let (mut replica, _) = open(data.path());
    let mut gone = changes(&Rows::default(), &meta(), false);
    gone.entries.insert("accepted".into(), Entry::default());
    replica.write(&gone).unwrap();
    drop(replica);
    let (mut replica, stored) = open(data.path());
    assert!(stored.rows.row("accepted").is_none());
    assert!(stored.rows.row("refused").is_some());
    replica.write(&changes(&Rows::default(), &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.rows, Rows::default());
}

#[test]
fn another_streamers_replica_is_refused_with_both_names() {
    let data = TempDir::new().unwrap();
    filled(data.path());
    let error = Replica::open(data.path(), "media", "s2").unwrap_err().to_string();
    assert!(error.contains("media/s1") && error.contains("media/s2"), "{error}");
    assert_eq!(open(data.path()).1.rows, rows(), "and left as it is");
}

#[test]
fn a_newer_programs_replica_is_refused() {
    let data = TempDir::new().unwrap();
    filled(data.path());
    let connection = Connection::open(data.path().join(FILE)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Replica::open(data.path(), "media", "s1").unwrap_err().to_string();
    assert!(error.contains("newer"), "{error}");
}

#[test]
fn an_older_programs_replica_is_carried_over() {
    let data = TempDir::new().unwrap();
    let connection = Connection::open(data.path().join(FILE)).unwrap();
    connection.execute_batch(MIGRATIONS[0]).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection
        .execute_batch("INSERT INTO meta (id, namespace, streamer, synced, revision) VALUES (1, 'media', 's1', 1, 7)")
        .unwrap();
    drop(connection);
    let (mut replica, stored) = open(data.path());
    assert!(stored.meta.synced && stored.meta.revision == 7 && !stored.meta.asks_by_name);
    replica.write(&changes(&rows(), &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.meta, meta());
}

#[test]
fn what_was_on_trial_is_suspected_after_a_restart() {
    let data = TempDir::new().unwrap();
    let (mut replica, _) = open(data.path());
    let mut tried = rows();
    tried.judge("never", Judged::Tried { message: "no input".into() });
    replica.write(&changes(&tried, &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.rows, rows());
}

#[test]
fn a_corrupt_replica_is_set_aside_and_a_new_one_takes_writes() {
    let data = TempDir::new().unwrap();
    for number in 1..=2 {
        filled(data.path());
        let path = data.path().join(FILE);
        // The first page goes: not a database any more. Then the middle: damaged pages.
        let mut bytes = std::fs::read(&path).unwrap();
        let place = if number == 1 { 0 } else { 2 * 4_096 };
        let end = bytes.len().min(place + 4_096);
        bytes[place..end].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let (mut replica, stored) = open(data.path());
        assert_eq!(stored, Stored::default());
        assert!(data.path().join(format!("{FILE}.corrupt-{number}")).exists());
        replica.write(&changes(&rows(), &meta(), false)).unwrap();
        drop(replica);
        assert_eq!(open(data.path()).1.rows, rows());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error_and_everything_is_written_when_there_is_room() {
    let data = TempDir::new().unwrap();
    let (mut replica, _) = open(data.path());
    let connection = replica.connection.as_ref().unwrap();
    let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    // SQLite itself answers "full" beyond this, as it does when the disk is.
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let mut big = rows();
    big.apply(put("big", 10, &"x".repeat(100_000)), &mut Outcome::default());
    let error = replica.write(&changes(&big, &meta(), false)).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(read(replica.connection.as_ref().unwrap()).unwrap(), Stored::default());
    let connection = replica.connection.as_ref().unwrap();
    connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    replica.write(&changes(&big, &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.rows, big);
}

#[test]
fn a_replica_that_was_read_only_is_written_again_without_a_restart() {
    let data = TempDir::new().unwrap();
    let (mut replica, _) = open(data.path());
    // SQLite itself answers so, and does for as long as the connection lives, where the disk takes no writes.
    replica.connection.as_ref().unwrap().pragma_update(None, "query_only", true).unwrap();
    let error = replica.write(&changes(&rows(), &meta(), false)).unwrap_err();
    assert!(error.to_string().contains("readonly"), "{error}");
    replica.write(&changes(&rows(), &meta(), false)).expect_err("a part of the state would pass for all of it");
    replica.write(&changes(&rows(), &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.rows, rows());
}

#[test]
fn a_replica_that_was_closed_in_order_is_read_as_it_is_and_one_with_a_log_is_not() {
    let data = TempDir::new().unwrap();
    let stored = filled(data.path());
    let (replica, _) = open(data.path());
    let Err(error) = replica.open_as_it_is() else { panic!("its log was passed over") };
    assert!(error.to_string().contains("-wal"), "{error}");
    let (path, folder) = (replica.path.clone(), data.path().join("with space & 100%"));
    drop(replica);
    assert!(!with_suffix(&path, "-wal").exists(), "closed in order");
    std::fs::create_dir(&folder).unwrap();
    let moved = folder.join(FILE);
    std::fs::rename(&path, &moved).unwrap();
    let replica = Replica { path: moved, namespace: "media".into(), streamer: "s1".into(), connection: None };
    assert_eq!(read(&replica.open_as_it_is().unwrap()).unwrap(), stored);
    assert!(!with_suffix(&replica.path, "-wal").exists(), "and nothing was made beside it");
}

#[test]
fn a_data_directory_that_cannot_be_made_leaves_the_sidecar_to_its_memory() {
    let data = TempDir::new().unwrap();
    let in_the_way = data.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let (mut replica, stored, error) = Replica::open(&in_the_way, "media", "s1").unwrap();
    assert_eq!(stored, Stored::default());
    assert!(matches!(error, Some(Trouble::Unread(error)) if error.contains("file")));
    replica.write(&changes(&rows(), &meta(), false)).unwrap_err();
    std::fs::remove_file(&in_the_way).unwrap();
    replica.write(&changes(&rows(), &meta(), false)).expect_err("a part of the state would pass for all of it");
    replica.write(&changes(&rows(), &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(&in_the_way).1.rows, rows());
}

#[test]
fn a_replica_that_was_taken_away_is_made_again_whole() {
    let data = TempDir::new().unwrap();
    filled(data.path());
    let (mut replica, _) = open(data.path());
    std::fs::remove_file(data.path().join(FILE)).unwrap();
    replica.write(&changes(&rows(), &meta(), false)).unwrap_err();
    replica.write(&changes(&rows(), &meta(), true)).unwrap();
    drop(replica);
    assert_eq!(open(data.path()).1.rows, rows());
}

#[test]
fn others_cannot_read_the_documents() {
    use std::os::unix::fs::PermissionsExt;
    let data = TempDir::new().unwrap();
    filled(data.path());
    let (_replica, _) = open(data.path());
    for entry in std::fs::read_dir(data.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}
