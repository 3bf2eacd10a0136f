//! Many clients of one server at once.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{Client, Event, Options};
use tungstenite::WebSocket;

use crate::harness::{PATIENCE, hang_up};

const CLIENTS: usize = 200;

fn accept_all(listener: &TcpListener) -> Vec<WebSocket<TcpStream>> {
    let accept = |_| {
        let (socket, _) = listener.accept().expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        tungstenite::accept(socket).expect("an upgrade")
    };
    (0..CLIENTS).map(accept).collect()
}

#[test]
fn two_hundred_clients_in_one_runtime_all_recover_when_their_server_restarts() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
    let address = listener.local_addr().expect("it is bound");
    let text = r#"{"backoff": {"base": "200ms", "cap": "1s", "jitter_percent": 50}}"#;
    let config = Config::from_json(text).expect("a configuration");
    let server = std::thread::spawn(move || {
        let first = accept_all(&listener);
        drop(listener);
        for ws in &first {
            hang_up(ws.get_ref());
        }
        drop(first);
        let listener = TcpListener::bind(address).expect("the port is ours");
        let second = accept_all(&listener);
        // Waits until each client has seen it.
        for mut ws in second {
            while ws.read().is_ok() {}
        }
    });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let life = |_| {
            let options = Options::new(&format!("ws://{address}/")).expect("a URL");
            let mut client =
                Client::spawn(options.config(config.clone())).expect("no TLS, no error");
            tokio::spawn(async move {
                let mut connects = 0;
                while let Some(event) = client.next().await {
                    connects += u32::from(matches!(event, Event::Connected { .. }));
                    if connects == 2 {
                        break;
                    }
                }
                connects
            })
        };
        let lives: Vec<_> = (0..CLIENTS).map(life).collect();
        for life in lives {
            let connects = tokio::time::timeout(PATIENCE, life).await;
            assert_eq!(connects.expect("in time").expect("no panic"), 2);
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    server.join().expect("no panic");
}
