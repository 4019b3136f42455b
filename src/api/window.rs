//! Freeze windows: times in which nothing is released.

use crate::api::Subject;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A recurring time in which nothing is released that its rule matches. What is approved meanwhile waits for its end.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FreezeWindow {
    /// The window's name, unique in its rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// When it begins: five fields of cron (minute, hour, day of month, month, day of week), by the clocks of `timeZone`. Numbers,
    /// names such as `JAN` and `MON`, and `*`, `,`, `-`, `/`; no `@daily`, `L`, `W`, `#` or `?`. A time that clocks skip is the first
    /// instant after it; one that they show twice is the first.
    #[schemars(length(min = 9, max = 128))]
    pub start: String,
    /// How long it lasts, in elapsed seconds.
    #[schemars(range(min = 60, max = 31536000))]
    pub duration_seconds: i64,
    /// The IANA time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Who may pass it: once one of these approves, the window no longer holds that release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub may_pass: Vec<Subject>,
}

fn utc() -> String {
    "UTC".into()
}
