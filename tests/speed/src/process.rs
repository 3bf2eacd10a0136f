//! Servers and clients as processes of their own, and the operating system's figures about them.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;

/// A child process, controlled by its standard input and read from its standard output. It ends with its
/// input, so also when its parent dies.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Process {
    /// Starts this program again with these arguments, on one processor or on any.
    pub(crate) fn start(processor: Option<usize>, arguments: &[&str]) -> Result<Self> {
        Self::start_as(&std::env::current_exe()?, processor, arguments)
    }

    /// The same for this program built with other settings.
    pub(crate) fn start_as(
        program: &Path,
        processor: Option<usize>,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = match processor {
            Some(processor) => pinned(program, processor),
            None => Command::new(program),
        };
        let mut child = command
            .args(arguments)
            // Which roots rustls-native-certs finds.
            .env("SSL_CERT_FILE", certificate())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(output).lines(),
            child,
            what: arguments.join(" "),
        })
    }

    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> Result<String> {
        match self.output.next() {
            Some(line) => Ok(line?),
            None => Err(format!("{}: ended early", self.what).into()),
        }
    }

    /// The numbers in the next line of its output, after `word`.
    pub(crate) fn numbers(&mut self, word: &str) -> Result<Vec<f64>> {
        let line = self.line()?;
        let rest = line
            .strip_prefix(word)
            .ok_or_else(|| format!("{}: {line:?} instead of {word:?}", self.what))?;
        let numbers = rest.split_whitespace().map(str::parse);
        Ok(numbers.collect::<std::result::Result<_, _>>()?)
    }

    /// The numbers in its answer.
    pub(crate) fn ask(&mut self, word: &str) -> Result<Vec<f64>> {
        self.tell(word)?;
        self.numbers(word.split(' ').next().unwrap_or_default())
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        // By then it may be busy with work that no longer matters.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server under TLS puts its certificate.
fn certificate() -> PathBuf {
    std::env::temp_dir().join(format!("heartbeat-speed-{}.pem", std::process::id()))
}

/// Removes that file.
pub(crate) fn remove_certificate() {
    let _ = fs::remove_file(certificate());
}

/// Starts a program on one processor: `taskset` becomes it.
fn pinned(program: &Path, processor: usize) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(processor.to_string()).arg(program);
    command
}

/// A server and the port on which it listens, on every address of 127.0.0.0/8.
pub(crate) struct Server {
    pub(crate) process: Process,
    port: u16,
    scheme: &'static str,
}

impl Server {
    pub(crate) fn start(processor: Option<usize>) -> Result<Self> {
        Self::start_as(processor, "ws", &["server"])
    }

    /// The same under TLS: clients that start later trust its certificate.
    pub(crate) fn start_tls(processor: Option<usize>) -> Result<Self> {
        let file = certificate();
        Self::start_as(processor, "wss", &["server", &file.to_string_lossy()])
    }

    fn start_as(
        processor: Option<usize>,
        scheme: &'static str,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut process = Process::start(processor, arguments)?;
        let port = process.line()?.parse()?;
        Ok(Self {
            process,
            port,
            scheme,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }
}

/// What a process has used so far, all threads together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory in bytes. The first counts shared pages whole, the second by share.
    pub(crate) rss: f64,
    pub(crate) pss: f64,
    /// The highest resident memory so far.
    pub(crate) peak: f64,
    /// Processor time in nanoseconds.
    pub(crate) cpu: f64,
    /// How often a thread has gone to sleep by itself, and was woken.
    pub(crate) sleeps: f64,
    /// The same without the first thread.
    pub(crate) sleeps_of_others: f64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mut usage = Self {
            peak: field(&status, "VmHWM:")? * 1024.0,
            rss: field(&rollup, "Rss:")? * 1024.0,
            pss: field(&rollup, "Pss:")? * 1024.0,
            ..Self::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            let schedstat = fs::read_to_string(path.join("schedstat"))?;
            let cpu: f64 = schedstat.split(' ').next().unwrap_or_default().parse()?;
            let status = fs::read_to_string(path.join("status"))?;
            let sleeps = field(&status, "voluntary_ctxt_switches:")?;
            usage.cpu += cpu;
            usage.sleeps += sleeps;
            if !path.ends_with(pid.to_string()) {
                usage.sleeps_of_others += sleeps;
            }
        }
        Ok(usage)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.since(Self::default().since(other))
    }

    /// The difference since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            rss: self.rss - before.rss,
            pss: self.pss - before.pss,
            peak: self.peak - before.peak,
            cpu: self.cpu - before.cpu,
            sleeps: self.sleeps - before.sleeps,
            sleeps_of_others: self.sleeps_of_others - before.sleeps_of_others,
        }
    }
}

/// The number in the line that begins like this.
fn field(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("no {name}"))?.parse()?)
}
