//! Tests the picture in a terminal, and that every end of the program restores the terminal.

#![cfg(unix)]
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this test is never built without std"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Ten times longer than any step needs, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program in a pseudo-terminal.
struct Terminal {
    child: Child,
    keyboard: File,
    /// The program's end of the terminal. Kept open, so that the terminal keeps the modes that the program left.
    inner: OwnedFd,
    screen: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&outer).expect("it is ours");
        unlockpt(&outer).expect("it can be opened");
        let name = ptsname(&outer, Vec::new()).expect("its name");
        let inner = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .expect("its inner end");
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&inner, size).expect("a size");
        let end = || Stdio::from(inner.try_clone().expect("a copy"));
        let child = Command::new(env!("CARGO_BIN_EXE_heartbeat"))
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("RUST_LOG")
            .stdin(end())
            .stdout(end())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let keyboard = File::from(outer);
        let mut output = keyboard.try_clone().expect("a copy");
        let (tell, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            inner,
            screen,
            seen: String::new(),
        }
    }

    /// Waits until this text was written to the terminal. Spaces are ignored, because the program moves the cursor instead
    /// of writing them.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        let words = wanted.replace(' ', "");
        while !self.seen.contains(wanted) && !without_moves(&self.seen).contains(&words) {
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&bytes);
        }
    }

    fn press(&mut self, key: &str) {
        self.keyboard.write_all(key.as_bytes()).expect("a key");
    }

    /// Waits until the program has restored the terminal and ended with this status.
    #[track_caller]
    fn ends(mut self, status: i32) {
        self.until("\x1b[?1049l");
        // The cursor is visible again.
        self.until("\x1b[?1049l\x1b[?25h");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(status));
        let modes = tcgetattr(&self.inner).expect("its modes").local_modes;
        assert!(
            modes.contains(LocalModes::ICANON | LocalModes::ECHO),
            "{modes:?}"
        );
    }
}

/// Removes spaces, and sequences that move the cursor or change colours.
fn without_moves(seen: &str) -> String {
    let mut text = String::new();
    for part in seen.split("\x1b[") {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        text.extend(
            part[end.map_or(0, |end| end + 1)..]
                .chars()
                .filter(|c| *c != ' '),
        );
    }
    text
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_picture_shows_state_silence_and_round_trips_and_a_key_ends_it() {
    let mut terminal = Terminal::start(&["watch"]);
    for part in [
        "open for",
        "silence",
        "dead after 3 s",
        "round trips",
        "server, connection 1",
        "q or Ctrl-C",
    ] {
        terminal.until(part);
    }
    terminal.press("q");
    // The summary stays on the screen.
    terminal.until("1 connection, ");
    terminal.ends(0);
}

#[test]
fn ctrl_c_ends_it_and_a_second_one_at_once() {
    let mut terminal = Terminal::start(&["watch"]);
    terminal.until("open for");
    terminal.press("\x03");
    terminal.ends(0);

    // This server never answers the upgrade. Only the second Ctrl-C is sure to end the program quickly.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let mut terminal = Terminal::start(&["watch", &url]);
    terminal.until("connecting");
    terminal.press("\x03\x03");
    terminal.until("\x1b[?1049l");
    let status = terminal.child.wait().expect("it ends").code();
    assert!(matches!(status, Some(0 | 130)), "{status:?}");
}

#[test]
fn a_signal_and_giving_up_leave_the_terminal_as_it_was() {
    let mut terminal = Terminal::start(&["watch"]);
    terminal.until("open for");
    let pid = Pid::from_child(&terminal.child);
    kill_process(pid, Signal::TERM).expect("it runs");
    terminal.ends(0);

    // A server without WebSocket: the client gives up.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut socket = socket;
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut terminal = Terminal::start(&["watch", &url]);
    terminal.until("GAVE UP");
    terminal.ends(1);
}

#[test]
fn plain_lines_are_printed_where_they_are_asked_for() {
    let mut terminal = Terminal::start(&["watch", "--plain", "--for", "1s"]);
    terminal.until("1 connection, no death");
    assert_eq!(terminal.child.wait().expect("it ends").code(), Some(0));
    assert!(!terminal.seen.contains('\x1b'), "{}", terminal.seen);
}
