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
                // JSON of somebody else, who stands between, says nothing of what the API server thinks of it.
                0 | 429 | 500.. => Class::Unavailable,
                _ => Class::Refused,
            },
            Self::Key { .. } => Class::Refused,
            _ => Class::Unavailable,
        }
    }

    /// How long to wait before another attempt: `planned`, or longer where the API server asks for that.
    pub fn wait(&self, planned: Duration) -> Duration {
        let Self::Api { source: kube::Error::Api(status), .. } = self else { return planned };
        let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        planned.max(Duration::from_secs(asked.into()).min(LONGEST_ASKED))
    }

    /// What the API server said, without our own words around it.
    pub fn server_message(&self) -> String {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// Longest time for which the API server can have an attempt put off.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answered(status: Value) -> Error {
        Error::Api { operation: "try", source: kube::Error::Api(serde_json::from_value(status).unwrap()) }
    }

    #[test]
    fn an_api_server_is_given_the_time_that_it_asks_for_within_bounds() {
        let after = |seconds: u32| answered(json!({"code": 429, "details": {"retryAfterSeconds": seconds}}));
        let planned = Duration::from_millis(200);
        assert_eq!(answered(json!({"code": 429})).wait(planned), planned);
        assert_eq!(after(2).wait(planned), Duration::from_secs(2));
        assert_eq!(after(2).wait(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(after(86_400).wait(planned), LONGEST_ASKED);
        assert_eq!(Error::TimedOut { operation: "try", limit: CALL_LIMIT }.wait(planned), planned);
    }

    #[test]
    fn what_is_no_status_is_no_refusal() {
        assert_eq!(answered(json!({"error": "no healthy upstream"})).class(), Class::Unavailable);
        assert_eq!(answered(json!({"code": 403})).class(), Class::Refused);
        assert_eq!(answered(json!({"code": 409})).class(), Class::Conflict);
        assert_eq!(answered(json!({"code": 504})).class(), Class::Unavailable);
    }
}
