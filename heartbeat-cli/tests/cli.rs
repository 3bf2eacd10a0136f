//! Runs the program `heartbeat` and tests its output, its errors and its exit status.

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this test is never built without std"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn heartbeat(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_heartbeat"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that has refused its arguments does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// Runs the program, expects success, and returns its standard output.
#[track_caller]
fn printed(arguments: &[&str], input: &str) -> String {
    let output = heartbeat(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the program, expects status 2 and these words on standard error, and returns its standard output.
#[track_caller]
fn refused(arguments: &[&str], input: &str, names: &[&str]) -> String {
    let output = heartbeat(arguments, input);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    let error = String::from_utf8(output.stderr).expect("text");
    for name in names {
        assert!(
            error.contains(name),
            "{arguments:?}: no {name:?} in {error}"
        );
    }
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_is_text_on_standard_output() {
    for arguments in [
        &["--help"][..],
        &["watch", "--help"],
        &["explain", "-h"],
        &["dialect", "-h"],
    ] {
        assert!(
            printed(arguments, "").starts_with("usage: heartbeat"),
            "{arguments:?}"
        );
    }
    assert_eq!(
        printed(&["--version"], ""),
        concat!("heartbeat ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn what_is_wrong_is_named_with_its_rule() {
    refused(&[], "", &["no command"]);
    refused(&["look"], "", &["look", "watch, explain or dialect"]);
    refused(
        &["watch", "ws://127.0.0.1:9/", "--service", "kukoin"],
        "",
        &["kukoin", "did you mean `kucoin`?"],
    );
    refused(
        &["dialect", "test", "kukoin"],
        "",
        &["kukoin", "did you mean `kucoin`?"],
    );
    refused(
        &["dialect", "look"],
        "",
        &["look", "list, show, test or lint"],
    );
    refused(&["dialect", "show", "okx", "--json"], "", &["--json"]);
    refused(&["dialect", "test", "okx", "pong"], "", &["standard input"]);
    refused(
        &["watch", "ws://127.0.0.1:9/", "--header", "secret"],
        "",
        &["NAME: VALUE"],
    );
    refused(
        &[
            "watch",
            "ws://127.0.0.1:9/",
            "--idle-timeout",
            "20s",
            "--ping-every",
            "30s",
        ],
        "",
        &["ping", "30s", "idle_timeout", "20s"],
    );
    refused(&["watch", "--service", "okx"], "", &["--service", "no URL"]);
    refused(&["watch", "--for", "soon"], "", &["--for", "soon"]);
    let twice = ["watch", "--ping-after", "1s", "--ping-every", "1s"];
    refused(&twice, "", &["--ping-after", "--ping-every", "only one"]);
    refused(&["watch", "--colour"], "", &["--colour"]);
    refused(&["explain", "no/such/file"], "", &["no/such/file"]);
    refused(&["explain"], "", &["empty"]);
}

/// A URL may stand in any argument, even where none is expected.
#[test]
fn no_secret_of_a_url_is_printed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (user, key) = (
        format!("ws://me:SECRET@{address}/"),
        format!("ws://{address}/SECRET?key=SECRET"),
    );
    for arguments in [
        &["watch", &user][..],
        &["watch", &key, "--for", "100ms"],
        &["watch", &key, "--for", "100ms", "--json"],
        &["watch", &key, &user],
        &["watch", &key, "--for", &user],
        &["watch", &key, "--proxy", &user.replace("ws", "ftp")],
        &["watch", &key, "--config", &user],
        &["watch", &key, "--service", &user],
        &["watch", &key, "--trace", &user],
        &["dialect", "show", &user],
        &["explain", &user],
        &[&user],
    ] {
        let output = heartbeat(arguments, "");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("text");
        assert!(
            !said.is_empty() && !said.contains("SECRET"),
            "{arguments:?}: {said}"
        );
    }
}

/// Unescaped control characters would let a server send commands to the terminal.
#[test]
fn control_characters_of_a_server_are_escaped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        let mut ws = tungstenite::accept(socket).expect("an upgrade");
        ws.send(tungstenite::Message::text("\u{1b}[2Jgone\n"))
            .expect("sent");
        while ws.read().is_ok() {}
    });
    let told = printed(&["watch", &url, "--for", "1s"], "");
    assert!(told.contains("message: \\u{1b}[2Jgone\\n\n"), "{told}");
    server.join().expect("the server has seen the end");
}

/// The whole text is compared.
#[test]
fn a_trace_is_explained_in_sentences() {
    let trace = r#"{"seed": 7, "config": {"check_interval": null, "backoff": {"jitter_percent": 0}}}
{"at": 0, "event": "tick"}
{"at": 1000000, "event": "connected", "conn": 1}
{"at": 2000000, "event": "received", "conn": 1, "text": "{\"type\":\"ping\"}"}
{"at": 30002000000, "event": "tick"}
{"at": 30012000000, "event": "received", "conn": 1, "pong": "0000000000000001"}
{"at": 60012000000, "event": "tick"}
{"at": 120012000000, "event": "tick"}
{"at": 122012000000, "event": "tick"}
{"at": 122013000000, "event": "closed", "conn": 2, "cause": {"http": 503, "retry_after": "7s"}}
{"at": 129013000000, "event": "tick"}
{"at": 129014000000, "event": "connected", "conn": 3}
{"at": 130000000000, "event": "stop"}
"#;
    assert_eq!(
        printed(&["explain"], trace),
        "\
A client with these times: ping after 30 s of silence, dead after 90 s of silence or 60 s after an unanswered ping; dial within 10 s, retry after 2 s to 60 s.
   0.000 The client dials connection 1.
   0.001 Connection 1 is open.
   0.002 The peer sends the ping {\"type\":\"ping\"}. The client answers with {\"type\":\"pong\"}.
  30.002 Nothing was received for 30 s. The client pings with a ping frame.
  30.012 A pong arrives 10 ms after the ping.
  60.012 Nothing was received for 30 s. The client pings with a ping frame.
 120.012 The client drops connection 1: nothing was received for 90 s (`idle_timeout` is 90 s).
 120.012 Retry 1 is in 2 s.
 122.012 The client dials connection 2 (retry 1).
 122.013 Connection 2 ends: the server answered HTTP 503 and asks for a retry after 7 s.
 122.013 Retry 2 is in 7 s.
 129.013 The client dials connection 3 (retry 2).
 129.014 Connection 3 is open.
 130.000 The application stops the client.
 130.000 The client closes connection 3 with code 1000.
Total: 3 dials, 2 connections, 2 ends (idle_timeout 1, http 503 1).
"
    );
}

/// The README's trace gives the README's sentences, and `dialect show` prints the README's description.
#[test]
fn the_readme_shows_what_is_printed() {
    let readme = include_str!("../README.md");
    let block = |kind: &str, first: &str| {
        let start = format!("```{kind}\n");
        let mut blocks = readme.split(&start).skip(1);
        let block = blocks.find(|block| block.starts_with(first));
        let block = block.and_then(|block| block.split("```").next());
        block.unwrap_or_else(|| panic!("no block with {first}"))
    };
    let trace = block("json", "{\"config\"");
    assert_eq!(
        printed(&["explain"], trace),
        block("text", "A client with these times")
    );
    let shown = heartbeat(&["dialect", "show", "kucoin"], "");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    assert_eq!(text(shown.stderr), block("text", "kucoin, "));
    assert_eq!(text(shown.stdout), block("json", "{\n"));
}

/// Every trace of the core's tests can be explained.
#[test]
fn every_recorded_trace_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../heartbeat-core/tests/traces");
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("traces") {
        let path = file.expect("a trace").path();
        let name = path.to_str().expect("a name in Unicode");
        if name.ends_with(".jsonl") && !name.ends_with(".answers.jsonl") {
            let text = printed(&["explain", name], "");
            assert!(
                text.ends_with(".\n") && !text.contains("does `"),
                "{name}:\n{text}"
            );
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_bad_line_is_named_after_everything_before_it_was_told() {
    let trace =
        "{\"seed\": 7}\n{\"at\": 0, \"event\": \"tick\"}\n{\"at\": 1, \"event\": \"tock\"}\n";
    let told = refused(&["explain"], trace, &["line 3", "tock"]);
    assert!(told.contains("The client dials connection 1."), "{told}");
}

#[test]
fn a_message_is_told_what_it_is() {
    let told = printed(
        &["dialect", "test", "json-type"],
        "{\"type\":\"ping\"}\nhello\n",
    );
    assert_eq!(told, "ping -> {\"type\":\"pong\"}\ndata\n");
    let told = printed(&["dialect", "test", "okx", "--json"], "pong\n");
    assert_eq!(told, "{\"class\":\"pong\"}\n");
}

#[test]
fn the_catalogue_is_listed_shown_and_linted() {
    let list = printed(&["dialect", "list"], "");
    assert!(list.lines().count() > 150, "{list}");
    assert!(
        list.lines().any(|line| line.starts_with("kucoin")),
        "{list}"
    );
    // The output of `show` works as a description file.
    let shown = printed(&["dialect", "show", "kucoin"], "");
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/shown.json");
    std::fs::write(file, shown).expect("room");
    let pong = printed(&["dialect", "test", file], "{\"type\":\"pong\"}\n");
    assert_eq!(pong.trim(), "pong");
    let lint = heartbeat(&["dialect", "lint", "kucoin", "--proxy", "10s"], "");
    assert_eq!(lint.status.code(), Some(1), "{lint:?}");
    assert!(
        String::from_utf8_lossy(&lint.stdout).contains("warning: "),
        "{lint:?}"
    );
}

/// For example `heartbeat watch | head -n 3`.
#[test]
fn it_ends_well_when_nobody_reads_its_output() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_heartbeat"))
        .args(["watch", "--for", "60s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_demo_says_its_times_and_ends_with_its_sums() {
    let told = printed(&["watch", "--for", "1s"], "");
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("ping after 1 s of silence, dead after 3 s of silence")),
        "{told}"
    );
    assert!(
        told.contains("frame ping answered") && told.contains("JSON ping answered"),
        "{told}"
    );
    let last = lines.last().expect("a line");
    assert!(
        last.contains(" in 1 s: 1 connection, no death, 0 other ends, 0 failed dials, "),
        "{told}"
    );
    assert!(lines[lines.len() - 2].ends_with("stopped"), "{told}");
}
