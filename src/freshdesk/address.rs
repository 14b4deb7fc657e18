//! Where requests go: the account's address, and the proxy on the way to it. Decided once, at start.
//!
//! **Invariants:** plain http goes to loopback only, or the API key would travel readable. A proxy that
//! is named but not understood is an error: ureq would ignore it and connect directly.

use super::client::ClientError;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// `https://acme.freshdesk.com`, taken apart.
#[derive(Debug)]
pub(super) struct Base {
    /// Scheme, host and port, without a slash at the end.
    pub(super) url: String,
    /// Lower case, without port; IPv6 in brackets.
    pub(super) host: String,
    /// Whether TLS is spoken.
    pub(super) https: bool,
    /// Whether the host is this machine: a sandbox.
    pub(super) loopback: bool,
}

impl Base {
    /// Understands `freshdesk.url`.
    pub(super) fn parse(url: &str) -> Result<Base, ClientError> {
        // The address is not repeated in the error: somebody may have put a password into it.
        let wrong = |problem| Err(ClientError::Url { problem });
        let Ok(uri) = url.parse::<Uri>() else { return wrong("is not a URL") };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return wrong("must look like https://acme.freshdesk.com");
        };
        if authority.as_str().contains('@') {
            return wrong("must not carry a user or password");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return wrong("must end after the host: deskspool adds /api/v2 itself");
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return wrong("names no host");
        }
        let (https, loopback) = (scheme == "https", is_loopback(&host));
        match scheme {
            "https" => {}
            "http" if loopback => {}
            "http" => return wrong("plain http is for loopback only, use https"),
            _ => return wrong("must begin with https://"),
        }
        Ok(Base { url: format!("{scheme}://{authority}"), host, https, loopback })
    }

    /// Any http or https address, for the proxy on the way there.
    pub(super) fn of_anybody(url: &str) -> Option<Base> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.authority()?.host().to_ascii_lowercase();
        let (https, loopback) = (uri.scheme_str() == Some("https"), is_loopback(&host));
        Some(Base { url: url.to_owned(), host, https, loopback })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The proxy on the way to `base`: the setting, else what `environment` says, as curl reads it.
///
/// An empty setting means no proxy, whatever the environment says. The way to loopback is direct unless
/// a proxy is set.
pub(super) fn choose_proxy(
    setting: Option<&str>,
    base: &Base,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ClientError> {
    match setting {
        Some("") => return Ok(None),
        Some(url) => return parse_proxy("freshdesk.proxy", url).map(Some),
        None => {}
    }
    let exempt = environment("NO_PROXY").or_else(|| environment("no_proxy")).unwrap_or_default();
    if base.loopback || is_exempt(&base.host, &exempt) {
        return Ok(None);
    }
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        if let Some(url) = environment(name).filter(|url| !url.is_empty()) {
            return parse_proxy(name, &url).map(Some);
        }
    }
    Ok(None)
}

fn parse_proxy(origin: &'static str, url: &str) -> Result<Proxy, ClientError> {
    // The URL is not repeated in the error, because it may carry a password.
    let wrong = |problem| ClientError::Proxy { origin, problem };
    let proxy = Proxy::new(url.trim()).map_err(|_| wrong("is not a proxy's URL, like http://proxy:3128"))?;
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https if !proxy.host().is_empty() => Ok(proxy),
        ProxyProtocol::Http | ProxyProtocol::Https => Err(wrong("names no host")),
        // ureq panics on a SOCKS proxy that it was built without.
        _ => Err(wrong("is a SOCKS proxy, only http:// and https:// are spoken")),
    }
}

/// `NO_PROXY`: names, which cover their subdomains too, separated by commas; `*` is everything.
fn is_exempt(host: &str, no_proxy: &str) -> bool {
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || (!name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        let check = |url: &str, expect: &str| {
            let base = Base::parse(url);
            let told =
                base.map_or_else(|error| error.to_string(), |base| format!("{} {}", base.url, base.host));
            assert_eq!(told, expect, "{url}");
        };
        check("https://acme.freshdesk.com", "https://acme.freshdesk.com acme.freshdesk.com");
        check("https://Acme.freshdesk.com/", "https://Acme.freshdesk.com acme.freshdesk.com");
        check("http://127.0.0.1:8090", "http://127.0.0.1:8090 127.0.0.1");
        check("http://[::1]:8090", "http://[::1]:8090 [::1]");
        check("http://localhost:8090/", "http://localhost:8090 localhost");
        check("http://acme.freshdesk.com", "freshdesk.url: plain http is for loopback only, use https");
        check("http://127.0.0.1.example.com", "freshdesk.url: plain http is for loopback only, use https");
        check("acme.freshdesk.com", "freshdesk.url: must look like https://acme.freshdesk.com");
        check("ftp://acme.freshdesk.com", "freshdesk.url: must begin with https://");
        check(
            "https://acme.freshdesk.com/api/v2",
            "freshdesk.url: must end after the host: deskspool adds /api/v2 itself",
        );
        check("https://key:X@acme.freshdesk.com", "freshdesk.url: must not carry a user or password");
        check("https://acme freshdesk", "freshdesk.url: is not a URL");
    }

    fn chosen(setting: Option<&str>, url: &str, variables: &[(&str, &str)]) -> String {
        let base = Base::parse(url).unwrap();
        let environment =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        match choose_proxy(setting, &base, environment) {
            Ok(Some(proxy)) => format!("{}:{}", proxy.host(), proxy.port()),
            Ok(None) => "direct".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_setting_beats_the_environment() {
        let acme = "https://acme.freshdesk.com";
        let check = |setting, url: &str, variables: &[_], expect: &str| {
            assert_eq!(chosen(setting, url, variables), expect, "{setting:?} {url} {variables:?}");
        };
        let everywhere = [("HTTPS_PROXY", "http://env:3128")];
        check(None, acme, &[], "direct");
        check(None, acme, &everywhere, "env:3128");
        check(None, acme, &[("HTTPS_PROXY", ""), ("all_proxy", "env:3128")], "env:3128");
        check(None, acme, &[("HTTP_PROXY", "http://env:3128")], "direct");
        check(None, "http://127.0.0.1:8090", &everywhere, "direct");
        check(Some("https://user:pass@set:8443"), acme, &everywhere, "set:8443");
        check(Some("set"), acme, &everywhere, "set:80");
        check(Some(""), acme, &everywhere, "direct");
        check(Some("http://set:1"), "http://127.0.0.1:8090", &[], "set:1");
    }

    #[test]
    fn a_proxy_that_is_not_understood_is_an_error_without_its_password() {
        let check = |setting, variables: &[_], expect: &str| {
            assert_eq!(chosen(setting, "https://acme.freshdesk.com", variables), expect);
        };
        let not_a_url = "is not a proxy's URL, like http://proxy:3128";
        check(Some("http://user:hunter2@a b"), &[], &format!("freshdesk.proxy: {not_a_url}"));
        check(Some("ftp://proxy"), &[], &format!("freshdesk.proxy: {not_a_url}"));
        check(None, &[("https_proxy", "::::")], &format!("https_proxy: {not_a_url}"));
        check(
            None,
            &[("ALL_PROXY", "socks5://hunter2@proxy:1080")],
            "ALL_PROXY: is a SOCKS proxy, only http:// and https:// are spoken",
        );
    }

    #[test]
    fn no_proxy_covers_subdomains() {
        let check = |no_proxy, expect| {
            let variables = [("HTTPS_PROXY", "http://env:3128"), ("NO_PROXY", no_proxy)];
            assert_eq!(chosen(None, "https://acme.freshdesk.com", &variables), expect, "{no_proxy}");
        };
        check("example.com, freshdesk.com", "direct");
        check(".freshdesk.com", "direct");
        check("*.freshdesk.com", "direct");
        check("ACME.freshdesk.com", "direct");
        check("*", "direct");
        check("desk.com", "env:3128");
        check(",", "env:3128");
        check("", "env:3128");
    }
}
