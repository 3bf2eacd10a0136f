//! URLs: parsing, redaction for logs, and the resolution of redirects.

use std::fmt;
use std::net::Ipv6Addr;

use http::Uri;
use http::uri::Scheme;

/// Returns the part of a URL that may be shown: scheme, host and port, with `…` for the rest.
///
/// An invalid URL may contain a password anywhere. So the host is shown only if it looks like a host and its
/// port is a number.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        _ => (String::new(), url),
    };
    // Userinfo ends where the authority ends (RFC 3986 §3.2). For browsers a backslash also ends the authority.
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (hidden, authority) = match authority.rsplit_once('@') {
        Some((_, authority)) => ("…@", authority),
        None => ("", authority),
    };
    let host = match split_port(authority) {
        (host, port) if is_host(host) && port.is_none_or(is_number) => authority.to_owned(),
        // Words without any URL syntax are shown, because an error without them would not help.
        (words, None) if (scheme.as_str(), hidden, tail) == ("", "", "") => {
            words.chars().take(64).collect()
        }
        // In `ws://me:pass/word@host` the part that looks like a host is a user.
        (host, Some(_)) if is_host(host) && !tail.contains('@') => format!("{host}:…"),
        _ => "…".to_owned(),
    };
    let tail = match tail {
        tail @ ("" | "/") => tail,
        _ => "/…",
    };
    format!("{scheme}{hidden}{host}{tail}")
}

fn is_number(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for a URL scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Splits an authority into the host and the text after its colon.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after..].split_once(':') {
        Some((rest, port)) => (&authority[..after + rest.len()], Some(port)),
        None => (authority, None),
    }
}

/// Returns true for a possible host name, in letters of any language, or an address.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(literal) => literal
            .strip_suffix(']')
            .is_some_and(|literal| Host::literal(literal).is_ok()),
        None => text
            .chars()
            .all(|letter| letter.is_alphanumeric() || "-._".contains(letter)),
    }
}

/// Converts the scheme to lower case. Its case does not matter (RFC 3986 §3.1), but the `http` crate keeps it.
pub(crate) fn lower_scheme(url: &str) -> String {
    url.split_once("://")
        .map_or(url.to_owned(), |(scheme, rest)| {
            format!("{}://{rest}", scheme.to_ascii_lowercase())
        })
}

/// A host: a name or an address, without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The name in the `Host` header, in certificates and in proxy requests.
    pub(crate) name: String,
    /// The interface for a link-local address (RFC 6874). Zones are local to this machine.
    zone: Option<String>,
}

impl Host {
    /// Parses an IPv6 address with its zone, from the text between brackets.
    fn literal(text: &str) -> Result<Self, &'static str> {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (text, None),
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("what stands in brackets must be an IPv6 address");
        }
        let rule = "a zone is written %25 and the interface's name, as in [fe80::1%25eth0]";
        let zone = match zone {
            None => None,
            // RFC 6874 §3 recommends to accept a bare percent sign as well.
            Some(zone) => {
                let zone = zone.strip_prefix("25").unwrap_or(zone);
                let zone = decode(zone).ok_or(rule)?;
                let is_name = |text: &str| {
                    let fits =
                        |letter: char| letter.is_ascii_graphic() && !"/\\%[]".contains(letter);
                    !text.is_empty() && text.chars().all(fits)
                };
                Some(Some(zone).filter(|zone| is_name(zone)).ok_or(rule)?)
            }
        };
        Ok(Self {
            name: address.to_owned(),
            zone,
        })
    }

    /// Returns the name as in an authority: an IPv6 address has brackets.
    pub(crate) fn bracketed(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]", self.name)
        } else {
            self.name.clone()
        }
    }
}

/// Formats the host for name resolution: `fe80::1%eth0`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Returns the host, whose name may be empty, and the port if there is one.
pub(crate) fn host_and_port(uri: &Uri) -> Result<(Host, Option<u16>), &'static str> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, authority)| authority);
    let (host, port) = split_port(authority);
    let host = match host.strip_prefix('[') {
        Some(literal) => Host::literal(literal.trim_end_matches(']'))?,
        None => Host {
            name: host.to_owned(),
            zone: None,
        },
    };
    let port = match port {
        None => None,
        Some(port) if is_number(port) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            Some(port.ok_or("the port must lie between 1 and 65535")?)
        }
        Some(_) => return Err("the port must lie between 1 and 65535"),
    };
    Ok((host, port))
}

/// Decodes percent-encoded text (RFC 3986 §2.1).
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Resolves a redirect's reference to a URL (RFC 3986 §5.2), without its fragment.
pub(super) fn resolve(base: &Uri, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let colon = reference.find(':');
    let slash = reference.find(['/', '?']).unwrap_or(reference.len());
    if colon.is_some_and(|colon| colon < slash) {
        return lower_scheme(reference);
    }
    let scheme = base.scheme().map_or("", Scheme::as_str);
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}");
    }
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let merged = match path {
        "" => base.path().to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => {
            let end = base.path().rfind('/').map_or(0, |at| at + 1);
            format!("{}{path}", &base.path()[..end])
        }
    };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("{scheme}://{authority}{}{query}", without_dots(&merged))
}

/// Removes dot segments (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Returns true if a certificate can be issued for this host name.
#[cfg(feature = "tls")]
pub(super) fn can_be_certified(host: &str) -> bool {
    rustls::pki_types::ServerName::try_from(host).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_ends_with_its_authority() {
        for (url, expected) in [
            ("ws://a.test/", "ws://a.test/"),
            ("ws://a.test", "ws://a.test"),
            ("ws://a.test:80/ws/btcusdt@trade", "ws://a.test:80/…"),
            ("wss://a.test?key=SECRET@x", "wss://a.test/…"),
            ("wss://a.test#SECRET@x", "wss://a.test/…"),
            ("wss://a.test/?u=ws://me:SECRET@x", "wss://a.test/…"),
            ("wss://a.test\\@SECRET", "wss://a.test/…"),
            ("ws://me:SECRET@a.test:80/x@y", "ws://…@a.test:80/…"),
            ("ws://SECRET@SECRET@a.test", "ws://…@a.test"),
            ("ws://SECRET@[::1]:80/", "ws://…@[::1]:80/"),
            ("ws://[fe80::1%25lo]/x", "ws://[fe80::1%25lo]/…"),
            ("ws://[SECRET]/", "ws://…/"),
            ("a.test/SECRET@x", "a.test/…"),
            ("SECRET@a.test:1", "…@a.test:1"),
            ("a.test/?u=ws://SECRET", "a.test/…"),
            ("wss://bücher.test/SECRET", "wss://bücher.test/…"),
            // Invalid URLs: a password that contains the end of an authority, or no authority at all.
            ("ws://me:SEC/RET@a.test", "ws://…/…"),
            ("ws://me:SEC?RET@a.test", "ws://…/…"),
            ("me:SEC#RET@a.test", "…/…"),
            ("ws://me:SECRET", "ws://me:…"),
            ("ws://a.test:SECRET/x", "ws://a.test:…/…"),
            ("me:SECRET://a.test", "me:…/…"),
            ("ws://me%3ASECRET%40a.test/", "ws://…/"),
            ("ws://exa SECRET/", "ws://…/"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    fn parsed(url: &str) -> Result<(Host, Option<u16>), &'static str> {
        host_and_port(&url.parse().map_err(|_| "no URI")?)
    }

    #[test]
    fn a_zone_is_for_the_resolver_and_not_for_others() {
        for (literal, resolved) in [
            ("[fe80::1%25lo]", "fe80::1%lo"),
            ("[fe80::1%25eth0]", "fe80::1%eth0"),
            ("[fe80::1%257]", "fe80::1%7"),
            ("[fe80::1%25en%2Da.1]", "fe80::1%en-a.1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
        ] {
            let (host, port) = parsed(&format!("ws://{literal}:81/")).unwrap();
            assert_eq!((host.name.as_str(), port), ("fe80::1", Some(81)));
            assert_eq!(host.to_string(), resolved);
            assert_eq!(host.bracketed(), "[fe80::1]");
        }
        for literal in [
            "[fe80::1%25]",
            "[fe80::1%]",
            "[fe80::1%25a%2Fb]",
            "[fe80::1%25a%00]",
            "[fe80::1%25a%2]",
            "[1.2.3.4]",
            "[a.test]",
            "[]",
            "[::1%25a%25b]",
        ] {
            assert!(parsed(&format!("ws://{literal}/")).is_err(), "{literal}");
        }
    }
}
