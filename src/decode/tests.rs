//! Bodies as platforms really send them, and what is read from them.

use super::*;
use serde_json::json;

/// What a body is, with headers.
fn read(body: &[u8], headers: &[(&str, &str)]) -> Result<Decoded, DecodeError> {
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    decode(&Posted { body, headers: &headers, bytes_max: 1 << 20 })
}

fn check(body: impl AsRef<[u8]>, content_type: &str, expect: (BodyKind, Value)) {
    let decoded = read(body.as_ref(), &[("Content-Type", content_type)]).expect("the body is understood");
    assert_eq!((decoded.how, decoded.value), expect, "{}", String::from_utf8_lossy(body.as_ref()));
}

fn check_error(body: impl AsRef<[u8]>, content_type: &str, expect: &str) {
    let answer = read(body.as_ref(), &[("content-type", content_type)]);
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
    // What stands beside it is not lost.
    let with_token = json!([{"text": "a=b & c+d", "token": "x"}]);
    check(format!("token=x&payload={encoded}"), FORM, (BodyKind::JsonInForm, with_token));
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
    let fields = "a=1&".repeat(FIELDS_MAX + 1);
    check_error(fields, FORM, "form of more than 1000 fields");
}

#[test]
fn digits_are_kept() {
    let decoded = read(br#"{"id":123456789012345678901234567890,"v":1e400,"p":1.10}"#, &[]).unwrap();
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
    check_error(b"\x1f\x8b\x08\x00", JSON, "the gzip stream is broken or cut short");
    check_error(
        "--y\r\n",
        "multipart/form-data; boundary=x",
        "neither JSON nor a form: its header says multipart, but it has no parts",
    );
}

#[test]
fn depth_is_an_error_and_no_crash() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(deep(127).as_bytes(), &[]).is_ok());
    check_error(deep(10_000), JSON, "not JSON: nested deeper than 127 levels at line 1 column 128");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn compressed_bodies_are_inflated() {
    let text = br#"{"a":"\u00bfs\u00e1bado?"}"#;
    let expect = json!({"a": "¿sábado?"});
    let check = |body: &[u8], coding: &str| {
        let decoded = read(body, &[("Content-Encoding", coding)]);
        assert_eq!(decoded.map(|decoded| decoded.value), Ok(expect.clone()), "{coding}");
    };
    check(&gzip(text), "gzip");
    check(&gzip(text), " X-GZIP ");
    check(&gzip(text), "");
    check(&zlib(text), "deflate");
    check(&deflate(text), "deflate");
    check(&gzip(&zlib(text)), "deflate, gzip");
    check(&gzip(text), "identity, gzip");
    // Two members are one file, and what follows is a footer.
    check(&[gzip(&text[..9]), gzip(&text[9..]), b"\r\n".to_vec()].concat(), "gzip");
    // Somebody on the way has inflated it and left the header.
    for coding in ["gzip", "deflate", "br", "zstd"] {
        check(text, coding);
    }
    let twice = read(&gzip(&gzip(text)), &[("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]);
    assert_eq!(twice.map(|decoded| decoded.value), Ok(expect.clone()));
}

#[test]
fn broken_and_unknown_compression_is_told_apart() {
    let whole = gzip(br#"{"a":"some text that is long enough"}"#);
    let check = |body: &[u8], coding: &str, expect: DecodeError| {
        assert_eq!(read(body, &[("Content-Encoding", coding)]), Err(expect), "{coding}");
    };
    for length in 2..whole.len() {
        check(&whole[..length], "gzip", DecodeError::Damaged("gzip"));
    }
    let mut flipped = whole.clone();
    flipped[15] ^= 0x40;
    check(&flipped, "gzip", DecodeError::Damaged("gzip"));
    check(&zlib(b"[1,2,3]")[..6], "deflate", DecodeError::Damaged("deflate"));
    check(b"\x0b\x02\x80xyz", "br", DecodeError::UnknownCoding);
    check(&whole, "gzip, gzip, gzip", DecodeError::UnknownCoding);
}

#[test]
fn bombs_are_not_inflated() {
    let check = |body: &[u8], coding: &str| {
        assert_eq!(
            read(body, &[("Content-Encoding", coding)]),
            Err(DecodeError::TooLarge(1 << 20)),
            "{coding}"
        );
    };
    let zeros = vec![b' '; (1 << 20) + 1];
    check(&gzip(&zeros), "gzip");
    check(&gzip(&zeros), "");
    check(&zlib(&zeros), "deflate");
    check(&deflate(&zeros), "deflate");
    check(&gzip(&gzip(&zeros)), "gzip, gzip");
    let half = gzip(&zeros[..1 << 19]);
    check(&[half.clone(), half.clone(), half.clone()].concat(), "gzip");
    assert_eq!(read(&[half.clone(), half].concat(), &[]).map(|decoded| decoded.how), Ok(BodyKind::Empty));
}

#[test]
fn wide_and_foreign_charsets() {
    let wide =
        |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let expect = || (BodyKind::Json, json!({"a": "¿sábado? 😀"}));
    let text = "{\"a\":\"¿sábado? 😀\"}";
    check(wide(text, u16::to_le_bytes), JSON, expect());
    check(wide(text, u16::to_be_bytes), "application/json; charset=utf-16", expect());
    check(wide(&format!("\u{feff}{text}"), u16::to_le_bytes), JSON, expect());
    check(wide(&format!("\u{feff}{text}"), u16::to_be_bytes), JSON, expect());
    check(text, "application/json; charset=\"UTF-16\"", expect());
    check(
        b"{\"a\":\"\xcf\xf0\xe8\xe2\xb3\xf2\"}",
        "a/json; charset=windows-1251",
        (BodyKind::Json, json!({"a": "Привіт"})),
    );
    check(b"{\"a\":\"\x93\xfa\x96{\"}", "a/json;charset=Shift_JIS", (BodyKind::Json, json!({"a": "日本"})));
    // Java's emoji: two surrogates of three bytes each.
    check(b"{\"a\":\"hi \xed\xa0\xbd\xed\xb8\x80\"}", JSON, (BodyKind::Json, json!({"a": "hi 😀"})));
    // A charset nobody knows is not believed.
    check(text, "application/json; charset=klingon", expect());
    check(text, "application/json; charset=ISO-8859-1", expect());
}

#[test]
fn forms_in_other_charsets() {
    let form =
        |body: &str, content_type: &str, expect: Value| check(body, content_type, (BodyKind::Form, expect));
    let message = json!({"name": "José", "message": "100% seguro"});
    form("name=Jos%E9&message=100% seguro&_charset_=iso-8859-1", FORM, message.clone());
    form("name=Jos%E9&message=100%25+seguro", FORM, message.clone());
    form("name=Jos%C3%A9&message=100% seguro", "application/x-www-form-urlencoded; charset=latin1", message);
    form("name=%CF%F0%E8", "application/x-www-form-urlencoded; charset=windows-1251", json!({"name": "При"}));
    form("a=%&b=%4&c=%zz&=x&d", FORM, json!({"a": "%", "b": "%4", "c": "%zz", "": "x", "d": ""}));
}

#[test]
fn brackets_nest() {
    let form = |body: &str, expect: Value| check(body, FORM, (BodyKind::Form, expect));
    form(
        "contact%5Bemail%5D=kim%40example.kr&contact[name]=Kim&color[]=red&color[]=blue",
        json!({"contact": {"email": "kim@example.kr", "name": "Kim"}, "color": ["red", "blue"]}),
    );
    form("a[0]=x&a[1]=y&b[1]=z", json!({"a": ["x", "y"], "b": {"1": "z"}}));
    form("a[0][id]=1&a[1][id]=2", json!({"a": [{"id": "1"}, {"id": "2"}]}));
    form("a[][id]=1&a[][n]=2&a[][id]=3", json!({"a": [{"id": "1", "n": "2"}, {"id": "3"}]}));
    form("a[b][]=1&a[b][]=2&a[c][d]=3", json!({"a": {"b": ["1", "2"], "c": {"d": "3"}}}));
    // What does not fit keeps its name; nothing is lost.
    form("a=1&a[b]=2", json!({"a": "1", "a[b]": "2"}));
    form("a[b]=1&a[]=2&a=3", json!({"a": [{"b": "1"}, "3"], "a[]": "2"}));
    form("a=1&a[]=2", json!({"a": ["1", "2"]}));
    form(
        "x=0&[a]=1&a[=2&b]=3&a[b=4&c[d]e=5",
        json!({"x": "0", "[a]": "1", "a[": "2", "b]": "3", "a[b": "4", "c[d]e": "5"}),
    );
    let deep = format!("a{}", "[b]".repeat(50));
    form(&format!("{deep}=1"), json!({ deep: "1" }));
}

#[test]
fn json_in_fields_beside_others() {
    let form = |body: &str, how: BodyKind, expect: Value| check(body, FORM, (how, expect));
    form(
        "name=Ana&data=%7B%22order%22%3A7%2C%22name%22%3A%22inner%22%7D",
        BodyKind::JsonInForm,
        json!({"order": 7, "name": "inner"}),
    );
    form(
        "a=1&contact=%7B%22name%22%3A%22Ana%22%7D",
        BodyKind::Form,
        json!({"a": "1", "contact": {"name": "Ana"}}),
    );
    form(
        "a=%5Burgent%5D&b=%7B%7D&c=%7B%22cut",
        BodyKind::Form,
        json!({"a": "[urgent]", "b": "{}", "c": "{\"cut"}),
    );
    // A list with much beside it would be copied into each element.
    let big = "x".repeat(300_000);
    form(
        &format!("payload=%5B%7B%22a%22%3A1%7D%5D&note={big}"),
        BodyKind::Form,
        json!({"note": big, "payload": [{"a": 1}]}),
    );
}

const PARTS: &str = "multipart/form-data; boundary=\"--b 1\"";

#[test]
fn multipart_forms() {
    let body = "preamble\r\n----b 1\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nGreta\r\n\
                ----b 1\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\\\"b;c.png\"\r\n\
                Content-Type: image/png\r\n\r\n\x01\r\n--x\r\n\r\n----b 1\r\n\
                Content-Disposition: form-data; name=\"tags[]\"\r\n\r\nred\r\n----b 1\r\n\
                Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n\
                ----b 1\r\nContent-Disposition: form-data; name=\"l\"\r\n\r\none\r\ntwo\r\n----b 1--\r\nepilogue";
    let file = json!({"filename": "a\"b;c.png", "content_type": "image/png", "bytes": 8});
    let expect = json!({"name": "Greta", "file": file, "tags": ["red"], "l": "one\r\ntwo"});
    check(body, PARTS, (BodyKind::Form, expect.clone()));
    // Lines that end in LF only, and a header that lost the boundary or names another.
    let lines = body.replace("preamble\r\n", "").replace("\r\n", "\n");
    let expect = json!({"name": "Greta", "file": {"filename": "a\"b;c.png", "content_type": "image/png", "bytes": 6},
        "tags": ["red"], "l": "one\ntwo"});
    for kind in ["multipart/form-data", "multipart/form-data; boundary=other", FORM, ""] {
        check(&lines, kind, (BodyKind::Form, expect.clone()));
    }
}

#[test]
fn multipart_carries_json_and_charsets() {
    let part = |head: &str, content: &str| {
        format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
    };
    let kind = "multipart/form-data; boundary=b";
    let data = part("name=\"data\"", "{\"msg\":\"down\"}");
    check(format!("{data}--b--\r\n"), kind, (BodyKind::JsonInForm, json!({"msg": "down"})));
    let named = part("name=\"event\"; filename=\"e.json\"\r\nContent-Type: application/json", "{\"a\":1}");
    let both = format!("{}{named}--b--", part("name=\"n\"", "1"));
    check(both, kind, (BodyKind::Form, json!({"n": "1", "event": {"a": 1}})));
    let latin =
        [b"--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nJos\xe9\r\n--b--".to_vec()].concat();
    check(latin, kind, (BodyKind::Form, json!({"n": "José"})));
    let starred = part("name=\"f\"; filename=\"x\"; filename*=UTF-8''na%C3%AFve.txt", "12");
    let file = json!({"filename": "naïve.txt", "content_type": "", "bytes": 2});
    check(starred, kind, (BodyKind::Form, json!({"f": file})));
    // One boundary begins like the other.
    let inner = format!("{}--b--\r\n", part("name=\"a\"", "x\r\n--bc\r\ny"));
    check(inner, kind, (BodyKind::Form, json!({"a": "x\r\n--bc\r\ny"})));
    check(r#"{"a":1}"#, kind, (BodyKind::Json, json!({"a": 1})));
    check_error(part("name=\"a\"", "").repeat(FIELDS_MAX + 1), kind, "form of more than 1000 fields");
}

#[test]
fn placeholders_and_backslashes_are_mended() {
    let mended = |body: &str, expect: Value| check(body, JSON, (BodyKind::Json, expect));
    mended(r#"{"age":{{workflow.age}},"name":"{{x}}"}"#, json!({"age": "{{workflow.age}}", "name": "{{x}}"}));
    mended(r#"[{{ a }}, {"b": {{c}}}]"#, json!(["{{ a }}", {"b": "{{c}}"}]));
    mended(
        r#"{"path":"C:\Users\ñ","q":"it\'s","u":"\u12"}"#,
        json!({"path": "C:\\Users\\ñ", "q": "it's", "u": "\\u12"}),
    );
    check_error(r#"{"a":{{x}"#, JSON, "not JSON: key must be a string at line 1 column 7");
}

#[test]
fn json_that_was_written_twice() {
    check(r#""{\"a\":[1]}""#, JSON, (BodyKind::Json, json!({"a": [1]})));
    check(r#""{ not json""#, JSON, (BodyKind::Json, json!("{ not json")));
}

#[test]
fn endless_lists_are_not_kept_in_memory() {
    let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
    assert!(read(list(VALUES_MAX - 1).as_bytes(), &[]).is_ok());
    check_error(list(2 * VALUES_MAX), JSON, "JSON of more than 100000 values");
    let text = format!("{{\"a\":\"{}\"}}", ",".repeat(2 * VALUES_MAX));
    assert!(read(text.as_bytes(), &[]).is_ok(), "commas in a text are no values");
}
