//! A token file: `NAMESPACE/STREAMER TOKEN` a line, or the token's hash in its place (`sha256:…`).

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use weir_feed::record::StreamerId;

use super::{Hash, Kept, MARK, is_ours, streamer_id};

/// A line; `Ok(None)` where it is blank or a comment. The error never holds the token.
pub(crate) fn parse(line: &str) -> Result<Option<(Hash, StreamerId)>, NotUnderstood> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(streamer), Some(token), None) = (words.next(), words.next(), words.next()) else {
        return Err(NotUnderstood);
    };
    let (namespace, name) = streamer.split_once('/').ok_or(NotUnderstood)?;
    let streamer = streamer_id(namespace, name).map_err(|_| NotUnderstood)?;
    let hash = match token.strip_prefix(MARK) {
        Some(hash) => Hash::parse(hash).ok_or(NotUnderstood)?,
        None => Hash::of(token),
    };
    Ok(Some((hash, streamer)))
}

/// What of a token file a cluster takes.
#[derive(Debug, Default)]
pub(crate) struct Portable {
    pub(crate) tokens: Vec<(Hash, StreamerId)>,
    /// Whose other tokens are.
    pub(crate) others: Vec<StreamerId>,
}

/// The tokens of a file that a cluster takes too, and the Streamers of the others.
pub(crate) fn portable(path: &Path) -> anyhow::Result<Portable> {
    let mut portable = Portable::default();
    for (number, line) in (1..).zip(read(path)?.lines()) {
        let parsed = parse(line).ok().with_context(|| format!("{} in line {number}", path.display()));
        let Some((hash, streamer)) = parsed.context("cannot be understood")? else { continue };
        // A hash that stands there was made here.
        let token = line.split_whitespace().nth(1).unwrap_or_default();
        if token.starts_with(MARK) || is_ours(token) {
            portable.tokens.push((hash, streamer));
        } else {
            portable.others.push(streamer);
        }
    }
    Ok(portable)
}

/// A line that is none of a token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// Every token of a file; lines that are not understood are the operator's to complain of.
pub(super) fn list(path: &Path) -> anyhow::Result<Vec<Kept>> {
    let lines = read(path)?;
    let kept = lines.lines().filter_map(|line| parse(line).ok().flatten());
    Ok(kept.map(|(hash, streamer)| Kept { hash, streamer, made: None }).collect())
}

/// Adds a token's hash; the file is made if there is none.
pub(super) fn append(path: &Path, hash: Hash, streamer: &StreamerId) -> anyhow::Result<()> {
    let unwritable = || format!("{} cannot be written", path.display());
    let before = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let pause = if before.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(unwritable)?;
    // At once: the operator may be reading.
    file.write_all(format!("{pause}{streamer} {MARK}{hash}\n").as_bytes()).with_context(unwritable)?;
    file.sync_all().with_context(unwritable)
}

/// Takes the token with this id out, and returns in how many lines it was. Every other line stays as it is, and the file is
/// still its owner's: the operator goes on reading it.
pub(super) fn remove(path: &Path, id: &str) -> anyhow::Result<usize> {
    let before = read(path)?;
    let revoked = |line: &str| matches!(parse(line), Ok(Some((hash, _))) if hash.id() == id);
    let (mut after, mut removed) = (String::new(), 0);
    for line in before.split_inclusive('\n') {
        if revoked(line) {
            removed += 1;
        } else {
            after.push_str(line);
        }
    }
    if removed > 0 {
        replace(path, &after).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(removed)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Puts a new text in the file's place, with the old one's owner and mode.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let old = fs::metadata(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name)?;
    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    file.set_permissions(old.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn id(name: &str) -> StreamerId {
        StreamerId { namespace: "media".into(), name: name.into() }
    }

    #[test]
    fn a_hash_stands_where_its_token_may_stand() {
        let hash = Hash::of("weir_x");
        assert_eq!(parse("media/s1 weir_x"), Ok(Some((hash, id("s1")))));
        assert_eq!(parse(&format!(" media/s1\tsha256:{hash} ")), Ok(Some((hash, id("s1")))));
        assert_eq!(parse("# media/s1 weir_x"), Ok(None));
        for wrong in ["media/s1 sha256:", "media/s1 sha256:abc", "s1 weir_x", "media/s1", "media/S1 weir_x"] {
            assert_eq!(parse(wrong), Err(NotUnderstood), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_added_and_taken_out_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        append(&path, Hash::of("weir_a"), &id("s1")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&path, "# ours\nmedia/s1 plain").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        append(&path, Hash::of("weir_a"), &id("s1")).unwrap();
        append(&path, Hash::of("weir_b"), &id("s2")).unwrap();
        let listed: Vec<Hash> = list(&path).unwrap().into_iter().map(|kept| kept.hash).collect();
        assert_eq!(listed, ["plain", "weir_a", "weir_b"].map(Hash::of));

        assert_eq!(remove(&path, &Hash::of("weir_a").id()).unwrap(), 1);
        assert_eq!(remove(&path, &Hash::of("weir_a").id()).unwrap(), 0);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# ours\nmedia/s1 plain\nmedia/s2 sha256:{}\n", Hash::of("weir_b")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
