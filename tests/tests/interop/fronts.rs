//! nginx and haproxy, which stand in front of many services, before a server of Python's `websockets`: the
//! effect of their limits, reloads and errors on a client.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use crate::process::{Line, PATIENCE};
use crate::server::{Library, Server, output};
use crate::watch::{Client, Watch};

/// The front hangs up after this much silence from the server. The client pings after half a second.
const LIMIT: Duration = Duration::from_millis(1500);
const CONFIG: &str = r#"{
    "idle_timeout": "5s", "ping": {"after_silence": "500ms"}, "connect_timeout": "5s", "stable_after": "300ms",
    "backoff": {"base": "100ms", "cap": "400ms", "jitter_percent": 50}
}"#;
const NEVER_ASKS: &str = r#"{
    "idle_timeout": "10s", "ping": "never", "connect_timeout": "5s",
    "backoff": {"base": "100ms", "cap": "400ms", "jitter_percent": 50}
}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Debian installs both outside a user's path.
    fn path() -> String {
        format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
    }

    /// The reason, if the front is not available.
    pub(crate) fn is_there(self) -> Result<(), String> {
        let asked = Command::new(self.program())
            .arg("-v")
            .env("PATH", Self::path())
            .stdin(Stdio::null())
            .output();
        match asked {
            Ok(told) if told.status.success() => Ok(()),
            Ok(told) => Err(format!(
                "{} does not start: {}",
                self.program(),
                told.status
            )),
            Err(error) => Err(format!("{} does not start: {error}", self.program())),
        }
    }

    /// The front's status for an upstream that refuses connections.
    fn of_a_dead_upstream(self) -> u16 {
        match self {
            Self::Nginx => 502,
            Self::Haproxy => 503,
        }
    }

    fn config(self, dir: &str, [port, tls]: [u16; 2], upstream: u64) -> String {
        let limit = LIMIT.as_millis();
        match self {
            Self::Nginx => format!(
                "worker_processes 1;
                daemon off;
                pid {dir}/pid;
                worker_shutdown_timeout 1s;
                events {{ worker_connections 64; }}
                http {{
                    access_log off;
                    client_body_temp_path {dir}/body;
                    proxy_temp_path {dir}/proxy;
                    fastcgi_temp_path {dir}/fastcgi;
                    uwsgi_temp_path {dir}/uwsgi;
                    scgi_temp_path {dir}/scgi;
                    limit_conn_zone $server_port zone=all:1m;
                    server {{
                        listen 127.0.0.1:{port};
                        listen 127.0.0.1:{tls} ssl http2;
                        ssl_certificate {dir}/certificate;
                        ssl_certificate_key {dir}/certificate.key;
                        proxy_pass_request_headers on;
                        proxy_http_version 1.1;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection upgrade;
                        proxy_connect_timeout 1s;
                        proxy_read_timeout {limit}ms;
                        limit_conn all 1;
                        location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
                    }}
                }}\n"
            ),
            Self::Haproxy => format!(
                "global
                    hard-stop-after 1s
                defaults
                    mode http
                    retries 0
                    timeout connect 1s
                    timeout queue 300ms
                    timeout client 30s
                    timeout server {limit}ms
                    timeout tunnel {limit}ms
                listen front
                    bind 127.0.0.1:{port}
                    bind 127.0.0.1:{tls} ssl crt {dir}/certificate alpn h2,http/1.1
                    server only 127.0.0.1:{upstream} maxconn 1\n"
            ),
        }
    }

    fn command(self, dir: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Nginx => &["nginx", "-e", "stderr", "-c", "DIR/config"],
            Self::Haproxy => &["haproxy", "-W", "-p", "DIR/pid", "-f", "DIR/config"],
        };
        words.iter().map(|word| word.replace("DIR", dir)).collect()
    }
}

/// It runs under a shell that ends it when our end of its standard input is closed, even if we were killed.
const UNTIL_STDIN_ENDS: &str = r#""$@" </dev/null & read end; kill -TERM $!; wait $!"#;

/// A front that runs, and lets one connection through at a time.
struct Front {
    kind: Kind,
    dir: PathBuf,
    /// In plain text, and under TLS, where HTTP/2 is preferred.
    ports: [u16; 2],
    certificate: CertificateDer<'static>,
    shell: Child,
}

impl Front {
    fn start(kind: Kind, upstream: &Server) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = output().join(format!("front-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("the target directory takes files");
        // These ports were free a moment ago. Another process may have them by then.
        let free = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
        let ports = free.map(|free| free.local_addr().expect("bound").port());
        let name = dir.to_str().expect("a path in UTF-8");
        let certificate = certify(&dir);
        let config = kind.config(name, ports, upstream.port());
        fs::write(dir.join("config"), config).expect("the target directory takes files");
        let said = File::create(dir.join("said")).expect("the target directory takes files");
        let shell = Command::new("sh")
            .args(["-c", UNTIL_STDIN_ENDS, "front"])
            .args(kind.command(name))
            .env("PATH", Kind::path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("a shell");
        let mut front = Self {
            kind,
            dir,
            ports,
            certificate,
            shell,
        };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", ports[0])).is_err()
            || front.pid().is_none()
        {
            let ended = front.shell.try_wait().expect("a child of ours");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{kind:?} does not listen: {}",
                front.said()
            );
            thread::sleep(Duration::from_millis(10));
        }
        front
    }

    fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.ports[0])
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// Reloads its configuration, as an operator would.
    fn reload(&self) {
        let signal = match self.kind {
            Kind::Nginx => Signal::HUP,
            Kind::Haproxy => Signal::USR2,
        };
        kill_process(self.pid().expect("it has said so"), signal).expect("it is ours");
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.join("said")).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
        if thread::panicking() {
            eprintln!("---- {:?}:\n{}", self.kind, self.said());
        }
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Puts a certificate for 127.0.0.1 and its key where both programs look for them.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let files: [(_, _, &[u8]); 2] = [
        ("certificate", "CERTIFICATE", certificate.der()),
        ("certificate.key", "PRIVATE KEY", key.serialized_der()),
    ];
    for (name, what, bytes) in files {
        let base64 = data_encoding::BASE64.encode(bytes);
        let text = format!("-----BEGIN {what}-----\n{base64}\n-----END {what}-----\n");
        fs::write(dir.join(name), text).expect("the target directory takes files");
    }
    certificate.der().clone()
}

/// The front's choice between HTTP/2 and HTTP/1.1.
fn chosen_of_both(front: &Front) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(front.certificate.clone()).expect("a certificate");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "127.0.0.1".try_into().expect("an address");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut tcp = std::net::TcpStream::connect(("127.0.0.1", front.ports[1])).expect("it listens");
    tls.complete_io(&mut tcp).expect("a handshake");
    tls.alpn_protocol().map(<[u8]>::to_vec)
}

/// The parts of a scenario.
pub(crate) struct Trio {
    pub(crate) watch: Watch,
    pub(crate) kind: Kind,
}

impl Trio {
    fn front(&self) -> (Server, Front) {
        let server = Server::start(Library::Websockets);
        let front = Front::start(self.kind, &server);
        (server, front)
    }
}

/// The connection was open, and the front has ended it.
#[track_caller]
fn ended(client: &mut Client) {
    is_an_end(&client.event("disconnected"));
}

#[track_caller]
fn is_an_end(line: &Line) {
    let reason = &line.json["reason"];
    assert!(
        reason == "eof" || reason == "reset" || reason["close"].is_u64(),
        "{reason}"
    );
}

/// The next answered dial gets this answer.
#[track_caller]
fn refused(client: &mut Client, status: u16) {
    let lost = client.until("an answer", |line| {
        line.json["event"] == "disconnected" && line.json["reason"]["http"] != Value::Null
    });
    assert_eq!(lost.json["reason"]["http"], status, "{}", lost.json);
}

pub(crate) fn an_idle_limit_is_kept_away_by_pings_and_is_an_end_like_any_other(trio: &Trio) {
    let (_server, front) = trio.front();
    let mut client = trio.watch.watch(&front.url("/quiet"), CONFIG);
    let since = client.event("connected").at;
    client.until("three limits", |line| {
        assert_ne!(line.json["event"], "disconnected", "{}", line.json);
        line.at >= since + 3 * LIMIT
    });
    client.interrupt();

    let mut client = trio.watch.watch(&front.url("/quiet"), NEVER_ASKS);
    client.event("connected");
    ended(&mut client);
    client.event("connected");
    client.interrupt();
}

pub(crate) fn a_reload_is_followed_by_a_new_connection(trio: &Trio) {
    let (_server, front) = trio.front();
    let mut client = trio.watch.watch(&front.url("/chat"), CONFIG);
    client.event("message");
    front.reload();
    let mut messages = 0;
    let end = client.until("disconnected", |line| {
        messages += u32::from(line.json["event"] == "message");
        // A message comes every 100 ms, and old workers have a second. haproxy's master misses a signal while it
        // starts.
        if messages == 20 {
            messages = 0;
            front.reload();
        }
        line.json["event"] == "disconnected"
    });
    is_an_end(&end);
    client.event("connected");
    client.event("message");
    client.interrupt();
}

pub(crate) fn an_upstream_that_is_killed_is_dialled_until_it_is_back(trio: &Trio) {
    let (mut server, front) = trio.front();
    let mut client = trio.watch.watch(&front.url("/chat"), CONFIG);
    client.event("message");
    server.kill();
    ended(&mut client);
    refused(&mut client, trio.kind.of_a_dead_upstream());
    let _successor = server.replace();
    client.event("connected");
    client.event("message");
    client.interrupt();
}

pub(crate) fn an_upstream_that_hangs_is_504_and_dialled_until_its_successor_is_there(trio: &Trio) {
    let (server, front) = trio.front();
    server.freeze();
    let mut client = trio.watch.watch(&front.url("/chat"), CONFIG);
    refused(&mut client, 504);
    let _successor = server.replace();
    client.event("connected");
    client.event("message");
    client.interrupt();
}

pub(crate) fn a_limit_of_connections_is_503_until_there_is_room(trio: &Trio) {
    let (_server, front) = trio.front();
    let mut first = trio.watch.watch(&front.url("/chat"), CONFIG);
    first.event("message");
    let mut second = trio.watch.watch(&front.url("/chat"), CONFIG);
    refused(&mut second, 503);
    refused(&mut second, 503);
    first.interrupt();
    second.event("connected");
    second.event("message");
    second.interrupt();
}

pub(crate) fn http_1_1_is_agreed_on_where_http_2_is_preferred(trio: &Trio) {
    let (_server, front) = trio.front();
    assert_eq!(chosen_of_both(&front).as_deref(), Some(&b"h2"[..]));
    let url = format!("wss://127.0.0.1:{}/chat", front.ports[1]);
    let roots = front.dir.join("certificate");
    let mut client = trio.watch.watch_trusting(&url, CONFIG, &roots);
    client.event("message");
    client.interrupt();
}

/// Neither depends on a language: if one is not installed, the run does not fail.
pub(crate) fn skip(name: &str, why: &str) {
    drop(io::Write::write_fmt(
        &mut io::stderr(),
        format_args!("SKIPPED {name}: {why}\n"),
    ));
}
