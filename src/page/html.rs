//! Small pieces of HTML. Everything that is not ours is escaped here.
//!
//! **Invariant:** no style attribute, no inline script, no address outside: the policy of every page forbids them.

use crate::clock::spell;

/// The `Content-Security-Policy` of every page: its own style, script and icon, forms to itself, nothing else.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// How it looks.
pub const STYLE: &str = include_str!("page.css");
/// Renews it in place.
pub const SCRIPT: &str = include_str!("page.js");
/// In the browser's tab.
pub const ICON: &str = include_str!("icon.svg");

/// `text` for a place where markup is read, a quoted attribute included.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// A whole page. `title` is escaped here, `main` is markup.
pub fn document(title: &str, renews: bool, main: &str) -> String {
    let refresh = if renews { "<noscript><meta http-equiv=refresh content=10></noscript>" } else { "" };
    let script = if renews { "<script src=\"/page.js\" defer></script>" } else { "" };
    format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{}</title>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\"><link rel=icon href=\"/icon.svg\" type=\"image/svg+xml\">\
         <link rel=stylesheet href=\"/page.css\">{refresh}{script}</head><body>{main}</body></html>\n",
        escape(title)
    )
}

/// `40s ago`, or `never`.
pub fn ago(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", spell(seconds)))
}

/// A number that leads to the list behind it; a zero leads nowhere.
pub fn number(count: u64, href: &str) -> String {
    match count {
        0 => "<span class=zero>0</span>".to_owned(),
        count => format!("<a href=\"{}\">{}</a>", escape(href), grouped(count)),
    }
}

/// `12 345` in groups of three, with narrow spaces.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && digits.len() > 4 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The query of a list: pairs, encoded.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    pairs.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| {
        query.append_pair(name, value);
    });
    query.finish()
}

/// The address of a list.
pub fn list_of(pairs: &[(&str, &str)]) -> String {
    format!("/list?{}", query(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_where_it_is_read() {
        assert_eq!(escape("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
        assert!(document("<script>", false, "").contains("<title>&lt;script&gt;</title>"));
        assert_eq!(number(3, "/list?a=1&b=\"2\""), "<a href=\"/list?a=1&amp;b=&quot;2&quot;\">3</a>");
    }

    #[test]
    fn numbers_are_grouped() {
        let check = |count: u64, expect: &str| assert_eq!(grouped(count), expect);
        check(0, "0");
        check(1234, "1234");
        check(12_345, "12\u{202f}345");
        check(1_234_567, "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn lists_have_addresses() {
        assert_eq!(
            list_of(&[("state", "dead"), ("source", ""), ("match", "a b&c")]),
            "/list?state=dead&match=a+b%26c"
        );
    }
}
