//! `heartbeat dialect`: shows and tests how services send heartbeats.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use heartbeat_tokio::core::{
    Buffer, Class, Composite, DurationText, Hello, Outgoing, Reply, Values, Variables, catalogue,
    lint_limit,
};
use heartbeat_tokio::{AnyDialect, Config, Dialect, Ping, Seconds};
use serde_json::{Value, json};

use crate::arguments::{Refusal, duration, json_or_file, read, text, unexpected, word, wrong};
use crate::complain;
use crate::named;

const USAGE: &str = "\
usage: heartbeat dialect list
       heartbeat dialect show NAME-or-FILE
       heartbeat dialect test NAME-or-FILE [--json] [--set NAME=VALUE]… < messages
       heartbeat dialect lint NAME-or-FILE [--config FILE-or-JSON] [--proxy DURATION] [--messages FILE]

NAME is a service in the catalogue. FILE holds a description of a service, or one catalogue entry.

list  lists all entries of the catalogue.
show  prints an entry's description as JSON (messages, intervals, limits) on standard output, and its names, notes and
      sources on standard error.
test  reads messages from standard input, one per line (`hex:029106` is a binary one), and prints how this dialect
      classifies each: `data`, `beat`, `pong`, `ping -> REPLY`, or `hello` with the times that it announces. --json prints
      one object per line. --set sets a variable of the templates.
lint  warns about problems with the service's own times, or with those of --config. --proxy 60s also checks for a proxy
      that closes connections after this silence. --messages also warns about lines of FILE that look like heartbeats
      and are not recognised.
Exit status: 0; 1 if `lint` found something; 2 for a wrong argument, description or message.
";

/// Runs `dialect`.
pub(crate) fn run(arguments: &mut lexopt::Parser) -> Result<ExitCode, Refusal> {
    use lexopt::prelude::*;
    let command = match arguments.next()? {
        Some(Value(command)) => command.string()?,
        Some(Long("help") | Short('h')) => return Err(Refusal::Help(USAGE)),
        Some(other) => return Err(other.unexpected().into()),
        None => {
            return Err(Refusal::Wrong(
                "dialect: no command given: use list, show, test or lint".into(),
            ));
        }
    };
    let (wants_name, flags): (bool, &[&str]) = match command.as_str() {
        "list" => (false, &[]),
        "show" => (true, &[]),
        "test" => (true, &["json", "set"]),
        "lint" => (true, &["config", "proxy", "messages"]),
        other => {
            return Err(Refusal::Wrong(format!(
                "dialect: \"{other}\" is not a command: use list, show, test or lint"
            )));
        }
    };
    let mut tester = Tester::default();
    let (mut dialect, mut config, mut proxy, mut messages) = (None, None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Err(Refusal::Help(USAGE)),
            Long(flag) if !flags.contains(&flag) => return Err(Long(flag).unexpected().into()),
            Long("json") => tester.json = true,
            Long("config") => {
                let config_text = json_or_file("--config", &word("--config", arguments)?)?;
                let read = Config::from_json(&config_text);
                config = Some(read.map_err(|error| wrong("--config", error))?);
            }
            Long("messages") => {
                messages = Some(read("--messages", &word("--messages", arguments)?)?)
            }
            Long("proxy") => proxy = Some(duration("--proxy", arguments)?),
            Long("set") => {
                let setting = text(arguments)?;
                let (name, value) = setting
                    .split_once('=')
                    .ok_or_else(|| wrong("--set", format!("\"{setting}\": expected NAME=VALUE")))?;
                tester.variables.insert(name.into(), value.into());
            }
            Value(name) if wants_name && dialect.is_none() => {
                dialect = Some(named::dialect(
                    &format!("dialect {command}"),
                    &name.string()?,
                )?);
            }
            Value(_) if command == "test" => {
                return Err(Refusal::Wrong(
                    "dialect test: messages are read from standard input, one per line".into(),
                ));
            }
            other => return Err(unexpected(other)),
        }
    }
    match (command.as_str(), dialect) {
        ("list", _) => list(),
        (_, None) => Err(wrong(
            &format!("dialect {command}"),
            "no service or file given",
        )),
        ("show", Some(dialect)) => show(&dialect),
        ("test", Some(dialect)) => tester.run(&dialect),
        (_, Some(dialect)) => lint(&dialect, config, proxy, messages.as_deref()),
    }
}

/// Prints the description, and for a catalogue entry its names, notes and sources.
fn show(dialect: &AnyDialect) -> Result<ExitCode, Refusal> {
    // Standard output holds only the description, so that it can be saved to a file.
    let mut about = io::stderr().lock();
    if let AnyDialect::Named(entry) = dialect {
        let names = [&[entry.name.clone()][..], &entry.aliases]
            .concat()
            .join(", ");
        writeln!(about, "{names}: {}", entry.service)?;
        if let Some(interval) = entry.interval {
            let basis = entry
                .interval_basis
                .as_deref()
                .map(|basis| format!(" ({basis})"));
            writeln!(
                about,
                "a heartbeat every {}{}",
                Seconds(interval),
                basis.unwrap_or_default()
            )?;
        }
        if let Some(timeout) = entry.server_timeout {
            writeln!(
                about,
                "the service closes the connection after {} without one",
                Seconds(timeout)
            )?;
        }
        if let Some(how) = &entry.compression {
            writeln!(about, "messages are compressed: {how}")?;
        }
        for note in &entry.notes {
            writeln!(about, "note: {note}")?;
        }
        for source in &entry.source {
            writeln!(about, "source: {source}")?;
        }
        writeln!(
            about,
            "evidence: {}, checked on {}",
            entry.evidence, entry.checked
        )?;
    }
    let description = match dialect.described() {
        Some(description) => serde_json::to_string_pretty(description),
        None => serde_json::to_string_pretty(&dialect.to_value()),
    };
    let description = description.map_err(|error| wrong("dialect show", error))?;
    writeln!(io::stdout(), "{description}")?;
    Ok(ExitCode::SUCCESS)
}

fn lint(
    dialect: &AnyDialect,
    config: Option<Config>,
    proxy: Option<Duration>,
    messages: Option<&str>,
) -> Result<ExitCode, Refusal> {
    let config = match config {
        Some(config) => config,
        None => {
            let configured = dialect.configure(&Config::default());
            configured.map_err(|error| wrong("dialect lint", error))?
        }
    };
    let mut lints = match dialect {
        AnyDialect::Named(entry) => [entry.lint_entry(), entry.lint(&config)].concat(),
        AnyDialect::Described(described) => described.lint_rules().into_iter().collect(),
        _ => Vec::new(),
    };
    let described = dialect.described();
    let lines = messages.into_iter().flat_map(str::lines);
    lints.extend(lines.filter_map(|line| described?.lint_message(line)));
    lints.extend(proxy.and_then(|limit| lint_limit(&config, "the proxy", limit)));
    let mut output = io::stdout().lock();
    for lint in &lints {
        writeln!(output, "warning: {lint}")?;
    }
    output.flush()?;
    if lints.is_empty() {
        let unknown = match dialect {
            AnyDialect::Named(entry) => entry.server_timeout.is_none(),
            _ => true,
        };
        complain(match unknown {
            true => "no problems found; the silence after which the service closes is not known",
            false => "no problems found",
        });
    }
    Ok(ExitCode::from(u8::from(!lints.is_empty())))
}

fn list() -> Result<ExitCode, Refusal> {
    let mut output = io::stdout().lock();
    for entry in catalogue() {
        let names = [&[entry.name][..], &entry.aliases].concat().join(", ");
        writeln!(output, "{names}: {}", entry.service)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Tester {
    json: bool,
    variables: Variables,
    /// Messages answered so far. The `${id}` of the next answer is one more.
    answered: u64,
}

impl Tester {
    /// Classifies each line of standard input.
    fn run(mut self, dialect: &AnyDialect) -> Result<ExitCode, Refusal> {
        let mut output = io::stdout().lock();
        for (index, line) in io::stdin().lock().lines().enumerate() {
            let at_line = |error| wrong("dialect test", format!("message {}: {error}", index + 1));
            let told = line.and_then(|line| self.classify(dialect, &line));
            writeln!(output, "{}", told.map_err(at_line)?)?;
        }
        output.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn classify(&mut self, dialect: &AnyDialect, line: &str) -> io::Result<String> {
        let bytes;
        let class = match line.strip_prefix("hex:") {
            Some(hex) => {
                bytes = from_hex(hex)
                    .ok_or_else(|| io::Error::other(format!("{line}: not hexadecimal bytes")))?;
                dialect.classify_binary(&bytes)
            }
            None => {
                dialect.track(line, &mut self.variables);
                dialect.classify_text(line)
            }
        };
        let (word, carried) = match class {
            Class::Beat => ("beat", Composite::default()),
            Class::Pong => ("pong", Composite::default()),
            Class::Response(id) if self.json => {
                return Ok(json!({"class": "response", "id": id}).to_string());
            }
            Class::Response(id) => return Ok(format!("pong if {id} was our ping, else data")),
            Class::Ping(reply) => ("ping", carried(Some(reply), false)),
            Class::Composite(carried) => ("data", carried),
            _ => ("data", Composite::default()),
        };
        let reply = carried.reply.map(|reply| self.write(dialect, reply));
        Ok(match self.json {
            true => object(word, &carried, reply).to_string(),
            false => words(word, &carried, reply),
        })
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the program answers with the current time"
    )]
    fn write(&mut self, dialect: &AnyDialect, reply: Reply<'_>) -> Value {
        let mut draft = match reply {
            Reply::Template(draft) => draft,
            Reply::Text(text) => return text.into(),
            _ => return Value::Null,
        };
        self.answered += 1;
        draft.id = self.answered;
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let values = Values {
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            variables: &self.variables,
        };
        match dialect.render(&draft, &values, &mut Buffer::default()) {
            Some(Outgoing::Text(text)) => text.into(),
            Some(Outgoing::Binary(bytes)) => bytes
                .iter()
                .fold("hex:".to_owned(), |hex, b| format!("{hex}{b:02x}"))
                .into(),
            None => Value::Null,
        }
    }
}

fn carried<'a>(reply: Option<Reply<'a>>, data: bool) -> Composite<'a> {
    let mut carried = Composite::default();
    (carried.reply, carried.data) = (reply, data);
    carried
}

fn words(word: &str, carried: &Composite<'_>, reply: Option<Value>) -> String {
    let mut words = Vec::new();
    match reply {
        Some(Value::String(reply)) => words.push(format!("ping -> {reply}")),
        Some(_) => {
            words.push("ping, but a variable of the reply is not set (--set NAME=VALUE)".into())
        }
        None => {}
    }
    let (ping, idle_timeout) = (period(carried.hello), carried.hello.idle_timeout);
    for (name, time) in [("ping", ping), ("idle_timeout", idle_timeout)] {
        if let Some(time) = time {
            words.push(format!("hello {name} {}", DurationText(time)));
        }
    }
    // Every hello is delivered as data too, so `data` is printed only for other messages.
    if words.is_empty() || (carried.data && carried.hello.is_none()) {
        words.push(word.to_owned());
    }
    if carried.ending.is_some() {
        words.push("the connection is about to end".into());
    }
    words.join(", ")
}

fn object(word: &str, carried: &Composite<'_>, reply: Option<Value>) -> Value {
    let is_hello = !carried.hello.is_none();
    let class = match &reply {
        Some(_) => "ping",
        None if is_hello => "hello",
        None => word,
    };
    let mut object = json!({"class": class});
    if let Some(time) = carried.ending {
        object["ending"] = DurationText(time).to_string().into();
    }
    if let Some(reply) = reply {
        object["reply"] = reply;
    }
    if is_hello || carried.data {
        object["data"] = carried.data.into();
    }
    if let Some(time) = period(carried.hello) {
        object["ping"] = DurationText(time).to_string().into();
    }
    if let Some(time) = carried.hello.idle_timeout {
        object["idle_timeout"] = DurationText(time).to_string().into();
    }
    object
}

/// Returns the interval or the silence after which the service wants a ping.
fn period(hello: Hello) -> Option<Duration> {
    match hello.ping? {
        Ping::Every(time) | Ping::AfterSilence(time) => Some(time),
        Ping::Never => None,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    };
    digits?.chunks(2).map(byte).collect()
}
