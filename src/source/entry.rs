//! Who may post to a source, compiled: `secret`, `verify`, `verify_token` and `allow`.

use super::compile::{Stack, last};
use super::layers::Compiler;
use super::problem::Layer;
use super::table::VerifyTable;
use super::words;
use crate::verify::{
    AddressRange, Encoding, HandshakeKeys, Hash, Scheme, Secret, Signed, TOLERANCE, UrlBase, Verifier,
    is_standard_key,
};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// What the tables refer to, already read.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `secret`: one, or two during a rotation.
    pub secrets: Vec<Secret>,
    /// `verify_token`.
    pub verify_tokens: Vec<Secret>,
    /// `server.public_url`.
    pub public_url: Option<String>,
}

impl From<Vec<Secret>> for Credentials {
    /// For a source without a handshake.
    fn from(secrets: Vec<Secret>) -> Credentials {
        Credentials { secrets, ..Credentials::default() }
    }
}

/// A scheme, the keys of `verify` it reads beside `scheme`, and those among them it cannot do without.
struct Form {
    scheme: &'static str,
    keys: &'static [&'static str],
    needed: &'static [&'static str],
}

const HMAC_KEYS: &[&str] = &["header", "prefix", "signed", "tolerance"];

const FORMS: [Form; 14] = [
    Form { scheme: "none", keys: &["insecure"], needed: &[] },
    Form { scheme: "header", keys: &["header", "prefix"], needed: &["header"] },
    Form { scheme: "bearer", keys: &[], needed: &[] },
    Form { scheme: "basic", keys: &["user"], needed: &[] },
    Form { scheme: "query", keys: &["name"], needed: &["name"] },
    Form { scheme: "path", keys: &[], needed: &[] },
    Form { scheme: "hmac-sha256-hex", keys: HMAC_KEYS, needed: &["header"] },
    Form { scheme: "hmac-sha256-base64", keys: HMAC_KEYS, needed: &["header"] },
    Form { scheme: "hmac-sha1-hex", keys: HMAC_KEYS, needed: &["header"] },
    Form { scheme: "hmac-sha1-base64", keys: HMAC_KEYS, needed: &["header"] },
    Form { scheme: "standard-webhooks", keys: &["tolerance"], needed: &[] },
    Form { scheme: "stripe", keys: &["header", "tolerance"], needed: &[] },
    Form { scheme: "tidio", keys: &["header", "tolerance"], needed: &[] },
    Form { scheme: "twilio", keys: &["header", "url"], needed: &[] },
];

/// Keys that go with any scheme: they answer what comes before an event.
const HANDSHAKE_KEYS: [&str; 2] = ["echo", "empty_post"];

/// The effective `verify` table and whose it is.
struct Effective {
    layer: Layer,
    table: VerifyTable,
}

/// Who may post; nothing when a problem was told, or when no layer names a scheme.
pub(super) fn verifier(
    compiler: &mut Compiler,
    stack: &Stack<'_>,
    credentials: Credentials,
) -> Option<Verifier> {
    let Effective { layer, table } = effective(stack);
    let scheme = table.scheme.clone()?;
    compiler.origin((layer, "verify.scheme"), Some(scheme.span()));
    let handshake = HandshakeKeys {
        verify_tokens: credentials.verify_tokens,
        echo: table.echo.clone(),
        is_empty_post_open: table.empty_post.unwrap_or(false),
    };
    let allow = allow(compiler, stack);
    let mut entry = Entry { compiler, layer, table: &table, public_url: credentials.public_url };
    let compiled = entry.scheme(&scheme)?;
    check_secrets(compiler, stack, (scheme.get_ref(), &compiled), &credentials.secrets);
    check_verify_tokens(compiler, stack, &handshake.verify_tokens);
    Some(Verifier { scheme: compiled, secrets: credentials.secrets, allow, handshake })
}

/// The tables of `verify` key by key, but a layer that names a scheme starts its keys afresh.
fn effective(stack: &Stack<'_>) -> Effective {
    let mut effective = Effective { layer: Layer::Builtin, table: VerifyTable::default() };
    for (layer, table) in stack {
        let Some(upper) = table.verify.clone() else { continue };
        let before = effective.table;
        let (echo, empty_post) = (before.echo.clone(), before.empty_post);
        let lower = if upper.scheme.is_some() { VerifyTable::default() } else { before };
        let table = VerifyTable {
            scheme: upper.scheme.or(lower.scheme),
            header: upper.header.or(lower.header),
            prefix: upper.prefix.or(lower.prefix),
            user: upper.user.or(lower.user),
            name: upper.name.or(lower.name),
            signed: upper.signed.or(lower.signed),
            tolerance: upper.tolerance.or(lower.tolerance),
            url: upper.url.or(lower.url),
            insecure: upper.insecure.or(lower.insecure),
            echo: upper.echo.or(echo),
            empty_post: upper.empty_post.or(empty_post),
        };
        effective = Effective { layer: *layer, table };
    }
    effective
}

/// One `verify` table under the compiler's eyes.
struct Entry<'c, 't> {
    compiler: &'c mut Compiler,
    layer: Layer,
    table: &'t VerifyTable,
    public_url: Option<String>,
}

impl Entry<'_, '_> {
    fn problem(&mut self, (key, at): (&str, Range<usize>), what: impl Into<String>, help: Option<String>) {
        self.compiler.problem((self.layer, key, Some(at)), what, help);
    }

    fn scheme(&mut self, named: &Spanned<String>) -> Option<Scheme> {
        let name = named.get_ref().as_str();
        let Some(form) = FORMS.iter().find(|form| form.scheme == name) else {
            let schemes: Vec<&str> = FORMS.iter().map(|form| form.scheme).collect();
            let what = format!("there is no scheme \"{name}\"");
            let help = format!("schemes: {}", schemes.join(", "));
            self.problem(("verify.scheme", named.span()), what, Some(help));
            return None;
        };
        if !self.keys_fit(form, named.span()) {
            return None;
        }
        let header = |otherwise: &str| self.table.header.clone().unwrap_or_else(|| otherwise.to_owned());
        match name {
            "none" => Some(Scheme::None),
            "header" => Some(Scheme::Header { header: header(""), prefix: self.prefix() }),
            "bearer" => Some(Scheme::Bearer),
            "basic" => Some(Scheme::Basic { user: self.table.user.clone() }),
            "query" => Some(Scheme::Query { name: self.table.name.clone().unwrap_or_default() }),
            "path" => Some(Scheme::Path),
            "hmac-sha256-hex" => self.hmac(Hash::Sha256, Encoding::Hex),
            "hmac-sha256-base64" => self.hmac(Hash::Sha256, Encoding::Base64),
            "hmac-sha1-hex" => self.hmac(Hash::Sha1, Encoding::Hex),
            "hmac-sha1-base64" => self.hmac(Hash::Sha1, Encoding::Base64),
            "standard-webhooks" => Some(Scheme::StandardWebhooks { tolerance: self.window()? }),
            "stripe" => self.stamped(header("Stripe-Signature"), "v1", "."),
            "tidio" => self.stamped(header("X-Tidio-Signature"), "s", "_"),
            _ => self.signed_form(header("X-Twilio-Signature"), named),
        }
    }

    /// Tells the keys that the scheme lacks, and those that it would never look at.
    fn keys_fit(&mut self, form: &Form, at: Range<usize>) -> bool {
        let written = self.table.written();
        let missing: Vec<&str> = form.needed.iter().filter(|key| !written.contains(*key)).copied().collect();
        let is_idle =
            |key: &&&str| !form.keys.contains(*key) && !HANDSHAKE_KEYS.contains(*key) && **key != "insecure";
        let idle: Vec<&str> = written.iter().filter(is_idle).copied().collect();
        for key in &missing {
            let what = format!("the scheme {} needs verify.{key}", form.scheme);
            self.problem(("verify", at.clone()), what, None);
        }
        for key in &idle {
            let what = format!("the scheme {} does not look at verify.{key}", form.scheme);
            let help = match form.keys {
                [] => "it needs no further keys".to_owned(),
                keys => format!("its keys: {}", keys.join(", ")),
            };
            self.problem(("verify", at.clone()), what, Some(help));
        }
        missing.is_empty() && idle.is_empty()
    }

    fn prefix(&self) -> String {
        self.table.prefix.clone().unwrap_or_default()
    }

    fn tolerance(&mut self) -> Option<Option<Duration>> {
        let Some(text) = &self.table.tolerance else { return Some(None) };
        match words::duration(text.get_ref()).filter(|duration| !duration.is_zero()) {
            Some(duration) => Some(Some(duration)),
            None => {
                let what = "expected a duration with its unit: 30s, 5m, 1h";
                self.problem(("verify.tolerance", text.span()), what, None);
                None
            }
        }
    }

    fn window(&mut self) -> Option<Duration> {
        Some(self.tolerance()?.unwrap_or(TOLERANCE))
    }

    fn hmac(&mut self, hash: Hash, encoding: Encoding) -> Option<Scheme> {
        let tolerance = self.tolerance()?;
        let signed = match (&self.table.signed, &self.table.tolerance) {
            (Some(text), _) => match Signed::parse(text.get_ref(), tolerance) {
                Ok(signed) => Some(signed),
                Err(error) => {
                    let help = "for example: signed = \"{X-Timestamp}.{body}\"";
                    self.problem(("verify.signed", text.span()), error.to_string(), Some(help.to_owned()));
                    return None;
                }
            },
            (None, Some(text)) => {
                let what = "there is no signed time it could be measured from";
                let help = "signed = \"{X-Timestamp}.{body}\" names the header, as the platform documents it";
                self.problem(("verify.tolerance", text.span()), what, Some(help.to_owned()));
                return None;
            }
            (None, None) => None,
        };
        let header = self.table.header.clone().unwrap_or_default();
        Some(Scheme::Hmac { header, prefix: self.prefix(), hash, encoding, signed })
    }

    fn stamped(&mut self, header: String, name: &str, joint: &str) -> Option<Scheme> {
        let (name, joint) = (name.to_owned(), joint.to_owned());
        Some(Scheme::Stamped { header, name, joint, tolerance: self.window()? })
    }

    fn signed_form(&mut self, header: String, named: &Spanned<String>) -> Option<Scheme> {
        let url = match (&self.table.url, self.public_url.take()) {
            (Some(url), _) => {
                let text = url.get_ref();
                let is_url = ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
                if !is_url || text.contains(['?', '#', ' ']) {
                    let what = "expected what the platform calls, without a query: https://host/path";
                    self.problem(("verify.url", url.span()), what, None);
                    return None;
                }
                UrlBase::Whole(text.clone())
            }
            (None, Some(server)) => UrlBase::Server(server),
            (None, None) => {
                let what =
                    format!("the scheme {} signs the URL, and server.public_url is not set", named.get_ref());
                let help = "[server] public_url = \"https://hooks.acme.com\", as the platform calls it";
                self.problem(("verify", named.span()), what, Some(help.to_owned()));
                return None;
            }
        };
        Some(Scheme::SignedForm { header, url })
    }
}

impl VerifyTable {
    /// The names of the keys that are set, without `scheme`.
    fn written(&self) -> Vec<&'static str> {
        let all = [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("user", self.user.is_some()),
            ("name", self.name.is_some()),
            ("signed", self.signed.is_some()),
            ("tolerance", self.tolerance.is_some()),
            ("url", self.url.is_some()),
            ("echo", self.echo.is_some()),
            ("empty_post", self.empty_post.is_some()),
            ("insecure", self.insecure.is_some()),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }
}

/// The ranges of the highest layer that lists some.
fn allow(compiler: &mut Compiler, stack: &Stack<'_>) -> Vec<AddressRange> {
    let Some((layer, list)) = last(stack, |table| table.allow.as_ref()) else { return Vec::new() };
    compiler.origin((layer, "allow"), list.first().map(Spanned::span));
    if list.is_empty() {
        compiler.problem((layer, "allow", None), "lists nobody, so nobody could post", None);
    }
    let mut ranges = Vec::new();
    for text in list {
        match text.get_ref().trim().parse() {
            Ok(range) => ranges.push(range),
            Err(()) => {
                let what =
                    "expected addresses like \"203.0.113.0/24\", \"2001:db8::/32\" or \"198.51.100.7\"";
                compiler.problem((layer, "allow", Some(text.span())), what, None);
            }
        }
    }
    ranges
}

/// A secret that could not be read is told by whoever reads it; here, that there should be one.
fn check_secrets(
    compiler: &mut Compiler,
    stack: &Stack<'_>,
    (name, scheme): (&str, &Scheme),
    secrets: &[Secret],
) {
    let written = last(stack, |table| table.secret.as_ref());
    let at = written.map(|(_, secret)| secret.span());
    if written.is_none() && secrets.is_empty() && *scheme != Scheme::None {
        let help = "secret = { credential = \"…\" }, { file = \"…\" } or { env = \"…\" }";
        let what = format!("is missing; the scheme {name} compares one");
        compiler.problem((Layer::Admin, "secret", None), what, Some(help.to_owned()));
    }
    if secrets.iter().any(Secret::is_empty) {
        compiler.problem((Layer::Admin, "secret", at.clone()), "is empty", None);
    }
    let is_standard = matches!(scheme, Scheme::StandardWebhooks { .. });
    if is_standard && !secrets.iter().all(is_standard_key) {
        let what = "is not base64 behind whsec_ (or whpk_)";
        compiler.problem((Layer::Admin, "secret", at.clone()), what, None);
    }
    let breaks_path = |secret: &Secret| secret.expose().iter().any(|byte| matches!(byte, b'/' | b'?' | b'#'));
    if *scheme == Scheme::Path && secrets.iter().any(breaks_path) {
        let what = "has a /, ? or # in it, so it cannot be one part of a path";
        compiler.problem((Layer::Admin, "secret", at), what, None);
    }
}

fn check_verify_tokens(compiler: &mut Compiler, stack: &Stack<'_>, tokens: &[Secret]) {
    if tokens.iter().any(Secret::is_empty) {
        let at = last(stack, |table| table.verify_token.as_ref()).map(|(_, token)| token.span());
        compiler.problem((Layer::Admin, "verify_token", at), "is empty", None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::table::SourceTable;
    use super::*;

    fn compile(toml: &str, public_url: Option<&str>) -> Result<Source, Vec<String>> {
        let table: SourceTable = toml::from_str(toml).expect("the table parses");
        let refer = |written: bool| if written { vec![Secret::new("whsec_b2xk")] } else { Vec::new() };
        let credentials = Credentials {
            secrets: refer(table.secret.is_some()),
            verify_tokens: refer(table.verify_token.is_some()),
            public_url: public_url.map(str::to_owned),
        };
        let told = |problem: super::super::Problem| {
            format!("{}: {} / {}", problem.key, problem.what, problem.help.unwrap_or_default())
        };
        Source::compile("shop", &table, &Default::default(), credentials)
            .map_err(|problems| problems.into_iter().map(told).collect())
    }

    /// The scheme of `verify = { … }` with a secret.
    fn scheme(verify: &str) -> Scheme {
        let source = compile(&format!("secret = \"x\"\nverify = {{ {verify} }}"), Some("https://a.b"));
        source.unwrap_or_else(|problems| panic!("{verify}: {problems:?}")).verifier().scheme.clone()
    }

    fn problems(toml: &str) -> Vec<String> {
        compile(toml, None).err().unwrap_or_default()
    }

    /// What is wrong with `verify = { … }`.
    fn wrong(verify: &str, expect: &[&str]) {
        assert_eq!(problems(&format!("secret = \"x\"\nverify = {{ {verify} }}")), expect, "{verify}");
    }

    #[test]
    fn every_scheme_compiles() {
        assert_eq!(scheme("scheme = 'path'"), Scheme::Path);
        let Scheme::Hmac { hash, encoding, signed, header, .. } =
            scheme("scheme = 'hmac-sha1-base64', header = 'X-Tawk-Signature'")
        else {
            panic!("another scheme")
        };
        assert_eq!(
            (hash, encoding, signed, header.as_str()),
            (Hash::Sha1, Encoding::Base64, None, "X-Tawk-Signature")
        );
        let signed = scheme(
            "scheme = 'hmac-sha256-hex', header = 'x', signed = '{X-Timestamp}.{body}', tolerance = '1m'",
        );
        let expect = Signed::parse("{X-Timestamp}.{body}", Some(Duration::from_secs(60)));
        assert!(matches!(signed, Scheme::Hmac { signed, .. } if signed.as_ref() == expect.as_ref().ok()));
        assert_eq!(scheme("scheme = 'standard-webhooks'"), Scheme::StandardWebhooks { tolerance: TOLERANCE });
        let stamped = |header: &str, name: &str, joint: &str| {
            let (name, joint) = (name.to_owned(), joint.to_owned());
            Scheme::Stamped { header: header.to_owned(), name, joint, tolerance: TOLERANCE }
        };
        assert_eq!(scheme("scheme = 'stripe'"), stamped("Stripe-Signature", "v1", "."));
        assert_eq!(scheme("scheme = 'tidio', header = 'X-T'"), stamped("X-T", "s", "_"));
        let twilio = |url| Scheme::SignedForm { header: "X-Twilio-Signature".to_owned(), url };
        assert_eq!(scheme("scheme = 'twilio'"), twilio(UrlBase::Server("https://a.b".to_owned())));
        let whole = UrlBase::Whole("https://c.d/e".to_owned());
        assert_eq!(scheme("scheme = 'twilio', url = 'https://c.d/e'"), twilio(whole));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_allowed() {
        wrong(
            "scheme = 'hmac'",
            &[
                "verify.scheme: there is no scheme \"hmac\" / schemes: none, header, bearer, basic, query, path, \
               hmac-sha256-hex, hmac-sha256-base64, hmac-sha1-hex, hmac-sha1-base64, standard-webhooks, stripe, \
               tidio, twilio",
            ],
        );
        wrong("scheme = 'query'", &["verify: the scheme query needs verify.name / "]);
        wrong(
            "scheme = 'bearer', user = 'u'",
            &["verify: the scheme bearer does not look at verify.user / it needs no further keys"],
        );
        wrong(
            "scheme = 'stripe', prefix = 'sha256='",
            &["verify: the scheme stripe does not look at verify.prefix / its keys: header, tolerance"],
        );
        wrong(
            "scheme = 'stripe', tolerance = '5 minutes'",
            &["verify.tolerance: expected a duration with its unit: 30s, 5m, 1h / "],
        );
        wrong(
            "scheme = 'hmac-sha256-hex', header = 'x', tolerance = '5m'",
            &["verify.tolerance: there is no signed time it could be measured from / \
               signed = \"{X-Timestamp}.{body}\" names the header, as the platform documents it"],
        );
        wrong(
            "scheme = 'hmac-sha256-hex', header = 'x', signed = '{X-Timestamp}'",
            &["verify.signed: does not sign the {body} / for example: signed = \"{X-Timestamp}.{body}\""],
        );
        wrong(
            "scheme = 'twilio'",
            &["verify: the scheme twilio signs the URL, and server.public_url is not set / \
               [server] public_url = \"https://hooks.acme.com\", as the platform calls it"],
        );
        wrong(
            "scheme = 'twilio', url = 'hooks.acme.com'",
            &["verify.url: expected what the platform calls, without a query: https://host/path / "],
        );
    }

    #[test]
    fn keys_of_handshakes_stay_when_the_scheme_is_another() {
        let source = compile(
            "preset = \"generic@1\"\nverify_token = \"x\"\nverify = { scheme = \"none\", echo = \"challenge\", \
             empty_post = true }\nallow = [\"203.0.113.0/24\", \"2001:db8::1\"]",
            None,
        );
        let source = source.unwrap_or_else(|problems| panic!("{problems:?}"));
        let verifier = source.verifier();
        assert_eq!(verifier.handshake.echo.as_deref(), Some("challenge"));
        assert!(verifier.handshake.is_empty_post_open && verifier.is_remote_only());
        assert_eq!((verifier.handshake.verify_tokens.len(), verifier.allow.len()), (1, 2));
    }

    #[test]
    fn addresses_and_secrets_are_looked_at() {
        let open = "verify = { scheme = \"none\" }\n";
        let expected = "expected addresses like \"203.0.113.0/24\", \"2001:db8::/32\" or \"198.51.100.7\"";
        let told = problems(&format!("{open}allow = [\"203.0.113.0/24\", \"203.0.113\", \"x\"]"));
        assert_eq!(told, [format!("allow: {expected} / "), format!("allow: {expected} / ")]);
        assert_eq!(problems(&format!("{open}allow = []")), ["allow: lists nobody, so nobody could post / "]);
        let secret = |scheme: &str, secret: &str| {
            let table: SourceTable =
                toml::from_str(&format!("secret = \"x\"\nverify = {{ scheme = \"{scheme}\" }}"))
                    .expect("a table");
            let compiled = Source::compile("shop", &table, &Default::default(), vec![Secret::new(secret)]);
            compiled.err().unwrap_or_default().into_iter().map(|problem| problem.what).collect::<Vec<_>>()
        };
        assert_eq!(secret("path", "a/b"), ["has a /, ? or # in it, so it cannot be one part of a path"]);
        assert_eq!(secret("standard-webhooks", "whsec_%"), ["is not base64 behind whsec_ (or whpk_)"]);
        assert_eq!(secret("standard-webhooks", "plain key"), [""; 0]);
    }
}
