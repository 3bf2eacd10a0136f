//! The summary of a run, in one line.

use std::fmt;
use std::time::Duration;

use heartbeat_tokio::core::AbortReason;
use heartbeat_tokio::{Event, Reason, Seconds};

/// Counts over all connections of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) connections: u32,
    /// For each connection that was dropped by a timeout: how long it had been silent.
    pub(crate) deaths: Vec<Duration>,
    /// Open connections that ended in another way.
    pub(crate) other_ends: u32,
    pub(crate) failed_dials: u32,
    pub(crate) messages: u64,
    pub(crate) gaps: Vec<Duration>,
}

impl Sums {
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => self.connections += 1,
            Event::Message { .. } => self.messages += 1,
            Event::Gap { down_for, .. } => self.gaps.push(*down_for),
            Event::Disconnected {
                reason:
                    Reason::Aborted(
                        AbortReason::IdleTimeout
                        | AbortReason::PongTimeout
                        | AbortReason::DataTimeout
                        | AbortReason::WriteTimeout,
                    ),
                idle,
                ..
            } => self.deaths.push(*idle),
            Event::Disconnected { open, .. } if open.is_zero() => self.failed_dials += 1,
            Event::Disconnected { .. } => self.other_ends += 1,
            _ => {}
        }
    }
}

/// Shows the summary, such as `8 connections, 1 death noticed after 2.8 s, …`.
impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", counted(self.connections.into(), "connection"))?;
        match self.deaths.as_slice() {
            [] => f.write_str(", no death")?,
            deaths => {
                write!(
                    f,
                    ", {} noticed after ",
                    counted(deaths.len() as u64, "death")
                )?;
                for (index, after) in deaths.iter().enumerate().take(5) {
                    let before = if index == 0 { "" } else { ", " };
                    write!(f, "{before}{}", Seconds(*after))?;
                }
                if deaths.len() > 5 {
                    f.write_str(", …")?;
                }
            }
        }
        write!(f, ", {}", counted(self.other_ends.into(), "other end"))?;
        write!(f, ", {}", counted(self.failed_dials.into(), "failed dial"))?;
        write!(f, ", {}", counted(self.messages, "message"))?;
        write!(f, ", {}", counted(self.gaps.len() as u64, "gap"))?;
        if !self.gaps.is_empty() {
            write!(f, ", {} in all", Seconds(self.gaps.iter().sum()))?;
        }
        Ok(())
    }
}

/// Returns a count with its noun, such as `1 gap` or `2 gaps`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartbeat_tokio::{Cause, ConnId, Unsent};

    #[test]
    fn the_line_of_sums_tells_deaths_from_other_ends() {
        let mut sums = Sums::default();
        assert_eq!(
            sums.to_string(),
            "0 connections, no death, 0 other ends, 0 failed dials, 0 messages, 0 gaps"
        );
        let ended = |reason, idle, open| Event::Disconnected {
            conn: ConnId::new(1),
            reason,
            detail: None,
            response: None,
            idle: Duration::from_millis(idle),
            open: Duration::from_millis(open),
            unsent: Unsent::default(),
            in_doubt: 0,
        };
        sums.count(&ended(
            Reason::Aborted(AbortReason::IdleTimeout),
            3000,
            7000,
        ));
        sums.count(&ended(
            Reason::Aborted(AbortReason::PongTimeout),
            2800,
            7000,
        ));
        sums.count(&ended(Reason::Cause(Cause::Refused), 0, 0));
        sums.count(&ended(Reason::Cause(Cause::Eof), 10, 2000));
        assert_eq!(
            sums.to_string(),
            "0 connections, 2 deaths noticed after 3 s, 2.8 s, 1 other end, 1 failed dial, 0 messages, 0 gaps"
        );
    }
}
