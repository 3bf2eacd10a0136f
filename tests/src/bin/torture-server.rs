//! The torture course's server as a program: `--help` lists what it does.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match linux::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the torture server looks into Linux's /proc");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use heartbeat_tests::torture::{MODES, OnTls, Times, TortureServer, relay};
    use lexopt::{Arg, Parser, ValueExt};

    const HELP: &str = "\
Does to WebSocket clients what breaks them, by the path of the URL, and counts what it sees.

USAGE: torture-server [OPTIONS]           prints `{\"listening\": PORT}`; ends with its standard input

  --port PORT      0, the default, is any free one
  --all            listens on all interfaces, for network namespaces (default: loopback)
  --tls stall      a TLS handshake is never answered (default)
  --tls plain      a TLS handshake is answered in plain HTTP
  --ping MS        the client asks after so much silence (2000)
  --death MS       the client calls a connection dead after so much silence (4000)
  --connect MS     the client gives up a dial after so long (3000)
  --relay ADDRESS FAULT
                   no server, but a relay to the one at ADDRESS: none, freeze=BYTES, trickle=BYTES (a second),
                   cut=BYTES, reset=BYTES, drop-after-upgrade
  --help

ws://127.0.0.1:PORT/@ID/MODE plays MODE for the client ID; http://127.0.0.1:PORT/report/ID tells as JSON what was
seen of it: connections with times in ms since the Unix epoch, pings, pongs, messages, how each ended.

MODES:
";

    pub(crate) fn run() -> Result<(), Box<dyn Error>> {
        let mut times = Times::default();
        let (mut port, mut ip, mut on_tls) = (0, Ipv4Addr::LOCALHOST, OnTls::Stall);
        let mut relayed = None;
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("ping") => times.ping = millis(&mut parser)?,
                Arg::Long("death") => times.death = millis(&mut parser)?,
                Arg::Long("connect") => times.connect = millis(&mut parser)?,
                Arg::Long("port") => port = parser.value()?.parse()?,
                Arg::Long("all") => ip = Ipv4Addr::UNSPECIFIED,
                Arg::Long("tls") => {
                    on_tls = match parser.value()?.string()?.as_str() {
                        "stall" => OnTls::Stall,
                        "plain" => OnTls::Plain,
                        other => return Err(format!("--tls {other}: stall or plain").into()),
                    }
                }
                Arg::Long("relay") => {
                    let server: SocketAddr = parser.value()?.parse()?;
                    relayed = Some((server, parser.value()?.parse::<relay::Fault>()?));
                }
                Arg::Long("help") => {
                    print!("{HELP}");
                    for (path, what) in MODES {
                        println!("  {path:<12} {what}");
                    }
                    return Ok(());
                }
                other => return Err(format!("{} (--help)", other.unexpected()).into()),
            }
        }
        let server;
        let address = if let Some((to, fault)) = relayed {
            relay::start(port, to, fault)?
        } else {
            server = TortureServer::start((ip, port), times, on_tls)?;
            server.address()
        };
        println!("{{\"listening\": {}}}", address.port());
        // The process that started it is gone when this ends.
        std::io::copy(
            &mut std::io::stdin().lock().take(u64::MAX),
            &mut std::io::sink(),
        )?;
        // Threads that are stuck in a write must not keep the process alive.
        std::process::exit(0)
    }
    fn millis(parser: &mut Parser) -> Result<Duration, lexopt::Error> {
        Ok(Duration::from_millis(parser.value()?.parse()?))
    }
}
