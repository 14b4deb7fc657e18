//! `multipart/form-data` as Freshdesk reads it: bracketed names, files with a name and a type.
//!
//! Everything arrives as text, so numbers are read leniently there. A part called `attachments[]` without a file
//! name or a content type is no file (400); `custom_fields` that are not `custom_fields[name]` are the vendor's
//! bug (500 `internal_error`), and the sandbox shows it.

use super::answer::Answer;
use serde_json::{Map, Value};

const PARTS_MAX: usize = 1_000;

/// What a call brought.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) fields: Map<String, Value>,
    pub(crate) files: Vec<File>,
    /// Whether texts may stand for numbers and truth values.
    pub(crate) lenient: bool,
}

/// A file of a form; only its size is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) size_bytes: u64,
}

struct Part<'a> {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    content: &'a [u8],
}

/// The form in `body`, or the answer to a body that is none.
pub(crate) fn read(content_type: &str, body: &[u8]) -> Result<Input, Answer> {
    let malformed = || Answer::coded(400, "invalid_multipart", "The request body is not a readable form");
    let boundary = parameter(content_type, "boundary").ok_or_else(malformed)?;
    let parts = parts(body, &boundary).ok_or_else(malformed)?;
    let mut input = Input { lenient: true, ..Input::default() };
    for part in parts {
        input.add(part)?;
    }
    match input.fields.get("custom_fields") {
        None | Some(Value::Object(_)) => Ok(input),
        Some(_) => Err(Answer::internal_error()),
    }
}

impl Input {
    fn add(&mut self, part: Part<'_>) -> Result<(), Answer> {
        let is_file = part.name == "attachments[]" || part.name == "attachments";
        match (is_file, part.file_name, part.content_type) {
            (true, Some(name), Some(content_type)) => {
                let size_bytes = part.content.len() as u64;
                self.files.push(File { name, content_type, size_bytes });
                return Ok(());
            }
            (true, ..) => {
                self.fields.insert("attachments".to_owned(), Value::from("not a file"));
                return Ok(());
            }
            (false, ..) => {}
        }
        let text = String::from_utf8_lossy(part.content).into_owned();
        self.add_text(&part.name, text).ok_or_else(Answer::internal_error)
    }

    /// Nothing when the brackets of `name` make no sense.
    fn add_text(&mut self, name: &str, text: String) -> Option<()> {
        let Some((base, bracket)) = name.split_once('[') else {
            self.fields.insert(name.to_owned(), Value::from(text));
            return Some(());
        };
        let key = bracket.strip_suffix(']').filter(|key| !key.contains(['[', ']']))?;
        if key.is_empty() {
            let list = self.fields.entry(base).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut()?.push(Value::from(text));
        } else {
            let object = self.fields.entry(base).or_insert_with(|| Value::Object(Map::new()));
            object.as_object_mut()?.insert(key.to_owned(), Value::from(text));
        }
        Some(())
    }
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    let first = format!("--{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_end]).ok()?;
        rest = &rest[head_end + 4..];
        let content_end = find(rest, delimiter.as_bytes())?;
        parts.push(part(head, &rest[..content_end])?);
        rest = &rest[content_end + delimiter.len()..];
        if parts.len() > PARTS_MAX {
            return None;
        }
    }
}

fn part<'a>(head: &str, content: &'a [u8]) -> Option<Part<'a>> {
    let header = |wanted: &str| {
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let disposition = header("content-disposition")?;
    Some(Part {
        name: parameter(disposition, "name")?,
        file_name: parameter(disposition, "filename").filter(|name| !name.is_empty()),
        content_type: header("content-type").map(str::to_owned),
        content,
    })
}

/// The value of `; name=value` or `; name="value"` in a header.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next.trim_start().strip_prefix(';')?;
    }
}

fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TYPE: &str = "multipart/form-data; boundary=\"x1\"";

    fn body(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (head, content) in parts {
            body.push_str(&format!("--x1\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n"));
        }
        format!("{body}--x1--\r\n").into_bytes()
    }

    #[test]
    fn brackets_make_lists_and_objects() {
        let form = body(&[
            ("name=\"subject\"", "Hola"),
            ("name=\"tags[]\"", "a"),
            ("name=\"tags[]\"", "b"),
            ("name=\"custom_fields[cf_x]\"", "1"),
        ]);
        let input = read(TYPE, &form).unwrap();
        let expect = json!({"subject": "Hola", "tags": ["a", "b"], "custom_fields": {"cf_x": "1"}});
        assert_eq!(Value::Object(input.fields), expect);
    }

    #[test]
    fn a_file_has_a_name_and_a_type() {
        let form = body(&[(
            "name=\"attachments[]\"; filename=\"a\\\"b.txt\"\r\nContent-Type: text/plain",
            "12\r\n3",
        )]);
        let file = File { name: "a\"b.txt".to_owned(), content_type: "text/plain".to_owned(), size_bytes: 5 };
        assert_eq!(read(TYPE, &form).unwrap().files, [file]);
        let nameless = body(&[("name=\"attachments[]\"", "123")]);
        let input = read(TYPE, &nameless).unwrap();
        assert_eq!((input.files.len(), &input.fields["attachments"]), (0, &json!("not a file")));
    }

    #[test]
    fn what_the_vendor_cannot_read_is_refused() {
        let check = |form: Vec<u8>, expect: u16| assert_eq!(read(TYPE, &form).unwrap_err().status, expect);
        check(body(&[("name=\"custom_fields\"", "{}")]), 500);
        check(body(&[("name=\"custom_fields[a][b]\"", "1")]), 500);
        check(b"--x1\r\nno end".to_vec(), 400);
        check(b"something else".to_vec(), 400);
    }
}
