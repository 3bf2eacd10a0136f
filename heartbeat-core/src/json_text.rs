//! JSON without duplicate keys. `serde_json::Value` silently keeps the last of several values, so a setting written
//! twice would be lost.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value, and the first duplicate key in it.
pub(crate) struct Unique {
    value: Value,
    twice: Option<String>,
}

impl Unique {
    /// Returns the value, or the place of a duplicate key: `ping.every`, `rules[2].json`.
    pub(crate) fn value(self) -> Result<Value, String> {
        match self.twice {
            None => Ok(self.value),
            Some(key) => Err(key),
        }
    }

    fn plain(value: impl Into<Value>) -> Self {
        Self {
            value: value.into(),
            twice: None,
        }
    }
}

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// The key under which serde_json passes numbers if another crate has switched on `arbitrary_precision`.
const NUMBER: &str = "$serde_json::private::Number";

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Unique, E> {
        Ok(Unique::plain(value))
    }

    fn visit_none<E>(self) -> Result<Unique, E> {
        Ok(Unique::plain(Value::Null))
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique::plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Unique, D::Error> {
        Unique::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Unique, A::Error> {
        let (mut values, mut twice) = (Vec::new(), None);
        while let Some(one) = list.next_element::<Unique>()? {
            let inside = one
                .twice
                .map(|key| below(&format!("[{}]", values.len()), &key));
            twice = twice.or(inside);
            values.push(one.value);
        }
        Ok(Unique {
            value: Value::Array(values),
            twice,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let (mut map, mut twice) = (Map::new(), None);
        while let Some(key) = members.next_key::<String>()? {
            let one = members.next_value::<Unique>()?;
            if let (NUMBER, Some(digits)) = (&*key, one.value.as_str()) {
                let number = serde_json::from_str::<Value>(digits).map_err(A::Error::custom)?;
                return Ok(Unique::plain(number));
            }
            twice = twice.or_else(|| one.twice.map(|inside| below(&key, &inside)));
            if map.contains_key(&key) {
                twice = twice.or_else(|| Some(key.to_owned()));
            }
            map.insert(key, one.value);
        }
        Ok(Unique {
            value: Value::Object(map),
            twice,
        })
    }
}

/// Returns the path of a key below an outer path.
fn below(outer: &str, inner: &str) -> String {
    let dot = if inner.starts_with(['[', '/']) {
        ""
    } else {
        "."
    };
    format!("{outer}{dot}{inner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_named_by_its_place() {
        for (text, twice) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":1,"\u0061":2}"#, "a"),
            (r#"{"b":{"c":[0,{"d":1,"e":2,"d":3}]}}"#, "b.c[1].d"),
            (r#"[[{"/x":1,"/x":1}]]"#, "[0][0]/x"),
            (r#"{"a":{"b":1,"b":1},"c":1,"c":1}"#, "a.b"),
        ] {
            let unique: Unique = serde_json::from_str(text).unwrap();
            assert_eq!(unique.value(), Err(twice.into()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "-7",
            "18446744073709551615",
            "1.5",
            r#""a\nb""#,
            "[]",
            r#"{"a":[1,{"a":null}],"b":{"a":"x"}}"#,
        ] {
            let unique: Unique = serde_json::from_str(text).unwrap();
            assert_eq!(unique.value(), Ok(serde_json::from_str(text).unwrap()));
        }
        for bad in ["", "{", "[1,]", "{\"a\":1} x"] {
            assert!(serde_json::from_str::<Unique>(bad).is_err(), "{bad}");
        }
    }
}
