//! Tests attacks of untrusted clients that can reach the ports of a running controller.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{KEYS, allow_many_files, key_manifest, manifest_of, sealed};

const ATTACKER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The time limit for a response. A kubelet waits 1 s; the machine that runs the test may be busy.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A running controller on a directory with one key, and the addresses of its two ports.
struct RunningController {
    child: Child,
    main: SocketAddr,
    metrics: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for RunningController {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RunningController {
    async fn start(args: &[&str]) -> Self {
        allow_many_files();
        let dir = tempfile::tempdir().unwrap();
        for directory in ["sealed", "keys"] {
            std::fs::create_dir(dir.path().join(directory)).unwrap();
        }
        let key = key_manifest("one", &KEYS[0]);
        std::fs::write(dir.path().join("keys/one.yaml"), key).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_controller"))
            .env_clear()
            .args([
                "--listen-addr=127.0.0.1:0",
                "--listen-metrics-addr=127.0.0.1:0",
                "--key-renew-period=0",
                "--directory",
            ])
            .arg(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |text: &str| {
            let line = lines.find_map(|line| line.ok().filter(|line| line.contains(text)));
            let line = line.unwrap();
            let (_, address) = line.split_once("addr=").unwrap();
            address.trim_matches('"').parse::<SocketAddr>().unwrap()
        };
        let (main, metrics) = (
            address("HTTP server serving"),
            address("HTTP metrics server serving"),
        );
        std::thread::spawn(move || lines.for_each(drop));
        let controller = Self {
            child,
            main,
            metrics,
            _dir: dir,
        };
        let end = Instant::now() + Duration::from_mins(1);
        while controller
            .get(OTHER_CLIENT, main, "/readyz")
            .await
            .as_deref()
            != Some("ok\n")
        {
            assert!(Instant::now() < end, "the controller did not become ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        controller
    }

    /// Requests a path. Returns the body of the response if its status is 200 and it arrives within [`PROBE_TIMEOUT`].
    async fn get(&self, from: Ipv4Addr, port: SocketAddr, path: &str) -> Option<String> {
        let (status, body) = send_request(from, port, "GET", path, "", b"").await?;
        (status == "200").then_some(body)
    }

    /// Sends an object that can be unsealed to `/v1/verify`, and returns the status of the response.
    async fn verify(&self, from: Ipv4Addr, name: &str) -> Option<String> {
        let body = manifest_of(&sealed(&KEYS[0], "ns/n", &[("a", "1")]));
        let headers = format!("X-Forwarded-For: {name}\r\n");
        let response = send_request(
            from,
            self.main,
            "POST",
            "/v1/verify",
            &headers,
            body.as_bytes(),
        );
        Some(response.await?.0)
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(from), 0).into()).unwrap();
    socket.connect(to).await.ok()
}

/// Sends a request. Returns the status and body of the response, or `None` if it does not arrive within
/// [`PROBE_TIMEOUT`].
async fn send_request(
    from: Ipv4Addr,
    port: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Option<(String, String)> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let exchange = async {
        let mut stream = connect(from, port).await?;
        stream.write_all(head.as_bytes()).await.ok()?;
        let _ = stream.write_all(body).await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.to_owned(), body.to_owned()))
    };
    tokio::time::timeout(PROBE_TIMEOUT, exchange).await.ok()?
}

/// Opens connections, sends the same bytes on each, and keeps them open. Replaces each connection that ends.
fn open_connections(count: usize, to: SocketAddr, sends: &str) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    for _ in 0..count {
        let sends = sends.to_owned();
        connections.spawn(async move {
            loop {
                if let Some(mut stream) = connect(ATTACKER, to).await
                    && stream.write_all(sends.as_bytes()).await.is_ok()
                {
                    let mut response = Vec::new();
                    let _ = stream.read_to_end(&mut response).await;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
    }
    connections
}

/// Opens a connection from each of `addresses` addresses and sends a string on it and, unless the string is empty,
/// another byte once a second. Replaces each connection one second after it ends. Returns when each address has
/// connected once.
async fn botnet(addresses: usize, to: SocketAddr, sends: &str) -> JoinSet<()> {
    let mut botnet = JoinSet::new();
    let all_connected = Arc::new(Barrier::new(addresses + 1));
    for i in 0..addresses {
        let [.., high, low] = i.to_be_bytes();
        let (from, sends) = (Ipv4Addr::new(127, 1, high, low), sends.to_owned());
        let all_connected = Arc::clone(&all_connected);
        botnet.spawn(async move {
            let mut stream = open(from, to, &sends).await;
            all_connected.wait().await;
            loop {
                if let Some(stream) = stream {
                    trickle(stream, !sends.is_empty()).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                stream = open(from, to, &sends).await;
            }
        });
    }
    all_connected.wait().await;
    botnet
}

async fn open(from: Ipv4Addr, to: SocketAddr, sends: &str) -> Option<TcpStream> {
    let mut stream = connect(from, to).await?;
    stream.write_all(sends.as_bytes()).await.ok()?;
    Some(stream)
}

/// Waits until the connection ends. Sends a byte a second if `sends` is true.
async fn trickle(mut stream: TcpStream, sends: bool) {
    loop {
        let read = stream.read_u8();
        let read = tokio::time::timeout(Duration::from_secs(1), read).await;
        let has_ended = matches!(read, Ok(Err(_)));
        if has_ended || sends && stream.write_all(b"x").await.is_err() {
            return;
        }
    }
}

/// Attack: a client opens four thousand connections to a port and sends nothing on them, so that health checks time out
/// and the kubelet kills the controller.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_delay_health_checks_or_other_callers() {
    let controller = RunningController::start(&[]).await;
    for port in [controller.main, controller.metrics] {
        let connections = open_connections(4000, port, "");
        tokio::time::sleep(Duration::from_secs(2)).await;
        for second in 0..4 {
            for path in ["/healthz", "/readyz"] {
                let response = controller.get(OTHER_CLIENT, port, path).await;
                assert_eq!(response.as_deref(), Some("ok\n"), "{path} {second}");
                let response = controller.get(ATTACKER, port, path).await;
                assert_eq!(
                    response.as_deref(),
                    Some("ok\n"),
                    "same address: {path} {second}"
                );
            }
            let status = controller.verify(OTHER_CLIENT, "other").await;
            assert_eq!(status.as_deref(), Some("200"), "verify {second}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(connections);
    }
}

/// Attack: a client opens thousands of connections, each with part of a request, or with a complete request after which
/// the connection stays open, to lock out other clients.
#[tokio::test(flavor = "multi_thread")]
async fn other_clients_are_served_during_a_connection_flood() {
    let controller = RunningController::start(&[]).await;
    for sends in [
        "G",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    ] {
        let connections = open_connections(2500, controller.main, sends);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let response = controller
            .get(OTHER_CLIENT, controller.main, "/healthz")
            .await;
        assert_eq!(response.as_deref(), Some("ok\n"), "{sends:?}");
        let status = controller
            .verify(OTHER_CLIENT, sends.get(..1).unwrap())
            .await;
        assert_eq!(status.as_deref(), Some("200"), "{sends:?}");
        drop(connections);
    }
}

/// Attack: a client opens connections from more addresses than a port has slots, and sends nothing on them, or a head
/// or a body byte by byte, so that the port is full and no address has more than one connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_is_served_while_many_addresses_exhaust_the_connection_limit() {
    let controller = RunningController::start(&[]).await;
    for (case, sends) in [
        ("silent", ""),
        ("slow-head", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: "),
        (
            "slow-body",
            "POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n",
        ),
    ] {
        let botnet = botnet(3000, controller.main, sends).await;
        for round in 0..5 {
            let response = controller
                .get(OTHER_CLIENT, controller.main, "/healthz")
                .await;
            assert_eq!(response.as_deref(), Some("ok\n"), "{case} {round}");
        }
        let status = controller.verify(OTHER_CLIENT, case).await;
        assert_eq!(status.as_deref(), Some("200"), "{case}");
        drop(botnet);
    }
}

/// Attack: a client announces large bodies and does not send them, so that no memory is left for other clients.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_announced_and_not_sent_use_no_memory() {
    let controller =
        RunningController::start(&["--rate-limit=1000", "--rate-limit-burst=1000"]).await;
    let head = |bytes: usize| {
        format!("POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n")
    };
    // Smaller bodies would use the memory that the largest bodies leave.
    let mut connection_sets = Vec::new();
    for bytes in [10 << 20, 2 << 20, 64 << 10] {
        connection_sets.push(open_connections(8, controller.main, &head(bytes)));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    for from in [OTHER_CLIENT, ATTACKER] {
        let status = controller.verify(from, "another").await;
        assert_eq!(status.as_deref(), Some("200"), "{from}");
    }
}

/// Attack: a client sends almost all bytes of large bodies and then stops, so that the bytes stay in memory for as long
/// as a request may take.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_bodies_use_only_the_memory_share_of_their_address_and_briefly() {
    let controller =
        RunningController::start(&["--rate-limit=1000", "--rate-limit-burst=1000"]).await;
    let incomplete_body = |bytes: usize| {
        let head =
            format!("POST /v1/rotate HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n");
        head + &" ".repeat(bytes - 1)
    };
    let mut connection_sets = Vec::new();
    for bytes in [10 << 20, 2 << 20, 64 << 10] {
        connection_sets.push(open_connections(
            8,
            controller.main,
            &incomplete_body(bytes),
        ));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let status = controller.verify(OTHER_CLIENT, "other").await;
    assert_eq!(status.as_deref(), Some("200"), "another address");
    let end = Instant::now() + Duration::from_secs(15);
    while controller.verify(ATTACKER, "same").await.as_deref() != Some("200") {
        assert!(
            Instant::now() < end,
            "other callers from that address are locked out"
        );
    }
}
