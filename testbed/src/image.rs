//! Container images from files of this machine: no registry, no daemon, no other tool.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The size of a block in a tar archive.
const BLOCK: usize = 512;

/// An image of one layer. The same files and settings give the same bytes, whoever writes them and when.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    files: BTreeMap<String, (PathBuf, u32)>,
    config: BTreeMap<&'static str, Value>,
    env: Vec<String>,
}

impl Image {
    /// An empty image, with a name such as `localhost/pause:1`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), files: BTreeMap::new(), config: BTreeMap::new(), env: Vec::new() }
    }

    /// Puts the file `from` to the absolute path `to`, owned by root, with a mode such as `0o755`.
    pub fn file(mut self, from: impl Into<PathBuf>, to: &str, mode: u32) -> Self {
        self.files.insert(to.trim_start_matches('/').into(), (from.into(), mode));
        self
    }

    /// The command that a container runs.
    pub fn entrypoint(self, command: &[&str]) -> Self {
        self.set("Entrypoint", json!(command))
    }

    /// The user and the group, such as `65532:65532`: in numbers, or a kubelet cannot tell that it is not root. It takes the
    /// group from the Pod's `runAsGroup` alone, and else uses that of root.
    pub fn user(self, user: &str) -> Self {
        self.set("User", json!(user))
    }

    /// The directory that the command starts in.
    pub fn working_dir(self, dir: &str) -> Self {
        self.set("WorkingDir", json!(dir))
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Writes the image to the file `path`, in the format of `docker save`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let archive = self.archive().with_context(|| format!("making the image {}", self.name))?;
        fs::write(path, archive).with_context(|| format!("writing {}", path.display()))
    }

    fn set(mut self, key: &'static str, value: Value) -> Self {
        self.config.insert(key, value);
        self
    }

    fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let layer_digest = digest(&layer);
        let config = self.config(&layer_digest).to_string().into_bytes();
        let config_name = format!("{}.json", digest(&config));
        let layer_name = format!("{layer_digest}.tar");
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": [layer_name]}]);
        let mut archive = Tar::default();
        archive.file(&config_name, 0o644, &config)?;
        archive.file(&layer_name, 0o644, &layer)?;
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes())?;
        Ok(archive.finish())
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Tar::default();
        let mut dirs = BTreeSet::new();
        for (to, (from, mode)) in &self.files {
            let mut parents: Vec<_> = Path::new(to).ancestors().skip(1).filter_map(Path::to_str).collect();
            parents.reverse();
            for parent in parents.into_iter().filter(|parent| !parent.is_empty()) {
                if dirs.insert(parent) {
                    layer.directory(parent)?;
                }
            }
            let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
            layer.file(to, *mode, &content)?;
        }
        Ok(layer.finish())
    }

    fn config(&self, layer_digest: &str) -> Value {
        let mut config = json!(self.config);
        config["Env"] = json!(self.env);
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        })
    }
}

/// The name that images use for the processor we run on.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive in the format ustar. Everything belongs to root and is from 1970.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(&format!("{path}/"), 0o755, b'5', &[])
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, mode, b'0', content)
    }

    fn entry(&mut self, path: &str, mode: u32, kind: u8, content: &[u8]) -> Result<()> {
        ensure!(path.len() <= 100, "{path} is longer than 100 bytes");
        // Eleven octal digits.
        ensure!(content.len() < 1 << 33, "{path} is larger than 8 GiB");
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, b"00000000000");
        // The checksum counts itself as spaces.
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn image(dir: &Path) -> Result<Image> {
        fs::write(dir.join("program"), "#!/bin/true\n")?;
        fs::write(dir.join("data"), vec![7; 1000])?;
        let image = Image::new("localhost/some:1")
            .file(dir.join("program"), "/usr/bin/program", 0o755)
            .file(dir.join("data"), "/data", 0o644)
            .entrypoint(&["/usr/bin/program"])
            .user("65532:65532")
            .env("MODE", "quiet");
        Ok(image)
    }

    #[test]
    fn the_same_files_give_the_same_bytes() -> Result<()> {
        let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
        assert_eq!(image(one.path())?.archive()?, image(other.path())?.archive()?);
        assert_ne!(image(one.path())?.archive()?, image(one.path())?.env("MORE", "1").archive()?);
        Ok(())
    }

    /// Read by a program that is not ours.
    #[test]
    fn tar_reads_what_was_written() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let layer = dir.path().join("layer.tar");
        fs::write(&layer, image(dir.path())?.layer()?)?;
        let output = Command::new("tar").args(["--list", "--verbose", "--file"]).arg(&layer).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout)?;
        let lines: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let seen: Vec<_> = lines.iter().map(|columns| (columns[0], columns[2], columns[columns.len() - 1])).collect();
        let expected = [
            ("-rw-r--r--", "1000", "data"),
            ("drwxr-xr-x", "0", "usr/"),
            ("drwxr-xr-x", "0", "usr/bin/"),
            ("-rwxr-xr-x", "12", "usr/bin/program"),
        ];
        assert_eq!(seen, expected, "{listed}");
        Ok(())
    }

    #[test]
    fn what_cannot_be_written_is_said() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let missing = Image::new("localhost/none:1").file(dir.path().join("none"), "/none", 0o644);
        let error = format!("{:#}", missing.write(&dir.path().join("image.tar")).err().context("it was written")?);
        assert!(error.contains("localhost/none:1") && error.contains("/none"), "{error}");
        let long = image(dir.path())?.file(dir.path().join("data"), &"x".repeat(101), 0o644);
        assert!(format!("{:#}", long.archive().err().context("it was written")?).contains("100 bytes"));
        Ok(())
    }
}
