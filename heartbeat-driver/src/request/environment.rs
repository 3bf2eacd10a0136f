//! Proxies from environment variables, by the rules that curl, Go and Python share.

use std::env;
use std::net::IpAddr;

use super::error::RequestError;
use super::proxy::Proxy;
use super::{Request, Route};

/// `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, each also in upper case. Lower case takes
/// precedence. Under CGI, where `REQUEST_METHOD` is set, all of them are ignored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    plain: Option<Result<Proxy, RequestError>>,
    tls: Option<Result<Proxy, RequestError>>,
    except: Vec<String>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        // A value that is not Unicode still counts as set.
        Self::from(|name| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        // A web server that runs a program by CGI (RFC 3875) puts a visitor's `Proxy` header into `HTTP_PROXY`.
        // On Windows names of variables ignore case, so `http_proxy` is affected too.
        if variable("REQUEST_METHOD").is_some() {
            return Self::default();
        }
        let get = |name: &str| {
            let capitals = name.to_ascii_uppercase();
            let found = variable(name).map(|value| (name.to_owned(), value));
            let found = found.or_else(|| {
                let value = variable(&capitals)?;
                Some((capitals, value))
            });
            found.filter(|(_, value)| !value.trim().is_empty())
        };
        let proxy = |name: &str| {
            let (name, value) = get(name).or_else(|| get("all_proxy"))?;
            let named = |error| match error {
                RequestError::Proxy { url, rule } => RequestError::Proxy {
                    url: format!("{name}={url}"),
                    rule,
                },
                other => other,
            };
            Some(Proxy::new(value.trim()).map_err(named))
        };
        let except = get("no_proxy").map_or(String::new(), |(_, value)| value);
        Self {
            plain: proxy("http_proxy"),
            tls: proxy("https_proxy"),
            except: except
                .split([',', ' '])
                .filter(|entry| !entry.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        }
    }

    /// Returns the proxy for this request. `localhost` and loopback addresses never have one, as in Go.
    pub(crate) fn proxy(&self, request: &Request) -> Result<Option<&Proxy>, RequestError> {
        let proxy = if request.is_tls() {
            &self.tls
        } else {
            &self.plain
        };
        let Some(proxy) = proxy else { return Ok(None) };
        let host = request.name().trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let excepted =
            |entry: &String| is_excepted(entry, &host, request.port(), address).unwrap_or_default();
        if local || self.except.iter().any(excepted) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(Clone::clone)
    }
}

/// Returns true if an entry of `no_proxy` matches this host. An entry is `*`, an address, a network in CIDR
/// form, or a domain with its subdomains. All but `*` may have a port.
fn is_excepted(entry: &str, host: &str, port: u16, address: Option<IpAddr>) -> Option<bool> {
    if entry == "*" {
        return Some(true);
    }
    let (entry, wanted) = match entry.rsplit_once(':') {
        Some((rest, wanted)) if entry.parse::<IpAddr>().is_err() && !rest.ends_with(':') => {
            match wanted.parse::<u16>() {
                Ok(wanted) => (rest, Some(wanted)),
                Err(_) => (entry, None),
            }
        }
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return None;
    }
    let entry = entry.trim_start_matches('[').trim_end_matches(']');
    if let Some(address) = address {
        let (network, bits) = match entry.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse().ok()?)),
            None => (entry, None),
        };
        return Some(is_in(address, network.parse().ok()?, bits));
    }
    let domain = entry.trim_start_matches('*').trim_matches('.');
    let before = host.strip_suffix(domain)?;
    Some(!domain.is_empty() && (before.is_empty() || before.ends_with('.')))
}

fn is_in(address: IpAddr, network: IpAddr, bits: Option<u32>) -> bool {
    // Both are left-aligned in 128 bits.
    let aligned = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let width = if network.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    address.is_ipv4() == network.is_ipv4()
        && bits <= width
        && (aligned(address) ^ aligned(network))
            .checked_shr(128 - bits)
            .unwrap_or_default()
            == 0
}

/// The source of the client's proxy.
#[derive(Clone, Debug, Default)]
pub(crate) enum Proxies {
    /// The options do not choose one.
    #[default]
    Unset,
    None,
    Fixed(Proxy),
    Environment(Environment),
}

impl Proxies {
    /// Returns the proxy for this request.
    pub(crate) fn choose(&self, request: &Request) -> Result<Option<Proxy>, RequestError> {
        let proxy = match (request.route(), self) {
            (Route::Via(proxy), _) | (Route::AsConfigured, Self::Fixed(proxy)) => Some(proxy),
            (Route::AsConfigured, Self::Environment(environment)) => environment.proxy(request)?,
            (Route::Direct, _) | (Route::AsConfigured, Self::Unset | Self::None) => None,
        };
        if let Some(proxy) = proxy {
            proxy.check(request.name())?;
        }
        Ok(proxy.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(environment: &Environment, url: &str) -> Option<String> {
        let request = Request::new(url).unwrap();
        environment.proxy(&request).unwrap().map(Proxy::to_string)
    }

    #[test]
    fn the_scheme_chooses_the_variable_and_small_letters_win() {
        let both = environment(&[
            ("http_proxy", "small:1"),
            ("HTTP_PROXY", "large:1"),
            ("ALL_PROXY", "socks5://all:1"),
        ]);
        assert_eq!(chosen(&both, "ws://a.test/").unwrap(), "http://small:1");
        #[cfg(feature = "tls")]
        assert_eq!(chosen(&both, "wss://a.test/").unwrap(), "socks5://all:1");
        assert_eq!(
            chosen(&environment(&[("http_proxy", "")]), "ws://a.test/"),
            None
        );
    }

    #[test]
    fn under_cgi_a_visitors_header_chooses_no_proxy_whatever_the_case_of_names() {
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"] {
            for method in ["GET", ""] {
                let cgi = environment(&[(name, "visitor:1"), ("REQUEST_METHOD", method)]);
                assert_eq!(chosen(&cgi, "ws://a.test/"), None, "{name}");
                #[cfg(feature = "tls")]
                assert_eq!(chosen(&cgi, "wss://a.test/"), None, "{name}");
            }
        }
        // Simulates a platform on which names of variables ignore case.
        let windows = Environment::from(|name| {
            let known = [("HTTP_PROXY", "visitor:1"), ("Request_Method", "GET")];
            let found = known
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(chosen(&windows, "ws://a.test/"), None);
    }

    #[test]
    fn a_zone_is_no_part_of_what_no_proxy_means() {
        let environment = environment(&[("all_proxy", "p.test"), ("NO_PROXY", "fe80::/10")]);
        assert_eq!(chosen(&environment, "ws://[fe80::1%25eth0]/"), None);
        assert_eq!(chosen(&environment, "ws://[::1%25lo]/"), None);
        assert!(chosen(&environment, "ws://[fd00::1%25eth0]/").is_some());
    }

    #[test]
    fn a_bad_variable_is_named_without_its_password_and_only_when_it_is_needed() {
        let bad = environment(&[
            ("HTTP_PROXY", "ftp://me:SECRET@p.test"),
            ("no_proxy", "b.test"),
        ]);
        let error = bad
            .proxy(&Request::new("ws://a.test/").unwrap())
            .unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("HTTP_PROXY=ftp://…@p.test") && !words.contains("SECRET"),
            "{words}"
        );
        assert_eq!(chosen(&bad, "ws://b.test/"), None);
    }

    #[test]
    fn no_proxy_means_names_subdomains_addresses_networks_and_ports() {
        for (except, host, direct) in [
            ("*", "a.test", true),
            ("a.test", "a.test", true),
            ("A.test", "b.a.TEST", true),
            (".a.test", "b.a.test", true),
            ("*.a.test", "b.a.test", true),
            ("a.test", "ba.test", false),
            ("a.test:80", "a.test", true),
            ("a.test:81", "a.test", false),
            ("x, 10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::/8", "[fd12::1]", true),
            ("[fd12::1]:80", "[fd12::1]", true),
            ("fd12::1", "[fd12::1]", true),
            ("0.0.0.0/0", "[fd12::1]", false),
            ("", "localhost", true),
            ("", "127.9.9.9", true),
            ("", "[::1]", true),
            ("", "a.test", false),
            (",.,:", "a.test", false),
        ] {
            let environment = environment(&[("all_proxy", "p.test"), ("NO_PROXY", except)]);
            let found = chosen(&environment, &format!("ws://{host}/"));
            assert_eq!(found.is_none(), direct, "{except} for {host}");
        }
    }
}
