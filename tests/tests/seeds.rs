//! The fuzzers' seeds go through the same checks as in the fuzz targets, without a fuzzer: on every
//! toolchain, in the ordinary tests. (`heartbeat-core/tests/seeds.rs` does this for the target `step`.)
//!
//! `UPDATE_SEEDS=1` rewrites `fuzz/seeds/frames` and `reader`. `SEED=FILE` checks that file, by the name of
//! its target.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

#[path = "../../fuzz/harness/engine.rs"]
mod engine;
#[path = "../../fuzz/harness/frames.rs"]
mod frames;
#[path = "../../fuzz/harness/reader.rs"]
mod reader;
#[path = "../../fuzz/harness/texts.rs"]
mod texts;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target)
}

/// A frame as a server sends it: not masked. The first byte is FIN, reserved bits and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("small");
    let mut bytes = match len {
        0..126 => vec![first, len as u8],
        _ => vec![first, 126, (len >> 8) as u8, len as u8],
    };
    bytes.extend_from_slice(payload);
    bytes
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The server's behaviour (`harness/frames.rs`), and its bytes.
fn frames_seeds() -> Vec<(&'static str, u8, Vec<u8>)> {
    let json_ping = frame(TEXT, br#"{"type":"ping"}"#);
    let fragments = [
        frame(0x01, b"one "),
        frame(PING, b"between"),
        frame(0x80, b"message"),
    ];
    let upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";
    vec![
        ("eof", 0, Vec::new()),
        (
            "data",
            1,
            [frame(TEXT, b"hello"), frame(BINARY, &[0; 200])].concat(),
        ),
        (
            "pings",
            1,
            [frame(PING, b"7"), json_ping.clone(), frame(PONG, b"")].concat(),
        ),
        (
            "pings_that_nobody_reads",
            0b0001_1001,
            frame(PING, &[7; 125]),
        ),
        ("fragments", 1, fragments.concat()),
        (
            "in_small_pieces",
            0b0010_0001,
            [frame(TEXT, &[b'x'; 300]), json_ping].concat(),
        ),
        ("close", 0, frame(CLOSE, b"\x03\xe8bye")),
        ("close_without_a_code", 0, frame(CLOSE, b"")),
        (
            "data_after_close",
            0,
            [frame(CLOSE, b"\x03\xf4"), frame(TEXT, b"late")].concat(),
        ),
        ("too_large", 0, frame(BINARY, &[1; 400])),
        (
            "announces_too_much",
            0,
            b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        ),
        ("fragments_without_end", 0b0001_0011, frame(0x00, &[2; 600])),
        ("largest", 3, frame(BINARY, &[3; 60_000])),
        ("bad_utf8", 0, frame(TEXT, b"\xff")),
        ("reserved_bits", 0, frame(0xf1, b"")),
        ("masked", 0, b"\x81\x81\x01\x02\x03\x04a".to_vec()),
        ("long_ping", 1, frame(PING, &[7; 126])),
        ("cut_in_a_header", 0, vec![TEXT, 126]),
        ("pausing", 0b0111_0001, frame(TEXT, b"much to say")),
        (
            "upgrade",
            0b0000_0101,
            [&upgrade[..], &frame(TEXT, b"hello")].concat(),
        ),
        (
            "upgrade_refused",
            4,
            b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\n".to_vec(),
        ),
        (
            "upgrade_never_ends",
            0b0001_0100,
            b"HTTP/1.1 101 X\r\nA: b\r\nC".to_vec(),
        ),
        ("upgrade_is_garbage", 4, b"SSH-2.0-OpenSSH\r\n".to_vec()),
    ]
}

#[test]
fn each_connection_has_one_end_and_holds_no_more_than_it_may() {
    for (name, mode, said) in frames_seeds() {
        let path = folder("frames").join(name);
        let bytes = [vec![mode], said].concat();
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "{name}: UPDATE_SEEDS=1 writes it anew"
        );
        println!("{name}");
        frames::check(&bytes);
    }
    let files = fs::read_dir(folder("frames")).unwrap().count();
    assert_eq!(files, frames_seeds().len());
}

/// The server's bytes, after a list of cuts. The seeds of `frames` have more.
fn reader_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let said = |cuts: &[u8], frames: &[Vec<u8>]| {
        let cuts = [&[cuts.len() as u8], cuts].concat();
        [cuts, frames.concat()].concat()
    };
    vec![
        (
            "one_by_one",
            said(
                &[0],
                &[
                    frame(0x01, b"t\xc3"),
                    frame(PING, b"?"),
                    frame(0x80, b"\xa9"),
                ],
            ),
        ),
        (
            "cut_in_large_ones",
            said(
                &[99, 255, 3],
                &[frame(BINARY, &[0; 999]), frame(TEXT, &[b'x'; 1000])],
            ),
        ),
        (
            "empty_fragments",
            said(&[], &[frame(0x02, b""), frame(0x00, b"").repeat(200)]),
        ),
        ("close", said(&[1], &[frame(CLOSE, b"\x03\xf6bye")])),
        ("half_a_close", said(&[], &[frame(CLOSE, b"\x03")])),
        (
            "deflated",
            said(
                &[2],
                &[
                    frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
                    frame(0xc1, b"\xf2\x00\x11\x00\x00"),
                ],
            ),
        ),
        (
            "masked",
            said(&[], &[b"\x81\x81\x01\x02\x03\x04a".to_vec()]),
        ),
        ("surrogate", said(&[], &[frame(0x01, b"\xed\xa0")])),
    ]
}

#[test]
fn the_frames_reader_gives_what_tungstenites_gives() {
    for (name, bytes) in reader_seeds() {
        let path = folder("reader").join(name);
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "{name}: UPDATE_SEEDS=1 writes it anew"
        );
        println!("{name}");
        reader::check(&bytes);
    }
    for (_, _, said) in frames_seeds() {
        for cuts in [&[0][..], &[1, 0], &[3, 6, 0, 99]] {
            reader::check(&[cuts, &said].concat());
        }
    }
}

/// Valid and invalid frames from a server, in any cuts.
fn frames_of_any_kind() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let text = "[a-zé€𐍈]{0,40}".prop_map(String::into_bytes);
    let payload = prop_oneof![
        6 => text,
        2 => prop::collection::vec(any::<u8>(), 0..140),
        1 => (900_usize..1010).prop_map(|len| vec![b'x'; len]),
    ];
    let whole = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
    let part = prop_oneof![
        12 => whole,
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let cuts = prop::collection::vec(any::<u8>(), 0..15);
    (
        cuts,
        prop::collection::vec(part, 0..12),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(cuts, parts, at, cut_off)| {
            let mut said = parts.concat();
            if cut_off {
                said.truncate(at.index(said.len() + 1));
            }
            [&[cuts.len() as u8], &cuts[..], &said].concat()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_frames_reader_gives_what_tungstenites_gives_of_any_frames(bytes in frames_of_any_kind()) {
        reader::check(&bytes);
    }
}

#[test]
fn whatever_is_called_and_said_each_message_has_one_fate() {
    let mut count = 0;
    for file in fs::read_dir(folder("engine")).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        engine::check(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_is_called_and_said_in_any_order_each_message_has_one_fate(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        engine::check(&bytes);
    }
}

#[test]
fn each_text_gets_an_answer_or_an_error() {
    let mut count = 0;
    for file in fs::read_dir(folder("texts")).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        texts::check(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn a_given_input_is_checked() {
    let Some(path) = std::env::var_os("SEED").map(PathBuf::from) else {
        return;
    };
    let bytes = fs::read(&path).expect("SEED names a readable file");
    let of = |target: &str| path.iter().any(|part| part == target);
    if of("engine") {
        engine::check(&bytes);
    } else if of("frames") {
        frames::check(&bytes);
    } else if of("reader") {
        reader::check(&bytes);
    } else if of("texts") {
        texts::check(&bytes);
    } else {
        panic!("SEED: a file in a folder `engine`, `frames`, `reader` or `texts`");
    }
}
