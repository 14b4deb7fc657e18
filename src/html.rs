//! HTML for pages of ours that show what others wrote: escaping, what of their markup may be shown, and its plain
//! text. (What goes into tickets is escaped by `source/html.rs`, which trusts later programs less.)
//!
//! **Invariant:** what [`sanitise`] returns can be put into a page: only the elements of `KEPT`, balanced,
//! without any attribute except an `href` to http, https or mailto. It is an allow-list, so what it does not know
//! cannot pass. Sanitising twice changes nothing.

/// Elements that stay. All others go and leave their content behind.
const KEPT: [&str; 32] = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "hr",
    "i",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "small",
    "span",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "tr",
    "u",
    "ul",
];

/// Elements that go with everything in them.
const DROPPED: [&str; 14] = [
    "script", "style", "iframe", "object", "embed", "template", "noscript", "noembed", "noframes", "title",
    "textarea", "xmp", "svg", "math",
];

/// Elements that end a line of plain text.
const BREAKS: [&str; 14] =
    ["br", "p", "div", "li", "tr", "h1", "h2", "h3", "h4", "blockquote", "pre", "hr", "dd", "dt"];

const DEPTH_MAX: usize = 64;

/// `text` for a place where markup is read, an attribute value included.
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

/// What of `html` may be shown.
pub fn sanitise(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut open: Vec<&'static str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        push_text(&mut out, &rest[..at]);
        rest = &rest[at..];
        match tag(rest) {
            Markup::Text => {
                out.push_str("&lt;");
                rest = &rest[1..];
            }
            Markup::Skip(length) => rest = &rest[length..],
            Markup::Tag(tag) => {
                rest = &rest[tag.length..];
                if DROPPED.contains(&tag.name.as_str()) {
                    if !tag.closing {
                        rest = after_element(rest, &tag.name);
                    }
                } else {
                    push_tag(&mut out, &mut open, &tag);
                }
            }
        }
    }
    push_text(&mut out, rest);
    while let Some(name) = open.pop() {
        out.push_str(&format!("</{name}>"));
    }
    out
}

/// The plain text of sanitised `html`.
pub fn to_text(html: &str, collapse_whitespace: bool) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Markup::Tag(tag) = tag(rest) else { break };
        rest = &rest[tag.length..];
        let ends_line = BREAKS.contains(&tag.name.as_str()) && (tag.closing || tag.name == "br");
        out.push_str(if ends_line { "\n" } else { "" });
    }
    out.push_str(rest);
    let text = unescape(&out);
    if collapse_whitespace {
        return text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    text.trim().to_owned()
}

struct Tag<'a> {
    name: String,
    closing: bool,
    attributes: &'a str,
    length: usize,
}

enum Markup<'a> {
    Tag(Tag<'a>),
    /// A comment, a doctype or a processing instruction of this many bytes.
    Skip(usize),
    Text,
}

/// What begins at the `<` that `text` begins with.
fn tag(text: &str) -> Markup<'_> {
    if text.starts_with("<!--") {
        return Markup::Skip(text.find("-->").map_or(text.len(), |at| at + 3));
    }
    if text.starts_with("<!") || text.starts_with("<?") {
        return Markup::Skip(text.find('>').map_or(text.len(), |at| at + 1));
    }
    let closing = text.starts_with("</");
    let start = if closing { 2 } else { 1 };
    let name: String = text[start..].chars().take_while(char::is_ascii_alphanumeric).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Markup::Text;
    }
    let after_name = start + name.len();
    let Some(end) = tag_end(&text[after_name..]) else { return Markup::Skip(text.len()) };
    let attributes = &text[after_name..after_name + end];
    Markup::Tag(Tag { name: name.to_ascii_lowercase(), closing, attributes, length: after_name + end + 1 })
}

/// Where the `>` is that ends a tag, quoted values excepted.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn after_element<'a>(text: &'a str, name: &str) -> &'a str {
    let needle = format!("</{name}");
    let mut windows = text.as_bytes().windows(needle.len());
    let Some(at) = windows.position(|bytes| bytes.eq_ignore_ascii_case(needle.as_bytes())) else {
        return "";
    };
    text[at..].find('>').map_or("", |end| &text[at + end + 1..])
}

fn push_tag(out: &mut String, open: &mut Vec<&'static str>, tag: &Tag<'_>) {
    let Some(name) = KEPT.into_iter().find(|kept| *kept == tag.name) else { return };
    if name == "br" || name == "hr" {
        out.push_str(&format!("<{name}>"));
        return;
    }
    if tag.closing {
        let Some(position) = open.iter().rposition(|element| *element == name) else { return };
        for element in open.drain(position..).rev() {
            out.push_str(&format!("</{element}>"));
        }
        return;
    }
    if open.len() >= DEPTH_MAX {
        return;
    }
    open.push(name);
    match (name == "a").then(|| href(tag.attributes)).flatten() {
        Some(link) => out.push_str(&format!(r#"<a href="{}" rel="noopener noreferrer">"#, escape(&link))),
        None => out.push_str(&format!("<{name}>")),
    }
}

/// The link of an `<a>`, when it leads somewhere harmless.
fn href(attributes: &str) -> Option<String> {
    let lower = attributes.to_ascii_lowercase();
    let at = lower.find("href")?;
    let value = attributes[at + 4..].trim_start().strip_prefix('=')?.trim_start();
    let raw = match value.as_bytes().first()? {
        quote @ (b'"' | b'\'') => value[1..].split(char::from(*quote)).next()?,
        _ => value.split_ascii_whitespace().next()?,
    };
    let link = unescape(raw).trim().to_owned();
    let scheme = link.to_ascii_lowercase();
    let harmless = ["http://", "https://", "mailto:"].iter().any(|known| scheme.starts_with(known));
    (harmless && !link.contains(|c: char| c.is_control())).then_some(link)
}

fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '>']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        out.push_str(match rest.as_bytes()[0] {
            b'>' => "&gt;",
            _ if entity(rest).is_some() => "&",
            _ => "&amp;",
        });
        rest = &rest[1..];
    }
    out.push_str(rest);
}

/// The character and the length of the entity that `text` begins with; named ones of five names only.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(12).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c, end + 1))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, length) = entity(rest).unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_harmless_markup_stays() {
        let check = |html: &str, expect: &str| assert_eq!(sanitise(html), expect, "{html}");
        check("<div>a<br/>b</div>", "<div>a<br>b</div>");
        check("1 < 2 & 3 > 2 &amp; &eacute;", "1 &lt; 2 &amp; 3 &gt; 2 &amp; &amp;eacute;");
        check("<script>alert('</b>')</script>ok", "ok");
        check("<SCRIPT src=x>alert(1)", "");
        check("<style>p{}</style><p style='x' onclick=y>t</p>", "<p>t</p>");
        check("<img src=x onerror=alert(1)>t", "t");
        check(
            r#"<a href="https://x.example/?a=1&amp;b" onclick=z>t</a>"#,
            r#"<a href="https://x.example/?a=1&amp;b" rel="noopener noreferrer">t</a>"#,
        );
        check("<a href=' java\nscript:alert(1)'>t</a>", "<a>t</a>");
        check("<a href='&#106;avascript:alert(1)'>t</a>", "<a>t</a>");
        check("<b>open", "<b>open</b>");
        check("shut</b></div>", "shut");
        check("<b><i>cross</b></i>", "<b><i>cross</i></b>");
        check("<!-- <b> --><!doctype html>t", "t");
        check("<p title='>'>t</p>", "<p>t</p>");
        check("<p title='never ends", "");
        check("<3 you", "&lt;3 you");
    }

    #[test]
    fn text_is_read_out_of_markup() {
        let html = "<div>Hola<br>¿qué tal?&nbsp;<b>1 &lt; 2</b></div>";
        assert_eq!(to_text(html, true), "Hola ¿qué tal? 1 < 2");
        assert_eq!(to_text(html, false), "Hola\n¿qué tal?\u{a0}1 < 2");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_survives(html in "[<>/a-z\"'=&;: !-]{0,80}|<(script|p|a|b) ?[a-z=\"'<> ]{0,20}>?[<a-z/>]{0,30}") {
            let once = sanitise(&html);
            prop_assert_eq!(&sanitise(&once), &once);
            prop_assert!(!once.contains("<script") && !once.contains("<img"), "{}", once);
            prop_assert_eq!(once.matches('<').count() , once.matches('>').count(), "{}", once);
        }
    }
}
