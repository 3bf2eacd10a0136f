//! Runs the torture course and writes its table. `tests/peers/course` builds everything and calls this.

#![cfg_attr(not(target_os = "linux"), allow(unused))]
#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    reason = "programs on real sockets and real clocks"
)]

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
mod course;
#[cfg(target_os = "linux")]
mod picture;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod trial;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match course::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the course needs Linux");
}
