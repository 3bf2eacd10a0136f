//! A child process that prints JSON lines: its lines with their times, signals, and a certain end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here takes this long, even on a busy machine. A longer wait is in vain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A line of standard output.
#[derive(Debug)]
pub(crate) struct Line {
    /// When the line was read. The times that the process prints are checked against it.
    pub(crate) at: Instant,
    pub(crate) json: Value,
}

/// A child process. Dropping it kills it, and shows its output if a test has failed.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<(Instant, String)>,
    read: String,
    stderr: Arc<Mutex<String>>,
    reading_stderr: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it with pipes for all three standard streams.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?} does not start: {error}"));

        let (tx, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tx.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });

        let stderr = Arc::<Mutex<String>>::default();
        let mut pipe = child.stderr.take().expect("piped");
        let reading_stderr = thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = pipe.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..n]);
                    stderr
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_str(&text);
                }
            }
        });

        let stdin = child.stdin.take().expect("piped");
        Self {
            name,
            child,
            stdin,
            lines,
            read: String::new(),
            stderr,
            reading_stderr: Some(reading_stderr),
        }
    }

    /// The next line, or `None` at the end of the output.
    ///
    /// # Panics
    ///
    /// Nothing comes by `deadline`, or it is not JSON.
    #[track_caller]
    pub(crate) fn next(&mut self, waiting_for: &str, deadline: Instant) -> Option<Line> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok((at, line)) => {
                self.read.push_str(&line);
                self.read.push('\n');
                match serde_json::from_str(&line) {
                    Ok(json) => Some(Line { at, json }),
                    Err(error) => panic!("{}: not JSON: {line:?}: {error}", self.name),
                }
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{}: waited in vain for {waiting_for}", self.name)
            }
        }
    }

    pub(crate) fn write_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it reads its standard input");
    }

    /// Not after [`end`](Self::end): by then the id may belong to another process.
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.reading_stderr.is_some(), "{} has ended", self.name);
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is not 0");
        kill_process(pid, signal).expect("a child that was not waited for");
    }

    /// Waits for the end, which is near: the process closed its standard output, or was told to end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.next("its end", deadline).is_some() {}
        // Its output has ended. std has no `wait` with a limit.
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                if let Some(reading) = self.reading_stderr.take() {
                    reading.join().expect("it does not panic");
                }
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{}: closed its output, but does not end",
                self.name
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// All of the output after [`end`](Self::end), or the output so far before.
    pub(crate) fn stderr(&self) -> String {
        self.stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let unread: Vec<_> = self.lines.try_iter().map(|(_, line)| line).collect();
            eprintln!("---- {}, standard output:\n{}", self.name, self.read);
            eprintln!("---- not looked at any more:\n{}", unread.join("\n"));
            eprintln!("---- standard error:\n{}", self.stderr());
        }
    }
}
