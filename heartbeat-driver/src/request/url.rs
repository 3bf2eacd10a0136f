//! What a URL says, what of it may be shown, and where a redirect's reference leads.

use http::Uri;
use http::uri::Scheme;

/// A URL up to its path and without user and password: what may be shown of it.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', '@']) => (Some(scheme), rest),
        _ => (None, url),
    };
    // A password may hold anything, a slash too, when the URL is wrong anyway.
    let (hidden, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let tail = match &rest[end..] {
        tail @ ("" | "/") => tail,
        _ => "/…",
    };
    let scheme = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
    format!("{scheme}{hidden}{}{tail}", &rest[..end])
}

/// The scheme's case means nothing (RFC 3986 §3.1), but `http` keeps it.
pub(crate) fn lower_scheme(url: &str) -> String {
    url.split_once("://")
        .map_or(url.to_owned(), |(scheme, rest)| {
            format!("{}://{rest}", scheme.to_ascii_lowercase())
        })
}

/// The host without brackets, which may be empty, and the port if there is one.
pub(crate) fn host_and_port(uri: &Uri) -> Result<(String, Option<u16>), &'static str> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = uri.host().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    // `http` takes a port that is none for no port.
    let after_host = authority.rsplit(['@', ']']).next().unwrap_or_default();
    match uri.port_u16() {
        Some(port @ 1..) => Ok((host, Some(port))),
        None if !after_host.contains(':') => Ok((host, None)),
        _ => Err("the port must lie between 1 and 65535"),
    }
}

/// A reference of a redirect as a URL (RFC 3986 §5.2), without its fragment.
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

/// RFC 3986 §5.2.4.
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
