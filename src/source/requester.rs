//! Who asks: addresses, numbers and names as Freshdesk accepts them.

use super::phone;
use super::plain::{is_placeholder, one_line, truncate};
use crate::freshdesk::write::Requester;
use minijinja::value::Value;

/// Longest name Freshdesk is sent.
const NAME_MAX_CHARS: usize = 255;

/// An e-mail address with the name that stood beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Trimmed, lower case, valid.
    pub email: String,
    /// `Ana` of `Ana <ana@example.com>`.
    pub name: Option<String>,
}

/// The first valid address in a text: bare, `mailto:`, `Name <address>`, or a list of those.
pub(super) fn address(text: &str) -> Option<Address> {
    if !text.contains('@') || text.len() > 4096 {
        return None;
    }
    let named = text.split_once('<').and_then(|(before, rest)| {
        let (inside, _) = rest.split_once('>')?;
        Some((before, bare_address(inside)?))
    });
    if let Some((before, email)) = named {
        let name = one_line(before.trim().trim_matches(['"', '\'']).trim_start_matches([',', ';', ' ']));
        let name = Some(name).filter(|name| !is_placeholder(name) && !name.contains('@'));
        return Some(Address { email, name });
    }
    let pieces = text.split(|c: char| c == ',' || c == ';' || c.is_whitespace());
    pieces.into_iter().find_map(bare_address).map(|email| Address { email, name: None })
}

fn bare_address(text: &str) -> Option<String> {
    let text = text
        .trim_matches(|c: char| c.is_whitespace() || c.is_control() || "<>\"'\u{200b}\u{feff}".contains(c));
    let text = match text.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => &text[7..],
        _ => text,
    };
    let text = text.split('?').next().unwrap_or_default();
    let (local, domain) = text.rsplit_once('@')?;
    (text.len() <= 254 && is_local_part(local) && is_domain(domain)).then(|| text.to_ascii_lowercase())
}

/// The dot-atom of RFC 5322 §3.2.3; Freshdesk accepts no quoted local parts.
fn is_local_part(local: &str) -> bool {
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=^_`{|}~-.".contains(c);
    (1..=64).contains(&local.len())
        && local.chars().all(is_atom)
        && local.split('.').all(|part| !part.is_empty())
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.contains('.')
        && domain.split('.').all(is_label)
        && last.len() >= 2
        && !last.chars().all(|c| c.is_ascii_digit())
}

/// The requester's templates as they rendered; empty text is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered {
    pub name: String,
    pub email: String,
    pub phone: String,
    pub external_id: String,
}

/// As Freshdesk is told. A phone without e-mail must have a name: the number itself, as Freshdesk's own
/// telephone tickets do.
pub(super) fn normalise(rendered: &Rendered, source: &str, country: Option<&phone::Country>) -> Requester {
    let address = address(&rendered.email);
    let phone = phone::normalise(&rendered.phone, country);
    let external_id = one_line(&rendered.external_id);
    let external_id = Some(external_id).filter(|id| !is_placeholder(id));
    let name = Some(one_line(&rendered.name)).filter(|name| !is_placeholder(name));
    let name = name.or_else(|| address.as_ref().and_then(|address| address.name.clone()));
    let name = name.or_else(|| phone.clone().filter(|_| address.is_none()));
    Requester {
        name: name.map(|name| truncate(&name, NAME_MAX_CHARS)),
        email: address.map(|address| address.email),
        phone,
        external_id: external_id.map(|id| prefixed(&id, source)),
    }
}

/// `sendpulse:65f0bb22`: ids of two platforms must not meet in one contact.
fn prefixed(id: &str, source: &str) -> String {
    if id.strip_prefix(source).is_some_and(|rest| rest.starts_with(':')) {
        return id.to_owned();
    }
    truncate(&format!("{source}:{id}"), NAME_MAX_CHARS)
}

/// Can Freshdesk find or make a contact from it?
pub(super) fn is_somebody(requester: &Requester) -> bool {
    requester.email.is_some() || requester.phone.is_some() || requester.external_id.is_some()
}

/// The requester as templates see it: what is not known is undefined.
pub(super) fn to_template(requester: &Requester) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
    Value::from_pairs([
        ("name", text(&requester.name)),
        ("email", text(&requester.email)),
        ("phone", text(&requester.phone)),
        ("external_id", text(&requester.external_id)),
    ])
}

/// Addresses of a rendered list, invalid ones left out.
pub(super) fn addresses(rendered: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in rendered {
        for piece in text.split([',', ';', '\n']) {
            if let Some(address) = address(piece).filter(|address| !found.contains(&address.email)) {
                found.push(address.email);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_and_normalised() {
        let check = |text: &str, email: &str, name: &str| {
            let found = address(text).map(|address| (address.email, address.name.unwrap_or_default()));
            let expect = (!email.is_empty()).then(|| (email.to_owned(), name.to_owned()));
            assert_eq!(found, expect, "{text}");
        };
        check("  Mixed.Case@Example.COM \n", "mixed.case@example.com", "");
        check("mailto:first@example.com; second@example.com", "first@example.com", "");
        check("MAILTO:a@b.co?subject=x", "a@b.co", "");
        check("\"Pérez, Ana\" <ana@example.com>", "ana@example.com", "Pérez, Ana");
        check("Ana <ana@example.com>, Bo <bo@example.com>", "ana@example.com", "Ana");
        check("sam(at)example", "", "");
        check("a@b", "", "");
        check("a..b@example.com", "", "");
        check("a@-b.com", "", "");
        check("a@b.c1", "a@b.c1", "");
        check("a@1.2.3.4", "", "");
        check("ñandú@example.com", "", "");
        check("{{workflow.email}}", "", "");
    }

    #[test]
    fn requesters_are_as_freshdesk_wants_them() {
        let rendered = |name: &str, email: &str, phone: &str, external_id: &str| Rendered {
            name: name.into(),
            email: email.into(),
            phone: phone.into(),
            external_id: external_id.into(),
        };
        let check = |rendered: Rendered, expect: [Option<&str>; 4]| {
            let is = normalise(&rendered, "shop", None);
            let is = [is.name, is.email, is.phone, is.external_id];
            assert_eq!(is.each_ref().map(Option::as_deref), expect);
        };
        check(rendered("Ana", "A@b.co", "", "7"), [Some("Ana"), Some("a@b.co"), None, Some("shop:7")]);
        check(
            rendered("", "", "0034 911222333", ""),
            [Some("+34911222333"), None, Some("+34911222333"), None],
        );
        check(rendered("", "a@b.co", "+34911222333", ""), [None, Some("a@b.co"), Some("+34911222333"), None]);
        check(rendered("a\nb", "no", "x", "shop:7"), [Some("a b"), None, None, Some("shop:7")]);
        check(rendered("undefined", "null", "", "{{id}}"), [None, None, None, None]);
    }

    #[test]
    fn lists_of_addresses_lose_what_is_none() {
        let list = ["a@b.co, nobody".to_owned(), "C@d.co;a@b.co".to_owned()];
        assert_eq!(addresses(&list), ["a@b.co", "c@d.co"]);
    }
}
