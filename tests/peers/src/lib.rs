//! Drivers of other people's clients for the torture course. Each program in `bin` shows, by its
//! settings, what comes closest to what every client is asked for.

pub mod driver;
