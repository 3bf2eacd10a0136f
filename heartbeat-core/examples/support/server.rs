//! The server of the examples, on a thread of its own: it freezes, refuses, sends away, and at last behaves.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, accept};

/// Starts it on a free port.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut frozen = Vec::new();
        for (number, stream) in (1..).zip(listener.incoming().flatten()) {
            match number {
                1 => frozen.extend(ask_and_freeze(stream)),
                2 => refuse(stream),
                3 => send_away(stream),
                _ => drop(echo(stream)),
            }
        }
    });
    Ok(address)
}

/// The socket stays open, and nothing more is read from it or said.
fn ask_and_freeze(stream: TcpStream) -> Option<impl Sized> {
    let mut socket = accept(stream).ok()?;
    socket.send(Message::Ping("17".into())).ok()?;
    let answer = socket.read().ok()?;
    println!("server: answered by {answer:?}");
    socket.send(r#"{"type":"ping"}"#.into()).ok()?;
    let answer = socket.read().ok()?;
    println!("server: answered by {answer}, and freezes");
    Some(socket)
}

fn refuse(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let _ = stream.write_all(answer.as_bytes());
    println!("server: refused a dial");
}

fn send_away(stream: TcpStream) {
    let Ok(mut socket) = accept(stream) else {
        return;
    };
    let reason = CloseFrame {
        code: CloseCode::Away,
        reason: "".into(),
    };
    let _ = socket.close(Some(reason));
    // Until the client has answered, so that the Close frame is not lost to a reset.
    while socket.read().is_ok() {}
}

fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept(stream).map_err(|_| Error::ConnectionClosed)?;
    socket.send("welcome".into())?;
    loop {
        let message = socket.read()?;
        match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message)?,
            Message::Close(_) => println!("server: the client says goodbye"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}
