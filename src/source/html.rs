//! The HTML that goes into tickets: escaping of what customers wrote, and cutting without breaking markup.

/// Escapes text for a place between tags or inside a quoted attribute.
///
/// Beyond the usual five, `=` and a backtick are escaped, and the colon of `…script:`. What reads `onerror=`
/// or `javascript:` is then harmless even where a later program unescapes once too often or turns addresses
/// into links.
pub(super) fn escape_into(text: &str, html: &mut String) {
    for (offset, c) in text.char_indices() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '`' => html.push_str("&#96;"),
            '=' => html.push_str("&#61;"),
            ':' if ends_with_script(&text.as_bytes()[..offset]) => html.push_str("&#58;"),
            other => html.push(other),
        }
    }
}

fn ends_with_script(before: &[u8]) -> bool {
    before.len() >= 6 && before[before.len() - 6..].eq_ignore_ascii_case(b"script")
}

/// [`escape_into`] a new string.
pub(super) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    escape_into(text, &mut html);
    html
}

/// Escaped, with `<br>` for line breaks.
pub(super) fn lines(text: &str) -> String {
    escape(text.trim()).replace("\r\n", "\n").replace('\r', "\n").replace('\n', "<br>\n")
}

/// A link when the text is an http address and nothing else.
pub(super) fn link(text: &str) -> Option<String> {
    let text = text.trim();
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    if !is_web || text.len() < 11 || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let escaped = escape(text);
    Some(format!("<a href=\"{escaped}\">{escaped}</a>"))
}

/// Is there anything to read between the tags?
pub(super) fn has_text(html: &str) -> bool {
    let mut is_tag = false;
    html.chars().any(|c| {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            c => return !is_tag && !c.is_whitespace(),
        }
        false
    })
}

/// The beginning of `html`, at most `max` bytes, without half a tag or half an entity, its open elements
/// closed, and `notice` behind it.
pub(super) fn cut(html: &str, max: usize, notice: &str) -> String {
    let mut end = max.min(html.len());
    while !html.is_char_boundary(end) {
        end -= 1;
    }
    let mut kept = &html[..end];
    if kept.rfind('<') > kept.rfind('>') {
        kept = &kept[..kept.rfind('<').unwrap_or(0)];
    }
    if let Some(entity) =
        kept.rfind('&').filter(|start| !kept[*start..].contains(';') && kept.len() - start < 10)
    {
        kept = &kept[..entity];
    }
    let closing: String = open_elements(kept).iter().rev().map(|name| format!("</{name}>")).collect();
    format!("{kept}{closing}<br>\n<b>{}</b>", escape(notice))
}

fn open_elements(html: &str) -> Vec<&str> {
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let name = tag.split(|c: char| c == '>' || c.is_whitespace()).next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(closed) => {
                if let Some(position) = open.iter().rposition(|name| *name == closed) {
                    open.truncate(position);
                }
            }
            None if matches!(name, "br" | "hr" | "img" | "br/" | "hr/") || name.is_empty() => {}
            None => open.push(name),
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_of_customers_arrives_as_text() {
        let check = |text: &str, expect: &str| assert_eq!(escape(text), expect);
        check("<b>5 < 6 && 'x'</b>", "&lt;b&gt;5 &lt; 6 &amp;&amp; &#39;x&#39;&lt;/b&gt;");
        check("onerror=alert(1)", "onerror&#61;alert(1)");
        check("JavaScript:alert(1), at 10:30", "JavaScript&#58;alert(1), at 10:30");
        check("ñ `x`", "ñ &#96;x&#96;");
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(link("https://a.b/c").as_deref(), Some("<a href=\"https://a.b/c\">https://a.b/c</a>"));
        assert_eq!(link("javascript:alert(1)"), None);
        assert_eq!(link("https://a.b c"), None);
        assert_eq!(link("https://a.b/\"><x>").unwrap().matches('"').count(), 2);
    }

    #[test]
    fn a_cut_leaves_whole_markup() {
        let check = |html: &str, max: usize, expect: &str| assert_eq!(cut(html, max, "cut"), expect);
        check("<div><b>abc</b> tail</div>", 18, "<div><b>abc</b> ta</div><br>\n<b>cut</b>");
        check("<div><b>abc</b>", 13, "<div><b>abc</b></div><br>\n<b>cut</b>");
        check("ab&amp;cd", 5, "ab<br>\n<b>cut</b>");
        check("añb", 2, "a<br>\n<b>cut</b>");
    }

    #[test]
    fn markup_alone_is_empty() {
        assert!(!has_text("<div><br> </div>"));
        assert!(has_text("<div>x</div>"));
    }
}
