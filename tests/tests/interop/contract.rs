//! The format of every line of `watch --json`, and the order of the lines, in any scenario.

use serde_json::Value;

/// `t` is taken when a line is printed, not when the event was decided. So on a busy machine the first of
/// two lines may be late, and the second in time. Tests in virtual time check exact times.
const SLACK_SECONDS: f64 = 0.25;

/// Checks a run line by line.
#[derive(Debug, Default)]
pub(crate) struct Contract {
    phase: Phase,
    t: f64,
    conn: u64,
    /// From the last `reconnect`: the attempt, and the earliest `t` of the dial.
    announced: (u64, f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Started,
    Connecting,
    Open,
    Lost,
    Waiting,
    GaveUp,
    Stopped,
}

impl Contract {
    /// Takes the next line, or returns the fault in it.
    pub(crate) fn take(&mut self, line: &Value) -> Result<(), String> {
        let t = line["t"].as_f64().ok_or("`t` is not a number")?;
        if t < self.t {
            return Err(format!("`t` went back from {}", self.t));
        }
        self.t = t;
        let event = line["event"].as_str().ok_or("`event` is not a string")?;
        self.phase = self.after(event, line)?;
        Ok(())
    }

    fn after(&mut self, event: &str, line: &Value) -> Result<Phase, String> {
        if event != "connecting" && line.get("conn").is_some_and(|conn| *conn != self.conn) {
            return Err(format!("connection {} is current", self.conn));
        }
        match (event, self.phase) {
            ("connecting", Phase::Started | Phase::Waiting) => {
                let conn = whole(line, "conn")?;
                if conn <= self.conn {
                    return Err(format!("`conn` did not grow from {}", self.conn));
                }
                self.conn = conn;
                let (attempt, earliest) = self.announced;
                if whole(line, "attempt")? != attempt {
                    return Err(format!("attempt {attempt} is due"));
                }
                if self.t + SLACK_SECONDS < earliest {
                    return Err(format!("dialled before {earliest}"));
                }
                Ok(Phase::Connecting)
            }
            ("connected", Phase::Connecting) => whole(line, "conn").and(Ok(Phase::Open)),
            ("message", Phase::Open) => {
                whole(line, "conn")?;
                if line["text"].is_string() == line["bytes"].is_null() {
                    Ok(Phase::Open)
                } else {
                    Err("a message has either `text` or `bytes`".into())
                }
            }
            ("pong_sent" | "ping_sent", Phase::Open) => Ok(Phase::Open),
            // Null: the pong answers no ping of the client.
            ("pong_received", Phase::Open) if line.get("rtt_ms").is_some_and(Value::is_null) => {
                Ok(Phase::Open)
            }
            ("pong_received", Phase::Open) => number(line, "rtt_ms").and(Ok(Phase::Open)),
            ("gap", Phase::Open) => number(line, "down_for_ms").and(Ok(Phase::Open)),
            ("check", Phase::Open) => number(line, "idle_ms").and(Ok(Phase::Open)),
            ("disconnected", Phase::Connecting | Phase::Open) => {
                whole(line, "conn")?;
                for key in ["reason", "idle_ms", "open_ms"] {
                    line.get(key).ok_or(format!("`{key}` is missing"))?;
                }
                Ok(Phase::Lost)
            }
            ("reconnect", Phase::Lost) => {
                let delay = number(line, "delay_ms")? / 1000.0;
                self.announced = (whole(line, "attempt")?, self.t + delay);
                Ok(Phase::Waiting)
            }
            ("gave_up", Phase::Lost) if line.get("reason").is_some() => Ok(Phase::GaveUp),
            ("stopped", phase) if phase != Phase::Stopped => Ok(Phase::Stopped),
            (_, phase) => Err(format!("{event:?} does not come in phase {phase:?}")),
        }
    }
}

fn whole(line: &Value, key: &str) -> Result<u64, String> {
    line[key]
        .as_u64()
        .ok_or(format!("`{key}` is not a whole number"))
}

fn number(line: &Value, key: &str) -> Result<f64, String> {
    let number = line[key].as_f64().filter(|number| *number >= 0.0);
    number.ok_or(format!("`{key}` is not a number from 0 up"))
}
