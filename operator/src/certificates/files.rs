//! A pair of files, read again when they change.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{CertificateMetrics, Pair, PairError, Purpose, Served};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(2);

/// PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why the files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the file {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the files {} and {}: {error}", files.cert.display(), files.key.display())]
    NoPair { files: Files, error: PairError },
}

/// What stands in both files.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    /// Shows what is in them, and from then on whatever comes into them. `purpose` is whose they are, for metric and log.
    pub fn serve(
        self,
        purpose: Purpose,
        metrics: CertificateMetrics,
    ) -> Result<(Served, impl Future<Output = ()> + Send + 'static), FileError> {
        self.serve_every(EVERY, purpose, metrics)
    }

    pub(super) fn serve_every(
        self,
        pause: Duration,
        purpose: Purpose,
        metrics: CertificateMetrics,
    ) -> Result<(Served, impl Future<Output = ()> + Send + 'static), FileError> {
        let served = Served::default();
        let shown = self.read()?;
        metrics.serves(purpose, show(&served, &self, &shown)?.valid());
        let seen = Seen { files: self, served: served.clone(), shown, last: None, refused: None, trouble: None };
        Ok((served, seen.follow(pause, purpose, metrics)))
    }

    fn read(&self) -> Result<Content, FileError> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| FileError::Unreadable { path: path.clone(), error });
        Ok(Content { cert: read(&self.cert)?, key: read(&self.key)? })
    }
}

/// The files as they were seen.
struct Seen {
    files: Files,
    served: Served,
    shown: Content,
    /// By the last reading. A new pair counts when two agree: one may fall between its two files.
    last: Option<Content>,
    refused: Option<(Content, String)>,
    /// What is wrong.
    trouble: Option<String>,
}

impl Seen {
    /// Takes a reading in; the answer is the pair that is shown from now on, if it is another one.
    fn look(&mut self, read: Result<Content, FileError>) -> Option<Pair> {
        let content = match read {
            Ok(content) => content,
            Err(error) => {
                (self.last, self.trouble) = (None, Some(error.to_string()));
                return None;
            }
        };
        let is_stable = self.last.replace(content.clone()).as_ref() == Some(&content);
        if content == self.shown {
            self.trouble = None;
            return None;
        }
        if let Some((refused, why)) = &self.refused
            && content == *refused
        {
            self.trouble = Some(why.clone());
            return None;
        }
        if !is_stable {
            return None;
        }
        match show(&self.served, &self.files, &content) {
            Ok(pair) => {
                (self.shown, self.trouble) = (content, None);
                Some(pair)
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                self.refused = Some((content, error.to_string()));
                None
            }
        }
    }

    /// For as long as the server runs.
    async fn follow(mut self, pause: Duration, purpose: Purpose, metrics: CertificateMetrics) {
        let mut said = None;
        loop {
            tokio::time::sleep(pause).await;
            // Small files: not worth a thread of their own.
            let read = self.files.read();
            if let Some(pair) = self.look(read) {
                metrics.serves(purpose, pair.valid());
                tracing::info!(
                    certificate = purpose.name(),
                    "the certificate has changed: new connections are shown it"
                );
            }
            if let Some(trouble) = self.trouble.as_ref().filter(|trouble| said.as_ref() != Some(*trouble)) {
                tracing::error!(certificate = purpose.name(), "{trouble}; the last certificate goes on being shown");
            }
            metrics.troubled(purpose, self.trouble.is_some());
            said.clone_from(&self.trouble);
        }
    }
}

fn show(served: &Served, files: &Files, content: &Content) -> Result<Pair, FileError> {
    let pair = Pair::from_pem(&content.cert, &content.key);
    let pair = pair.map_err(|error| FileError::NoPair { files: files.clone(), error })?;
    served.show(&pair);
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    /// The texts of a new pair.
    fn pair() -> Content {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        Content { cert: made.cert.pem().into_bytes(), key: made.signing_key.serialize_pem().into_bytes() }
    }

    fn write(files: &Files, content: &Content) {
        std::fs::write(&files.cert, &content.cert).unwrap();
        std::fs::write(&files.key, &content.key).unwrap();
    }

    fn in_folder(folder: &tempfile::TempDir) -> Files {
        Files { cert: folder.path().join("tls.crt"), key: folder.path().join("tls.key") }
    }

    fn seen(files: &Files, shown: Content) -> Seen {
        let served = Served::default();
        Seen { files: files.clone(), served, shown, last: None, refused: None, trouble: None }
    }

    #[test]
    fn a_new_pair_is_shown_when_it_was_read_twice_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (pair(), pair());
        let mut seen = seen(&in_folder(&folder), first.clone());
        let torn = Content { key: first.key.clone(), ..second.clone() };
        assert!(seen.look(Ok(first)).is_none());
        assert!(seen.look(Ok(torn)).is_none() && seen.trouble.is_none(), "between its two files");
        assert!(seen.look(Ok(second.clone())).is_none());
        assert!(seen.look(Ok(second.clone())).is_some());
        assert!(seen.look(Ok(second)).is_none(), "it is shown already");
    }

    #[test]
    fn what_is_no_pair_is_trouble_until_it_is_mended_and_the_last_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (pair(), pair());
        let mut seen = seen(&in_folder(&folder), first.clone());
        let wrong = Content { key: first.key.clone(), ..second.clone() };
        for _ in 0..3 {
            assert!(seen.look(Ok(wrong.clone())).is_none());
        }
        assert!(seen.trouble.as_ref().is_some_and(|why| why.contains("the key is not the certificate's")));
        let gone = FileError::Unreadable { path: "tls.key".into(), error: io::ErrorKind::NotFound.into() };
        assert!(seen.look(Err(gone)).is_none());
        assert!(seen.trouble.as_ref().is_some_and(|why| why.contains("tls.key")));
        assert!(seen.look(Ok(wrong)).is_none());
        assert!(seen.trouble.as_ref().is_some_and(|why| why.contains("the key is not")), "as before");
        assert!(seen.look(Ok(first)).is_none());
        assert_eq!(seen.trouble, None, "as it is shown");
    }

    #[test]
    fn a_server_does_not_start_without_a_pair() {
        let folder = tempfile::tempdir().unwrap();
        let files = in_folder(&folder);
        let start =
            || files.clone().serve(Purpose::Feed, CertificateMetrics::default()).map(drop).unwrap_err().to_string();
        assert!(start().contains("tls.crt"), "{}", start());
        write(&files, &Content { cert: b"nothing".to_vec(), key: pair().key });
        assert!(start().contains("the certificate cannot be read: there is none"), "{}", start());
    }

    #[tokio::test]
    async fn files_are_followed_while_the_server_runs_and_metrics_tell_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = in_folder(&folder);
        let first = pair();
        write(&files, &first);
        let metrics = CertificateMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let (served, following) =
            files.clone().serve_every(Duration::from_millis(5), Purpose::Webhook, metrics).unwrap();
        let following = tokio::spawn(following);
        let shown = |registry: &Registry, line: &str| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            text.contains(line)
        };
        let until = async |is: &dyn Fn() -> bool| {
            let waited = tokio::time::timeout(Duration::from_secs(30), async {
                while !is() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            waited.await.expect("it did not come");
        };
        // rcgen's own end of time.
        assert!(shown(&registry, "weir_certificate_expiry_timestamp_seconds{certificate=\"webhook\"} 67090"));
        std::fs::write(&files.key, "nothing").unwrap();
        until(&|| shown(&registry, "weir_certificate_troubled{certificate=\"webhook\"} 1")).await;
        let second = pair();
        write(&files, &second);
        let second = Pair::from_pem(&second.cert, &second.key).unwrap();
        until(&|| served.shown().is_some_and(|shown| shown.cert == second.key.cert)).await;
        until(&|| shown(&registry, "weir_certificate_troubled{certificate=\"webhook\"} 0")).await;
        following.abort();
    }
}
