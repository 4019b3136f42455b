//! Why a review was not taken, in one line, with what to do next. Pure.

use crate::cli::client::explained;
use crate::cli::escape::visible;
use kube::core::Status;

/// A refusal for a person, safe to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Whether the same may work later: nobody has judged it.
    pub unanswered: bool,
    /// Why, and what to do.
    pub text: String,
}

impl Refused {
    /// A refusal that stands.
    pub fn final_word(text: impl AsRef<str>) -> Self {
        Self { unanswered: false, text: visible(text.as_ref()) }
    }

    /// Nobody has judged it.
    pub fn unanswered(text: impl AsRef<str>) -> Self {
        Self { unanswered: true, text: visible(text.as_ref()) }
    }
}

/// What was asked about: a request by name, or what a namespace or the cluster holds.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The namespace; none is all of them.
    pub namespace: Option<&'a str>,
    /// The request.
    pub name: Option<&'a str>,
}

impl Place<'_> {
    fn described(&self) -> String {
        self.namespace.map_or_else(|| "cluster-wide".into(), |namespace| format!("in namespace {namespace}"))
    }
}

/// What an error of the API server means for a review or a read there.
pub fn refused(error: kube::Error, server: &str, place: Place<'_>) -> Refused {
    match error {
        kube::Error::Api(status) => by_server(&status, place),
        other => Refused::unanswered(format!("{:#}", explained(other, server))),
    }
}

fn by_server(status: &Status, place: Place<'_>) -> Refused {
    let message = status.message.trim_end();
    // Countersign's own word, from behind the API server's.
    if let Some((_, own)) = message.split_once("denied the request: ") {
        let Refused { text, .. } = Refused::final_word(in_flags(own));
        return Refused { unanswered: status.code == 503, text };
    }
    if message.contains("failed calling webhook") {
        return Refused::unanswered(
            "the operator does not answer, so nothing was stored; try again in a moment. If it stays away, see docs/runbooks.md",
        );
    }
    match status.code {
        404 if !message.starts_with("the server could not find") => {
            let (name, place) = (place.name.unwrap_or("of that name"), place.described());
            Refused::final_word(format!(
                "there is no request {name} {place}; to see what waits for you: kubectl approve -A"
            ))
        }
        404 => Refused::final_word("this cluster has no Countersign: countersign manifests | kubectl apply -f -"),
        401 => Refused::final_word("the API server does not know who you are; log in again"),
        403 => {
            let hint = if place.namespace.is_none() { "name a namespace with -n, or " } else { "" };
            Refused::final_word(format!(
                "you may not do that {}; {hint}ask the platform team for a binding of the ClusterRole countersign-reviewer ({message})",
                place.described()
            ))
        }
        500.. => Refused::unanswered(format!("the API server could not do it: {message}")),
        _ => Refused::final_word(format!("the API server refused it: {message}")),
    }
}

/// Names of flags in the place of fields, where somebody gave no patch.
fn in_flags(message: &str) -> String {
    message.replace("say in spec.review.comment what you checked", "say with --comment what you checked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::StatusSummary;

    fn refusal(code: u16, reason: &str, message: &str) -> Refused {
        let status = Status {
            status: Some(StatusSummary::Failure),
            code,
            reason: reason.into(),
            message: message.into(),
            ..Status::default()
        };
        refused(
            kube::Error::Api(status.boxed()),
            "https://api",
            Place { namespace: Some("payments"), name: Some("run") },
        )
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let webhook = r#"admission webhook "requests.countersign.dev" denied the request: "#;
        for (code, reason, message, unanswered, expected) in [
            (403, "Forbidden", format!("{webhook}you asked for this yourself"), false, "you asked for this yourself"),
            (
                422,
                "Invalid",
                format!("{webhook}this approval takes a comment: say in spec.review.comment what you checked"),
                false,
                "this approval takes a comment: say with --comment what you checked",
            ),
            (
                503,
                "ServiceUnavailable",
                format!("{webhook}Countersign has not read all policies yet"),
                true,
                "not read",
            ),
            (
                500,
                "InternalError",
                r#"Internal error occurred: failed calling webhook "requests.countersign.dev": dial"#.into(),
                true,
                "the operator does not answer, so nothing was stored",
            ),
            (
                404,
                "NotFound",
                r#"approvalrequests.countersign.dev "run" not found"#.into(),
                false,
                "there is no request run in namespace payments; to see what waits for you: kubectl approve -A",
            ),
            (404, "NotFound", "the server could not find the requested resource".into(), false, "has no Countersign"),
            (
                403,
                "Forbidden",
                r#"approvalrequests.countersign.dev "run" is forbidden: User "bob" cannot patch"#.into(),
                false,
                "ask the platform team for a binding",
            ),
            (401, "Unauthorized", "Unauthorized".into(), false, "log in again"),
            (409, "Conflict", format!("{webhook}\u{1b}[2J"), false, "\\u{1b}[2J"),
        ] {
            let refused = refusal(code, reason, &message);
            assert!(refused.text.contains(expected), "{}", refused.text);
            assert_eq!(refused.unanswered, unanswered, "{}", refused.text);
            assert!(!refused.text.contains('\u{1b}') && !refused.text.contains('\n'));
        }
    }
}
