//! `heartbeat watch`, with a server of its own where no URL is named.

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

Connects to a WebSocket server and shows how the connection lives: pings, silence, verdicts, retries. Without a URL it
starts a server that misbehaves, and shows for half a minute how the connection survives.

Each line begins with the seconds since the start. In a terminal the connection is drawn; q or Ctrl-C ends it.

  --service NAME-or-FILE   a service such as kucoin (`heartbeat dialect list` shows all), or a file that describes one:
                           its heartbeats, times, limits and verdicts
  --dialect NAME-or-FILE   its heartbeats and verdicts; without --config its times, too (default: json-type; `frames`)
  --config FILE-or-JSON    timing rules, such as '{\"idle_timeout\": \"20s\", \"ping\": {\"after_silence\": \"5s\"}}'
  --idle-timeout, --ping-after, --ping-every, --pong-timeout, --connect-timeout DURATION
                           one of these rules by itself, such as --ping-after 5s; it wins over --config
  --header 'NAME: VALUE'   a header of the upgrade request; again for another one
  --subscribe TEXT-or-@FILE  sent first on each connection; again for another one
  --proxy URL              go through this proxy (http://, socks5://); default: what https_proxy and the like say,
                           `none` for no proxy at all
  --for DURATION           stop after this time, such as 90s
  --trace FILE             record what the machine was told: `heartbeat explain FILE` says why it reconnected
  --plain                  one line for each event, also in a terminal; this is so wherever the output is piped
  --json                   one JSON object for each event on standard output, logs on standard error
  --blocking               the client of heartbeat-blocking in place of heartbeat-tokio's

Lines on standard input are sent as text messages, once connected (not while it draws). Ctrl-C stops gracefully, which
takes `close_timeout` (5 s) at the most; a second one stops at once. RUST_LOG=heartbeat_driver=debug shows the log, and
no picture.
Exit status: 0 when stopped, 1 when it gave up, 2 for a wrong argument or configuration, 130 after a second Ctrl-C.
";

/// Timing of the demo, short enough to be watched.
const DEMO: &str = r#"{
    "idle_timeout": "3s", "check_interval": "1s", "ping": {"after_silence": "1s"}, "pong_timeout": "2s",
    "connect_timeout": "2s", "backoff": {"base": "250ms", "cap": "2s", "jitter_percent": 50}, "stable_after": "5s"
}"#;

/// How long the demo runs: its script, and a few seconds of the peace that follows.
const DEMO_TIME: Duration = Duration::from_secs(30);

/// A picture is drawn this often at the least.
const FRAME: Duration = Duration::from_millis(100);

/// No wait is longer; then it is begun anew.
const LONG: Duration = Duration::from_secs(3600);

/// What was asked for.
#[derive(Default)]
struct Wish {
    url: Option<String>,
    config: Option<String>,
    /// A flag, its key and its value.
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

/// How events are shown.
enum Output {
    Lines,
    Json,
    /// A picture, and notes of the demo's server for it.
    Picture(Box<Picture>, mpsc::Receiver<ServerNote>),
}

/// Runs `watch`, or the demo.
pub(crate) fn run(arguments: &mut lexopt::Parser) -> Result<ExitCode, Refusal> {
    let wish = parse(arguments)?;
    let demo = wish.url.is_none();
    let start = clock();
    let draws = !wish.plain
        && !wish.json
        && io::stdout().is_terminal()
        && io::stdin().is_terminal()
        && std::env::var_os("RUST_LOG").is_none();
    start_log(wish.json);

    let (note, notes) = mpsc::channel();
    let server = match demo {
        true => Some(start_server(&wish, start, draws, note)?),
        false => None,
    };
    let url = match &server {
        Some(server) => server.url(),
        None => wish.url.clone().unwrap_or_default(),
    };
    let request = Request::new(&url).map_err(|error| wrong("watch", error))?;
    // As it may be shown: without what may be a secret.
    let url = request.to_string();
    let heartbeats = Heartbeats::default();
    let (options, config) = options(&wish, request, demo, &heartbeats)?;
    let client = Client::spawn(options, wish.blocking).map_err(|error| wrong("watch", error))?;
    let output = match (wish.json, draws) {
        (true, _) => Output::Json,
        (_, true) => Output::Picture(Box::new(Picture::start(&url, &config)?), notes),
        (_, false) => Output::Lines,
    };
    let watch = Watch {
        start,
        limit: wish.limit.or(demo.then_some(DEMO_TIME)),
        output,
        heartbeats,
        sums: Sums::default(),
        gave_up: None,
        connected: None,
        server,
    };
    watch.run(client, &url, &config)
}

fn parse(arguments: &mut lexopt::Parser) -> Result<Wish, Refusal> {
    use lexopt::prelude::*;
    let mut wish = Wish::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("service") => wish.service = Some(named::dialect("--service", &text(arguments)?)?),
            Long("dialect") => wish.dialect = Some(named::dialect("--dialect", &text(arguments)?)?),
            Long("config") => {
                wish.config = Some(json_or_file("--config", &word("--config", arguments)?)?)
            }
            Long("idle-timeout") => wish.time("--idle-timeout", "idle_timeout", arguments)?,
            Long("ping-after") => wish.time("--ping-after", "ping", arguments)?,
            Long("ping-every") => wish.time("--ping-every", "ping", arguments)?,
            Long("pong-timeout") => wish.time("--pong-timeout", "pong_timeout", arguments)?,
            Long("connect-timeout") => {
                wish.time("--connect-timeout", "connect_timeout", arguments)?;
            }
            Long("header") => wish.headers.push(header(&text(arguments)?)?),
            Long("subscribe") => wish.subscribe.push(first_message(text(arguments)?)?),
            Long("proxy") => wish.proxy = Some(proxy(&text(arguments)?)?),
            Long("for") => wish.limit = Some(duration("--for", arguments)?),
            Long("trace") => wish.trace = Some(word("--trace", arguments)?),
            Long("plain") => wish.plain = true,
            Long("json") => wish.json = true,
            Long("blocking") => wish.blocking = true,
            Long("help") | Short('h') => return Err(Refusal::Help(USAGE)),
            Value(value) if wish.url.is_none() => wish.url = Some(value.string()?),
            Value(_) => {
                return Err(Refusal::Wrong(
                    "watch: it takes one URL, and there are two".into(),
                ));
            }
            other => return Err(unexpected(other)),
        }
    }
    if let (None, Some(flag)) = (&wish.url, wish.needs_a_url()) {
        return Err(wrong(
            flag,
            "no URL is named, such as wss://example.org/feed, and the server of the demo has no use for it",
        ));
    }
    if wish.service.is_some() && wish.dialect.is_some() {
        return Err(Refusal::Wrong(
            "--service and --dialect: only one of them can say what heartbeats are".into(),
        ));
    }
    Ok(wish)
}

impl Wish {
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

    /// What was asked for and means something to a server of one's own alone.
    fn needs_a_url(&self) -> Option<&'static str> {
        [
            ("--service", self.service.is_some()),
            ("--dialect", self.dialect.is_some()),
            ("--header", !self.headers.is_empty()),
            ("--subscribe", !self.subscribe.is_empty()),
            ("--proxy", self.proxy.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// The rules of `--config`, and those that have flags of their own; none if nothing was said.
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
        // The value may be a secret.
        None => Err(wrong(
            "--header",
            "'NAME: VALUE' is expected, and there is no colon",
        )),
    }
}

/// The text itself, or that of a file.
fn first_message(value: String) -> Result<String, Refusal> {
    match value.strip_prefix('@') {
        Some(file) => Ok(read("--subscribe", file)?.trim_end().to_owned()),
        None => Ok(value),
    }
}

/// A proxy's URL, or `none`.
fn proxy(url: &str) -> Result<Option<Proxy>, Refusal> {
    match url {
        "none" => Ok(None),
        url => Ok(Some(
            Proxy::new(url).map_err(|error| wrong("--proxy", error))?,
        )),
    }
}

/// The client's options, and the times that it will keep.
fn options(
    wish: &Wish,
    mut request: Request,
    demo: bool,
    heartbeats: &Heartbeats,
) -> Result<(Options, Config), Refusal> {
    let watch = |error: &dyn std::fmt::Display| wrong("watch", error);
    for (name, value) in &wish.headers {
        request = request
            .header(name, value)
            .map_err(|error| wrong("--header", error))?;
    }
    let mut options = Options::from_request(request);
    if let Some(proxy) = wish.proxy.clone().or(demo.then_some(None)) {
        options = options.proxy(proxy);
    }
    let set = wish.config()?;
    let base = match (&set, demo) {
        (Some(config), _) => config.clone(),
        (None, true) => Config::from_json(DEMO).map_err(|error| watch(&error))?,
        (None, false) => Config::default(),
    };
    let config = match (&wish.service, &wish.dialect) {
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
    if let Some(AnyDialect::Named(entry)) = &wish.dialect {
        for lint in entry.lint(&config) {
            complain(&format!("warning: {lint}"));
        }
    }
    let dialect = wish
        .service
        .as_ref()
        .or(wish.dialect.as_ref())
        .cloned()
        .unwrap_or_default();
    let limits = wish
        .service
        .as_ref()
        .and_then(|service| Some(service.described()?.limits()));
    let mut recording = match &wish.trace {
        Some(file) => Some(
            Recording::start(file, &config, &dialect)
                .map_err(|error| wrong("--trace", format!("{file}: {error}")))?,
        ),
        None => None,
    };
    options = match (&recording, &wish.service) {
        (Some(recording), _) => options.seed(recording.seed).dialect(recording.of(dialect)),
        (None, Some(_)) => options.of_service(dialect),
        (None, None) => options.dialect(dialect),
    };
    // A recorded service is not one to the client: its limit is set here.
    if let (Some(_), Some(rate)) = (
        &recording,
        limits.and_then(|limits| limits.messages_beside(&config)),
    ) {
        options = options
            .send_rate(rate.most, rate.per)
            .map_err(|error| wrong("--service", error))?;
    }
    if !wish.subscribe.is_empty() {
        let messages = wish.subscribe.clone();
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

/// What a run keeps.
struct Watch {
    start: Instant,
    limit: Option<Duration>,
    output: Output,
    heartbeats: Heartbeats,
    sums: Sums,
    gave_up: Option<String>,
    /// Told at the first connection.
    connected: Option<mpsc::Sender<()>>,
    /// The demo's server, which lives as long as this.
    server: Option<MisbehavingServer>,
}

impl Watch {
    fn run(mut self, mut client: Client, url: &str, config: &Config) -> Result<ExitCode, Refusal> {
        let sender = client.sender();
        self.listen_to_the_user(&sender)?;
        if let Output::Lines = self.output {
            let what = match self.server {
                Some(_) => " (no URL is named: a server of its own that misbehaves)",
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

    /// How long to wait for an event.
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
            // The demo's server ends first, so that the client's end is the last line.
            self.server = None;
        }
        if matches!(event, Event::Connected { .. })
            && let Some(connected) = self.connected.take()
        {
            // The thread that waits for it may have ended.
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

    /// One line for people, with its time.
    fn line(&self, words: &str) -> io::Result<()> {
        self.print(&format!("{} {words}", Stamp(self.start.elapsed())))
    }

    fn print(&self, line: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()
    }

    /// Says what the run came to; the status to exit with.
    fn end(self) -> ExitCode {
        let sums = format!("in {}: {}", Seconds(self.start.elapsed()), self.sums);
        // If nobody reads it any more, nobody misses it.
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

    /// Sends each line of standard input, once connected, and stops on Ctrl-C, from threads of their own.
    fn listen_to_the_user(&mut self, sender: &Sender) -> Result<(), Refusal> {
        let stopping = sender.clone();
        ctrlc::set_handler(move || interrupted(&stopping))
            .map_err(|error| Refusal::Wrong(format!("cannot hear Ctrl-C: {error}")))?;
        // A picture reads keys instead.
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

/// The first time: stops the client. The second time: ends the program.
fn interrupted(sender: &Sender) {
    static ASKED: AtomicBool = AtomicBool::new(false);
    if ASKED.swap(true, Ordering::Relaxed) {
        picture::restore();
        // 128 + SIGINT, as shells have it.
        std::process::exit(130);
    }
    sender.stop();
}

/// Where nobody reads standard output any more, it is time to stop.
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
            Err(error) => complain(&format!("not sent: the line is not text: {error}")),
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

/// Starts the demo's server, and shows what it does beside what the client sees.
fn start_server(
    wish: &Wish,
    start: Instant,
    draws: bool,
    notes: mpsc::Sender<ServerNote>,
) -> io::Result<MisbehavingServer> {
    let json = wish.json;
    MisbehavingServer::start(move |note| {
        let line = format!("{} {note}", Stamp(start.elapsed()));
        // Nobody reads any more: the client's own lines will notice.
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
    reason = "a program that prints the time since its start"
)]
fn clock() -> Instant {
    Instant::now()
}
