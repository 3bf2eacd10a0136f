//! Runs clients and servers as processes, and puts the figures side by side.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) struct Settings {
    pub(crate) clients: Vec<String>,
    pub(crate) messages: u64,
    pub(crate) len: usize,
    pub(crate) rounds: usize,
    pub(crate) json: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clients: crate::clients::ALL
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            messages: 1_000_000,
            len: 150,
            rounds: 5,
            json: false,
        }
    }
}

/// A server on the first processor; it ends with its standard input.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let mut child = pinned(0)
            .arg(std::env::current_exe()?)
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self {
            child,
            port: line.trim().parse()?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Starts a program on one processor alone.
fn pinned(processor: usize) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(processor.to_string());
    command
}

pub(crate) fn receive(settings: &Settings) -> Result<()> {
    let mut costs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..settings.rounds {
        for client in &settings.clients {
            let server = Server::start()?;
            let url = format!(
                "ws://127.0.0.1:{}/flood/{}/{}",
                server.port, settings.messages, settings.len
            );
            let output = pinned(1)
                .arg(std::env::current_exe()?)
                .args(["client", client, &url, &settings.messages.to_string()])
                .stderr(Stdio::inherit())
                .output()?;
            if !output.status.success() {
                return Err(format!("{client} failed").into());
            }
            let text = String::from_utf8(output.stdout)?;
            let cpu: f64 = text.split(' ').next().unwrap_or_default().parse()?;
            costs
                .entry(client)
                .or_default()
                .push(cpu / settings.messages as f64);
        }
    }
    let base = settings.clients[0].as_str();
    if !settings.json {
        println!(
            "{:<30} {:>8} {:>8} {:>8}   {}",
            "CPU ns a message",
            "median",
            "min",
            "max",
            format_args!("x {base}")
        );
    }
    for client in &settings.clients {
        let of = &costs[client.as_str()];
        let ratios = of
            .iter()
            .zip(&costs[base])
            .map(|(own, base)| own / base)
            .collect();
        let (median, ratio) = (self::median(of.clone()), self::median(ratios));
        let (min, max) = of.iter().fold((f64::MAX, 0.0_f64), |(min, max), &ns| {
            (min.min(ns), max.max(ns))
        });
        if settings.json {
            println!(
                "{}",
                json!({"client": client, "ns": median, "min": min, "max": max, "ratio": ratio})
            );
        } else {
            println!("{client:<30} {median:>8.1} {min:>8.1} {max:>8.1}   {ratio:.2}");
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Message counts whose difference is counted, and the difference.
const SHORT: u64 = 20_000;
const LONG: u64 = 120_000;

pub(crate) fn instructions(settings: &Settings) -> Result<()> {
    for client in &settings.clients {
        let (short, long) = (
            count(client, SHORT, settings)?,
            count(client, LONG, settings)?,
        );
        let each = (long - short) as f64 / (LONG - SHORT) as f64;
        if settings.json {
            println!("{}", json!({"client": client, "instructions": each}));
        } else {
            println!("{client:<30} {each:>8.1} instructions a message");
        }
    }
    Ok(())
}

fn count(client: &str, messages: u64, settings: &Settings) -> Result<u64> {
    let server = Server::start()?;
    let url = format!(
        "ws://127.0.0.1:{}/flood/{messages}/{}",
        server.port, settings.len
    );
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["client", client, &url, &messages.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{client} under valgrind: {text}").into());
    }
    let total = text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1))
        .ok_or_else(|| format!("{client}: callgrind said nothing of a count:\n{text}"))?;
    Ok(total.trim().parse()?)
}
