//! Third-party servers, installed beside the tests' other output.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Line, PATIENCE, Process};

/// A third-party WebSocket implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// `websockets`, Python.
    Websockets,
    /// `aiohttp`, Python.
    Aiohttp,
    /// `ws`, Node.
    Ws,
    /// `pproxy`, Python: not a server but a proxy, HTTP and SOCKS5 on one port, for `me` with the password
    /// `p@ss`.
    Pproxy,
}

impl Library {
    /// Makes sure that the server can be started, or returns the reason why not.
    pub(crate) fn install(self) -> Result<(), &'static str> {
        static PYTHON: OnceLock<Result<(), String>> = OnceLock::new();
        static NODE: OnceLock<Result<(), String>> = OnceLock::new();
        let installed = match self {
            Self::Websockets | Self::Aiohttp | Self::Pproxy => PYTHON.get_or_init(install_python),
            Self::Ws => NODE.get_or_init(install_node),
        };
        installed.as_ref().copied().map_err(String::as_str)
    }

    fn command(self) -> Command {
        let (program, script) = match self {
            Self::Websockets => (python(), "websockets_server.py"),
            Self::Aiohttp => (python(), "aiohttp_server.py"),
            Self::Ws => ("node".into(), "ws_server.js"),
            Self::Pproxy => (python(), "pproxy_proxy.py"),
        };
        let mut command = Command::new(program);
        // Node looks for `ws` in the working directory.
        command.arg(sources().join(script)).current_dir(node_dir());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// A running server.
pub(crate) struct Server {
    library: Library,
    port: u64,
    process: Process,
}

impl Server {
    pub(crate) fn start(library: Library) -> Self {
        Self::start_on(library, 0)
    }

    /// On a port that was in use a moment ago, another process's outgoing connection may sit for a moment.
    fn start_on(library: Library, port: u64) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let name = format!("server ({library:?})");
            let mut process = Process::start(name, library.command().arg(port.to_string()));
            if let Some(line) = process.next("its port", deadline) {
                assert_eq!(line.json["event"], "listening");
                let port = line.json["port"].as_u64().expect("a port");
                return Self {
                    library,
                    port,
                    process,
                };
            }
            process.end();
            assert!(
                process.stderr().contains("in use"),
                "{library:?}: {}",
                process.stderr()
            );
        }
    }

    /// The successor of this server on the same port, started after this one's end. A frozen server can only be
    /// killed.
    pub(crate) fn replace(self) -> Self {
        let Self {
            library,
            port,
            process,
        } = self;
        drop(process);
        Self::start_on(library, port)
    }

    pub(crate) fn port(&self) -> u64 {
        self.port
    }

    /// Its URL as a proxy.
    pub(crate) fn proxy_url(&self, scheme: &str, login: &str) -> String {
        format!("{scheme}://{login}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// Freezes it: TCP stays open, and the system still accepts connections for it.
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.end();
    }

    /// Ends it. Returns the lines that were not read yet.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<Value> {
        self.process.signal(Signal::KILL);
        let deadline = Instant::now() + PATIENCE;
        let rest = std::iter::from_fn(|| self.process.next("its end", deadline));
        rest.map(|line| line.json).collect()
    }

    #[track_caller]
    pub(crate) fn next(&mut self, waiting_for: &str) -> Line {
        let line = self.process.next(waiting_for, Instant::now() + PATIENCE);
        line.unwrap_or_else(|| panic!("the server ended before {waiting_for}"))
    }

    /// Skips lines until this one.
    #[track_caller]
    pub(crate) fn until(&mut self, event: &str) -> Value {
        loop {
            let line = self.next(event);
            if line.json["event"] == event {
                return line.json;
            }
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

/// Where things are installed. Not in the source tree, so that `cargo clean` removes them.
pub(crate) fn output() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn venv() -> PathBuf {
    output().join("interop-venv")
}

fn python() -> PathBuf {
    venv().join("bin").join("python")
}

fn node_dir() -> PathBuf {
    let dir = output().join("interop-node");
    fs::create_dir_all(&dir).expect("the target directory takes files");
    dir
}

fn install_python() -> Result<(), String> {
    let requirements = sources().join("requirements.txt");
    let works = || {
        let mut imports = Command::new(python());
        run(
            "import websockets, aiohttp, pproxy",
            imports.args(["-c", "import websockets, aiohttp, pproxy"]),
        )
    };
    once_per_version(&venv(), &requirements, works, || {
        let mut venv = Command::new("python3");
        run(
            "python3 -m venv",
            venv.args(["-m", "venv", "--clear"]).arg(self::venv()),
        )?;
        let mut pip = Command::new(python());
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]);
        run("pip install", pip.arg("--requirement").arg(&requirements))
    })
}

fn install_node() -> Result<(), String> {
    let lock = sources().join("package-lock.json");
    let works = || {
        let mut requires = Command::new("node");
        requires
            .args(["-e", "require('ws')"])
            .current_dir(node_dir());
        run("node", &mut requires)
    };
    once_per_version(&node_dir(), &lock, works, || {
        for file in ["package.json", "package-lock.json"] {
            let copied = fs::copy(sources().join(file), node_dir().join(file));
            copied.map_err(|error| format!("{file}: {error}"))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run("npm ci", npm.current_dir(node_dir()))
    })
}

/// Installs into `dir`, unless the same `versions` were installed before and still work.
fn once_per_version(
    dir: &Path,
    versions: &Path,
    works: impl Fn() -> Result<(), String>,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let _lock = lock();
    let wanted = fs::read(versions).map_err(|error| format!("{}: {error}", versions.display()))?;
    let stamp = dir.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) && works().is_ok() {
        return Ok(());
    }
    install()?;
    works()?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Two runs of the tests may share one target directory. The lock ends with the process at the latest.
pub(crate) fn lock() -> File {
    let file =
        File::create(output().join("interop.lock")).expect("the target directory takes files");
    flock(&file, FlockOperation::LockExclusive).expect("the file system knows locks");
    file
}

fn run(what: &str, command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{what}` does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(format!("`{what}` failed: {last}"))
}
