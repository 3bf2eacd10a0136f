//! Hosts of several addresses, and resolvers that are silent or slow.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use heartbeat_tokio::core::Config;
use heartbeat_tokio::{DialBudget, Event, Grant, Options, Proxy, Request, Resolver, SendErrorKind};
use tungstenite::WebSocket;

use crate::garbage::read_head;
use crate::harness::{Case, How, PATIENCE, Server, hang_up};

cases! {
    everywhere: [
        after_an_address_that_fails_behind_its_connect_the_next_one_is_dialled,
        of_a_proxys_addresses_the_one_that_fails_comes_last_too,
        an_address_that_fails_is_known_again_when_the_resolver_changes_its_order,
        what_one_address_says_is_no_word_on_the_others,
        an_address_with_a_scope_is_dialled,
        the_end_waits_for_no_resolver,
        dials_that_were_given_up_share_the_one_lookup_that_hangs,
        each_of_many_lookups_is_heard_of,
        without_a_thread_to_look_a_host_up_in_a_dial_fails,
        without_a_thread_for_a_factory_a_dial_fails,
    ]
}

const QUICK: &str = r#"{"connect_timeout": "300ms", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;

/// Listeners on 127.0.0.1, 127.0.0.2, … with one port.
fn listeners<const N: usize>() -> ([TcpListener; N], u16) {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = first.local_addr().expect("it is bound").port();
        let others = (2..).map(|number| TcpListener::bind((address(number), port)));
        let all: Vec<_> = std::iter::once(Ok(first))
            .chain(others.take(N - 1))
            .collect();
        let all: Result<Vec<_>, _> = all.into_iter().collect();
        if let Ok(all) = all
            && let Ok(all) = all.try_into()
        {
            return (all, port);
        }
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// Resolves every host to these addresses.
fn resolver(numbers: &'static [u8]) -> Resolver {
    let addresses = numbers
        .iter()
        .map(|&number| SocketAddr::from((address(number), 0)));
    let addresses: Vec<_> = addresses.collect();
    Resolver::new(move |_| Ok(addresses.clone()))
}

fn options(port: u16, resolver: Resolver) -> Options {
    Options::new(&format!("ws://several.test:{port}/"))
        .expect("a URL")
        .config(Config::from_json(QUICK).expect("a configuration"))
        .resolver(resolver)
}

/// A server that treats its clients badly, and counts them. It runs until the process ends.
fn receive_badly(listener: TcpListener, how: &'static str) -> Arc<AtomicUsize> {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dials);
    thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.expect("a client");
            count.fetch_add(1, Ordering::AcqRel);
            match how {
                "hangs" => held.push(socket),
                "drops" => hang_up(&socket),
                "says 503" | "says 404" => {
                    read_head(&mut socket);
                    let answer = format!("HTTP/1.1 {} No\r\nContent-Length: 0\r\n\r\n", &how[5..]);
                    let _ = socket.write_all(answer.as_bytes());
                }
                "drops after the upgrade" => drop(tungstenite::accept(socket)),
                other => panic!("{other}?"),
            }
        }
    });
    dials
}

fn welcome(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (socket, _) = listener.accept().expect("a client");
    tungstenite::accept(socket).expect("an upgrade")
}

fn after_an_address_that_fails_behind_its_connect_the_next_one_is_dialled(case: Case) {
    for how in ["hangs", "drops", "says 503", "drops after the upgrade"] {
        let ([bad, good], port) = listeners();
        let dials = receive_badly(bad, how);
        let mut client = case.start(options(port, resolver(&[1, 2])));
        client.until_disconnected();
        let good = thread::spawn(move || welcome(&good));
        client.until_connected();
        let mut ws = good.join().expect("no panic");
        ws.send("welcome".into()).expect("the client reads");
        client.message();
        assert_eq!(dials.load(Ordering::Acquire), 1, "{how}");
    }
}

fn of_a_proxys_addresses_the_one_that_fails_comes_last_too(case: Case) {
    let ([bad, good], port) = listeners();
    let dials = receive_badly(bad, "says 503");
    let good = thread::spawn(move || {
        let (mut socket, _) = good.accept().expect("a client");
        read_head(&mut socket);
        socket
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
            .expect("the client reads");
        tungstenite::accept(socket).expect("an upgrade")
    });
    let proxy = Proxy::new(&format!("http://proxy.test:{port}")).expect("a proxy");
    let options = Options::new("ws://behind.test/")
        .expect("a URL")
        .config(Config::from_json(QUICK).expect("a configuration"))
        .resolver(resolver(&[1, 2]))
        .proxy(proxy);
    let mut client = case.start(options);
    client.until_connected();
    drop(good.join().expect("no panic"));
    assert_eq!(dials.load(Ordering::Acquire), 1);
}

fn an_address_that_fails_is_known_again_when_the_resolver_changes_its_order(case: Case) {
    let ([first, second, good], port) = listeners();
    let dials = [
        receive_badly(first, "drops"),
        receive_badly(second, "drops"),
    ];
    let asked = AtomicUsize::new(0);
    let turning = Resolver::new(move |_| {
        let orders = [[1, 2, 3], [2, 1, 3], [2, 3, 1], [1, 3, 2]];
        let order = orders[asked.fetch_add(1, Ordering::Relaxed) % 4];
        Ok(order.map(|number| (address(number), 0).into()).to_vec())
    });
    let good = thread::spawn(move || welcome(&good));
    let mut client = case.start(options(port, turning));
    client.until_connected();
    drop(good.join().expect("no panic"));
    assert_eq!(client.stats().machine.dials, 3, "one for each address");
    assert_eq!(dials.map(|dials| dials.load(Ordering::Acquire)), [1, 1]);
}

/// A 404 is final, but only after each address has given it.
fn what_one_address_says_is_no_word_on_the_others(case: Case) {
    let ([bad, good], port) = listeners();
    let dials = receive_badly(bad, "says 404");
    let good = thread::spawn(move || welcome(&good));
    let mut client = case.start(options(port, resolver(&[1, 2])));
    assert_eq!(client.until_disconnected().reason, "http 404");
    client.until_connected();
    drop(good.join().expect("no panic"));
    assert_eq!(dials.load(Ordering::Acquire), 1);

    let ([first, second], port) = listeners();
    let dials = [first, second].map(|listener| receive_badly(listener, "says 404"));
    let mut client = case.start(options(port, resolver(&[1, 2])));
    client.until(|event| matches!(event, Event::GaveUp { .. }).then_some(()));
    assert_eq!(dials.map(|dials| dials.load(Ordering::Acquire)), [1, 1]);
}

fn an_address_with_a_scope_is_dialled(case: Case) {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("SKIPPED: no IPv6 here");
        return;
    };
    let port = listener.local_addr().expect("it is bound").port();
    // The loopback interface is number 1.
    let scoped = SocketAddrV6::new("::1".parse().expect("an address"), port, 0, 1);
    let request = Request::new("ws://scoped.test/").expect("a URL");
    let by_request = Options::from_request(request.addresses([scoped.into()]));
    let by_name = Options::new(&format!("ws://scoped.test:{port}/"))
        .expect("a URL")
        .resolver(Resolver::new(move |_| Ok(vec![scoped.into()])));
    for options in [by_request, by_name] {
        thread::scope(|scope| {
            let server = scope.spawn(|| welcome(&listener));
            case.start(options).until_connected();
            drop(server.join().expect("no panic"));
        });
    }
}

/// A resolver that does not answer until it is dropped.
fn silent() -> (Resolver, mpsc::Sender<()>) {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let resolver = Resolver::new(move |_| {
        // A poisoned lock is fine: many threads hang in here.
        let _ = ended.lock().map(|ended| ended.recv());
        Err(std::io::Error::other("the test has ended"))
    });
    (resolver, end)
}

fn the_end_waits_for_no_resolver(case: Case) {
    for stops in [true, false] {
        let (resolver, silence) = silent();
        let mut client = case.start(options(80, resolver));
        client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
        client.drive_for(Duration::from_millis(20));
        let begun = Instant::now();
        let sender = client.sender();
        if stops {
            assert!(client.stop().is_empty());
        } else {
            // And the runtime with it.
            drop(client);
        }
        let refusal = sender.try_send("late").expect_err("it has ended");
        assert_eq!(refusal.reason, SendErrorKind::Ended);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop(silence);
    }
    // The process can end, too, with a resolver that never answers.
    let begun = Instant::now();
    case.alone(|| {
        let (resolver, silence) = silent();
        let mut client = case.start(options(80, resolver));
        client.until(|event| matches!(event, Event::Connecting { .. }).then_some(()));
        drop(client);
        std::mem::forget(silence);
    });
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

/// The number of threads of this process with this name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    // Linux keeps 15 characters of a name.
    names.filter(|comm| comm.trim() == &name[..15]).count()
}

fn dials_that_were_given_up_share_the_one_lookup_that_hangs(case: Case) {
    if case.lacks_proc() {
        return;
    }
    case.alone(|| {
        let (resolver, silence) = silent();
        let config = r#"{"connect_timeout": "100ms", "backoff": {"base": "50ms", "cap": "50ms", "jitter_percent": 0}}"#;
        let options = options(80, resolver)
            .config(Config::from_json(config).expect("a configuration"));
        let mut client = case.start(options);
        for _ in 0..10 {
            assert_eq!(client.until_disconnected().reason, "connect_timeout");
            assert!(threads("heartbeat-resolver") <= 1);
        }
        drop(silence);
    });
}

/// A lost wake-up costs a `connect_timeout`.
fn each_of_many_lookups_is_heard_of(case: Case) {
    let port = Server::start().port();
    let dials = if case.how == How::BlockingInPlace {
        1500
    } else {
        200
    };
    for dial in 0..dials {
        let options = Options::new(&format!("ws://localhost:{port}/")).expect("a URL");
        let end = case.start(options).until_disconnected();
        assert_eq!(end.reason, "refused", "dial {dial}: {}", end.detail);
    }
}

fn without_a_thread_to_look_a_host_up_in_a_dial_fails(case: Case) {
    if case.lacks_proc() {
        return;
    }
    case.alone(|| {
        let server = Server::start();
        let options = options(server.port(), resolver(&[1]));
        fails_without_a_thread(case, &server, options);
    });
}

fn without_a_thread_for_a_factory_a_dial_fails(case: Case) {
    if case.lacks_proc() {
        return;
    }
    case.alone(|| {
        let server = Server::start();
        let url = format!("ws://127.0.0.1:{}/", server.port());
        let options = Options::from_blocking_factory(move |_| Request::new(&url));
        fails_without_a_thread(case, &server, options);
    });
}

/// Allows no dial before its time, and records who has asked.
#[derive(Default)]
struct Closed {
    opened: AtomicBool,
    asked: AtomicBool,
}

impl DialBudget for Closed {
    fn ask(&self) -> Grant {
        self.asked.store(true, Ordering::Release);
        if !self.opened.load(Ordering::Acquire) {
            Grant::AskAgain(Duration::from_millis(1))
        } else {
            Grant::After(Duration::ZERO)
        }
    }
}

fn fails_without_a_thread(case: Case, server: &Server, options: Options) {
    let closed = Arc::new(Closed::default());
    let options = options
        .config(Config::from_json(QUICK).expect("a configuration"))
        .dial_budget(Arc::clone(&closed));
    let mut client = case.start(options);
    // Its own thread must have begun.
    while !closed.asked.load(Ordering::Acquire) {
        client.drive_for(Duration::from_millis(1));
    }
    // A thread's stack needs address space.
    limit_address_space(true);
    closed.opened.store(true, Ordering::Release);
    let end = client.until_disconnected();
    assert_eq!(end.reason, "io");
    assert!(end.detail.contains("no thread"), "{}", end.detail);
    limit_address_space(false);
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade());
        client.until_connected();
        drop(upgrade.join().expect("no panic"));
    });
}

/// Limits the address space to the used part plus the minimum.
#[cfg(target_os = "linux")]
fn limit_address_space(limited: bool) {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    let bytes = limited.then_some(pages * 4096 + (1 << 20));
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    setrlimit(Resource::As, limit).expect("the right to lower and raise it");
}

/// Skipped before: each system has its own limit that keeps threads from being made.
#[cfg(not(target_os = "linux"))]
fn limit_address_space(_: bool) {}
