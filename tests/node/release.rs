//! The image as it is shipped, made without Docker: one static binary.

use anyhow::{Context, Result, ensure};
use countersign_testbed::{Image, RealNode};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it is called, as the chart's values say.
pub const IMAGE: &str = "localhost/countersign:0.1.0";
/// Set to 1, the binary is built as the Dockerfile builds it, which takes minutes. Otherwise it is linked from what these tests
/// are made of.
const RELEASE: &str = "COUNTERSIGN_TEST_RELEASE";
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// Builds it, and makes it known to the node.
pub async fn add_image(node: &RealNode) -> Result<()> {
    let binary = tokio::task::spawn_blocking(binary).await??;
    let image = Image::new(IMAGE).file(binary, "/countersign", 0o755).entrypoint(&["/countersign"]).user("65532:65532");
    node.add_image(&image).await
}

fn binary() -> Result<PathBuf> {
    // The directory that this very program was built into.
    let target = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().and_then(Path::parent).context("target")?;
    let binary = if std::env::var_os(RELEASE).is_some_and(|value| value == "1") {
        let host = said(Command::new("rustc").args(["--print", "host-tuple"]))?.trim().to_owned();
        let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
        cargo(&["build", "--release", "--bin=countersign", "--target", &host], &[(flags.as_str(), STATIC)])?;
        let binary = target.join(host).join("release/countersign");
        let size = std::fs::metadata(&binary)?.len();
        eprintln!("the image has one file, of {:.1} MB", size as f64 / 1e6);
        ensure!(size < 15_000_000, "the image grew to {size} bytes");
        binary
    } else {
        cargo(&["rustc", "--example=image", "--", STATIC], &[])?;
        target.join("debug/examples/image")
    };
    let headers = said(Command::new("readelf").args(["--program-headers", "--wide"]).arg(&binary))?;
    ensure!(
        headers.contains("LOAD") && !headers.contains("INTERP"),
        "it needs a loader, which the image does not have"
    );
    Ok(binary)
}

fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let (what, args) = args.split_first().context("a command")?;
    let mut command = Command::new(env!("CARGO"));
    command.args([what, "--quiet", "--locked", "--package=countersign"]).args(args);
    command.envs(env.iter().copied()).current_dir(env!("CARGO_MANIFEST_DIR"));
    ensure!(command.status()?.success(), "the static binary could not be built");
    Ok(())
}

fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let missing = || format!("starting {}: is it installed?", AsRef::<OsStr>::as_ref(&program).display());
    Ok(String::from_utf8(command.output().with_context(missing)?.stdout)?)
}
