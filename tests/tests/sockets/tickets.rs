//! A TLS server that sends session tickets without end: records without application data.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::Event;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection,
    StreamOwned, SupportedCipherSuite,
};

use crate::harness::{Case, Server};
use crate::tls::{self, Authority, Tls};

cases! {
    everywhere: [
        tickets_without_end_keep_nobody_from_the_timers,
        tickets_without_end_instead_of_an_answer_end_with_the_dials_time,
    ]
}

/// The time that a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn config(authority: &Authority) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&authority.server("127.0.0.1", 4000));
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// A record full of the smallest tickets (RFC 8446 §4.6.1): each has a lifetime, an age, no nonce, a byte
/// and no extensions.
fn tickets() -> Vec<u8> {
    let ticket = [4, 0, 0, 14, 0, 0, 28, 32, 0, 0, 0, 0, 0, 0, 1, b'.', 0, 0];
    ticket.repeat((1 << 14) / ticket.len())
}

/// Sends tickets until the client is gone, or for four times its time.
fn send_tickets(tls: Tls) {
    let (session, mut socket) = tls.into_parts();
    let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
        panic!("it speaks TLS 1.3");
    };
    let (first, secrets) = session.dangerous_extract_secrets().expect("allowed").tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("another cipher");
    };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    let tickets = tickets();
    let end = Instant::now() + PATIENCE * 4;
    for number in first.. {
        let record = record(&mut *encrypter, &tickets, number);
        if socket.write_all(&record).is_err() || Instant::now() > end {
            return;
        }
    }
}

fn record(encrypter: &mut dyn MessageEncrypter, payload: &[u8], number: u64) -> Vec<u8> {
    let message = OutboundPlainMessage {
        typ: ContentType::Handshake,
        version: ProtocolVersion::TLSv1_3,
        payload: OutboundChunks::Single(payload),
    };
    encrypter.encrypt(message, number).expect("a key").encode()
}

fn tickets_without_end_keep_nobody_from_the_timers(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let times = r#"{"ping": {"every": "50ms"}, "close_timeout": "200ms"}"#;
    let options = tls::options(&server, "127.0.0.1", times, authority.trusted());
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| send_tickets(tls::upgrade(&server, config(&authority)).into_inner()));
        client.until_connected();
        let begun = Instant::now();
        for _ in 0..5 {
            client.until(|event| matches!(event, Event::PingSent { .. }).then_some(()));
        }
        client.stop();
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    });
}

fn tickets_without_end_instead_of_an_answer_end_with_the_dials_time(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let times = r#"{"connect_timeout": "1s"}"#;
    let options = tls::options(&server, "127.0.0.1", times, authority.trusted());
    let mut client = case.start(options);
    thread::scope(|scope| {
        scope.spawn(|| {
            let session = ServerConnection::new(config(&authority)).expect("a session");
            let mut tls: StreamOwned<_, TcpStream> = StreamOwned::new(session, server.accept());
            // The request.
            let _ = tls.read(&mut [0; 4096]).expect("the client asks");
            send_tickets(tls);
        });
        let begun = Instant::now();
        assert_eq!(client.until_disconnected().reason, "connect_timeout");
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        drop(client);
    });
}
