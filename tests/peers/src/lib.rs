//! Drivers of third-party clients for the torture course. Each program in `bin` configures its client as
//! closely as possible to the course's settings.

pub mod driver;
