//! A program's log, kept for a test to read.

use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The log of this thread while it runs `run`, as far as the filter lets it through.
///
/// Every other test of the process that may log calls [`listen`] first.
pub fn log_at(filter: &str, run: impl FnOnce()) -> String {
    listen();
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    lines.text()
}

/// Gives the process a subscriber that takes every line and writes none.
///
/// `tracing` keeps for each line of code whether any subscriber wants it. A thread that meets the line
/// first while another thread sets its own subscriber can leave "none does" behind, and then that
/// subscriber misses the line. A subscriber that was there before the first line prevents it.
pub fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let registry = tracing_subscriber::registry();
        tracing::subscriber::set_global_default(registry).expect("the only one");
    });
}

/// The writer of a `tracing_subscriber`, with everything written to it and to its clones.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Keeps the warnings and errors of the whole process, because a client's threads log, too.
    ///
    /// # Panics
    ///
    /// The process has a subscriber already.
    #[must_use]
    pub fn of_warnings() -> Self {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
        lines
    }

    /// Everything so far.
    ///
    /// # Panics
    ///
    /// It is not UTF-8, or a thread panicked while it wrote.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
