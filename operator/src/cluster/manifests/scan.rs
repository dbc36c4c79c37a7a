//! Reads a directory of manifests as one picture, the way Kubernetes mounts them too: files are links into `..data`,
//! which is swapped as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How deep sub-directories are followed.
const DEPTH: usize = 16;
/// The largest file read, in bytes.
const LARGEST: u64 = 64 << 20;
/// A file system's times may be this coarse: a file this young may have changed again under the same time.
const COARSE: Duration = Duration::from_secs(2);

/// What tells whether a directory changed, without reading its files: by path relative to it, each file's device,
/// inode, length and time, or why it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outline(BTreeMap<String, Result<Stamp, String>>);

type Stamp = (u64, u64, u64, Option<SystemTime>);

impl Outline {
    /// Whether a later change would certainly show, seen from `now`.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let times = self.0.values().flatten().filter_map(|(.., modified)| *modified);
        times.max().is_none_or(|newest| now.duration_since(newest).is_ok_and(|age| age > COARSE))
    }
}

/// The bytes of every manifest, or why a file cannot be read, by path relative to the directory.
pub(super) type Files = BTreeMap<String, Result<Vec<u8>, String>>;

/// The outline of a directory.
pub(super) fn outline(directory: &Path) -> io::Result<Outline> {
    let mut walk = Walk { outline: Outline::default(), entered: BTreeSet::new() };
    let metadata = fs::metadata(directory)?;
    walk.enter(directory, "", &metadata, 0)?;
    Ok(walk.outline)
}

/// Reads every manifest; `None` where the directory changed meanwhile.
pub(super) fn read(directory: &Path) -> io::Result<Option<(Outline, Files)>> {
    let before = outline(directory)?;
    let files = before.0.iter().map(|(path, entry)| {
        let text = match entry {
            Ok(_) => fs::read(directory.join(path)).map_err(|error| format!("cannot be read ({error})")),
            Err(why) => Err(why.clone()),
        };
        (path.clone(), text)
    });
    let files = files.collect();
    Ok((outline(directory)? == before).then_some((before, files)))
}

struct Walk {
    outline: Outline,
    /// Directories by device and inode: a link may lead back to one.
    entered: BTreeSet<(u64, u64)>,
}

impl Walk {
    fn enter(&mut self, directory: &Path, prefix: &str, metadata: &Metadata, depth: usize) -> io::Result<()> {
        if depth > DEPTH || !self.entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let (path, relative) = (entry.path(), format!("{prefix}{name}"));
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    self.enter(&path, &format!("{relative}/"), &metadata, depth + 1)?;
                }
                Ok(metadata) if is_manifest(name) => self.add(relative, &metadata),
                Err(_) if !is_manifest(name) => {}
                // Removed since the directory was listed.
                Err(_) if fs::symlink_metadata(&path).is_err() => {}
                Err(error) => {
                    self.outline.0.insert(relative, Err(format!("cannot be read ({error})")));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, metadata: &Metadata) {
        let entry = if !metadata.is_file() {
            Err("is not a file".to_owned())
        } else if metadata.len() > LARGEST {
            Err(format!("has more than {} MiB: split it", LARGEST >> 20))
        } else {
            Ok((metadata.dev(), metadata.ino(), metadata.len(), metadata.modified().ok()))
        };
        self.outline.0.insert(path, entry);
    }
}

fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn texts(directory: &Path) -> Vec<(String, String)> {
        let (_, files) = read(directory).unwrap().unwrap();
        let text = |bytes: Result<Vec<u8>, String>| String::from_utf8(bytes.unwrap()).unwrap();
        files.into_iter().map(|(path, bytes)| (path, text(bytes))).collect()
    }

    #[test]
    fn manifests_of_all_sub_directories_are_read_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        for path in ["a.yaml", "b.yml", "sub/deep/c.json", "d.txt", ".e.yaml", ".git/f.yaml", "g.yaml~"] {
            fs::write(root.join(path), path).unwrap();
        }
        symlink(root, root.join("sub/loop")).unwrap();
        let paths: Vec<String> = texts(root).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a.yaml", "b.yml", "sub/deep/c.json"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_once_and_its_swap_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (generation, text) in [("..1", "old"), ("..2", "new")] {
            fs::create_dir(root.join(generation)).unwrap();
            fs::write(root.join(generation).join("a.yaml"), text).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        assert_eq!(texts(root), [("a.yaml".to_owned(), "old".to_owned())]);
        let before = outline(root).unwrap();

        symlink("..2", root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        assert_ne!(outline(root).unwrap(), before);
        assert_eq!(texts(root), [("a.yaml".to_owned(), "new".to_owned())]);
    }

    #[test]
    fn a_link_to_nothing_is_a_file_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        symlink("nowhere", dir.path().join("a.yaml")).unwrap();
        let (_, files) = read(dir.path()).unwrap().unwrap();
        assert!(files["a.yaml"].as_ref().unwrap_err().contains("cannot be read"));
        assert!(read(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_fresh_file_may_yet_change_under_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "a").unwrap();
        let outline = outline(dir.path()).unwrap();
        assert!(!outline.is_settled(SystemTime::now()));
        assert!(outline.is_settled(SystemTime::now() + Duration::from_secs(9)));
    }
}
