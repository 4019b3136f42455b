//! The control plane does what the other tests take for granted.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, ControlPlane, Counts, NodePrograms, Observer, Options, progress_to_stderr};
use serde_json::json;
use tokio::sync::OnceCell;

/// Shared, and never dropped: the programs have to go without that.
async fn control_plane() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(|| ControlPlane::start(Options::default())).await
}

fn job(name: &str, suspend: bool) -> String {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "suspend": suspend,
            "template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "localhost/none:1"}],
            }},
        },
    })
    .to_string()
}

#[tokio::test]
async fn comes_up_with_the_pinned_release() -> Result<()> {
    let cluster = control_plane().await?;
    let version = cluster.admin().kubectl(["version"]).json().await?;
    let client = version["clientVersion"]["gitVersion"].as_str().context("client version")?;
    assert!(client.starts_with("v1."), "{version}");
    assert_ne!(client, "v1.0.0");
    assert_eq!(version["serverVersion"]["gitVersion"], client);
    let kubeconfig = fs::read_to_string(cluster.admin().kubeconfig)?;
    assert!(kubeconfig.contains(cluster.server_url()));
    Ok(())
}

#[tokio::test]
async fn roles_are_bound_to_any_of_a_users_groups() -> Result<()> {
    let cluster = control_plane().await?;
    let admin = cluster.admin();
    let role = ["create", "role", "reader", "--verb=get,list", "--resource=configmaps"];
    admin.kubectl(role).ok().await?;
    let binding = ["create", "rolebinding", "reader", "--role=reader", "--group=readers"];
    admin.kubectl(binding).ok().await?;

    let alice = cluster.user("alice", &["staff", "readers", "on-call"])?;
    let who = alice.kubectl(["auth", "whoami"]).json().await?;
    let groups = json!(["staff", "readers", "on-call", "system:authenticated"]);
    assert_eq!(who["status"]["userInfo"]["username"], "alice");
    assert_eq!(who["status"]["userInfo"]["groups"], groups);
    // The authorizer learns of a binding through a watch.
    eventually(async || alice.kubectl(["get", "configmaps"]).ok().await.is_ok()).await?;

    let mallory = cluster.user("mallory", &["staff"])?;
    let refusal = mallory.kubectl(["get", "configmaps"]).refused().await?;
    assert!(refusal.contains("Forbidden"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn the_same_user_is_issued_once() -> Result<()> {
    let cluster = control_plane().await?;
    let first = cluster.user("bob", &["staff"])?;
    assert_eq!(first.kubeconfig, cluster.user("bob", &["staff"])?.kubeconfig);
    assert_ne!(first.kubeconfig, cluster.user("bob", &["security"])?.kubeconfig);
    Ok(())
}

#[tokio::test]
async fn a_service_account_gets_a_token() -> Result<()> {
    let cluster = control_plane().await?;
    let account = cluster.service_account("default", "default").await?;
    let who = account.kubectl(["auth", "whoami"]).json().await?;
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
    Ok(())
}

#[tokio::test]
async fn a_job_completes_and_a_suspended_one_stays() -> Result<()> {
    let admin = control_plane().await?.admin();
    let create = || admin.kubectl(["create", "--filename", "-"]);
    create().stdin(job("held", true)).ok().await?;
    create().stdin(job("free", false)).ok().await?;
    let wait = ["wait", "--for=condition=Complete", "job/free", "--timeout=60s"];
    admin.kubectl(wait).ok().await?;

    let held = admin.kubectl(["get", "job", "held"]).json().await?;
    assert_eq!(held["status"]["conditions"][0]["type"], "Suspended");
    let pods = admin.kubectl(["get", "pods", "--selector=job-name=held"]).json().await?;
    assert_eq!(pods["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn the_audit_log_counts_exactly() -> Result<()> {
    let cluster = control_plane().await?;
    let carol = cluster.user("carol", &["security"])?;
    let log = cluster.audit_log();
    let mark = log.settle().await?;
    for _ in 0..3 {
        carol.kubectl(["get", "--raw", "/api/v1/namespaces/default/secrets/plan"]).refused().await?;
    }
    cluster.admin().kubectl(["create", "configmap", "counted"]).ok().await?;
    log.settle().await?;

    let refused = AuditFilter::new().user("carol").verb("get").resource("secrets").name("plan").code(403);
    assert_eq!(log.count(mark, &refused)?, 3);
    assert_eq!(log.count(mark, &AuditFilter::new().user("carol"))?, 3);
    let created = AuditFilter::new().verb("create").resource("configmaps").name("counted").code(201);
    assert_eq!(log.select(mark, &created)?[0]["user"]["username"], "admin");
    assert_eq!(log.count(log.settle().await?, &AuditFilter::new().user("carol"))?, 0);
    Ok(())
}

#[tokio::test]
async fn the_observer_sees_what_runs_past_the_gate() -> Result<()> {
    let cluster = control_plane().await?;
    let admin = cluster.admin();
    // Nothing gates it but its label, so that everything goes past.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "observed", "labels": {"countersign.dev/gate": "enforce"}}});
    admin.kubectl(["create", "--filename", "-"]).stdin(namespace.to_string()).ok().await?;
    let observer = Observer::start_quiet(cluster)?;
    observer.check_now().await?;
    assert_eq!(observer.counts(), Counts::default());

    let within = |args: &[&str]| admin.kubectl(["--namespace=observed"].iter().chain(args).copied());
    let create = || within(&["create", "--filename", "-"]);
    create().stdin(job("held", true)).ok().await?;
    within(&["run", "tried", "--image=localhost/none:1", "--dry-run=server"]).ok().await?;
    observer.check_now().await?;
    assert_eq!(observer.counts(), Counts { jobs: 1, ..Counts::default() });

    create().stdin(job("free", false)).ok().await?;
    within(&["wait", "--for=condition=Complete", "job/free", "--timeout=60s"]).ok().await?;
    let ran = observer.check_now().await.err().context("a Job ran")?.to_string();
    assert!(ran.contains("created Pod observed/free-") && ran.contains("its Job free (uid "), "{ran}");
    assert_eq!(observer.violations().len(), 1, "{ran}");

    within(&["run", "bare", "--image=localhost/none:1"]).ok().await?;
    within(&["patch", "job", "held", "--patch", r#"{"spec":{"suspend":false}}"#]).ok().await?;
    let past = observer.check_now().await.err().context("more ran")?.to_string();
    assert!(past.contains("Pod observed/bare was created without the scheduling gate"), "{past}");
    assert!(past.contains("admin let Job observed/held go"), "{past}");
    assert_eq!(observer.counts(), Counts { jobs: 2, pods: 3, ..Counts::default() });
    Ok(())
}

#[test]
fn one_control_plane_serves_several_runtimes() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let cluster = runtime()?.block_on(control_plane())?;
    let names = runtime()?.block_on(cluster.admin().kubectl(["get", "nodes", "--output=name"]).ok())?;
    assert_eq!(names.trim(), "node/simulated");
    Ok(())
}

#[tokio::test]
async fn a_failed_start_shows_the_log() -> Result<()> {
    control_plane().await?;
    let extra_apiserver_args = vec!["--no-such-flag".to_owned()];
    let start = ControlPlane::start(Options { extra_apiserver_args, ..Options::default() });
    // On another thread, because an application may start one from there.
    let error = tokio::spawn(start).await?.err().context("it started")?;
    let error = format!("{error:#}");
    assert!(error.contains("kube-apiserver ended early") && error.contains("no-such-flag"), "{error}");
    Ok(())
}

#[tokio::test]
async fn nothing_outlives_a_killed_owner() -> Result<()> {
    // The programs have to be there before the time of the other process counts.
    control_plane().await?;
    let scratch = tempfile::tempdir()?;
    killed_owner(scratch.path(), &[], 5).await
}

#[tokio::test]
async fn nothing_outlives_a_killed_owner_of_a_real_node() -> Result<()> {
    control_plane().await?;
    let found = tokio::task::spawn_blocking(|| NodePrograms::find_or_build(progress_to_stderr)).await?;
    found?;
    let scratch = tempfile::tempdir()?;
    let before = control_groups()?;
    // Beside the four of the control plane: the kubelet, kube-proxy, containerd and two relays.
    killed_owner(scratch.path(), &["--real"], 9).await?;
    eventually(async || control_groups().is_ok_and(|now| now.is_subset(&before))).await
}

/// Kills the owner of a control plane of which at least so many programs run, and waits until all is gone.
async fn killed_owner(scratch: &Path, args: &[&str], programs: usize) -> Result<()> {
    let mut owner = Owner::start(scratch, args)?;
    let dir = state_of(&mut owner.0)?;
    ensure!(dir.starts_with(scratch), "{} is not where it should be", dir.display());
    // The programs of a real node start others, which come and go.
    let running = programs_of(&dir)?;
    ensure!(running >= programs, "only {running} programs run");

    drop(owner);
    eventually(async || programs_of(&dir).is_ok_and(|count| count == 0)).await?;
    eventually(async || !dir.exists()).await
}

/// The control groups that are there for real nodes.
fn control_groups() -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for tree in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let groups = fs::read_dir(tree.path()).into_iter().flatten().flatten().map(|group| group.path());
        let ours = |path: &PathBuf| path.to_string_lossy().contains("/countersign-");
        found.extend(groups.chain([tree.path()]).filter(ours));
    }
    Ok(found)
}

/// Another process with a control plane of its own in a temporary directory. Killed when dropped, also by a test that fails.
struct Owner(Child);

impl Owner {
    fn start(scratch: &Path, args: &[&str]) -> Result<Self> {
        let program = env!("CARGO_BIN_EXE_countersign-testbed");
        let owner = Command::new(program).args(args).env("TMPDIR", scratch).stdout(Stdio::piped()).spawn();
        owner.map(Self).context("starting another process")
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It can only fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It prints the admin's kubeconfig, which lies two levels below the state directory.
fn state_of(owner: &mut Child) -> Result<PathBuf> {
    let mut line = String::new();
    BufReader::new(owner.stdout.take().context("standard output")?).read_line(&mut line)?;
    let dir = Path::new(line.trim()).ancestors().nth(2).context("a state directory")?;
    Ok(dir.to_owned())
}

/// How many programs run in `dir` or below, leaving out what watches over them.
fn programs_of(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let works_here = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let watches = ["sh", "nsenter", "unshare"].contains(&name.trim());
        count += usize::from(works_here && !watches);
    }
    Ok(count)
}

async fn eventually(condition: impl AsyncFn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !condition().await {
        ensure!(began.elapsed() < Duration::from_secs(20), "still not so after 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
