//! The client under test: builds the program `heartbeat`, runs its `watch`, and reads its output.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::contract::Contract;
use crate::process::{Line, PATIENCE, Process};
use crate::server;

/// The adapter whose client it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Adapter {
    Tokio,
    Blocking,
}

/// The program, and the adapter that it is told to use.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) adapter: Adapter,
    program: PathBuf,
}

impl Watch {
    /// Builds it, once for all tests.
    pub(crate) fn of(adapter: Adapter) -> Self {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| match env::var_os("HEARTBEAT_PROGRAM") {
            Some(program) => Ok(program.into()),
            None => build(),
        });
        match built {
            Ok(program) => Self {
                adapter,
                program: program.clone(),
            },
            Err(why) => panic!("heartbeat-cli: {why}"),
        }
    }

    pub(crate) fn start<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Client {
        self.run(&mut self.command(arguments))
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("watch").args(arguments);
        if let Adapter::Blocking = self.adapter {
            command.arg("--blocking");
        }
        command
    }

    fn run(&self, command: &mut Command) -> Client {
        Client {
            process: Process::start(format!("watch ({:?})", self.adapter), command),
            contract: Contract::default(),
            seen: Vec::new(),
        }
    }

    /// Watches `url` and prints JSON. `--for` ends it even if the tests are killed and cannot.
    pub(crate) fn watch(&self, url: &str, config: &str) -> Client {
        self.start([url, "--json", "--config", config, "--for", "60s"])
    }

    /// The same, with this file's certificates as trusted authorities.
    pub(crate) fn watch_trusting(&self, url: &str, config: &str, roots: &Path) -> Client {
        let mut command = self.command([url, "--json", "--config", config, "--for", "60s"]);
        command.env("SSL_CERT_FILE", roots);
        self.run(&mut command)
    }
}

fn build() -> Result<PathBuf, String> {
    let _lock = server::lock();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    cargo.args(["--package", "heartbeat-cli", "--bin", "heartbeat"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // Cargo puts CARGO_TARGET_TMPDIR into the target directory of the current run.
    cargo.env(
        "CARGO_TARGET_DIR",
        server::output()
            .parent()
            .expect("it is in the target directory"),
    );
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err("the program does not build, see above".into());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find_map(|message: Value| {
            let executable = message["executable"].as_str().map(PathBuf::from);
            executable.filter(|_| message["target"]["name"] == "heartbeat")
        })
        .ok_or_else(|| "cargo names no executable".to_owned())
}

/// A running `watch`.
pub(crate) struct Client {
    process: Process,
    contract: Contract,
    seen: Vec<Value>,
}

impl Client {
    /// The next line, or `None` after the last. Each line is checked against the contract.
    #[track_caller]
    fn next(&mut self, waiting_for: &str, deadline: Instant) -> Option<Line> {
        let line = self.process.next(waiting_for, deadline)?;
        if let Err(why) = self.contract.take(&line.json) {
            panic!("watch printed {}: {why}", line.json);
        }
        self.seen.push(line.json.clone());
        Some(line)
    }

    /// Skips lines until one fits.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        waiting_for: &str,
        mut right: impl FnMut(&Line) -> bool,
    ) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(waiting_for, deadline) {
                Some(line) if right(&line) => return line,
                Some(_) => {}
                None => panic!("watch ended before {waiting_for}"),
            }
        }
    }

    /// Skips lines until this event.
    #[track_caller]
    pub(crate) fn event(&mut self, event: &str) -> Line {
        self.until(event, |line| line.json["event"] == event)
    }

    /// Skips lines until this text message.
    #[track_caller]
    pub(crate) fn message(&mut self, text: &str) {
        self.until(text, |line| {
            line.json["event"] == "message" && line.json["text"] == text
        });
    }

    /// The names of the events so far.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.seen
            .iter()
            .filter_map(|line| line["event"].as_str())
            .collect()
    }

    /// The lines of this event so far.
    pub(crate) fn seen(&self, event: &str) -> Vec<&Value> {
        self.seen
            .iter()
            .filter(|line| line["event"] == event)
            .collect()
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.process.write_line(text);
    }

    /// Sends Ctrl-C, and checks the result.
    #[track_caller]
    pub(crate) fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
        assert_eq!(self.end().code(), Some(0));
    }

    /// Reads on to the end. If there is any line, the last one is `stopped`, whatever caused the end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.next("its end", deadline).is_some() {}
        if let Some(last) = self.seen.last() {
            assert_eq!(last["event"], "stopped");
        }
        self.process.end()
    }

    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }
}
