//! `heartbeat`: watches a WebSocket connection, explains recorded traces, and tests the descriptions of services'
//! heartbeats. `heartbeat --help` lists the commands.

#![forbid(unsafe_code)]
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this program is never built without std"
)]

mod arguments;
mod client;
mod dialect;
mod explain;
mod heartbeats;
mod misbehaving;
mod named;
mod picture;
mod recording;
mod sums;
mod watch;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::Refusal;

const USAGE: &str = "\
usage: heartbeat watch [URL] [OPTION]…  shows how a connection to a server lives, dies and comes back; without a URL,
                                        against a misbehaving demo server, for half a minute
       heartbeat explain [FILE]         explains a recorded trace in sentences: why the client reconnected
       heartbeat dialect COMMAND …      shows and tests how services send heartbeats: list, show, test, lint

`heartbeat COMMAND --help` lists a command's options.

Exit status: 0 if the program was stopped, its output was closed, or all is well; 1 if `watch` gave up or `dialect lint`
found something; 2 if an argument, a configuration, a trace or a message is wrong; 130 after a second Ctrl-C.
";

fn main() -> ExitCode {
    let mut arguments = lexopt::Parser::from_env();
    match run(&mut arguments) {
        Ok(status) => status,
        Err(Refusal::Help(text)) => {
            // An error means that standard output is closed, so there is nobody to tell.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(Refusal::Closed) => ExitCode::SUCCESS,
        Err(Refusal::Wrong(text)) => {
            complain(&text);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &mut lexopt::Parser) -> Result<ExitCode, Refusal> {
    use lexopt::prelude::*;
    match arguments.next()? {
        Some(Value(command)) => match command.to_str() {
            Some("watch") => watch::run(arguments),
            Some("explain") => explain::run(arguments),
            Some("dialect") => dialect::run(arguments),
            Some(url) if url.contains("://") => Err(Refusal::Wrong(
                "a URL is not a command; use: heartbeat watch URL".into(),
            )),
            _ => Err(Refusal::Wrong(format!(
                "{command:?} is not a command: use watch, explain or dialect (see heartbeat --help)"
            ))),
        },
        Some(Long("help") | Short('h')) => Err(Refusal::Help(USAGE)),
        Some(Long("version") | Short('V')) => Err(Refusal::Help(concat!(
            "heartbeat ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        ))),
        Some(other) => Err(other.unexpected().into()),
        None => Err(Refusal::Wrong(
            "no command given: use watch, explain or dialect (see heartbeat --help)".into(),
        )),
    }
}

/// Writes to standard error. While a picture is on the terminal, the text waits until the picture ends.
fn complain(text: &str) {
    let text = format!("heartbeat: {text}\n");
    if let Some(text) = picture::after(text) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
