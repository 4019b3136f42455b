//! Which cluster, and as whom, as kubectl finds it: a file that is named, else those of `KUBECONFIG`, else `~/.kube/config`; in a
//! Pod, where there is none of them, its service account.
//!
//! kube reads such files too, with a YAML parser that nothing else here uses: it would be a twentieth of each program.

use crate::cli::yaml;
use anyhow::{Context, bail};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// The configuration of the file that is named, or of those that the environment tells of, with the context, cluster and user
/// of `options`. The service account of a Pod where there is no file and no option asks for one.
pub async fn config(named: Option<&Path>, options: &KubeConfigOptions) -> anyhow::Result<Config> {
    if let Some(kubeconfig) = find(named)? {
        return Config::from_custom_kubeconfig(kubeconfig, options).await.context("this kubeconfig cannot be used");
    }
    if options.context.is_some() || options.cluster.is_some() || options.user.is_some() {
        bail!("there is no kubeconfig that could have this context, cluster or user");
    }
    Config::incluster().context("neither a kubeconfig nor a Pod's service account is there")
}

/// The kubeconfig that is named, or that the environment tells of; none where there is no such file.
pub fn find(named: Option<&Path>) -> anyhow::Result<Option<Kubeconfig>> {
    if let Some(path) = named {
        return read(path).map(Some);
    }
    let variable = std::env::var_os("KUBECONFIG");
    let paths = usual(variable.as_deref(), std::env::home_dir());
    // Where several are named, those that are not there are no error, as with kubectl.
    let there = paths.iter().filter(|path| path.exists());
    let merged = there.map(|path| read(path)).reduce(|all, next| Ok(all?.merge(next?)?));
    merged.transpose()
}

/// Where kubeconfigs are looked for, given `KUBECONFIG` and the home directory.
fn usual(variable: Option<&OsStr>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let named =
        variable.map(|paths| std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect());
    let named: Vec<PathBuf> = named.unwrap_or_default();
    if named.is_empty() { home.map(|home| home.join(".kube/config")).into_iter().collect() } else { named }
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    let text = std::fs::read(path).with_context(|| format!("kubeconfig {}", path.display()))?;
    let mut all = parse(&text).with_context(|| format!("kubeconfig {}", path.display()))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    files_of(&mut all, |file| {
        // A path that is absolute stays what it is.
        if let Some(found) = dir.join(&*file).to_str() {
            *file = found.to_owned();
        }
    });
    Ok(all)
}

fn parse(text: &[u8]) -> anyhow::Result<Kubeconfig> {
    yaml::check(text)?;
    let mut all = Kubeconfig::default();
    for document in serde_yaml::Deserializer::from_slice(text) {
        let document = Value::deserialize(document)?;
        if !document.is_null() {
            all = all.merge(serde_json::from_value(document)?)?;
        }
    }
    Ok(all)
}

/// Each file that a kubeconfig names. A plugin is one where it is not looked up in `PATH`.
fn files_of(config: &mut Kubeconfig, mut each: impl FnMut(&mut String)) {
    let clusters = config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
    clusters.filter_map(|cluster| cluster.certificate_authority.as_mut()).for_each(&mut each);
    for user in config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        let files = [&mut user.client_certificate, &mut user.client_key, &mut user.token_file];
        files.into_iter().flatten().for_each(&mut each);
        let plugin = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
        plugin.filter(|command| command.contains(MAIN_SEPARATOR)).into_iter().for_each(&mut each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
apiVersion: v1
kind: Config
current-context: one
clusters:
- name: one
  cluster: {server: "https://one:6443", certificate-authority: pki/ca.crt}
contexts:
- name: one
  context: {cluster: one, user: alice, namespace: payments}
users:
- name: alice
  user: {client-certificate: /etc/alice.crt, client-key: keys/alice.key}
- name: bob
  user:
    tokenFile: bob.token
- name: carol
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugins/token, interactiveMode: Never}
- name: mallory
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: token, interactiveMode: Never}
"#;

    #[test]
    fn files_are_looked_for_beside_the_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, ONE).unwrap();
        let mut config = find(Some(&path)).unwrap().unwrap();
        let mut files = vec![];
        files_of(&mut config, |file| files.push(file.clone()));
        let beside = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
        let (authority, key) = (beside("pki/ca.crt"), beside("keys/alice.key"));
        assert_eq!(files, [authority, "/etc/alice.crt".into(), key, beside("bob.token"), beside("./plugins/token")]);
        let plugin = config.auth_infos[3].auth_info.as_ref().unwrap().exec.as_ref().unwrap();
        assert_eq!(plugin.command.as_deref(), Some("token"), "that one is in PATH");
    }

    #[test]
    fn of_several_the_first_that_says_something_counts() {
        let other =
            ONE.replace("https://one:6443", "https://two:6443").replace("current-context: one", "current-context: two");
        let both = parse(format!("{ONE}\n---\n{other}").as_bytes()).unwrap();
        assert_eq!(both.current_context.as_deref(), Some("one"));
        let server = |config: &Kubeconfig| config.clusters[0].cluster.as_ref().unwrap().server.clone();
        assert_eq!((both.clusters.len(), server(&both)), (1, Some("https://one:6443".into())));
        let bom = [b"\xef\xbb\xbf", ONE.as_bytes()].concat();
        assert_eq!(server(&parse(&bom).unwrap()), Some("https://one:6443".into()));
    }

    #[test]
    fn it_is_looked_for_where_kubectl_does() {
        let (a, b, home) = (PathBuf::from("/a"), PathBuf::from("/b"), PathBuf::from("/home/alice"));
        let at_home = home.join(".kube/config");
        assert_eq!(usual(Some(OsStr::new("/a::/b")), Some(home.clone())), [a, b]);
        for nothing in [None, Some(OsStr::new("")), Some(OsStr::new(":"))] {
            assert_eq!(usual(nothing, Some(home.clone())), std::slice::from_ref(&at_home));
        }
        assert_eq!(usual(None, None), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for (text, said) in [("clusters: {", "config"), ("clusters: yes", "invalid type"), ("a list: [1", "config")] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", find(Some(&path)).unwrap_err());
            assert!(error.contains("kubeconfig /") && error.contains(said), "{text}: {error}");
        }
        let gone = dir.path().join("gone");
        assert!(format!("{:#}", find(Some(&gone)).unwrap_err()).contains("No such file"));
    }
}
