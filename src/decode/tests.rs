//! Bodies as platforms really send them, and what is read from them.

use super::*;
use serde_json::json;

fn check(body: impl AsRef<[u8]>, content_type: &str, expect: (BodyKind, Value)) {
    let decoded = decode(body.as_ref(), Some(content_type)).expect("the body is understood");
    assert_eq!((decoded.how, decoded.value), expect, "{}", String::from_utf8_lossy(body.as_ref()));
}

fn check_error(body: impl AsRef<[u8]>, content_type: &str, expect: &str) {
    let answer = decode(body.as_ref(), Some(content_type));
    assert_eq!(answer.map_err(|error| error.to_string()), Err(expect.to_owned()));
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn the_body_is_believed_before_the_header() {
    check(r#"[{"a":1}]"#, FORM, (BodyKind::Json, json!([{"a": 1}])));
    check(r#" {"a":"b=c&d"}"#, "", (BodyKind::Json, json!({"a": "b=c&d"})));
    check(r#"{"a":1}"#, "text/plain; charset=utf-8", (BodyKind::Json, json!({"a": 1})));
    check("a=1&b=x+y", JSON, (BodyKind::Form, json!({"a": "1", "b": "x y"})));
    check("a=1", "", (BodyKind::Form, json!({"a": "1"})));
}

#[test]
fn scalars_are_json_too() {
    check("42", JSON, (BodyKind::Json, json!(42)));
    check("\"just text\"", JSON, (BodyKind::Json, json!("just text")));
    check(" null ", JSON, (BodyKind::Json, Value::Null));
}

#[test]
fn json_hides_in_forms() {
    let event = json!([{"text": "a=b & c+d"}]);
    let encoded: String = form_urlencoded::byte_serialize(event.to_string().as_bytes()).collect();
    check(format!("{encoded}="), FORM, (BodyKind::JsonInForm, event.clone()));
    check(&encoded, FORM, (BodyKind::JsonInForm, event.clone()));
    check(format!("data={encoded}"), FORM, (BodyKind::JsonInForm, event.clone()));
    check(format!("token=x&payload={encoded}"), FORM, (BodyKind::JsonInForm, event.clone()));
    check(encoded.replace("%3D", "=").replace("%26", "&"), FORM, (BodyKind::JsonInForm, event));
    check("data=plain&x=%7B%7D", FORM, (BodyKind::Form, json!({"data": "plain", "x": "{}"})));
}

#[test]
fn text_that_only_claims_to_be_a_form_is_not_understood() {
    check_error(
        "this is not json",
        FORM,
        "neither JSON nor a form: its header says form, but it has no fields",
    );
    check("note=", FORM, (BodyKind::Form, json!({"note": ""})));
}

#[test]
fn repeated_fields_become_lists() {
    check("t=a&t=b&n=1&t=c", FORM, (BodyKind::Form, json!({"t": ["a", "b", "c"], "n": "1"})));
    let fields = "a=1&".repeat(FORM_FIELDS_MAX + 1);
    check_error(fields, FORM, "form of more than 1000 fields");
}

#[test]
fn digits_are_kept() {
    let decoded = decode(br#"{"id":123456789012345678901234567890,"v":1e400,"p":1.10}"#, None).unwrap();
    assert_eq!(decoded.value.to_string(), r#"{"id":123456789012345678901234567890,"v":1e+400,"p":1.10}"#);
}

#[test]
fn what_can_be_mended_is_mended() {
    check("\u{feff}{\"a\":1}", JSON, (BodyKind::Json, json!({"a": 1})));
    check("{\"a\":1}\0\0\n", JSON, (BodyKind::Json, json!({"a": 1})));
    check("{\"a\":1}\n--\n<!-- t -->", JSON, (BodyKind::Json, json!({"a": 1})));
    check(r#"{"a":"cut \ud83d"}"#, JSON, (BodyKind::Json, json!({"a": "cut \u{fffd}"})));
    check(r#"{"a":"\ude00\ud83d\ude00\\ud83d"}"#, JSON, (BodyKind::Json, json!({"a": "\u{fffd}😀\\ud83d"})));
    check("{\"a\":\"two\nlines\t\"}", JSON, (BodyKind::Json, json!({"a": "two\nlines\t"})));
    check(r#"{"a":1,"b":2,"a":3}"#, JSON, (BodyKind::Json, json!({"a": 3, "b": 2})));
    check(
        "{\"a\":1}\n{\"a\":2}\n",
        "application/x-ndjson",
        (BodyKind::JsonLines, json!([{"a": 1}, {"a": 2}])),
    );
}

#[test]
fn other_charsets_than_utf8() {
    let expect = || (BodyKind::Json, json!({"a": "¿sábado? €"}));
    check(b"{\"a\":\"\xbfs\xe1bado? \x80\"}", "application/json; charset=ISO-8859-1", expect());
    check(b"{\"a\":\"\xbfs\xe1bado? \x80\"}", JSON, expect());
    check(b"{\"a\":\"\xc3\xa1 \xe1\"}", JSON, (BodyKind::Json, json!({"a": "á \u{fffd}"})));
}

#[test]
fn nothing_is_no_event() {
    for body in ["", " \r\n", "\0\0", "\u{feff}"] {
        check(body, JSON, (BodyKind::Empty, json!([])));
    }
}

#[test]
fn errors_tell_the_place_and_not_the_text() {
    check_error("[\n {\"a\": secret}\n]", FORM, "not JSON: expected value at line 2 column 8");
    check_error("{\"a\":\"cut he", JSON, "not JSON: EOF while parsing a string at line 1 column 12");
    check_error("{\"v\":NaN}", JSON, "not JSON: expected value at line 1 column 6");
    check_error("{\"a\":1}\n{\"a\":", JSON, "not JSON: EOF while parsing a value at line 2 column 5");
    check_error("The printer is on fire", "text/plain", "neither JSON nor a form: it begins like plain text");
    check_error("<a>x=1</a>", "application/xml", "neither JSON nor a form: it begins like XML or HTML");
    check_error(b"\x1f\x8b\x08\x00", JSON, "neither JSON nor a form: the body is compressed (gzip)");
    check_error(
        "--x\r\n",
        "multipart/form-data; boundary=x",
        "neither JSON nor a form: the body is multipart",
    );
}

#[test]
fn depth_is_an_error_and_no_crash() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(decode(deep(127).as_bytes(), None).is_ok());
    check_error(deep(10_000), JSON, "not JSON: nested deeper than 127 levels at line 1 column 128");
}
