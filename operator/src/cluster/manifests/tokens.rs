//! `--token-file`: whose token is whose, outside Kubernetes. One `NAMESPACE/STREAMER TOKEN` a line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use weir_feed::record::StreamerId;

use super::file::{self, StateError};
use crate::cluster::{Identity, TokenError};
use crate::text::is_name;

/// The tokens of a file, as their hashes; read again when the file changes.
pub(super) struct Tokens {
    path: PathBuf,
    stamp: Option<(u64, u64, Option<SystemTime>)>,
    by_hash: Vec<([u8; 32], StreamerId)>,
}

impl Tokens {
    /// Reads the file; a line that cannot be read refuses it as a whole.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let mut tokens = Self { path: path.to_owned(), stamp: None, by_hash: Vec::new() };
        tokens.stamp = tokens.stamp();
        tokens.by_hash = tokens.read()?;
        Ok(tokens)
    }

    /// Whose token this is. A file that became unreadable leaves the tokens that were.
    pub(super) fn identify(&mut self, token: &str) -> Result<Identity, TokenError> {
        let stamp = self.stamp();
        if stamp != self.stamp {
            self.stamp = stamp;
            match self.read() {
                Ok(tokens) => self.by_hash = tokens,
                Err(error) => tracing::error!("{error}; the tokens read before stay"),
            }
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = u64::MAX;
        // All of them, whatever is found: how long it takes tells nothing.
        for (index, (known, _)) in (0..).zip(&self.by_hash) {
            found.conditional_assign(&index, known.ct_eq(&hash));
        }
        let streamer = usize::try_from(found).ok().and_then(|index| self.by_hash.get(index));
        let refused = || TokenError::Refused("the token is none of the token file's".to_owned());
        let (_, streamer) = streamer.ok_or_else(refused)?;
        Ok(Identity { streamer: streamer.clone(), instance: None, expires: None })
    }

    fn stamp(&self) -> Option<(u64, u64, Option<SystemTime>)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    }

    fn read(&self) -> Result<Vec<([u8; 32], StreamerId)>, StateError> {
        let advice =
            "each line is NAMESPACE/STREAMER, a space and a token of its own; a line that begins with # is a comment";
        let refused = |what: String| file::unusable(&self.path, &what, advice);
        let text = fs::read_to_string(&self.path).map_err(|error| refused(format!("cannot be read ({error})")))?;
        let mut tokens: Vec<([u8; 32], StreamerId)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (hash, streamer) =
                parse(line).ok_or_else(|| refused(format!("cannot be understood in line {number}")))?;
            if tokens.iter().any(|(other, of)| *other == hash && *of != streamer) {
                return Err(refused(format!("has a token in line {number} that is another Streamer's too")));
            }
            tokens.push((hash, streamer));
        }
        Ok(tokens)
    }
}

fn parse(line: &str) -> Option<([u8; 32], StreamerId)> {
    let mut words = line.split_whitespace();
    let (streamer, token, None) = (words.next()?, words.next()?, words.next()) else { return None };
    let (namespace, name) = streamer.split_once('/')?;
    let sound = is_name(namespace) && is_name(name);
    let streamer = StreamerId { namespace: namespace.to_owned(), name: name.to_owned() };
    sound.then(|| (Sha256::digest(token).into(), streamer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamer(tokens: &mut Tokens, token: &str) -> Option<String> {
        tokens.identify(token).ok().map(|identity| identity.streamer.to_string())
    }

    #[test]
    fn a_token_is_its_streamer_s_and_the_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "# ours\n\nmedia/s1 one\n  media/s2\ttwo \nmedia/s1 uno\n").unwrap();
        let mut tokens = Tokens::open(&path).unwrap();
        assert_eq!(streamer(&mut tokens, "one").as_deref(), Some("media/s1"));
        assert_eq!(streamer(&mut tokens, "uno").as_deref(), Some("media/s1"));
        assert_eq!(streamer(&mut tokens, "two").as_deref(), Some("media/s2"));
        for wrong in ["", "three", "One", "one ", "media/s1"] {
            assert_eq!(streamer(&mut tokens, wrong), None, "{wrong}");
        }
        fs::write(&path, "media/s3 one\n").unwrap();
        assert_eq!(streamer(&mut tokens, "one").as_deref(), Some("media/s3"));
        assert_eq!(streamer(&mut tokens, "two"), None);
        for broken in ["media/s3\n", "media/s3 one two\n"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(streamer(&mut tokens, "one").as_deref(), Some("media/s3"), "what was read stays");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(streamer(&mut tokens, "one").as_deref(), Some("media/s3"), "what was read stays");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_by_its_number_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        for line in
            ["s1 s3cret", "media/s1", "media/s1 s3cret more", "Media/s1 s3cret", "media/ s3cret", "media/s2 first"]
        {
            fs::write(&path, format!("media/s1 first\n{line}\n")).unwrap();
            let Err(StateError(error)) = Tokens::open(&path) else { panic!("{line}") };
            assert!(error.contains("line 2") && !error.contains("s3cret") && !error.contains("first"), "{error}");
        }
        assert!(Tokens::open(&dir.path().join("none")).is_err());
    }
}
