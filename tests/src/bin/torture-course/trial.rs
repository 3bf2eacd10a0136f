//! One run of one client in one case: processes, signals, and observations.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tests::torture::book::now_ms;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cases::{BACKOFF, CONNECT, DEATH, PING, STOP_FOR, Variant};

/// A program that has not dialled by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// The observations of a finished trial.
pub(crate) struct Seen {
    /// The server's report, taken while the client still ran.
    pub(crate) report: Value,
    /// The server's report, taken after the client's end.
    pub(crate) afterwards: Value,
    /// The client's own lines.
    lines: Vec<Value>,
    pub(crate) panicked: bool,
    pub(crate) stderr: String,
    /// When the stopped process continued, in ms since the epoch.
    pub(crate) continued: f64,
    started: f64,
    pub(crate) until: f64,
    peak_kb: u64,
    pub(crate) cost: Cost,
}

/// The client's processor time, and the load of the whole machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time of the client.
    pub(crate) cpu_ms: u64,
    /// Processes that ran or wanted to, averaged over the last minute of the trial.
    pub(crate) load: f64,
}

impl Seen {
    pub(crate) fn connection(&self, index: usize) -> Option<&Value> {
        self.report["connections"].get(index)
    }

    pub(crate) fn connects(&self) -> u64 {
        self.report["connects"].as_u64().unwrap_or_default()
    }

    pub(crate) fn summary(&self, name: &str) -> u64 {
        let summary = self.lines.iter().find(|line| line["event"] == "summary");
        summary
            .and_then(|line| line[name].as_u64())
            .unwrap_or_default()
    }

    pub(crate) fn memory_mb(&self) -> u64 {
        self.peak_kb / 1024
    }

    /// How long the client was observed.
    pub(crate) fn span_ms(&self) -> f64 {
        self.until - self.started
    }
}

/// A `torture-server` process.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(program: &std::path::Path, args: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|line| line["listening"].as_u64())
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| io::Error::other(format!("the server said {line:?}")))?;
        Ok(Self { child, port })
    }

    pub(crate) fn report(&self, id: &str) -> io::Result<Value> {
        report(("127.0.0.1", self.port), id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn report(server: (&str, u16), id: &str) -> io::Result<Value> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        socket,
        "GET /report/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body)?)
}

/// A name with two addresses of this machine.
const NAME: &str = "addresses.test";
const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.2 addresses.test\n127.0.0.3 addresses.test\n";

/// The same program in a place where the name is known: a mount namespace with a hosts file of its own.
fn with_addresses(program: Command) -> io::Result<Command> {
    let hosts = std::env::temp_dir().join(format!("torture-hosts-{}", std::process::id()));
    fs::write(&hosts, HOSTS)?;
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
        .arg(hosts)
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// Whether a name with two addresses is available here.
pub(crate) fn has_namespaces() -> bool {
    with_addresses(Command::new("true"))
        .and_then(|mut command| command.status())
        .is_ok_and(|status| status.success())
}

/// Runs a driver program against a server to the variant's end.
pub(crate) fn run(
    mut command: Command,
    server: &Server,
    id: &str,
    variant: &Variant,
) -> io::Result<Seen> {
    let tls = variant.path.starts_with("tls/");
    let host = if variant.has_addresses() {
        command = with_addresses(command)?;
        NAME
    } else {
        "127.0.0.1"
    };
    let url = if tls {
        format!("wss://127.0.0.1:{}/", server.port)
    } else {
        format!("ws://{host}:{}/@{id}/{}", server.port, variant.path)
    };
    let number = |value: u64| value.to_string();
    command
        .args([
            "--url",
            &url,
            "--ping",
            &number(PING),
            "--death",
            &number(DEATH),
        ])
        .args(["--connect", &number(CONNECT), "--backoff", &number(BACKOFF)])
        .args(variant.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = thread::spawn(move || -> Vec<Value> {
        let lines = stdout
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).lines());
        lines
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    });
    let complaints = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = stderr {
            // The lines until it broke count.
            let _ = pipe.by_ref().take(1 << 20).read_to_end(&mut bytes);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let pid = Pid::from_child(&child);
    let mut continued = 0.0;
    // From its first dial, because an interpreter takes a while to start.
    let id = if tls { "tls" } else { id };
    while server.report(id)?["connects"] == 0 && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let begun = Instant::now();
    let started = now_ms();
    if let Some(at) = variant.stop_at {
        thread::sleep(at);
        kill_process(pid, Signal::STOP)?;
        thread::sleep(STOP_FOR);
        continued = now_ms();
        kill_process(pid, Signal::CONT)?;
    }
    thread::sleep((begun + variant.span).saturating_duration_since(Instant::now()));
    let (peak_kb, cpu_ms) = figures(child.id());
    let until = now_ms();
    let report = server.report(id)?;
    // The client prints its counts then.
    drop(child.stdin.take());
    end(&mut child, Duration::from_secs(3));
    // The bytes that it had handed to the system are still on their way.
    thread::sleep(Duration::from_millis(300));
    let afterwards = server.report(id)?;
    let stderr = complaints.join().unwrap_or_default();
    Ok(Seen {
        report,
        afterwards,
        lines: reading.join().unwrap_or_default(),
        panicked: stderr.contains("panicked at"),
        stderr,
        continued,
        started,
        until,
        peak_kb,
        cost: Cost {
            cpu_ms,
            load: load(),
        },
    })
}

/// It ends by itself. One that does not is killed.
fn end(child: &mut Child, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// 0 if the kernel does not tell.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Peak memory in KiB and processor time in ms, of a running process.
fn figures(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    // Fields 14 and 15 are user and system time in ticks of 10 ms. The name before them may hold spaces.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    (peak.unwrap_or_default(), ticks * 10)
}
