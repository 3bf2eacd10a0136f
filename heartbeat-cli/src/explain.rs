//! `heartbeat explain`: describes a recorded trace in sentences.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use heartbeat_tokio::core::parse_duration;
use heartbeat_tokio::core::trace::{Header, Replay, read_event};
use heartbeat_tokio::{Config, Seconds};
use serde_json::Value;

use crate::arguments::{Refusal, unexpected, wrong};
use crate::sums::counted;
use crate::words::{Stamp, printable, times};

const USAGE: &str = "\
usage: heartbeat explain [FILE]

Describes a recorded trace in sentences: what happened, what the client did, and why. FILE is a trace written by
`heartbeat watch --trace` or by a program's `explain()`. Without FILE, the trace is read from standard input. Events
without consequences are left out. The same trace always gives the same text.
Exit status: 0, or 2 if a line is wrong; the lines before it are described.
";

/// Runs `explain`.
pub(crate) fn run(arguments: &mut lexopt::Parser) -> Result<ExitCode, Refusal> {
    use lexopt::prelude::*;
    let mut file = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Err(Refusal::Help(USAGE)),
            Value(value) if file.is_none() => file = Some(value.string()?),
            other => return Err(unexpected(other)),
        }
    }
    let name = file.unwrap_or_else(|| "-".into());
    let output = io::stdout().lock();
    match name.as_str() {
        "-" if io::stdin().is_terminal() => Err(Refusal::Wrong(
            "explain: expected a trace file, or a trace on standard input".into(),
        )),
        "-" => explain(io::stdin().lock(), output),
        name if name.contains("://") => Err(wrong("explain", "expected a file, not a URL")),
        name => {
            let file =
                File::open(name).map_err(|error| wrong("explain", format!("{name}: {error}")))?;
            explain(BufReader::new(file), output)
        }
    }
}

fn explain(input: impl BufRead, mut output: impl Write) -> Result<ExitCode, Refusal> {
    let mut told: Option<(Replay, Story)> = None;
    for (index, line) in input.lines().enumerate() {
        let at_line = |error: &dyn std::fmt::Display| {
            wrong("explain", format!("line {}: {error}", index + 1))
        };
        let line = line.map_err(|error| at_line(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        match &mut told {
            None => {
                let header = Header::read(&line).map_err(|error| at_line(&error))?;
                let story = Story::new(header.config.clone(), header.accepted);
                writeln!(output, "{}", story.beginning())?;
                told = Some((Replay::new(header), story));
            }
            Some((replay, story)) => {
                let recorded = read_event(&line).map_err(|error| at_line(&error))?;
                let answer = replay.answer(&recorded);
                let parse =
                    |text: &str| serde_json::from_str(text).map_err(|error| at_line(&error));
                let (event, answer): (Value, Value) = (parse(&line)?, parse(&answer)?);
                for sentence in story.tell(&event, &answer) {
                    writeln!(output, "{} {sentence}", Stamp(nanos(&event["at"])))?;
                }
            }
        }
    }
    let Some((_, story)) = told else {
        return Err(wrong(
            "explain",
            "the trace is empty; its first line must be a header",
        ));
    };
    writeln!(output, "{}", story.end())?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The state of the connection so far, from which the sentences give reasons.
struct Story {
    config: Config,
    /// When the last byte was received.
    heard: Duration,
    /// When the unanswered ping was sent.
    asked: Option<Duration>,
    /// When the machine asked to be woken.
    wake: Option<Duration>,
    accepted: bool,
    dials: u32,
    opened: u32,
    ends: Vec<(String, u32)>,
}

impl Story {
    fn new(config: Config, accepted: bool) -> Self {
        Self {
            config,
            heard: Duration::ZERO,
            asked: None,
            wake: None,
            accepted,
            dials: 0,
            opened: u32::from(accepted),
            ends: Vec::new(),
        }
    }

    /// The subject of sentences about this side.
    fn subject(&self) -> &'static str {
        match self.accepted {
            true => "The server",
            false => "The client",
        }
    }

    fn beginning(&self) -> String {
        let whose = if self.accepted {
            "A server's connection"
        } else {
            "A client"
        };
        format!("{whose} with these times: {}.", times(&self.config))
    }

    /// Returns the sentences about an event and the actions that followed from it.
    fn tell(&mut self, event: &Value, answer: &Value) -> Vec<String> {
        let at = nanos(&event["at"]);
        let mut sentences: Vec<String> = Vec::new();
        let stale = answer["stale"] == true;
        if !stale {
            sentences.extend(self.event(at, event));
        }
        let actions = answer["actions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for action in actions {
            let sentence = self.action(at, event, action);
            sentences.push(sentence);
        }
        if stale && !actions.is_empty() {
            sentences.insert(
                0,
                format!("Connection {} had already been given up.", event["conn"]),
            );
        }
        self.wake = answer["wake"].as_u64().map(Duration::from_nanos);
        sentences
    }

    /// Returns the sentence about the event itself, if it needs one.
    fn event(&mut self, at: Duration, event: &Value) -> Option<String> {
        let conn = &event["conn"];
        let name = event["event"].as_str().unwrap_or_default();
        if matches!(name, "connected" | "received" | "progress") {
            self.heard = at;
        }
        match name {
            "connected" => {
                self.opened += 1;
                self.asked = None;
                Some(format!("Connection {conn} is open."))
            }
            "ready" => Some(format!("The session of connection {conn} is ready.")),
            "received" if event["pong"].is_string() => Some(self.answered(at)),
            "closed" => Some(self.closed(conn, &event["cause"])),
            "kick" => Some("The application reports that the network is back.".into()),
            "stop" => Some(format!(
                "The application stops {}.",
                self.subject().replace('T', "t")
            )),
            "ping_unsent" => {
                self.asked = None;
                Some(
                    "The ping could not be sent, because a variable of its message is not set."
                        .into(),
                )
            }
            "read_paused" => Some("The application takes no messages, so reading pauses.".into()),
            "read_resumed" => Some("The application takes messages again.".into()),
            "tick" => self.lateness(at),
            _ => None,
        }
    }

    fn answered(&mut self, at: Duration) -> String {
        match self.asked.take() {
            Some(asked) => format!(
                "A pong arrives {} after the ping.",
                Seconds(at.saturating_sub(asked))
            ),
            None => "A pong arrives without a ping.".into(),
        }
    }

    /// Returns the sentence about a timer that fired much too late, because of a suspend or a stopped process.
    fn lateness(&self, at: Duration) -> Option<String> {
        let late = at.saturating_sub(self.wake?);
        (late > self.config.late_grace()).then(|| {
            format!(
                "The timer fires {} late: the program or the machine was stopped. Silence in this time is not counted \
                 against the peer.",
                Seconds(late)
            )
        })
    }

    fn closed(&mut self, conn: &Value, cause: &Value) -> String {
        self.asked = None;
        let (kind, words) = cause_words(cause);
        self.count(&kind);
        format!("Connection {conn} ends: {words}.")
    }

    fn count(&mut self, kind: &str) {
        match self.ends.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += 1,
            None => self.ends.push((kind.to_owned(), 1)),
        }
    }

    /// Returns the sentence about an action of the machine, with its reason.
    fn action(&mut self, at: Duration, event: &Value, action: &Value) -> String {
        let subject = self.subject();
        let conn = &action["conn"];
        let silence = Seconds(at.saturating_sub(self.heard));
        match action["action"].as_str().unwrap_or_default() {
            "connect" => {
                self.dials += 1;
                match action["attempt"].as_u64() {
                    Some(0) | None => format!("{subject} dials connection {conn}."),
                    Some(attempt) => {
                        format!("{subject} dials connection {conn} (retry {attempt}).")
                    }
                }
            }
            "send_pong" => {
                if event["ping"].is_string() {
                    return format!("The peer sends a ping frame. {subject} answers with a pong.");
                }
                let ping = match event["text"].as_str() {
                    Some(text) => format!("The peer sends the ping {}. ", printable(text)),
                    None => String::new(),
                };
                format!("{ping}{subject} answers {}.", how(action))
            }
            "send_ping" => {
                self.asked = Some(at);
                format!(
                    "Nothing was received for {silence}. {subject} pings {}.",
                    how(action)
                )
            }
            "check" => format!(
                "The connection has been idle for {}.",
                Seconds(nanos(&action["idle"]))
            ),
            "abort" => {
                let reason = action["reason"].as_str().unwrap_or_default();
                self.asked = None;
                if reason != "stale" {
                    self.count(reason);
                }
                format!(
                    "{subject} drops connection {conn}: {}.",
                    self.verdict(reason, silence)
                )
            }
            "reconnect_at" => {
                let mut sentence = match action["attempt"].as_u64() {
                    Some(0) | None => {
                        format!("The next dial is in {}.", Seconds(nanos(&action["delay"])))
                    }
                    Some(attempt) => {
                        format!(
                            "Retry {attempt} is in {}.",
                            Seconds(nanos(&action["delay"]))
                        )
                    }
                };
                if action.get("tolerated").is_some() {
                    sentence +=
                        " The cause normally ends the client, but this endpoint has worked before.";
                }
                sentence
            }
            "gave_up" => format!("{subject} gives up: {}.", gave_up(&action["reason"])),
            "ending" => format!(
                "Connection {conn} is about to end ({}). It is renewed within {}.",
                renewal(action),
                Seconds(nanos(&action["within"]))
            ),
            "renew" => {
                self.count("renewal");
                format!(
                    "{subject} closes connection {conn} with code {} to renew it ({}).",
                    action["code"],
                    renewal(action)
                )
            }
            "close" => format!(
                "{subject} closes connection {conn} with code {}.",
                action["code"]
            ),
            other => format!("{subject} does `{other}`."),
        }
    }

    /// Returns why the machine dropped a connection, with the configured time.
    fn verdict(&self, reason: &str, silence: Seconds) -> String {
        let config = &self.config;
        let within = |time: Option<Duration>| {
            time.map_or_else(String::new, |time| {
                format!(" (`{reason}` is {})", Seconds(time))
            })
        };
        match reason {
            "connect_timeout" => format!(
                "the dial took too long{}",
                within(Some(config.connect_timeout()))
            ),
            "idle_timeout" => format!(
                "nothing was received for {silence}{}",
                within(Some(config.idle_timeout()))
            ),
            "pong_timeout" => format!(
                "nothing was received for {silence}, and the ping was not answered in time{}",
                within(config.pong_timeout())
            ),
            "data_timeout" => format!("no data arrived in time{}", within(config.data_timeout())),
            "write_timeout" => {
                format!("a write made no progress{}", within(config.write_timeout()))
            }
            "session_timeout" => format!(
                "the session was not ready in time{}",
                within(config.session_timeout())
            ),
            "close_timeout" => format!(
                "the closing handshake took too long{}",
                within(Some(config.close_timeout()))
            ),
            "stale" => "it is no longer wanted".into(),
            other => format!("`{other}`"),
        }
    }

    fn end(&self) -> String {
        let dials = counted(self.dials.into(), "dial");
        let opened = counted(self.opened.into(), "connection");
        let ends: u32 = self.ends.iter().map(|(_, count)| count).sum();
        let mut line = format!("Total: {dials}, {opened}, {}", counted(ends.into(), "end"));
        let kinds: Vec<String> = self
            .ends
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        if !kinds.is_empty() {
            line = format!("{line} ({})", kinds.join(", "));
        }
        line + "."
    }
}

/// Returns how a heartbeat is sent.
fn how(action: &Value) -> String {
    match (&action["text"], action.get("binary"), action.get("frame")) {
        (Value::String(text), ..) => format!("with {}", printable(text)),
        (_, Some(bytes), _) => format!("with the bytes {}", bytes.as_str().unwrap_or_default()),
        (_, _, Some(_)) => "with a ping frame".into(),
        _ => "with a message that has an unknown variable".into(),
    }
}

fn renewal(action: &Value) -> &'static str {
    match action["why"].as_str() {
        Some("lifetime") => "it is nearly as old as the service allows",
        _ => "the service announced it",
    }
}

/// Returns a cause in one word for the total, and in words for a sentence.
fn cause_words(cause: &Value) -> (String, String) {
    if let Some(word) = cause.as_str() {
        let words = match word {
            "refused" => "the connection was refused, because nothing listens there",
            "reset" => "the peer reset it",
            "eof" => "the byte stream ended without a Close frame",
            "tls" => "TLS failed",
            _ => "an I/O error (name resolution, the network or a proxy)",
        };
        return (word.into(), words.into());
    }
    if let Some(code) = cause["close"].as_u64() {
        return (
            format!("close {code}"),
            format!("the peer closed it with code {code}"),
        );
    }
    if let Some(code) = cause["protocol"].as_u64() {
        return (
            "protocol".into(),
            format!("the peer broke the protocol (close code {code})"),
        );
    }
    if let Some(status) = cause["http"].as_u64() {
        let after = cause["retry_after"]
            .as_str()
            .and_then(|after| parse_duration(after).ok());
        let after = after
            .map(|after| format!(" and asks for a retry after {}", Seconds(after)))
            .unwrap_or_default();
        return (
            format!("http {status}"),
            format!("the server answered HTTP {status}{after}"),
        );
    }
    (
        "session".into(),
        format!(
            "the application could not open its session ({})",
            cause["session"]
        ),
    )
}

fn gave_up(reason: &Value) -> String {
    match reason.as_str() {
        Some("max_attempts") => {
            "none of the attempts that `max_attempts` allows led to a stable connection".into()
        }
        Some("credentials") => "fresh credentials were refused too".into(),
        _ => format!("a retry would not help: {}", cause_words(reason).1),
    }
}

/// Reads a time of a trace, in nanoseconds.
fn nanos(value: &Value) -> Duration {
    Duration::from_nanos(value.as_u64().unwrap_or_default())
}
