//! The age of a message when the application takes it. The server writes the time into the message as it
//! sends it, and both processes read the same clock.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::results::quantile;
use crate::wall_ns;

/// Whether this process notes the age of each message.
pub(crate) static ARE_NOTED: AtomicBool = AtomicBool::new(false);

static AGES: Mutex<Vec<f64>> = Mutex::new(Vec::new());

/// The number of digits of the time. It wraps after 2.8 hours.
const DIGITS: usize = 13;
const ROUND: u64 = 10_u64.pow(DIGITS as u32);

/// Where a message of [`message`](crate::message) holds its time.
const AT: usize = r#"{"e":"trade","E":"#.len();

/// Messages that do not count, because the first ones find the caches cold.
const WARM: usize = 100;

/// Writes the time into a message.
pub(crate) fn stamp(message: &mut [u8]) {
    let digits = format!("{:0DIGITS$}", wall_ns() % ROUND);
    message[AT..AT + DIGITS].copy_from_slice(digits.as_bytes());
}

/// Records how old a message is.
pub(crate) fn note(message: &[u8]) {
    let now = wall_ns() % ROUND;
    let digits = message.get(AT..AT + DIGITS).unwrap_or_default();
    let sent = digits.iter().fold(0, |sum, digit| {
        sum * 10 + u64::from(digit.wrapping_sub(b'0'))
    });
    let age = (now + ROUND - sent) % ROUND;
    let mut ages = AGES.lock().expect("nobody panics here");
    ages.push(age as f64);
}

/// Median and 99th percentile in nanoseconds.
pub(crate) fn figures() -> [f64; 2] {
    let ages = AGES.lock().expect("nobody panics here");
    let ages = ages.get(WARM..).unwrap_or_default();
    [quantile(ages, 0.5), quantile(ages, 0.99)]
}
