//! What the two `watch` examples share: flags, the demo, and what is printed. Each example holds only
//! its adapter's part.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use heartbeat_driver::core::trace::{Header, cause_value, event_line_with, give_up_value};
use heartbeat_driver::core::{
    AnyDialect, AskBy, Buffer, CatalogueEntry, Class, Config, Description, Dialect, Draft,
    Outgoing, Values, Variables, Verdict, parse_duration,
};
use heartbeat_driver::{Event, Message, Options, Proxy, Reason, Seconds, SendError};
use serde_json::{Value, json};

use crate::misbehaving::MisbehavingServer;

const USAGE: &str = "\
usage: watch [URL] [--config FILE-or-JSON] [--dialect NAME-or-FILE] [--json] [--for DURATION] [--trace FILE]
             [--proxy URL]

Connects to a WebSocket server and shows how the connection lives: pings, silence, verdicts, retries.
Without URL it starts a server that misbehaves, and shows for half a minute how the connection survives.

  --config FILE-or-JSON  timing rules, such as '{\"idle_timeout\":\"20s\",\"ping\":{\"after_silence\":\"5s\"}}'
  --dialect NAME-or-FILE how the server says ping: json-type (default), frames, a service such as kucoin
                         (the heartbeat-core example `dialect --list` shows all), or a description's file;
                         without --config the service's own times are kept
  --json                 one JSON object a line on standard output, logs on standard error
  --for DURATION         stop after this time, such as 90s
  --proxy URL            go through this proxy (http://, socks5://); default: what https_proxy and the
                         like say, `none` for no proxy at all
  --trace FILE           record what the machine was told: the heartbeat-core example `replay` answers why

Lines on standard input are sent as text messages, once connected. Ctrl-C stops gracefully, which takes
`close_timeout` (5s) at the most; a second one stops at once.
Exit status: 0 when stopped, 1 when it gave up, 2 for bad usage or configuration.
RUST_LOG=heartbeat_driver=debug shows the log.
";

/// Timing of the demo, short enough to be watched.
const DEMO: &str = r#"{
    "idle_timeout": "3s", "check_interval": "1s", "ping": {"after_silence": "1s"}, "pong_timeout": "2s",
    "connect_timeout": "2s", "backoff": {"base": "250ms", "cap": "2s", "jitter_percent": 50}, "stable_after": "5s"
}"#;

/// How long the demo runs: its script, and a few seconds of the peace that follows.
const DEMO_TIME: Duration = Duration::from_secs(30);

/// What a `watch` program was asked to do, and its standard output.
#[derive(Debug)]
pub struct Watch {
    json: bool,
    limit: Option<Duration>,
    start: Instant,
    gave_up: bool,
    /// Told at the first connection.
    connected: Option<Sender<()>>,
    /// The demo's server, which lives as long as this.
    server: Option<MisbehavingServer>,
}

impl Watch {
    /// Reads the program's arguments; starts the demo's server if no URL is among them.
    ///
    /// # Errors
    /// The status to exit with, after the reason was printed on standard error.
    pub fn from_args() -> Result<(Self, Options), ExitCode> {
        Self::parse(lexopt::Parser::from_env()).map_err(|error| match error {
            Refusal::Help => {
                print!("{USAGE}");
                ExitCode::SUCCESS
            }
            Refusal::Bad(text) => {
                complain(&format!("{text}\n(watch --help lists the flags)"));
                ExitCode::from(2)
            }
        })
    }

    fn parse(mut arguments: lexopt::Parser) -> Result<(Self, Options), Refusal> {
        use lexopt::prelude::*;
        let (mut url, mut config, mut limit, mut trace, mut json) = (None, None, None, None, false);
        let mut dialect = AnyDialect::default();
        let mut proxy = None;
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("config") => config = Some(read_config(&arguments.value()?.string()?)?),
                Long("dialect") => dialect = read_dialect(&arguments.value()?.string()?)?,
                Long("trace") => trace = Some(arguments.value()?.string()?),
                Long("proxy") => proxy = Some(read_proxy(&arguments.value()?.string()?)?),
                Long("json") => json = true,
                Long("for") => limit = Some(read_limit(&arguments.value()?.string()?)?),
                Long("help") | Short('h') => return Err(Refusal::Help),
                Value(value) if url.is_none() => url = Some(value.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        start_log(json);
        let start = clock();
        let server = match url {
            Some(_) => None,
            None => Some(start_demo(json, start)?),
        };
        let config = match config {
            Some(config) => config,
            None if server.is_some() => Config::from_json(DEMO)?,
            None => dialect.configure(&Config::default())?,
        };
        warn_of(&dialect, &config);
        let limit = limit.or(server.is_some().then_some(DEMO_TIME));
        let url = url
            .or_else(|| server.as_ref().map(MisbehavingServer::url))
            .unwrap_or_default();
        let mut options = Options::new(&url)?;
        if let Some(proxy) = proxy {
            options = options.proxy(proxy);
        }
        options = match trace {
            Some(file) => record(options, &file, &config, dialect)?,
            None => options.dialect(dialect),
        };
        let options = options.config(config);
        Ok((
            Self {
                json,
                limit,
                start,
                gave_up: false,
                connected: None,
                server,
            },
            options,
        ))
    }

    /// When to stop by itself, told once; then the end is waited for.
    pub fn deadline(&mut self) -> Option<Instant> {
        self.start.checked_add(self.limit.take()?)
    }

    /// How long until then. The end itself comes within `close_timeout`.
    pub fn time_left(&mut self) -> Duration {
        match self.limit {
            Some(limit) if limit > self.start.elapsed() => {
                limit.saturating_sub(self.start.elapsed())
            }
            _ => self.limit.take().map_or(Duration::MAX, |_| Duration::ZERO),
        }
    }

    /// Prints one event.
    ///
    /// # Errors
    /// When nobody reads standard output any more: time to stop.
    pub fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.gave_up |= matches!(event, Event::GaveUp { .. });
        if matches!(event, Event::Stopped { .. } | Event::GaveUp { .. }) {
            // The demo's server ends first, so that the client's end is the last line.
            self.server = None;
        }
        if matches!(event, Event::Connected { .. })
            && let Some(connected) = self.connected.take()
        {
            // The thread that waits for it may have ended.
            let _ = connected.send(());
        }
        let mut output = io::stdout().lock();
        if self.json {
            let mut line = json_line(event);
            line["t"] = json!(self.start.elapsed().as_micros() as f64 / 1e6);
            writeln!(output, "{line}")?;
        } else {
            writeln!(output, "{} {}", Stamp(self.start.elapsed()), words(event))?;
        }
        output.flush()
    }

    /// The status to exit with.
    #[must_use]
    pub fn status(&self) -> ExitCode {
        if self.gave_up {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Calls `send` for each line of standard input, once connected, and `stop` on Ctrl-C, from threads
    /// of their own.
    ///
    /// # Errors
    /// The status to exit with, if the operating system does not let us hear Ctrl-C.
    pub fn listen_to_the_user(
        &mut self,
        send: impl Fn(String) -> Result<(), SendError> + Send + 'static,
        stop: impl Fn() + Send + 'static,
    ) -> Result<(), ExitCode> {
        let asked = AtomicBool::new(false);
        let interrupted = move || {
            if asked.swap(true, Ordering::Relaxed) {
                // 128 + SIGINT, as shells have it.
                std::process::exit(130);
            }
            stop();
        };
        ctrlc::set_handler(interrupted).map_err(|error| {
            complain(&format!("cannot hear Ctrl-C: {error}"));
            ExitCode::FAILURE
        })?;
        let (connected, first_connection) = mpsc::channel();
        self.connected = Some(connected);
        thread::spawn(move || {
            if first_connection.recv().is_ok() {
                send_lines(send);
            }
        });
        Ok(())
    }
}

fn send_lines(send: impl Fn(String) -> Result<(), SendError>) {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
        let end = line.trim_ascii_end().len();
        match std::str::from_utf8(&line[..end]) {
            Ok(text) => {
                if let Err(error) = send(text.to_owned()) {
                    complain(&format!("not sent: {}", error.reason));
                }
            }
            Err(error) => complain(&format!("not sent: the line is not text: {error}")),
        }
        line.clear();
    }
}

/// To whoever reads standard error, if anybody does.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "watch: {text}");
}

/// Writes each event of the machine to a file, as a trace that `replay` answers.
fn record(
    options: Options,
    file: &str,
    config: &Config,
    dialect: AnyDialect,
) -> Result<Options, Refusal> {
    let mut output = fs::File::create(file)
        .map_err(|error| Refusal::Bad(format!("--trace: {file}: {error}")))?;
    let mut header = Header::default();
    header.config = config.clone();
    header.dialect = dialect.clone();
    // Any number does; the process id is at least another one each time.
    header.seed = std::process::id().into();
    writeln!(output, "{}", header.line())?;
    let file = file.to_owned();
    let mut failed = false;
    let dialect = Recording {
        dialect,
        tracked: Arc::default(),
    };
    let tracked = Arc::clone(&dialect.tracked);
    let options = options.seed(header.seed).dialect(dialect);
    Ok(options.observer(move |at, event, _, _| {
        let changed = std::mem::take(&mut *tracked.lock().unwrap_or_else(PoisonError::into_inner));
        let line = event_line_with(at, event, &changed);
        if !failed && let Err(error) = writeln!(output, "{line}") {
            failed = true;
            complain(&format!(
                "--trace: {file}: {error}; no further event is recorded"
            ));
        }
    }))
}

/// A dialect that tells a trace what it tracks: the messages themselves are not in there.
struct Recording {
    dialect: AnyDialect,
    /// Since the last event.
    tracked: Arc<Mutex<Variables>>,
}

impl Dialect for Recording {
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        self.dialect.classify_text(text)
    }

    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
        self.dialect.classify_binary(bytes)
    }

    fn close_verdict(&self, code: u16) -> Option<Verdict> {
        self.dialect.close_verdict(code)
    }

    fn http_verdict(&self, status: u16) -> Option<Verdict> {
        self.dialect.http_verdict(status)
    }

    fn ask(&self) -> AskBy {
        self.dialect.ask()
    }

    fn greeting(&self, number: usize) -> Option<Draft<'static>> {
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
        draft: &Draft<'_>,
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

enum Refusal {
    Help,
    Bad(String),
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Bad(error.to_string())
    }
}

fn read_config(value: &str) -> Result<Config, Refusal> {
    let bad = |error: &dyn std::fmt::Display| Refusal::Bad(format!("--config: {error}"));
    let text = match value.trim_start().starts_with('{') {
        true => value.to_owned(),
        false => fs::read_to_string(value).map_err(|error| bad(&format!("{value}: {error}")))?,
    };
    Config::from_json(&text).map_err(|error| bad(&error))
}

fn read_dialect(name: &str) -> Result<AnyDialect, Refusal> {
    if let Some(dialect) = AnyDialect::named(name) {
        return Ok(dialect);
    }
    let text = fs::read_to_string(name).map_err(|error| {
        let near = CatalogueEntry::names_near(name);
        let near = match near.is_empty() {
            true => String::new(),
            false => format!("; did you mean {}?", near.join(", ")),
        };
        Refusal::Bad(format!(
            "--dialect: \"{name}\" is neither a name that is known nor a file that can be read ({error}){near}"
        ))
    })?;
    let described = Description::from_json(&text)
        .map_err(|error| Refusal::Bad(format!("--dialect: {name}: {error}")))?;
    Ok(AnyDialect::Described(Box::new(described)))
}

/// Says on standard error what the service will think of these times.
fn warn_of(dialect: &AnyDialect, config: &Config) {
    if let AnyDialect::Named(entry) = dialect {
        for lint in entry.lint(config) {
            complain(&format!("warning: {lint}"));
        }
    }
}

/// A proxy's URL, or `none`.
fn read_proxy(url: &str) -> Result<Option<Proxy>, Refusal> {
    match url {
        "none" => Ok(None),
        url => Ok(Some(Proxy::new(url)?)),
    }
}

fn read_limit(text: &str) -> Result<Duration, Refusal> {
    parse_duration(text).map_err(|error| Refusal::Bad(format!("--for: \"{text}\": {error}")))
}

fn start_log(json: bool) {
    let default = if json { "heartbeat_driver=info" } else { "off" };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| default.into());
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

fn start_demo(json: bool, start: Instant) -> io::Result<MisbehavingServer> {
    MisbehavingServer::start(move |note| {
        let line = format!(
            "{} server, connection {}: {}",
            Stamp(start.elapsed()),
            note.connection,
            note.text
        );
        // Nobody reads any more: the client's own lines will notice.
        let _ = match json {
            true => writeln!(io::stderr(), "{line}"),
            false => writeln!(io::stdout(), "{line}"),
        };
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "a program that prints the time since its start"
)]
fn clock() -> Instant {
    Instant::now()
}

fn json_line(event: &Event) -> Value {
    match event {
        Event::Connecting { conn, attempt } => {
            json!({"event": "connecting", "conn": conn.get(), "attempt": attempt})
        }
        Event::Connected { conn, after, .. } => {
            json!({"event": "connected", "conn": conn.get(), "after_ms": millis(*after)})
        }
        Event::Message {
            conn,
            message: Message::Text(text),
        } => {
            json!({"event": "message", "conn": conn.get(), "text": text.as_str()})
        }
        Event::Message {
            conn,
            message: Message::Binary(bytes),
        } => {
            json!({"event": "message", "conn": conn.get(), "bytes": hex(bytes)})
        }
        Event::PongSent { conn } => json!({"event": "pong_sent", "conn": conn.get()}),
        Event::PingSent { conn } => json!({"event": "ping_sent", "conn": conn.get()}),
        Event::PongReceived { conn, rtt } => {
            json!({"event": "pong_received", "conn": conn.get(), "rtt_ms": rtt.map(millis)})
        }
        Event::Check { conn, idle } => {
            json!({"event": "check", "conn": conn.get(), "idle_ms": millis(*idle)})
        }
        Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            ..
        } => json!({
            "event": "disconnected", "conn": conn.get(), "reason": reason_value(*reason), "detail": detail,
            "idle_ms": millis(*idle), "open_ms": millis(*open), "unsent": unsent.len(),
        }),
        Event::Ending { conn, why, within } => {
            json!({"event": "ending", "conn": conn.get(), "why": why.as_str(), "within_ms": millis(*within)})
        }
        Event::Reconnect { attempt, delay } => {
            json!({"event": "reconnect", "attempt": attempt, "delay_ms": millis(*delay)})
        }
        Event::GaveUp { reason, .. } => {
            json!({"event": "gave_up", "reason": give_up_value(*reason)})
        }
        Event::Gap {
            conn,
            down_for,
            cause,
            attempts,
            unsent,
            ..
        } => json!({
            "event": "gap", "conn": conn.get(), "down_for_ms": millis(*down_for),
            "cause": reason_value(*cause), "attempts": attempts, "unsent": unsent,
        }),
        Event::Ready { conn } => json!({"event": "ready", "conn": conn.get()}),
        Event::Expired { unsent } => json!({"event": "expired", "unsent": unsent.len()}),
        Event::Stopped { unsent, .. } => json!({"event": "stopped", "unsent": unsent.len()}),
        other => json!({"event": "unknown", "debug": format!("{other:?}")}),
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Connecting { conn, attempt: 0 } => format!("connecting ({conn})"),
        Event::Connecting { conn, attempt } => format!("connecting ({conn}), retry {attempt}"),
        Event::Connected { conn, after, .. } => format!("connected ({conn}) after {after:.1?}"),
        Event::Message {
            message: Message::Text(text),
            ..
        } => format!("message: {text}"),
        Event::Message {
            message: Message::Binary(bytes),
            ..
        } => format!("message: {} bytes", bytes.len()),
        Event::PongSent { .. } => "ping answered".into(),
        Event::PingSent { .. } => "ping sent".into(),
        Event::PongReceived { rtt: Some(rtt), .. } => format!("pong after {rtt:.1?}"),
        Event::PongReceived { .. } => "pong that nobody asked for".into(),
        Event::Check { idle, .. } => format!("idle for {}", Seconds(*idle)),
        Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            ..
        } => {
            let mut words = format!("DISCONNECTED ({conn}): {reason}");
            if let Some(detail) = detail {
                let _ = write!(words, " ({detail})");
            }
            if !open.is_zero() {
                let _ = write!(
                    words,
                    ", silent for {}, open for {}",
                    Seconds(*idle),
                    Seconds(*open)
                );
            }
            if !unsent.is_empty() {
                let _ = write!(words, ", {} messages unsent", unsent.len());
            }
            words
        }
        Event::Gap { down_for, .. } => format!("gap of {}", Seconds(*down_for)),
        Event::Ready { conn } => format!("ready ({conn})"),
        Event::Expired { unsent } => format!("{} messages held for too long", unsent.len()),
        Event::Ending { why, within, .. } => {
            format!("ends soon ({why}): renewed in {}", Seconds(*within))
        }
        Event::Reconnect { attempt: 0, delay } => format!("the next dial in {}", Seconds(*delay)),
        Event::Reconnect { attempt, delay } => {
            format!("retry {attempt} in {:.2} s", delay.as_secs_f64())
        }
        Event::GaveUp { reason, .. } => format!("GAVE UP: {reason}"),
        Event::Stopped { .. } => "stopped".into(),
        other => format!("{other:?}"),
    }
}

fn reason_value(reason: Reason) -> Value {
    match reason {
        Reason::Verdict(verdict) => verdict.as_str().into(),
        Reason::Cause(cause) => cause_value(cause),
        Reason::Renewal(why) => format!("renewal_{why}").into(),
        other => other.to_string().into(),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Seconds since the start, to the millisecond, aligned.
struct Stamp(Duration);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8.3}", self.0.as_secs_f64())
    }
}
