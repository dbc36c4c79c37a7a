//! Requests to the API server that end in time, and what their failures say.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use kube::core::Status;
use weir_feed::leader::step::Outcome;

use crate::cluster::Trouble;

/// A request that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// No answer in this time: it may have been carried out, or may yet be.
    Late(Duration),
    /// The API server's answer.
    Answered(Box<Status>),
    /// No answer, or one that cannot be read.
    Broken(kube::Error),
}

/// Waits for an answer, but not longer than `limit`.
pub(crate) async fn bounded<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Late(limit)),
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Answered(status),
            error => Self::Broken(error),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl Failure {
    /// The status code of the answer.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Answered(status) => Some(status.code),
            Self::Late(_) | Self::Broken(_) => None,
        }
    }

    /// Whether the object itself is not there, rather than its whole kind.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Answered(status) if status.code == 404 && named(status))
    }

    /// Whether an object of that name is there already.
    pub(super) fn is_already_there(&self) -> bool {
        matches!(self, Self::Answered(status) if status.is_already_exists())
    }

    /// How a write ended that failed so. Whatever does not prove that nothing was written, is unknown.
    pub(super) fn outcome(&self) -> Outcome {
        let message = self.to_string();
        match self.code() {
            Some(408 | 429) => Outcome::Unknown { message },
            Some(400..=499) => Outcome::Refused { message },
            _ => Outcome::Unknown { message },
        }
    }
}

/// An unknown kind is answered without the name of an object.
fn named(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "the API server did not answer within {limit:?}"),
            Self::Answered(status) => {
                let (code, reason, message) = (status.code, &status.reason, &status.message);
                write!(f, "the API server answered {code} {reason}: {message}")
            }
            // What stands there may be a password.
            Self::Broken(kube::Error::SerdeError(error)) => write!(
                f,
                "the API server's answer cannot be read (at column {} of line {})",
                error.column(),
                error.line()
            ),
            Self::Broken(error) => {
                write!(f, "the API server cannot be asked: {}", chain(error))
            }
        }
    }
}

/// An error with its causes, which kube's own words leave out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, reason: &str) -> Failure {
        Failure::Answered(Status::failure("sorry", reason).with_code(code).boxed())
    }

    #[test]
    fn only_an_answer_that_says_so_proves_that_nothing_was_written() {
        for code in [400, 401, 403, 404, 409, 410, 413, 422] {
            let outcome = answered(code, "").outcome();
            assert!(matches!(outcome, Outcome::Refused { .. }), "{code}");
        }
        for code in [0, 408, 429, 500, 502, 503, 504] {
            let outcome = answered(code, "").outcome();
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{code}");
        }
        let late = Failure::Late(Duration::from_secs(2)).outcome();
        assert!(matches!(late, Outcome::Unknown { .. }));
        let broken = Failure::Broken(kube::Error::LinesCodecMaxLineLengthExceeded).outcome();
        assert!(matches!(broken, Outcome::Unknown { .. }));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_repeated() {
        let error = serde_json::from_str::<u64>("\"hunter2\"").unwrap_err();
        assert!(error.to_string().contains("hunter2"));
        let text = Failure::from(kube::Error::SerdeError(error)).to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_missing_object_is_told_from_a_missing_kind() {
        let missing: Status = serde_json::from_str(
            r#"{"kind":"Status","status":"Failure","message":"placements.weir.dev \"placement-7\" not found",
                "reason":"NotFound","details":{"name":"placement-7","group":"weir.dev","kind":"placements"},"code":404}"#,
        )
        .unwrap();
        assert!(Failure::Answered(missing.boxed()).is_absent());
        assert!(!answered(404, "Failed to parse error data").is_absent());
    }
}
