//! A real PostgreSQL in a Pod, from Debian's packages.

use std::path::Path;

use serde_json::{Value, json};

use super::{Node, NodePod, image, packages};
use crate::control_plane::Namespace;
use crate::scratch::Scratch;

const IMAGE: &str = "docker.io/library/postgresql:tests";

/// Creates a database in the Pod's volume, and runs the server, which logs each connection. Without fsync, it loses
/// data if the machine crashes.
const SCRIPT: &str = r#"
initdb -D /data/db -U postgres --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C --no-sync
echo "host all all all scram-sha-256" >>/data/db/pg_hba.conf
exec postgres -D /data/db -c listen_addresses="*" -c unix_socket_directories=/data -c log_connections=on -c fsync=off \
    -c shared_buffers=16MB
"#;

/// A running server with the database `postgres`. Its administrator connects within the Pod, other roles with a
/// password.
pub struct PostgreSql {
    pod: NodePod,
    address: String,
}

impl PostgreSql {
    /// Adds the image of the server to a node. The first call on a machine downloads Debian's packages for it.
    ///
    /// # Panics
    /// Panics with instructions if the packages cannot be downloaded.
    pub fn import(node: &Node) {
        let directory = Scratch::new();
        let archive = directory.path().join("postgresql.tar");
        pack(&packages::postgresql(), &archive);
        node.import(&archive);
    }

    /// Starts a server on a node with the image, and waits until it accepts connections.
    ///
    /// # Panics
    /// Panics with the status of its Pod if the server does not become ready.
    pub async fn start(namespace: &Namespace<'_>) -> Self {
        let pod = NodePod::create(namespace, specification()).await;
        let ready = pod.wait_until_ready().await;
        let address = ready.status.and_then(|status| status.pod_ip);
        Self {
            pod,
            address: address.expect("a Pod that is ready has an address"),
        }
    }

    /// Returns the IP address of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs a statement as the administrator.
    ///
    /// # Panics
    /// Panics with the server's message if the statement fails.
    pub async fn run(&self, statement: &str) {
        let command = ["psql", "-q", "-h", "/data", "-U", "postgres", "-c"];
        self.pod
            .run("main", &[&command, &[statement][..]].concat())
            .await;
    }

    /// Returns how many connections of this role the server has accepted.
    pub async fn count_accepted_connections(&self, role: &str) -> usize {
        self.count(&format!("connection authorized: user={role} "))
            .await
    }

    /// Returns how many connections of this role the server has refused because of a wrong password.
    pub async fn count_refused_connections(&self, role: &str) -> usize {
        self.count(&format!(
            "password authentication failed for user \"{role}\""
        ))
        .await
    }

    async fn count(&self, message: &str) -> usize {
        self.pod.log("main").await.matches(message).count()
    }
}

fn pack(root: &Path, archive: &Path) {
    let settings = json!({ "Env": ["PATH=/bin"] });
    image::pack(IMAGE, root, &settings, archive);
}

fn specification() -> Value {
    let command = [
        "psql", "-q", "-h", "/data", "-U", "postgres", "-c", "SELECT 1",
    ];
    let probe = json!({
        "exec": { "command": command },
        "periodSeconds": 1,
        "timeoutSeconds": 10,
        "failureThreshold": 60,
    });
    let container = json!({
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-euc", SCRIPT],
        "startupProbe": probe,
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    json!({
        "securityContext": { "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999 },
        "containers": [container],
        "volumes": [{ "name": "data", "emptyDir": {} }],
    })
}
