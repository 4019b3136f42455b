//! What a real node needs of the machine.

use std::env;
use std::fs;
use std::path::Path;

use crate::processes::system_path;

/// The capabilities to mount and to make networks, by their numbers in the kernel.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Programs that are the distribution's, and the packages of Debian that have them.
const TOOLS: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];

/// Whether this machine can run a real node; if not, what is missing and what to do about it, a line for each.
pub fn real_node_possible() -> Result<(), Vec<String>> {
    // There is none where there is no Linux.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let path = system_path();
    let installed = |tool: &str| env::split_paths(&path).any(|dir: std::path::PathBuf| dir.join(tool).is_file());
    let missing = missing(&status, installed, Path::new("/sys/fs/cgroup").is_dir());
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// Judges by what the kernel says of this process, and by what is installed.
fn missing(status: &str, installed: impl Fn(&str) -> bool, has_cgroups: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if status.is_empty() {
        return vec!["a real node runs on Linux only".into()];
    }
    if field(status, "Uid").and_then(|ids| ids.split_whitespace().nth(1)) != Some("0") {
        missing.push("a real node needs root: run this as root".into());
    }
    let held = field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    for (number, name) in CAPABILITIES {
        if held & (1 << number) == 0 {
            missing.push(format!("a real node needs the capability {name}: in a container, run it privileged"));
        }
    }
    for (tool, package) in TOOLS {
        if !installed(tool) {
            missing.push(format!("{tool} is not installed: on Debian, apt-get install {package}"));
        }
    }
    if !has_cgroups {
        missing.push("there are no control groups: mount them at /sys/fs/cgroup".into());
    }
    missing
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t00000000a82435fb\n";
    const ALICE: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";

    #[test]
    fn nothing_is_missing_for_root_with_all_tools() {
        assert_eq!(missing(ROOT, |_| true, true), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_missing_is_named_with_what_to_do() {
        let said = missing(ALICE, |tool| tool != "runc" && tool != "nft", false).join("\n");
        for part in ["as root", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "install runc", "install nftables", "/sys/fs/cgroup"]
        {
            assert!(said.contains(part), "{part} in:\n{said}");
        }
        assert_eq!(said.lines().count(), 6, "{said}");
    }

    #[test]
    fn without_linux_nothing_else_counts() {
        assert_eq!(missing("", |_| false, false).len(), 1);
    }
}
