//! The parts that all driver programs of the torture course share: the command line, the JSON lines, the
//! counts. The drivers of our own clients include this source file.

use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The task of a driver.
#[derive(Clone, Debug)]
pub struct Course {
    /// The URL to connect to.
    pub url: String,
    /// Which of this program's clients to run.
    pub client: String,
    /// Ping the peer after this much silence, or this often.
    pub ping: Duration,
    /// Ping at that interval, whatever is heard, if there is a choice.
    pub every: bool,
    /// The connection is dead after this much silence.
    pub death: Duration,
    /// A dial is given up after this time.
    pub connect: Duration,
    /// A connection counts as stable after this time, if there is such a setting.
    pub stable: Duration,
    /// The first delay before a reconnect; the longest is eight times as long.
    pub backoff: Duration,
    /// How often data must come.
    pub data: Option<Duration>,
    /// How often something must be sent.
    pub keepalive: Option<Duration>,
    /// The application's behaviour.
    pub act: Act,
}

/// The application's behaviour, apart from taking messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Idle,
    /// A message every 1.5 s.
    Write,
    /// 64 messages of 1 MiB at once.
    Flood,
    /// A message of this many bytes.
    Upload(u64),
    /// This many messages of 1000 bytes at once.
    Burst(u64),
    /// This many messages a second.
    Rate(u64),
    /// Takes nothing for this long after it is connected.
    Hold(Duration),
}

const HELP: &str = "--url URL --client NAME --ping MS --every 0|1 --death MS --connect MS --backoff MS --stable MS --data MS \
--keepalive MS --act idle|write|flood|upload=BYTES|burst=N|rate=N|hold=MS";

impl Course {
    /// Reads the command line. On an error, prints it and ends the process. When standard input ends, the
    /// counts are printed and the process ends.
    #[must_use]
    pub fn from_args() -> Self {
        let course = Self::parse().unwrap_or_else(|error| {
            eprintln!("{error}\n{HELP}");
            process::exit(2);
        });
        thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            end();
        });
        course
    }

    fn parse() -> Result<Self, String> {
        let mut course = Self {
            url: String::new(),
            client: String::new(),
            ping: Duration::from_secs(2),
            every: false,
            death: Duration::from_secs(4),
            connect: Duration::from_secs(3),
            stable: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            data: None,
            keepalive: None,
            act: Act::Idle,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| format!("{name} {text}: no number"))
            };
            let millis = |text: &str| number(text).map(Duration::from_millis);
            match name.as_str() {
                "--url" => course.url = value,
                "--client" => course.client = value,
                "--ping" => course.ping = millis(&value)?,
                "--every" => course.every = value == "1",
                "--death" => course.death = millis(&value)?,
                "--connect" => course.connect = millis(&value)?,
                "--stable" => course.stable = millis(&value)?,
                "--backoff" => course.backoff = millis(&value)?,
                "--data" => course.data = Some(millis(&value)?),
                "--keepalive" => course.keepalive = Some(millis(&value)?),
                "--act" => {
                    let (act, argument) = value.split_once('=').unwrap_or((&value, "0"));
                    course.act = match act {
                        "idle" => Act::Idle,
                        "write" => Act::Write,
                        "flood" => Act::Flood,
                        "upload" => Act::Upload(number(argument)?),
                        "burst" => Act::Burst(number(argument)?),
                        "rate" => Act::Rate(number(argument)?),
                        "hold" => Act::Hold(millis(argument)?),
                        _ => return Err(format!("--act {value}: unknown")),
                    }
                }
                _ => return Err(format!("{name}: unknown")),
            }
        }
        if course.url.is_empty() {
            return Err("--url is missing".into());
        }
        Ok(course)
    }

    /// The application's messages after it is connected, each after a pause: numbered texts.
    pub fn sends(&self) -> impl Iterator<Item = (Duration, String)> + Send + 'static {
        let (count, size, pause) = match self.act {
            Act::Idle | Act::Hold(_) => (0, 0, Duration::ZERO),
            Act::Write => (u64::MAX, 100, Duration::from_millis(1500)),
            Act::Flood => (64, 1 << 20, Duration::ZERO),
            Act::Upload(size) => (1, size as usize, Duration::ZERO),
            Act::Burst(count) => (count, 1000, Duration::ZERO),
            Act::Rate(rate) => (u64::MAX, 100, Duration::from_secs(1) / rate.max(1) as u32),
        };
        (0..count).map(move |number| {
            let mut text = format!("{number} ");
            text.extend(std::iter::repeat_n('.', size));
            (pause, text)
        })
    }

    /// How long the application takes nothing: once, when it is first asked.
    #[must_use]
    pub fn hold(&self) -> Option<Duration> {
        match self.act {
            Act::Hold(span) if !HELD.swap(true, Ordering::Relaxed) => Some(span),
            _ => None,
        }
    }
}

static HELD: AtomicBool = AtomicBool::new(false);
static MESSAGES: AtomicU64 = AtomicU64::new(0);
static NEXT: AtomicU64 = AtomicU64::new(0);
static DISORDER: AtomicU64 = AtomicU64::new(0);
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static RETURNED: AtomicU64 = AtomicU64::new(0);

/// Prints one JSON line, with the time in ms since the Unix epoch.
pub fn say(event: &str, detail: &str) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let line =
        serde_json::json!({ "t": since.as_secs_f64() * 1000.0, "event": event, "detail": detail });
    // The reader of the output may be gone.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The upgrade is done.
pub fn connected() {
    NEXT.store(0, Ordering::Relaxed);
    say("connected", "");
}

/// A message `{"n":NUMBER…`. Messages are numbered from 0 on each connection.
pub fn message(text: &str) {
    let count = MESSAGES.fetch_add(1, Ordering::Relaxed);
    if count < 3 {
        say("message", &text[..text.len().min(40)]);
    }
    let number = text.strip_prefix("{\"n\":").and_then(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse::<u64>().ok()
    });
    if let Some(number) = number
        && number != NEXT.swap(number + 1, Ordering::Relaxed)
    {
        DISORDER.fetch_add(1, Ordering::Relaxed);
    }
}

/// The client accepted a message, or refused it at once.
pub fn sent(accepted: bool) {
    let counter = if accepted { &ACCEPTED } else { &REFUSED };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The client handed back messages that it had accepted.
pub fn returned(messages: usize) {
    RETURNED.fetch_add(messages as u64, Ordering::Relaxed);
}

/// Prints the counts and ends the process.
pub fn end() -> ! {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let line = serde_json::json!({
        "event": "summary", "messages": read(&MESSAGES), "disorder": read(&DISORDER),
        "accepted": read(&ACCEPTED), "refused": read(&REFUSED), "returned": read(&RETURNED),
    });
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    process::exit(0)
}
