//! Recording a trace, for `heartbeat explain`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use heartbeat_tokio::core::trace::{Header, event_line_with};
use heartbeat_tokio::core::{
    Buffer, Class, Event, Instant, Outgoing, PingSpec, TemplateRef, Values, Variables,
};
use heartbeat_tokio::{AnyDialect, Config, Dialect, RetryPolicy};

use crate::complain;

/// A file to which each event of the machine is written.
#[derive(Debug)]
pub(crate) struct Recording {
    output: File,
    file: String,
    failed: bool,
    tracked: Arc<Mutex<Variables>>,
    /// What the machine must be given, so that the trace can be replayed.
    pub(crate) seed: u64,
}

impl Recording {
    /// Writes the trace's header.
    pub(crate) fn start(file: &str, config: &Config, dialect: &AnyDialect) -> io::Result<Self> {
        let mut output = File::create(file)?;
        let mut header = Header::default();
        header.config = config.clone();
        header.dialect = dialect.clone();
        // Any number does; the process id is at least another one each time.
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

    /// The dialect that the client must use.
    pub(crate) fn of(&self, dialect: AnyDialect) -> Tracking {
        Tracking {
            dialect,
            tracked: Arc::clone(&self.tracked),
        }
    }

    /// Writes one event.
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

/// A dialect that tells a trace what it tracks: the messages themselves are not in there.
#[derive(Debug)]
pub(crate) struct Tracking {
    dialect: AnyDialect,
    /// Since the last event.
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
