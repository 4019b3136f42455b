//! Errors at the boundary to the API server.

use std::time::Duration;

/// How an error is counted, and whether trying again helps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Somebody else wrote first, or the object is gone: look again.
    Conflict,
    /// The API server refused for good reasons: trying the same again rarely helps.
    Refused,
    /// The API server could not be reached or could not answer.
    Unavailable,
}

/// What went wrong, in which operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error, or not at all.
    #[error("{operation}: {source}")]
    Api {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// No answer in time.
    #[error("{operation}: no answer within {limit:?}")]
    TimedOut {
        /// What was tried.
        operation: &'static str,
        /// How long.
        limit: Duration,
    },
    /// A signing key is there and can't be used.
    #[error("Secret {namespace}/{name}: {problem}")]
    Key {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// How to count it, and whether to try again.
    pub fn class(&self) -> Class {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => match status.code {
                404 | 409 => Class::Conflict,
                429 | 500.. => Class::Unavailable,
                _ => Class::Refused,
            },
            Self::Key { .. } => Class::Refused,
            _ => Class::Unavailable,
        }
    }

    /// What the API server said, without our own words around it.
    pub fn server_message(&self) -> String {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// Longest wait for the answer to one call.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Makes a call with a time limit.
pub(crate) async fn call<T>(
    operation: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_LIMIT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api { operation, source }),
        Err(_) => Err(Error::TimedOut { operation, limit: CALL_LIMIT }),
    }
}
