//! `heartbeat`: watches a WebSocket connection live, die and come back; explains recorded traces; tries what services'
//! heartbeats are. `heartbeat --help` lists the commands.

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
usage: heartbeat watch [URL] [OPTION]…  how a connection to this server lives, dies and comes back; without a URL, half a
                                        minute with a server of its own that misbehaves
       heartbeat explain [FILE]         why it reconnected: a recorded trace, in sentences
       heartbeat dialect COMMAND …      how services say ping: list, show, test, lint

`heartbeat COMMAND --help` lists a command's options.

Exit status: 0 when stopped, when the output is closed, and when all is well; 1 when `watch` gave up, or when
`dialect lint` has found something; 2 when an argument, a configuration, a trace or a message is wrong; 130 after a second
Ctrl-C.
";

fn main() -> ExitCode {
    let mut arguments = lexopt::Parser::from_env();
    match run(&mut arguments) {
        Ok(status) => status,
        Err(Refusal::Help(text)) => {
            // An error here means that nobody reads the help.
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
                "a URL is no command: heartbeat watch URL".into(),
            )),
            _ => Err(Refusal::Wrong(format!(
                "{command:?} is no command: it must be watch, explain or dialect (heartbeat --help)"
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
            "no command is named: it must be watch, explain or dialect (heartbeat --help)".into(),
        )),
    }
}

/// Writes to standard error, if anybody reads it; while a picture is drawn, afterwards.
fn complain(text: &str) {
    let text = format!("heartbeat: {text}\n");
    if let Some(text) = picture::after(text) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
