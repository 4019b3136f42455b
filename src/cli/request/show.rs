//! What goes to stdout.

use crate::api::names;
use crate::cli::escape::visible;
use crate::cli::request::desk::Desk;
use crate::cli::request::exit::{End, Exit};
use anyhow::Context;
use serde_json::Value;
use std::io::IsTerminal;

/// Forms of what is printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// The receipt of the released Job: a DSSE envelope, as JSON
    Receipt,
    /// The request as it is stored
    Json,
    /// The request as it is stored
    Yaml,
    /// `approvalrequest.countersign.dev/NAME`
    Name,
}

/// The request in that form; a receipt is read elsewhere.
pub fn request(form: Form, request: &Value) -> anyhow::Result<String> {
    match form {
        Form::Receipt => Ok(String::new()),
        Form::Name => Ok(format!(
            "approvalrequest.{}/{}\n",
            names::GROUP,
            request["metadata"]["name"].as_str().unwrap_or_default()
        )),
        Form::Yaml => yaml(request),
        Form::Json => Ok(shown(serde_json::to_string_pretty(request).context("the request cannot be written")? + "\n")),
    }
}

/// YAML of an object.
pub fn yaml(object: &Value) -> anyhow::Result<String> {
    Ok(shown(serde_yaml::to_string(object).context("the request cannot be written as YAML")?))
}

/// A program gets it as it is; on a terminal nothing in it may take effect.
fn shown(text: String) -> String {
    if !std::io::stdout().is_terminal() {
        return text;
    }
    text.lines().map(|line| visible(line) + "\n").collect()
}

/// The receipt on the Job that the request released.
pub async fn receipt(desk: &Desk, request: &Value) -> Result<String, End> {
    let name = request["spec"]["target"]["name"].as_str().unwrap_or_default();
    let job = desk.job(name).await?;
    receipt_on(job.as_ref(), request)
        .map(shown)
        .map_err(|why| End::new(Exit::Failed, format!("released, and no receipt: {why}")))
}

/// The receipt on that Job, if it is the one that was released.
fn receipt_on(job: Option<&Value>, request: &Value) -> Result<String, String> {
    let job = job.ok_or("the Job is gone")?;
    let released = &request["status"]["target"]["uid"];
    if !released.is_string() || &job["metadata"]["uid"] != released {
        return Err("another Job has its name now".into());
    }
    let receipt = &job["spec"]["template"]["metadata"]["annotations"][names::RECEIPT];
    let text = receipt.as_str().ok_or("the Job carries none; somebody may have started it past the gate")?;
    Ok(format!("{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_receipt_is_that_of_the_job_that_was_released() {
        let request = json!({"status": {"target": {"uid": "1"}}});
        let job = |uid: &str, annotations: Value| json!({"metadata": {"uid": uid}, "spec": {"template": {"metadata": {"annotations": annotations}}}});
        let carried = json!({names::RECEIPT: "{}"});
        assert_eq!(receipt_on(Some(&job("1", carried.clone())), &request), Ok("{}\n".into()));
        assert!(receipt_on(Some(&job("2", carried.clone())), &request).unwrap_err().contains("another Job"));
        assert!(receipt_on(Some(&job("1", json!({}))), &request).unwrap_err().contains("carries none"));
        assert!(receipt_on(None, &request).unwrap_err().contains("gone"));
        assert!(receipt_on(Some(&job("1", carried)), &json!({})).is_err());
    }
}
