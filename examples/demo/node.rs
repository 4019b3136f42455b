//! What runs the Pods of the story: a real node where this machine can have one.

use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Image, Node, real_node_possible};

/// What the Jobs of the story run, by the image that they name and its command.
const IMAGES: [(&str, &str); 2] =
    [("docker.io/payments/remediate:1.4.2", "/remediate"), ("docker.io/payments/migrate:2.0.0", "/migrate")];

/// Chooses the node, and says which it is, and why.
pub fn choose(simulated: bool) -> Node {
    if simulated {
        say!("   The node is simulated: it calls every Pod done after a moment.");
        return Node::Simulated;
    }
    match real_node_possible() {
        Ok(()) => {
            say!("   Its node is a real one: kubelet, containerd and runc, in namespaces that leave nothing behind.");
            Node::Real
        }
        Err(missing) => {
            say!("   Its node is simulated, and calls every Pod done after a moment. For real containers:");
            missing.iter().for_each(|what| say!("   - {what}"));
            Node::Simulated
        }
    }
}

/// Makes the images of the story known to a real node. There is no registry, so one small program stands for all of them.
pub async fn supply(cluster: &ControlPlane) -> Result<()> {
    let node = cluster.real_node()?;
    for (name, command) in IMAGES {
        let image =
            Image::new(name).file(node.programs().worker(), command, 0o755).env("PATH", "/").user("65532:65532");
        node.add_image(&image).await.with_context(|| format!("making the image {name}"))?;
    }
    Ok(())
}
