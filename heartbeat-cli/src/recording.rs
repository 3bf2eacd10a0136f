//! Records a trace for `heartbeat explain`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use heartbeat_tokio::core::trace::{Header, event_line_with};
use heartbeat_tokio::core::{
    Buffer, Class, Event, Instant, Outgoing, PingSpec, TemplateRef, Values, Variables,
};
use heartbeat_tokio::{AnyDialect, Config, Dialect, RetryPolicy};

use crate::complain;

/// A trace file. Each event of the machine becomes a line.
#[derive(Debug)]
pub(crate) struct Recording {
    output: File,
    file: String,
    failed: bool,
    tracked: Arc<Mutex<Variables>>,
    /// The seed in the header. The machine must use the same one, so that the trace can be replayed.
    pub(crate) seed: u64,
}

impl Recording {
    /// Creates the file and writes the header.
    pub(crate) fn start(file: &str, config: &Config, dialect: &AnyDialect) -> io::Result<Self> {
        let mut output = File::create(file)?;
        let mut header = Header::default();
        header.config = config.clone();
        header.dialect = dialect.clone();
        // Any seed is valid. The process id differs from run to run.
        header.seed = std::process::id().into();
        writeln!(output, "{}", header.line())?;
        Ok(Self {
            output,
            file: file.to_owned(),
            failed: false,
            tracked: Arc::default(),
            seed: header.seed,
        })
    }

    /// Wraps the dialect. The client must use the result.
    pub(crate) fn of(&self, dialect: AnyDialect) -> Tracking {
        Tracking {
            dialect,
            tracked: Arc::clone(&self.tracked),
        }
    }

    /// Writes an event.
    pub(crate) fn note(&mut self, at: Instant, event: &Event<'_>) {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::take(&mut *tracked);
        drop(tracked);
        let line = event_line_with(at, event, &changed);
        if !self.failed
            && let Err(error) = writeln!(self.output, "{line}")
        {
            self.failed = true;
            complain(&format!(
                "--trace: {}: {error}; no further event is recorded",
                self.file
            ));
        }
    }
}

/// A dialect that also records the variables that it reads from messages. The trace holds no data messages, so a replay
/// could not read the variables again.
#[derive(Debug)]
pub(crate) struct Tracking {
    dialect: AnyDialect,
    /// Changes since the last recorded event.
    tracked: Arc<Mutex<Variables>>,
}

impl Dialect for Tracking {
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        self.dialect.classify_text(text)
    }

    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
        self.dialect.classify_binary(bytes)
    }

    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        self.dialect.close_policy(code)
    }

    fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
        self.dialect.http_policy(status)
    }

    fn ping(&self) -> PingSpec {
        self.dialect.ping()
    }

    fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
        self.dialect.greeting(number)
    }

    fn separator(&self) -> Option<&str> {
        self.dialect.separator()
    }

    fn binary_separator(&self) -> Option<&[u8]> {
        self.dialect.binary_separator()
    }

    fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        self.dialect.render(draft, values, buffer)
    }

    fn tracks(&self) -> bool {
        self.dialect.tracks()
    }

    fn track(&self, text: &str, variables: &mut Variables) {
        self.dialect.track(text, variables);
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.clone_from(variables);
    }
}
