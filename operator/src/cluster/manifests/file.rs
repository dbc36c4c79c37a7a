//! Files that survive a crash: written beside, synced, renamed, and the rename synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// State that cannot be used: a sentence that names the file and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

/// What a temporary file's name ends with; one that is there at start is what a crash left behind.
const TEMPORARY: &str = ".tmp";

/// Puts `bytes` in the place of the file, readable by its owner alone. After an error the file is what it was, or
/// (when only the last sync failed) already the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Makes a directory that only its owner can enter, and what is missing above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_parent(path)),
    }
}

/// A JSON file; `None` where there is none. `advice` says what to do when it cannot be used.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, advice: &str) -> Result<Option<T>, StateError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| unusable(path, &format!("cannot be read ({error})"), advice))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        // Not serde's own words: they repeat values, and a value may be a key.
        let at = format!("is damaged at line {}, column {}", error.line(), error.column());
        unusable(path, &at, advice)
    })
}

/// The sentence for a file that cannot be used.
pub(super) fn unusable(path: &Path, what: &str, advice: &str) -> StateError {
    StateError(format!("{} {what}: {advice}", path.display()))
}

/// The names in a directory that do not begin with a dot, ordered; none where there is no directory.
pub(super) fn names(path: &Path) -> Result<Vec<String>, StateError> {
    let advice = "let the operator's user read it";
    let failed = |error: io::Error| unusable(path, &format!("cannot be read ({error})"), advice);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Removes what an interrupted [`replace`] left in a directory.
pub(super) fn clear_temporaries(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let left_behind = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY));
        if left_behind && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{TEMPORARY}"))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()).unwrap(), ["a.json"]);
    }

    #[test]
    fn what_a_crash_left_is_cleared_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".a.json.tmp", "a.json", ".keep", "b.tmp"] {
            fs::write(dir.path().join(name), "{").unwrap();
        }
        clear_temporaries(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".keep", "a.json", "b.tmp"]);
    }

    #[test]
    fn a_damaged_file_is_named_and_its_values_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        fs::write(&path, r#"{"k": "s3cret"}"#).unwrap();
        let error = read_json::<std::collections::BTreeMap<String, u8>>(&path, "restore it").unwrap_err().0;
        assert!(error.contains("keys.json") && error.ends_with("restore it"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
