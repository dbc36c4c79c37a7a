//! `--token-file`: whose token is whose, outside Kubernetes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_feed::record::StreamerId;

use super::file::{self, StateError};
use crate::cluster::{Identity, TokenError};
use crate::token::{self, Hash};

/// The tokens of a file, as their hashes; read again when the file changes.
pub(super) struct Tokens {
    path: PathBuf,
    stamp: Option<(u64, u64, Option<SystemTime>)>,
    by_hash: BTreeMap<Hash, StreamerId>,
}

impl Tokens {
    /// Reads the file; a line that cannot be read refuses it as a whole.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let mut tokens = Self { path: path.to_owned(), stamp: None, by_hash: BTreeMap::new() };
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
        let refused = || TokenError::Refused("the token is none of the token file's".to_owned());
        let streamer = self.by_hash.get(&Hash::of(token)).ok_or_else(refused)?;
        Ok(Identity { streamer: streamer.clone(), instance: None, expires: None })
    }

    fn stamp(&self) -> Option<(u64, u64, Option<SystemTime>)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    }

    fn read(&self) -> Result<BTreeMap<Hash, StreamerId>, StateError> {
        let advice = "each line is NAMESPACE/STREAMER, a space and a token of its own, or sha256: and the token's hash; a line that begins with # is a comment";
        let refused = |what: String| file::unusable(&self.path, &what, advice);
        let text = fs::read_to_string(&self.path).map_err(|error| refused(format!("cannot be read ({error})")))?;
        let mut tokens = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = token::file::parse(line);
            let parsed = parsed.map_err(|_| refused(format!("cannot be understood in line {number}")))?;
            let Some((hash, streamer)) = parsed else { continue };
            if tokens.get(&hash).is_some_and(|of| *of != streamer) {
                return Err(refused(format!("has a token in line {number} that is another Streamer's too")));
            }
            tokens.insert(hash, streamer);
        }
        Ok(tokens)
    }
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
        fs::write(&path, format!("media/s3 one\nmedia/s4 sha256:{}\n", Hash::of("weir_x"))).unwrap();
        assert_eq!(streamer(&mut tokens, "weir_x").as_deref(), Some("media/s4"));
        assert_eq!(streamer(&mut tokens, &format!("sha256:{}", Hash::of("weir_x"))), None, "a hash is no token");
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
