//! Files: `multipart/form-data` as Freshdesk reads it, and what is done when they are too large.
//!
//! **Invariants:** every part has a bracketed name as the vendor's samples have it, every file a name and a type;
//! the boundary is in none of the parts. A ticket is never lost for its files: when they do not fit, it goes
//! without them and says so.

use super::write::Attachment;
use serde_json::{Map, Value};

/// Freshdesk's limit for a ticket with all that is added to it was 15 MB before it became 20.
const FILES_MAX_BYTES: usize = 15 * 1024 * 1024;

/// A form and its content type.
pub(super) struct Form {
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// The members of `fields` and the files, as a form.
pub(super) fn encode(fields: &Map<String, Value>, files: &[Attachment]) -> Form {
    let parts = parts(fields);
    let boundary = boundary(&parts, files);
    let mut body = Vec::new();
    for (name, text) in &parts {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n", safe(name));
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(text.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    for file in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"attachments[]\"; filename=\"{}\"\r\n\
             Content-Type: {}\r\n\r\n",
            file_name(&file.name),
            file.content_type
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&file.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Form { content_type: format!("multipart/form-data; boundary={boundary}"), body }
}

/// Too large for any ticket.
pub(super) fn are_too_large(files: &[Attachment]) -> bool {
    files.iter().map(|file| file.bytes.len()).sum::<usize>() > FILES_MAX_BYTES
}

/// What stands in the text of a ticket whose files did not fit.
pub(super) fn left_out(files: &[Attachment]) -> String {
    let names: Vec<String> = files.iter().map(|file| file_name(&file.name)).collect();
    format!("<br>\n<b>[left out, too large for this ticket: {}]</b>", names.join(", "))
}

/// Names and texts: `tags[]`, `custom_fields[cf_x]`. Everything is text in a form.
fn parts(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(list) => {
                parts.extend(list.iter().filter_map(text).map(|text| (format!("{name}[]"), text)));
            }
            Value::Object(members) => parts.extend(
                members
                    .iter()
                    .filter_map(|(key, value)| text(value).map(|text| (format!("{name}[{key}]"), text))),
            ),
            value => parts.extend(text(value).map(|text| (name.clone(), text))),
        }
    }
    parts
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Not in any part: made of their length, and lengthened until that holds.
fn boundary(parts: &[(String, String)], files: &[Attachment]) -> String {
    let mut boundary = "deskspool-part".to_owned();
    let holds = |bytes: &[u8], boundary: &str| {
        bytes.windows(boundary.len()).any(|window| window == boundary.as_bytes())
    };
    while parts.iter().any(|(_, text)| holds(text.as_bytes(), &boundary))
        || files.iter().any(|file| holds(&file.bytes, &boundary))
    {
        boundary.push_str("-x");
    }
    boundary
}

/// A part's name cannot end its quotes.
fn safe(name: &str) -> String {
    name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}

/// Letters, digits, `-`, `_` and `.`, none of them first that hides a file or leaves its directory.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let name: String = name.trim_start_matches('.').chars().take(80).collect();
    if name.is_empty() { "file".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(name: &str, bytes: &[u8]) -> Attachment {
        Attachment { name: name.to_owned(), content_type: "text/plain", bytes: bytes.to_vec() }
    }

    #[test]
    fn a_form_has_the_names_of_the_vendors_samples() {
        let fields = json!({"subject": "Hi", "status": 2, "tags": ["a", "b"], "custom_fields": {"cf_x": true, "cf_n": null}});
        let form = encode(fields.as_object().unwrap(), &[file("event.json", b"{}")]);
        assert_eq!(form.content_type, "multipart/form-data; boundary=deskspool-part");
        let part = |head: &str, text: &str| {
            format!("--deskspool-part\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}\r\n")
        };
        let expect = [
            part("name=\"subject\"", "Hi"),
            part("name=\"status\"", "2"),
            part("name=\"tags[]\"", "a"),
            part("name=\"tags[]\"", "b"),
            part("name=\"custom_fields[cf_x]\"", "true"),
            part("name=\"attachments[]\"; filename=\"event.json\"\r\nContent-Type: text/plain", "{}"),
        ];
        assert_eq!(
            String::from_utf8(form.body).unwrap(),
            format!("{}--deskspool-part--\r\n", expect.concat())
        );
    }

    #[test]
    fn a_boundary_is_in_no_part() {
        let fields = json!({"body": "--deskspool-part--"});
        let form = encode(fields.as_object().unwrap(), &[file("a", b"deskspool-part-x")]);
        assert_eq!(form.content_type, "multipart/form-data; boundary=deskspool-part-x-x");
    }

    #[test]
    fn file_names_are_tame() {
        let check = |name: &str, expect: &str| assert_eq!(file_name(name), expect);
        check("../../etc/passwd", "_.._etc_passwd");
        check("a\r\nX: \"y\".txt", "a__X___y_.txt");
        check("fotó 1.png", "fotó_1.png");
        check("...", "file");
    }
}
