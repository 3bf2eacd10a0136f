//! `wss://`: trusted servers work, untrusted ones make the client give up, and nothing is ever sent in the
//! clear.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use heartbeat_tokio::core::{Cause, Config, GiveUp};
use heartbeat_tokio::{Event, Options, Request};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use crate::harness::{Case, Server, read_to_the_end};
use crate::pressure::{asks_amid_an_upload, upload};

cases! {
    everywhere: [
        a_trusted_server_is_spoken_to_and_large_messages_pass,
        pings_and_pongs_pass_under_tls,
        a_ping_during_an_upload_under_tls_is_answered_between_its_fragments,
        a_client_certificate_is_shown_and_without_one_it_is_final,
        a_certificate_that_is_not_to_be_trusted_is_final_and_nothing_is_said,
        plain_http_on_the_tls_port_is_final_and_nothing_is_said,
        a_tls_port_that_hangs_up_is_retried,
        http_1_1_alone_is_offered_to_a_server_that_prefers_h2,
        a_refusal_under_tls_is_heard_to_its_end,
        a_stuck_write_under_tls_is_judged_and_accounted_for,
        a_stuck_write_under_tls_keeps_nobody_from_hearing,
    ]
}

pub(crate) type Tls = StreamOwned<ServerConnection, TcpStream>;

fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An authority, and the client's configuration to trust it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(crate) fn trusted(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        client_config(roots)
    }

    /// A certificate for this name, valid until this year.
    fn issue(&self, name: &str, year: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate")
            .der()
            .clone();
        (
            certificate,
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// A server with a certificate for this name, valid until this year.
    pub(crate) fn server(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        self.config(
            self.issue(name, year),
            WebPkiClientVerifier::no_client_auth(),
        )
    }

    /// A server that also asks for the client's certificate.
    fn server_asking(
        &self,
        name: &str,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        self.config(self.issue(name, 4000), verifier)
    }

    fn config(
        &self,
        (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(ring())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("a certificate and its key"))
    }
}

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A server's and a client's configuration for this name.
pub(crate) fn for_name(name: &str) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let authority = Authority::new("ours");
    (authority.server(name, 4000), authority.trusted())
}

/// For cases in which no certificate is ever shown.
pub(crate) fn trusting_nobody() -> Arc<ClientConfig> {
    client_config(RootCertStore::empty())
}

pub(crate) fn options(
    server: &Server,
    host: &str,
    config: &str,
    tls: Arc<ClientConfig>,
) -> Options {
    Options::new(&format!("wss://{host}:{}/", server.port()))
        .expect("a URL")
        .config(Config::from_json(config).expect("a configuration"))
        .tls(tls)
}

pub(crate) fn upgrade(server: &Server, config: Arc<ServerConfig>) -> WebSocket<Tls> {
    let session = ServerConnection::new(config).expect("a session");
    let limits = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    let stream = StreamOwned::new(session, server.accept());
    tungstenite::accept_with_config(stream, Some(limits)).expect("an upgrade")
}

fn a_trusted_server_is_spoken_to_and_large_messages_pass(case: Case) {
    const LARGE: usize = 8 << 20;
    let (server, authority) = (Server::start(), Authority::new("ours"));
    // By name, so that the resolver takes part.
    let mut client = case.start(options(&server, "localhost", "{}", authority.trusted()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = upgrade(&server, authority.server("localhost", 4000));
            for _ in 0..2 {
                let message = ws.read().expect("a message");
                ws.send(message).expect("the client reads");
            }
        });
        client.until_connected();
        client.sender().try_send("small").expect("connected");
        assert_eq!(client.message(), "small".into());
        client.sender().try_send(vec![7; LARGE]).expect("connected");
        assert!(client.message() == vec![7; LARGE].into());
        client.until_disconnected();
    });
}

fn a_client_certificate_is_shown_and_without_one_it_is_final(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate.clone())
        .expect("a certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), ring());
    let asks = authority.server_asking("127.0.0.1", verifier.build().expect("roots"));
    let (certificate, key) = authority.issue("client.test", 4000);
    let shows = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("a certificate and its key");
    for (config, is_let_in) in [(Arc::new(shows), true), (authority.trusted(), false)] {
        let mut client = case.start(options(&server, "127.0.0.1", "{}", config));
        thread::scope(|scope| {
            scope.spawn(|| {
                let session = ServerConnection::new(Arc::clone(&asks)).expect("a session");
                let stream = StreamOwned::new(session, server.accept());
                let ws = tungstenite::accept(stream);
                assert_eq!(ws.is_ok(), is_let_in);
                if let Ok(mut ws) = ws {
                    ws.send(Message::text("welcome")).expect("the client reads");
                }
            });
            if is_let_in {
                assert_eq!(client.message(), "welcome".into());
            } else {
                assert_eq!(client.until_disconnected().reason, "tls");
                client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
            }
        });
    }
}

fn a_ping_during_an_upload_under_tls_is_answered_between_its_fragments(case: Case) {
    let (server, authority) = (Server::narrow(), Authority::new("ours"));
    let mut client = case.start(options(&server, "127.0.0.1", "{}", authority.trusted()));
    thread::scope(|scope| {
        let (tell, is_answered) = mpsc::channel();
        scope.spawn(|| {
            let mut ws = upgrade(&server, authority.server("127.0.0.1", 4000));
            asks_amid_an_upload(ws.get_mut(), is_answered);
        });
        upload(&mut client, tell);
    });
}

fn pings_and_pongs_pass_under_tls(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let config = r#"{"ping": {"every": "50ms"}}"#;
    let mut client = case.start(options(&server, "127.0.0.1", config, authority.trusted()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = upgrade(&server, authority.server("127.0.0.1", 4000));
            for n in 0_u32..1000 {
                ws.write(Message::Ping(n.to_be_bytes().to_vec().into()))
                    .expect("the client reads");
            }
            ws.send(Message::text(r#"{"type":"ping"}"#))
                .expect("the client reads");
            let mut pongs = 0_u32;
            loop {
                match ws.read().expect("pongs") {
                    Message::Pong(payload) => {
                        assert_eq!(payload[..], pongs.to_be_bytes());
                        pongs += 1;
                    }
                    Message::Text(text) => {
                        assert_eq!((text.as_str(), pongs), (r#"{"type":"pong"}"#, 1000));
                        break;
                    }
                    other => assert!(other.is_ping(), "{other:?}"),
                }
            }
            while ws.read().is_ok() {}
        });
        for _ in 0..3 {
            client.until(|event| {
                matches!(event, Event::PongReceived { rtt: Some(_), .. }).then_some(())
            });
        }
        drop(client);
    });
}

/// A client that does not trust the server sends only handshake (22), change of cipher (20) and alert (21)
/// records (RFC 8446 §5.1), never application data (23) or plain text.
fn assert_nothing_was_said(bytes: &[u8]) {
    let mut rest = bytes;
    while let [kind, 3, _, high, low, ..] = rest {
        assert!(matches!(kind, 20..=22), "a record of type {kind}");
        rest = rest
            .get(5 + usize::from(u16::from_be_bytes([*high, *low]))..)
            .unwrap_or_default();
    }
    assert!(rest.is_empty(), "in the clear: {rest:?}");
    assert!(
        !bytes.windows(4).any(|word| word == b"GET "),
        "in the clear"
    );
}

/// A socket that keeps the bytes it reads.
struct Tapped(TcpStream, Vec<u8>);

impl Read for Tapped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn a_certificate_that_is_not_to_be_trusted_is_final_and_nothing_is_said(case: Case) {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let cases = [
        (
            "unknown authority",
            theirs.server("127.0.0.1", 4000),
            "UnknownIssuer",
        ),
        ("expired", ours.server("127.0.0.1", 2020), "expired"),
        (
            "another's name",
            ours.server("127.0.0.2", 4000),
            "not valid for name",
        ),
    ];
    for (name, certificate, words) in cases {
        let server = Server::start();
        let mut client = case.start(options(&server, "127.0.0.1", "{}", ours.trusted()));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut session = ServerConnection::new(certificate).expect("a session");
                let mut socket = Tapped(server.accept(), Vec::new());
                while session.is_handshaking() && session.complete_io(&mut socket).is_ok() {}
                let said = [socket.1, read_to_the_end(&mut socket.0)].concat();
                // Everything after the greeting is encrypted with a key that the server has: the alert.
                assert!(said.starts_with(&[22, 3]), "{name}");
                assert!(
                    !said.windows(4).any(|word| word == b"GET "),
                    "{name}: in the clear"
                );
            });
            let end = client.until_disconnected();
            assert_eq!(end.reason, "tls", "{name}: {}", end.detail);
            assert!(end.detail.contains(words), "{name}: {}", end.detail);
            let reason = client.until(|event| match event {
                Event::GaveUp { reason, .. } => Some(reason),
                _ => None,
            });
            assert_eq!(reason, GiveUp::Cause(Cause::Tls), "{name}");
            drop(client);
        });
    }
}

fn plain_http_on_the_tls_port_is_final_and_nothing_is_said(case: Case) {
    let server = Server::start();
    let mut client = case.start(options(&server, "127.0.0.1", "{}", trusting_nobody()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = server.accept();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .expect("the client reads");
            assert_nothing_was_said(&read_to_the_end(&mut socket));
        });
        assert_eq!(client.until_disconnected().reason, "tls");
        client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
        drop(client);
    });
}

fn a_tls_port_that_hangs_up_is_retried(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let config = r#"{"backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
    let mut client = case.start(options(&server, "127.0.0.1", config, authority.trusted()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut greeting = [0; 5];
            let mut socket = server.accept();
            socket.read_exact(&mut greeting).expect("a greeting");
            drop(socket);
            let mut ws = upgrade(&server, authority.server("127.0.0.1", 4000));
            ws.send(Message::text("welcome")).expect("the client reads");
        });
        let end = client.until_disconnected();
        let reason = end.reason.as_str();
        assert!(["eof", "reset"].contains(&reason), "{reason}");
        assert!(
            end.detail.ends_with("does that port speak TLS?"),
            "{}",
            end.detail
        );
        assert_eq!(client.message(), "welcome".into());
    });
}

/// D5: a configuration that is shared with an HTTP client offers h2.
fn http_1_1_alone_is_offered_to_a_server_that_prefers_h2(case: Case) {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let offers: [&[&[u8]]; 3] = [&[], &[b"h2", b"http/1.1"], &[b"h2"]];
    for offered in offers {
        for serves in [&[b"h2".to_vec(), b"http/1.1".to_vec()][..], &[]] {
            let mut theirs = ServerConfig::clone(&authority.server("127.0.0.1", 4000));
            theirs.alpn_protocols = serves.to_vec();
            let mut ours = ClientConfig::clone(&authority.trusted());
            ours.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            let mut client = case.start(options(&server, "127.0.0.1", "{}", Arc::new(ours)));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut ws = upgrade(&server, Arc::new(theirs));
                    let chosen = (!serves.is_empty()).then_some(&b"http/1.1"[..]);
                    assert_eq!(ws.get_ref().conn.alpn_protocol(), chosen, "{offered:?}");
                    ws.send(Message::text("welcome")).expect("the client reads");
                });
                assert_eq!(client.message(), "welcome".into());
            });
        }
    }
}

/// D12: the body in a record of its own, and an end without close_notify; or a refusal before the request
/// is read whole.
fn a_refusal_under_tls_is_heard_to_its_end(case: Case) {
    for (header, pieces, body) in [
        (10, &["X: y\r\n\r\n", "not ", "you"][..], "not you"),
        (10, &["Content-Length: 7\r\n\r\n", "not you"], "not you"),
        (4 << 20, &["Content-Length: 0\r\n\r\n"], ""),
    ] {
        let (server, authority) = (Server::narrow(), Authority::new("ours"));
        let target = Request::new(&format!("wss://127.0.0.1:{}/", server.port()))
            .and_then(|request| request.header("X-Large", &"x".repeat(header)))
            .expect("a request");
        let options = Options::from_request(target).tls(authority.trusted());
        let mut client = case.start(options);
        thread::scope(|scope| {
            scope.spawn(|| {
                let config = authority.server("127.0.0.1", 4000);
                let session = ServerConnection::new(config).expect("a session");
                let mut stream = StreamOwned::new(session, server.accept());
                stream.read_exact(&mut [0; 99]).expect("a request");
                stream
                    .write_all(b"HTTP/1.1 403 No\r\n")
                    .expect("the client reads");
                for piece in pieces {
                    thread::sleep(Duration::from_millis(30));
                    stream
                        .write_all(piece.as_bytes())
                        .expect("the client reads");
                }
            });
            let (reason, response) = client.until(|event| match event {
                Event::Disconnected {
                    reason, response, ..
                } => Some((reason.to_string(), response)),
                _ => None,
            });
            assert_eq!(reason, "http 403", "{header}");
            assert_eq!(response.expect("an answer").body(), body.as_bytes());
        });
    }
}

fn a_stuck_write_under_tls_is_judged_and_accounted_for(case: Case) {
    let (server, authority) = (Server::narrow(), Authority::new("ours"));
    let config = r#"{"write_timeout": "500ms"}"#;
    let mut client = case.start(options(&server, "127.0.0.1", config, authority.trusted()));
    let sender = client.sender();
    let numbered = |n: u64| {
        let mut payload = n.to_be_bytes().to_vec();
        payload.resize(1000, 0);
        heartbeat_tokio::Message::from(payload)
    };
    thread::scope(|scope| {
        let (thaw, frozen) = std::sync::mpsc::channel::<()>();
        let (server, authority) = (&server, &authority);
        let received = scope.spawn(move || {
            let mut ws = upgrade(server, authority.server("127.0.0.1", 4000));
            // The server reads for a while, slower than the client writes, and then freezes.
            for n in 0_u64..2000 {
                assert_eq!(
                    ws.read().expect("a message").into_data()[..8],
                    n.to_be_bytes()
                );
            }
            let _ = frozen.recv();
            let mut received = 2000_u64;
            while let Ok(message) = ws.read() {
                assert_eq!(message.into_data()[..8], received.to_be_bytes());
                received += 1;
            }
            received
        });
        client.until_connected();
        let accepted = scope.spawn(move || {
            (0_u64..)
                .take_while(|&n| sender.send(numbered(n)).is_ok())
                .count() as u64
        });
        let end = client.until_disconnected();
        assert_eq!(end.reason, "write_timeout");
        drop(thaw);
        let (accepted, received) = (
            accepted.join().expect("no panic"),
            received.join().expect("no panic"),
        );
        // All sent messages arrive, and none that was handed back.
        let expected: Vec<_> = (received..accepted).map(numbered).collect();
        assert_eq!(
            end.unsent.len(),
            expected.len(),
            "{accepted} accepted, {received} received"
        );
        assert!(end.unsent.into_messages() == expected, "in order");
    });
}

/// While our own write is stuck, the server keeps sending data and pings.
fn a_stuck_write_under_tls_keeps_nobody_from_hearing(case: Case) {
    let (server, authority) = (Server::narrow(), Authority::new("ours"));
    let config =
        r#"{"idle_timeout": "1500ms", "ping": {"after_silence": "700ms"}, "write_timeout": "60s"}"#;
    let mut client = case.start(options(&server, "127.0.0.1", config, authority.trusted()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ws = upgrade(&server, authority.server("127.0.0.1", 4000));
            let end = std::time::Instant::now() + Duration::from_millis(2000);
            while std::time::Instant::now() < end {
                ws.send(Message::Ping("are you there?".into()))
                    .expect("the client reads");
                ws.send(Message::text("still here"))
                    .expect("the client reads");
                thread::sleep(Duration::from_millis(20));
            }
            ws.send(Message::text("now I listen"))
                .expect("the client reads");
            let (mut pongs, mut large) = (0, 0);
            while (pongs, large) != (75, 1) && pongs < 200 {
                match ws.read().expect("what was stuck") {
                    Message::Pong(_) => pongs += 1,
                    Message::Binary(bytes) => large += usize::from(bytes.len() == 8 << 20),
                    _ => {}
                }
                if large == 1 && pongs > 20 {
                    break;
                }
            }
        });
        client.until_connected();
        client
            .sender()
            .try_send(vec![0; 8 << 20])
            .expect("connected");
        while client.message() != "now I listen".into() {}
        let end = client.until_disconnected();
        assert!(["eof", "reset"].contains(&end.reason.as_str()), "{end:?}");
        assert_eq!(end.unsent.len(), 0);
    });
}
