//! Reads a service's limits for a client.

use core::time::Duration;

use serde_json::Value;

use crate::dialect::at::{At, Result};
use crate::dialect::limits::{Limits, Rate, Rates};

pub(crate) fn limits(at: &At, value: &Value) -> Result<Limits> {
    let fields = at.object(value, "messages, dials, connections")?;
    let rate = |key| {
        fields
            .get(key)
            .map(|value| rates(&at.key(key), value))
            .transpose()
    };
    let connections = fields.get("connections").map(|value| {
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        let expected = "a whole number from 1 on";
        count
            .filter(|count| *count > 0)
            .ok_or_else(|| at.key("connections").wrong(Some(value), expected))
    });
    Ok(Limits {
        messages: rate("messages")?,
        dials: rate("dials")?,
        connections: connections.transpose()?,
    })
}

/// The longest time of a rate: a [`Limiter`](crate::Limiter) spreads turns over at most a day.
const LONGEST_RATE: Duration = Duration::from_secs(86_400);

fn rates(at: &At, value: &Value) -> Result<Rates> {
    let Value::Array(several) = value else {
        return rate(at, value).map(Rates::from);
    };
    let rate = |index: usize| rate(&at.index(index), &several[index]);
    match several.len() {
        1 => Ok(rate(0)?.into()),
        2 => Ok([rate(0)?, rate(1)?].into()),
        3 => Ok([rate(0)?, rate(1)?, rate(2)?].into()),
        _ => Err(at.wrong(
            Some(value),
            "one to three rates, such as [\"10/1s\", \"300/1m\"]",
        )),
    }
}

fn rate(at: &At, value: &Value) -> Result<Rate> {
    let expected = "a number and a time of at most 24h, such as \"5/1s\"";
    let wrong = || at.wrong(Some(value), expected);
    let text = at.string(Some(value), expected)?;
    let (most, per) = text.split_once('/').ok_or_else(wrong)?;
    let most = most.parse().ok().filter(|most| *most > 0);
    let most = most.ok_or_else(wrong)?;
    let per = at.duration(&per.into())?;
    if per > LONGEST_RATE {
        return Err(wrong());
    }
    Ok(Rate { most, per })
}
