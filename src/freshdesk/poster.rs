//! Posting to somebody who is not Freshdesk: an alert's URL. It is here because here is the one place that knows how
//! to leave this house: authorities, proxy, deadlines.

use super::address::{self, Base};
use super::client::settings;
use super::failure::Failure;
use super::tls;
use std::path::Path;
use std::time::Duration;
use ureq::Agent;

/// Long enough for a chat service on a slow line.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Posts JSON to one address.
pub struct Poster {
    agent: Agent,
    url: String,
}

impl Poster {
    /// Reads certificates; opens no connection. Errors do not repeat the address, which may be a secret.
    pub fn new(url: &str, ca_file: Option<&Path>, proxy: Option<&str>) -> Result<Poster, String> {
        let base = Base::of_anybody(url).ok_or("is not a URL")?;
        let proxy = address::choose_proxy(proxy, &base, |name| std::env::var(name).ok());
        let proxy = proxy.map_err(|error| error.to_string())?;
        let tls = if base.https { tls::configured(ca_file) } else { Ok(tls::unused()) };
        let tls = tls.map_err(|error| error.to_string())?;
        Ok(Poster { agent: Agent::new_with_config(settings(TIMEOUT, proxy, tls)), url: base.url })
    }

    /// Posts it; why it was not taken.
    pub fn post(&self, json: &str) -> Result<(), String> {
        match self.agent.post(&self.url).content_type("application/json").send(json) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("answered {}", response.status())),
            Err(error) => Err(Failure::of(&error, 0).reason),
        }
    }
}
