//! `heartbeat watch`: shows a connection to a server, or to the demo's server if no URL is given.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::DurationText;
use heartbeat_tokio::{
    AnyDialect, Config, Event, Opening, Options, Progress, Proxy, Request, Seconds,
};
use serde_json::{Value, json};

use crate::arguments::{Refusal, duration, json_or_file, read, text, unexpected, word, wrong};
use crate::client::{Client, Next, Sender};
use crate::complain;
use crate::heartbeats::Heartbeats;
use crate::misbehaving::{MisbehavingServer, ServerNote};
use crate::named;
use crate::picture::{self, Picture};
use crate::recording::Recording;
use crate::sums::Sums;
use crate::words::{Stamp, json_line, times, words};

const USAGE: &str = "\
usage: heartbeat watch [URL] [OPTION]…

Connects to a WebSocket server and shows the life of the connection: pings, silence, verdicts, retries. Without a URL it
starts a misbehaving demo server, and shows for half a minute how the client copes.

In a terminal it draws the connection; q or Ctrl-C stops it. Otherwise it prints a line for each event, which begins
with the seconds since the start.

  --service NAME-or-FILE   use the heartbeats, times, limits and verdicts of a service, such as kucoin
                           (`heartbeat dialect list` shows all), or of a file that describes one
  --dialect NAME-or-FILE   use only a service's heartbeats and verdicts, and without --config also its times
                           (default: json-type; `frames` has ping frames only)
  --config FILE-or-JSON    set times, such as '{\"idle_timeout\": \"20s\", \"ping\": {\"after_silence\": \"5s\"}}'
  --idle-timeout, --ping-after, --ping-every, --pong-timeout, --connect-timeout DURATION
                           set one of these times, such as --ping-after 5s; overrides --config
  --header 'NAME: VALUE'   add a header to the upgrade request; may be repeated
  --subscribe TEXT-or-@FILE  send this message first on each connection; may be repeated
  --proxy URL              use this proxy (http://, socks5://), or `none`; default: the environment (https_proxy etc.)
  --for DURATION           stop after this time, such as 90s
  --trace FILE             record the machine's events, for `heartbeat explain FILE`
  --plain                  print a line for each event, even in a terminal
  --json                   print a JSON object for each event on standard output, and logs on standard error
  --blocking               use the client of heartbeat-blocking instead of heartbeat-tokio

Lines on standard input are sent as text messages once connected, unless a picture is drawn. Ctrl-C stops gracefully,
within `close_timeout` (5 s); a second one stops at once. RUST_LOG=heartbeat_driver=debug prints the log instead of a
picture.
Exit status: 0 if stopped; 1 if the client gave up; 2 for a wrong argument or configuration; 130 after a second Ctrl-C.
";

/// The times of the demo, short enough to watch.
const DEMO: &str = r#"{
    "idle_timeout": "3s", "check_interval": "1s", "ping": {"after_silence": "1s"}, "pong_timeout": "2s",
    "connect_timeout": "2s", "backoff": {"base": "250ms", "cap": "2s", "jitter_percent": 50}, "stable_after": "5s"
}"#;

/// How long the demo runs: its script, and a few calm seconds after it.
const DEMO_TIME: Duration = Duration::from_secs(30);

/// The maximum time between two pictures.
const FRAME: Duration = Duration::from_millis(100);

/// The longest single wait. A longer wait is split.
const LONG: Duration = Duration::from_secs(3600);

/// The parsed arguments.
#[derive(Default)]
struct Given {
    url: Option<String>,
    config: Option<String>,
    /// Flags that set a time, each with its key in the configuration and its value.
    times: Vec<(&'static str, &'static str, Value)>,
    service: Option<AnyDialect>,
    dialect: Option<AnyDialect>,
    headers: Vec<(String, String)>,
    subscribe: Vec<String>,
    proxy: Option<Option<Proxy>>,
    limit: Option<Duration>,
    trace: Option<String>,
    plain: bool,
    json: bool,
    blocking: bool,
}

/// How to show events.
enum Output {
    Lines,
    Json,
    /// A picture, and the notes of the demo's server.
    Picture(Box<Picture>, mpsc::Receiver<ServerNote>),
}

/// Runs `watch`, or the demo.
pub(crate) fn run(arguments: &mut lexopt::Parser) -> Result<ExitCode, Refusal> {
    let given = parse(arguments)?;
    let demo = given.url.is_none();
    let start = clock();
    let draws = !given.plain
        && !given.json
        && io::stdout().is_terminal()
        && io::stdin().is_terminal()
        && std::env::var_os("RUST_LOG").is_none();
    start_log(given.json);

    let (note, notes) = mpsc::channel();
    let server = match demo {
        true => Some(start_server(&given, start, draws, note)?),
        false => None,
    };
    let url = match &server {
        Some(server) => server.url(),
        None => given.url.clone().unwrap_or_default(),
    };
    let request = Request::new(&url).map_err(|error| wrong("watch", error))?;
    // The displayed form of the URL leaves possible secrets out.
    let url = request.to_string();
    let heartbeats = Heartbeats::default();
    let (options, config) = options(&given, request, demo, &heartbeats)?;
    let client = Client::spawn(options, given.blocking).map_err(|error| wrong("watch", error))?;
    let output = match (given.json, draws) {
        (true, _) => Output::Json,
        (_, true) => Output::Picture(Box::new(Picture::start(&url, &config)?), notes),
        (_, false) => Output::Lines,
    };
    let watch = Watch {
        start,
        limit: given.limit.or(demo.then_some(DEMO_TIME)),
        output,
        heartbeats,
        sums: Sums::default(),
        gave_up: None,
        connected: None,
        server,
    };
    watch.run(client, &url, &config)
}

fn parse(arguments: &mut lexopt::Parser) -> Result<Given, Refusal> {
    use lexopt::prelude::*;
    let mut given = Given::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("service") => {
                given.service = Some(named::dialect("--service", &text(arguments)?)?)
            }
            Long("dialect") => {
                given.dialect = Some(named::dialect("--dialect", &text(arguments)?)?)
            }
            Long("config") => {
                given.config = Some(json_or_file("--config", &word("--config", arguments)?)?)
            }
            Long("idle-timeout") => given.time("--idle-timeout", "idle_timeout", arguments)?,
            Long("ping-after") => given.time("--ping-after", "ping", arguments)?,
            Long("ping-every") => given.time("--ping-every", "ping", arguments)?,
            Long("pong-timeout") => given.time("--pong-timeout", "pong_timeout", arguments)?,
            Long("connect-timeout") => {
                given.time("--connect-timeout", "connect_timeout", arguments)?;
            }
            Long("header") => given.headers.push(header(&text(arguments)?)?),
            Long("subscribe") => given.subscribe.push(first_message(text(arguments)?)?),
            Long("proxy") => given.proxy = Some(proxy(&text(arguments)?)?),
            Long("for") => given.limit = Some(duration("--for", arguments)?),
            Long("trace") => given.trace = Some(word("--trace", arguments)?),
            Long("plain") => given.plain = true,
            Long("json") => given.json = true,
            Long("blocking") => given.blocking = true,
            Long("help") | Short('h') => return Err(Refusal::Help(USAGE)),
            Value(value) if given.url.is_none() => given.url = Some(value.string()?),
            Value(_) => {
                return Err(Refusal::Wrong("watch: expected one URL, got two".into()));
            }
            other => return Err(unexpected(other)),
        }
    }
    if let (None, Some(flag)) = (&given.url, given.needs_a_url()) {
        return Err(wrong(
            flag,
            "needs a URL such as wss://example.org/feed; no URL given, and the demo's server does not use this option",
        ));
    }
    if given.service.is_some() && given.dialect.is_some() {
        return Err(Refusal::Wrong(
            "--service and --dialect: only one of them can be given".into(),
        ));
    }
    Ok(given)
}

impl Given {
    fn time(
        &mut self,
        flag: &'static str,
        key: &'static str,
        arguments: &mut lexopt::Parser,
    ) -> Result<(), Refusal> {
        let time = Value::from(DurationText(duration(flag, arguments)?).to_string());
        let value = match flag {
            "--ping-after" => json!({"after_silence": time}),
            "--ping-every" => json!({"every": time}),
            _ => time,
        };
        if let Some((other, ..)) = self.times.iter().find(|(_, known, _)| *known == key) {
            return Err(Refusal::Wrong(format!(
                "{other} and {flag}: only one of them can set `{key}`"
            )));
        }
        self.times.push((flag, key, value));
        Ok(())
    }

    /// Returns the first given flag that has no meaning for the demo's server.
    fn needs_a_url(&self) -> Option<&'static str> {
        [
            ("--service", self.service.is_some()),
            ("--dialect", self.dialect.is_some()),
            ("--header", !self.headers.is_empty()),
            ("--subscribe", !self.subscribe.is_empty()),
            ("--proxy", self.proxy.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, is_given)| is_given.then_some(flag))
    }

    /// Returns the configuration of `--config` and of the flags for single times, or `None` if none of them was given.
    fn config(&self) -> Result<Option<Config>, Refusal> {
        let flags: Vec<&str> = (self.config.iter().map(|_| "--config"))
            .chain(self.times.iter().map(|(flag, ..)| *flag))
            .collect();
        let argument = &flags.join(", ");
        let config = match (&self.config, self.times.as_slice()) {
            (None, []) => return Ok(None),
            (Some(config), []) => Config::from_json(config),
            (config, times) => {
                let config = config.as_deref().unwrap_or("{}");
                let mut config: Value =
                    serde_json::from_str(config).map_err(|error| wrong(argument, error))?;
                let Some(keys) = config.as_object_mut() else {
                    return Err(wrong(argument, format!("{config} must be an object")));
                };
                keys.extend(
                    times
                        .iter()
                        .map(|(_, key, value)| ((*key).to_owned(), value.clone())),
                );
                Config::from_json(&config.to_string())
            }
        };
        config.map(Some).map_err(|error| wrong(argument, error))
    }
}

fn header(value: &str) -> Result<(String, String), Refusal> {
    match value.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        // The error does not repeat the value, which may be a secret.
        None => Err(wrong(
            "--header",
            "expected 'NAME: VALUE', but there is no colon",
        )),
    }
}

/// Returns the text itself, or for `@FILE` the text of the file.
fn first_message(value: String) -> Result<String, Refusal> {
    match value.strip_prefix('@') {
        Some(file) => Ok(read("--subscribe", file)?.trim_end().to_owned()),
        None => Ok(value),
    }
}

/// Parses a proxy's URL, or `none`.
fn proxy(url: &str) -> Result<Option<Proxy>, Refusal> {
    match url {
        "none" => Ok(None),
        url => Ok(Some(
            Proxy::new(url).map_err(|error| wrong("--proxy", error))?,
        )),
    }
}

/// Returns the client's options and its final configuration.
fn options(
    given: &Given,
    mut request: Request,
    demo: bool,
    heartbeats: &Heartbeats,
) -> Result<(Options, Config), Refusal> {
    let watch = |error: &dyn std::fmt::Display| wrong("watch", error);
    for (name, value) in &given.headers {
        request = request
            .header(name, value)
            .map_err(|error| wrong("--header", error))?;
    }
    let mut options = Options::from_request(request);
    if let Some(proxy) = given.proxy.clone().or(demo.then_some(None)) {
        options = options.proxy(proxy);
    }
    let set = given.config()?;
    let base = match (&set, demo) {
        (Some(config), _) => config.clone(),
        (None, true) => Config::from_json(DEMO).map_err(|error| watch(&error))?,
        (None, false) => Config::default(),
    };
    let config = match (&given.service, &given.dialect) {
        (Some(service), _) => {
            let (config, doubt) = service
                .fit(&base)
                .map_err(|error| wrong("--service", error))?;
            doubt
                .iter()
                .for_each(|doubt| complain(&format!("warning: {doubt}")));
            config
        }
        (None, Some(dialect)) if set.is_none() && !demo => dialect
            .configure(&base)
            .map_err(|error| wrong("--dialect", error))?,
        _ => base,
    };
    if let Some(AnyDialect::Named(entry)) = &given.dialect {
        for lint in entry.lint(&config) {
            complain(&format!("warning: {lint}"));
        }
    }
    let dialect = given
        .service
        .as_ref()
        .or(given.dialect.as_ref())
        .cloned()
        .unwrap_or_default();
    let limits = given
        .service
        .as_ref()
        .and_then(|service| Some(service.described()?.limits()));
    let mut recording = match &given.trace {
        Some(file) => Some(
            Recording::start(file, &config, &dialect)
                .map_err(|error| wrong("--trace", format!("{file}: {error}")))?,
        ),
        None => None,
    };
    options = match (&recording, &given.service) {
        (Some(recording), _) => options.seed(recording.seed).dialect(recording.of(dialect)),
        (None, Some(_)) => options.of_service(dialect),
        (None, None) => options.dialect(dialect),
    };
    // While recording, the client gets a plain dialect and not the service, so the service's rate limit is set here.
    if let (Some(_), Some(rate)) = (
        &recording,
        limits.and_then(|limits| limits.messages_beside(&config)),
    ) {
        options = options
            .send_rate(rate.most, rate.per)
            .map_err(|error| wrong("--service", error))?;
    }
    if !given.subscribe.is_empty() {
        let messages = given.subscribe.clone();
        options = options.on_connect(move |opening: &mut Opening<'_>| {
            for message in &messages {
                opening.send(message.as_str());
            }
            Progress::Ready
        });
    }
    let heartbeats = heartbeats.clone();
    options = options.observer(move |at, event, step, _| {
        heartbeats.note(event, step);
        if let Some(recording) = &mut recording {
            recording.note(at, event);
        }
    });
    Ok((options.config(config.clone()), config))
}

/// The state of a run.
struct Watch {
    start: Instant,
    limit: Option<Duration>,
    output: Output,
    heartbeats: Heartbeats,
    sums: Sums,
    gave_up: Option<String>,
    /// Notified at the first connection.
    connected: Option<mpsc::Sender<()>>,
    /// The demo's server, which ends when this is dropped.
    server: Option<MisbehavingServer>,
}

impl Watch {
    fn run(mut self, mut client: Client, url: &str, config: &Config) -> Result<ExitCode, Refusal> {
        let sender = client.sender();
        self.listen_to_the_user(&sender)?;
        if let Output::Lines = self.output {
            let what = match self.server {
                Some(_) => " (no URL given: the misbehaving demo server)",
                None => "",
            };
            let line = format!("watching {url}{what}: {}", times(config));
            self.line(&line)
                .or_else(|error| stop_if_closed(error, &sender))?;
        }
        loop {
            match client.next(self.patience()) {
                Next::Event(event) => {
                    if let Event::PingSent { .. } | Event::PongSent { .. } = event {
                        let left_out = client.stats().heartbeat_events_dropped;
                        self.heartbeats.left_out(left_out);
                    }
                    let told = self.tell(&event);
                    told.or_else(|error| stop_if_closed(error, &sender))?;
                }
                Next::Nothing => {}
                Next::End => break,
            }
            if self.is_over() {
                self.limit = None;
                sender.stop();
            }
            if let Output::Picture(picture, notes) = &mut self.output {
                for note in notes.try_iter() {
                    picture.server(self.start.elapsed(), &note);
                }
                if picture.is_due(self.start.elapsed())
                    && picture.draw(self.start.elapsed(), &client.stats(), &self.sums)?
                {
                    interrupted(&sender);
                }
            }
        }
        Ok(self.end())
    }

    /// Returns how long to wait for an event.
    fn patience(&self) -> Duration {
        let left = match self.limit {
            Some(limit) => limit.saturating_sub(self.start.elapsed()),
            None => LONG,
        };
        match self.output {
            Output::Picture(..) => left.min(FRAME),
            _ => left.min(LONG),
        }
    }

    fn is_over(&self) -> bool {
        self.limit
            .is_some_and(|limit| limit <= self.start.elapsed())
    }

    /// Shows one event.
    fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.sums.count(event);
        if let Event::GaveUp { .. } = event {
            self.gave_up = Some(words(event, &self.heartbeats));
        }
        if matches!(event, Event::Stopped { .. } | Event::GaveUp { .. }) {
            // Ends the demo's server first, so that the client's end is the last line.
            self.server = None;
        }
        if matches!(event, Event::Connected { .. })
            && let Some(connected) = self.connected.take()
        {
            // An error means that the waiting thread has ended.
            let _ = connected.send(());
        }
        match &mut self.output {
            Output::Json => {
                let mut line = json_line(event);
                line["t"] = json!(self.start.elapsed().as_micros() as f64 / 1e6);
                self.print(&line.to_string())
            }
            Output::Lines => {
                let words = words(event, &self.heartbeats);
                self.line(&words)
            }
            Output::Picture(picture, _) => {
                let words = words(event, &self.heartbeats);
                picture.event(self.start.elapsed(), event, &words);
                Ok(())
            }
        }
    }

    /// Prints a line with the time since the start.
    fn line(&self, words: &str) -> io::Result<()> {
        self.print(&format!("{} {words}", Stamp(self.start.elapsed())))
    }

    fn print(&self, line: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()
    }

    /// Prints the summary of the run, and returns the exit status.
    fn end(self) -> ExitCode {
        let sums = format!("in {}: {}", Seconds(self.start.elapsed()), self.sums);
        // An error means that standard output is closed, so there is nobody to tell.
        let _ = match self.output {
            Output::Json => Ok(()),
            Output::Lines => self.line(&sums),
            Output::Picture(picture, _) => {
                drop(picture);
                let gave_up = self.gave_up.iter().map(|words| format!("{words}\n"));
                let end = format!("{}{sums}\n", gave_up.collect::<String>());
                io::stdout().write_all(end.as_bytes())
            }
        };
        match self.gave_up {
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        }
    }

    /// Starts threads that send each line of standard input once connected, and that stop the client on Ctrl-C.
    fn listen_to_the_user(&mut self, sender: &Sender) -> Result<(), Refusal> {
        let stopping = sender.clone();
        ctrlc::set_handler(move || interrupted(&stopping))
            .map_err(|error| Refusal::Wrong(format!("cannot handle Ctrl-C: {error}")))?;
        // While a picture is drawn, the terminal's input is read as keys.
        if !matches!(self.output, Output::Picture(..)) {
            let (connected, first_connection) = mpsc::channel();
            self.connected = Some(connected);
            let sender = sender.clone();
            thread::spawn(move || {
                if first_connection.recv().is_ok() {
                    send_lines(&sender);
                }
            });
        }
        Ok(())
    }
}

/// Stops the client the first time, and ends the program the second time.
fn interrupted(sender: &Sender) {
    static ASKED: AtomicBool = AtomicBool::new(false);
    if ASKED.swap(true, Ordering::Relaxed) {
        picture::restore();
        // 128 + SIGINT, the convention of shells.
        std::process::exit(130);
    }
    sender.stop();
}

/// Stops the client if standard output was closed.
fn stop_if_closed(error: io::Error, sender: &Sender) -> Result<(), Refusal> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            sender.stop();
            Ok(())
        }
        _ => Err(wrong("standard output", error)),
    }
}

fn send_lines(sender: &Sender) {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
        let end = line.trim_ascii_end().len();
        match std::str::from_utf8(&line[..end]) {
            Ok(text) => {
                if let Err(error) = sender.try_send(text) {
                    complain(&format!("not sent: {}", error.reason));
                }
            }
            Err(error) => complain(&format!("not sent: the line is not UTF-8: {error}")),
        }
        line.clear();
    }
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

/// Starts the demo's server. Its notes are shown beside the client's events.
fn start_server(
    given: &Given,
    start: Instant,
    draws: bool,
    notes: mpsc::Sender<ServerNote>,
) -> io::Result<MisbehavingServer> {
    let json = given.json;
    MisbehavingServer::start(move |note| {
        let line = format!("{} {note}", Stamp(start.elapsed()));
        // Errors are ignored here. If the output is closed, the client's own lines notice it.
        let _ = match (draws, json) {
            (true, _) => {
                let _ = notes.send(note);
                Ok(())
            }
            (_, true) => writeln!(io::stderr(), "{line}"),
            (_, false) => writeln!(io::stdout(), "{line}"),
        };
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the program prints the time since its start"
)]
fn clock() -> Instant {
    Instant::now()
}
