//! `[status_page]`: the page's address, and what it may do.

use super::secrets::Secret;
use super::tables::Listen;
use super::units::OneOrList;
use crate::source::table::SecretRef;
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;

/// `[status_page]`.
#[derive(Clone, Debug, Default)]
pub struct StatusPageConfig {
    /// Empty when the page is off.
    pub listen: Vec<SocketAddr>,
    /// Whether it may retry, hold and drop, and show what customers wrote.
    pub actions: bool,
    /// Who may; always there when `actions` is on.
    pub password: Option<Secret>,
}

/// `[status_page]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatusPageTable {
    #[serde(deserialize_with = "listen_or_off")]
    pub listen: Vec<SocketAddr>,
    pub actions: bool,
    pub password: Option<SecretRef>,
}

impl Default for StatusPageTable {
    fn default() -> Self {
        StatusPageTable {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8086))],
            actions: false,
            password: None,
        }
    }
}

fn listen_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let OneOrList(list) = OneOrList::<Maybe>::deserialize(deserializer)?;
    Ok(list.into_iter().filter_map(|Maybe(address)| address).collect())
}

/// An address, or `"off"`.
struct Maybe(Option<SocketAddr>);

impl super::units::Listed for Maybe {
    const FORMS: &'static str = "an address and a port, like \"127.0.0.1:8086\", or \"off\"";
}

impl<'de> Deserialize<'de> for Maybe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::units::text(deserializer, <Maybe as super::units::Listed>::FORMS, |text| match text {
            "off" => Some(Maybe(None)),
            text => Listen::parse(text).map(|address| Maybe(Some(address))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_an_address_or_none() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let table = toml::from_str::<StatusPageTable>(text).ok();
            let listen =
                table.map(|table| table.listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>());
            let expect = expect.map(|all| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
            assert_eq!(listen, expect, "{text}");
        };
        check("", Some(&["127.0.0.1:8086"]));
        check("listen = \"off\"", Some(&[]));
        check("listen = [\"127.0.0.1:1\", \"[::1]:2\"]", Some(&["127.0.0.1:1", "[::1]:2"]));
        check("listen = \"8086\"", None);
    }
}
