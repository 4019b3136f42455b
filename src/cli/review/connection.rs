//! kubectl's own flags for which cluster to ask, and as whom.

use crate::cli::kubeconfig;
use anyhow::Context;
use jiff::SignedDuration;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions};
use std::path::PathBuf;
use std::time::Duration;

/// Which cluster, and as whom.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options as of kubectl")]
pub struct Connection {
    /// Kubeconfig to use [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long)]
    pub context: Option<String>,
    /// Cluster of the kubeconfig to use
    #[arg(long)]
    pub cluster: Option<String>,
    /// User of the kubeconfig to use
    #[arg(long)]
    pub user: Option<String>,
    /// Address of the API server
    #[arg(short, long, value_name = "URL")]
    pub server: Option<String>,
    /// Bearer token to use, in the place of every other credential
    #[arg(long)]
    pub token: Option<String>,
    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to impersonate; may be given more than once
    #[arg(long = "as-group", value_name = "GROUP", requires = "as_user")]
    pub as_groups: Vec<String>,
    /// Uid to impersonate
    #[arg(long = "as-uid", value_name = "UID", requires = "as_user")]
    pub as_uid: Option<String>,
    /// Time to wait for one answer of the API server, such as 5s or 1m; 0 waits as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub request_timeout: Duration,
}

/// A length of time as kubectl takes it: `2s`, `1m30s`, `500ms`, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let parsed: Result<SignedDuration, _> = text.parse();
    let duration = parsed.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "write a length of time, such as 2s, 500ms or 1m30s".into())
}

impl Connection {
    /// The configuration that the flags choose.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.base().await?;
        if let Some(server) = &self.server {
            config.cluster_url = server.parse().with_context(|| format!("--server {server} is no URL"))?;
        }
        if let Some(token) = &self.token {
            // A client certificate beside it would win, and the review be given in another name than was meant.
            config.auth_info = bearer(token)?;
        }
        if let Some(user) = &self.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(self.as_groups.clone()).filter(|groups| !groups.is_empty());
            config.auth_info.impersonate_uid = self.as_uid.clone();
        }
        let limit = Some(self.request_timeout).filter(|limit| !limit.is_zero());
        config.read_timeout = limit;
        config.connect_timeout = limit;
        // A repeated review would meet its own first try.
        config.default_retry = false;
        Ok(config)
    }

    async fn base(&self) -> anyhow::Result<Config> {
        let options =
            KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        kubeconfig::config(self.kubeconfig.as_deref(), &options).await
    }
}

/// Credentials of a token alone.
fn bearer(token: &str) -> anyhow::Result<AuthInfo> {
    serde_json::from_value(serde_json::json!({"token": token})).context("--token cannot be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_those_of_kubectl() {
        for (text, millis) in [("0", 0), ("0s", 0), ("2s", 2000), ("500ms", 500), ("1m30s", 90_000), ("10", 10_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-1s", "soon", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_stands_alone() {
        let credentials = bearer("abc").expect("credentials");
        assert!(credentials.token.is_some() && credentials.client_certificate_data.is_none());
    }
}
