//! What is this message to that service's dialect?
//!
//! ```sh
//! cargo run -p heartbeat-core --example dialect -- kucoin < messages
//! ```
//!
//! Reads one message a line (`hex:029106` is a binary one) and prints for each `data`, `beat`, `pong`,
//! `ping -> REPLY` or `hello` with the times that it announces, and whether the connection is about to end. `NAME`
//! may also be a file with a description, or with an entry of the catalogue's form. `--json` prints one object a
//! line, `--set NAME=VALUE` sets a template's variable, `--list` shows the catalogue.
//!
//! `--lint` says what speaks against the dialect's own times, or against those of `--config FILE-or-JSON`, with the
//! service and, with `--proxy 60s`, with something between that closes connections which are silent for so long;
//! what an entry lacks; and, with `--messages FILE`, which of the lines in there look like heartbeats and are not
//! told. Exit status 2 for bad usage, a bad description or a bad message; 1 if `--lint` has something to say.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use heartbeat_core::{
    AnyDialect, Buffer, Carried, CatalogueEntry, Class, Config, Description, Dialect, DurationText,
    Hello, Outgoing, Ping, Reply, Values, Variables, catalogue, lint_limit, parse_duration,
};
use serde_json::{Value, json};

const USAGE: &str = "\
usage: dialect NAME-or-FILE [--json] [--set NAME=VALUE]… < messages
       dialect NAME-or-FILE --lint [--config FILE-or-JSON] [--proxy DURATION] [--messages FILE]
       dialect --list";

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dialect: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let mut teller = Teller::default();
    let (mut dialect, mut config, mut proxy, mut lints) = (None, None, None, false);
    let mut messages = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                writeln!(io::stdout(), "{USAGE}")?;
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => return list(),
            "--json" => teller.json = true,
            "--lint" => lints = true,
            "--config" => config = Some(read_config(&arguments.next().unwrap_or_default())?),
            "--messages" => {
                let file = arguments.next().unwrap_or_default();
                let text = std::fs::read_to_string(&file);
                messages = Some(text.map_err(|error| bad(format!("--messages {file}: {error}")))?);
            }
            "--proxy" => {
                let text = arguments.next().unwrap_or_default();
                let time = parse_duration(&text);
                proxy = Some(time.map_err(|error| bad(format!("--proxy \"{text}\": {error}")))?);
            }
            "--set" => {
                let setting = arguments.next().unwrap_or_default();
                let (name, value) = setting
                    .split_once('=')
                    .ok_or_else(|| bad(format!("--set \"{setting}\": NAME=VALUE is expected")))?;
                teller.variables.insert(name.into(), value.into());
            }
            name if dialect.is_none() && !name.starts_with("--") => dialect = Some(find(name)?),
            other => return Err(bad(format!("unexpected argument \"{other}\"\n{USAGE}"))),
        }
    }
    let dialect = dialect.ok_or_else(|| bad(format!("no dialect is named\n{USAGE}")))?;
    if lints {
        return lint(&dialect, config, proxy, messages.as_deref());
    }
    let mut output = io::stdout().lock();
    for (index, line) in io::stdin().lock().lines().enumerate() {
        let at_line = |error| bad(format!("message {}: {error}", index + 1));
        let told = line.and_then(|line| teller.tell(&dialect, &line));
        writeln!(output, "{}", told.map_err(at_line)?)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

fn find(name: &str) -> io::Result<AnyDialect> {
    if let Some(dialect) = AnyDialect::named(name) {
        return Ok(dialect);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let near = CatalogueEntry::names_near(name);
        match (error.kind(), near.is_empty()) {
            (io::ErrorKind::NotFound, false) => {
                bad(format!("no dialect and no file is called {name}; did you mean {}?", near.join(", ")))
            }
            _ => bad(format!(
                "{name} is neither in the catalogue (--list shows it) nor a file that can be read: {error}"
            )),
        }
    })?;
    if let Some(entry) = entry(&text) {
        return Ok(AnyDialect::Named(Box::new(entry)));
    }
    match Description::from_json(&text) {
        Ok(described) => Ok(AnyDialect::Described(Box::new(described))),
        Err(error) => Err(bad(format!("{name}: {error}"))),
    }
}

/// The entry of a file that has the catalogue's form, alone or as the only one of a list.
fn entry(text: &str) -> Option<CatalogueEntry> {
    let entries = serde_json::from_str::<Vec<CatalogueEntry>>(text).ok();
    match entries {
        Some(mut entries) if entries.len() == 1 => entries.pop(),
        Some(_) => None,
        None => serde_json::from_str(text).ok(),
    }
}

fn read_config(value: &str) -> io::Result<Config> {
    let text = match value.trim_start().starts_with('{') {
        true => Ok(value.to_owned()),
        false => std::fs::read_to_string(value),
    };
    let text = text.map_err(|error| bad(format!("--config {value}: {error}")))?;
    Config::from_json(&text).map_err(|error| bad(format!("--config: {error}")))
}

fn lint(
    dialect: &AnyDialect,
    config: Option<Config>,
    proxy: Option<Duration>,
    messages: Option<&str>,
) -> io::Result<ExitCode> {
    let config = match config {
        Some(config) => config,
        None => {
            let configured = dialect.configure(&Config::default());
            configured.map_err(|error| bad(error.to_string()))?
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
        eprintln!(
            "nothing speaks against it{}",
            if unknown {
                "; after what silence the service closes is not known"
            } else {
                ""
            }
        );
    }
    Ok(ExitCode::from(u8::from(!lints.is_empty())))
}

fn list() -> io::Result<ExitCode> {
    let mut output = io::stdout().lock();
    for entry in catalogue() {
        let names = [&[entry.name][..], &entry.aliases].concat().join(", ");
        writeln!(output, "{names}: {}", entry.service)?;
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Teller {
    json: bool,
    variables: Variables,
    /// Messages answered so far: the next one's `${id}`, less one.
    answered: u64,
}

impl Teller {
    fn tell(&mut self, dialect: &AnyDialect, line: &str) -> io::Result<String> {
        let bytes;
        let class = match line.strip_prefix("hex:") {
            Some(hex) => {
                bytes = from_hex(hex)
                    .ok_or_else(|| io::Error::other(format!("{line}: not bytes in hex")))?;
                dialect.classify_binary(&bytes)
            }
            None => {
                dialect.track(line, &mut self.variables);
                dialect.classify_text(line)
            }
        };
        let (word, carried) = match class {
            Class::Beat => ("beat", Carried::default()),
            Class::Pong => ("pong", Carried::default()),
            Class::Response(id) if self.json => {
                return Ok(json!({"class": "response", "id": id}).to_string());
            }
            Class::Response(id) => return Ok(format!("pong if {id} was our ping, else data")),
            Class::Ping(reply) => ("ping", carried(Some(reply), false)),
            Class::Carrier(carried) => ("data", carried),
            _ => ("data", Carried::default()),
        };
        let reply = carried.reply.map(|reply| self.write(dialect, reply));
        Ok(match self.json {
            true => object(word, &carried, reply).to_string(),
            false => words(word, &carried, reply),
        })
    }

    #[allow(clippy::disallowed_methods, reason = "a program that answers now")]
    fn write(&mut self, dialect: &AnyDialect, reply: Reply<'_>) -> Value {
        let mut draft = match reply {
            Reply::Draft(draft) => draft,
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

fn carried<'a>(reply: Option<Reply<'a>>, data: bool) -> Carried<'a> {
    let mut carried = Carried::default();
    (carried.reply, carried.data) = (reply, data);
    carried
}

fn words(word: &str, carried: &Carried<'_>, reply: Option<Value>) -> String {
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
    // A hello is the application's, too: only what is data besides is said to be.
    if words.is_empty() || (carried.data && carried.hello.is_none()) {
        words.push(word.to_owned());
    }
    if carried.ending.is_some() {
        words.push("the connection is about to end".into());
    }
    words.join(", ")
}

fn object(word: &str, carried: &Carried<'_>, reply: Option<Value>) -> Value {
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

/// How often, or after how much silence, the service wants to be asked.
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
