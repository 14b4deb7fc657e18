//! A request out of a file: a bare body, a raw HTTP request as in a `.http` file, or what `capture` saved.

/// Header that `deskspool capture` adds: what verification said then, since the secret itself is not saved.
pub const CAPTURED_HEADER: &str = "X-Deskspool-Verified";

/// A request as far as its file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialRequest {
    /// `GET` and so on; a bare body is a `POST`.
    pub method: String,
    /// The kind it shall have, whatever its path says.
    pub kind: Option<String>,
    /// Path and query.
    pub target: String,
    /// What stands in the path behind the source's name.
    pub rest: String,
    /// As written.
    pub headers: Vec<(String, String)>,
    /// Percent-decoded.
    pub query: Vec<(String, String)>,
    /// After the head; chunks are put together.
    pub body: Vec<u8>,
    /// Headers and a URL came with it, so that its secret can be checked.
    pub has_head: bool,
    /// What was found when it was captured.
    pub captured: Option<String>,
    /// Events of it that are looked at; none: all.
    pub events_max: Option<usize>,
}

const METHODS: [&str; 7] = ["POST", "PUT", "PATCH", "GET", "HEAD", "DELETE", "OPTIONS"];

impl TrialRequest {
    /// Understands a file's bytes. What does not begin with a request line is a body.
    pub fn parse(bytes: &[u8]) -> TrialRequest {
        let body = |bytes: &[u8]| TrialRequest {
            method: "POST".to_owned(),
            body: bytes.to_vec(),
            ..TrialRequest::default()
        };
        let Some((method, target, rest)) = request_line(bytes) else { return body(bytes) };
        let (headers, rest) = headers(rest);
        let (captured, headers): (Vec<_>, Vec<_>) =
            headers.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(CAPTURED_HEADER));
        let body = framed(&headers, rest);
        let captured = captured.into_iter().next().map(|(_, text)| text);
        TrialRequest { method, captured, ..TrialRequest::posted(&target, headers, body) }
    }

    /// A request by its parts: `target` is path and query, or a whole URL.
    pub fn posted(target: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> TrialRequest {
        let path_and_query = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        TrialRequest {
            method: "POST".to_owned(),
            target: path_and_query.to_owned(),
            rest: crate::intake::route(path).map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers,
            body,
            has_head: true,
            ..TrialRequest::default()
        }
    }
}

/// Method, target and what follows the line. Lines of `.http` files that begin with `#` or `//` are passed.
fn request_line(bytes: &[u8]) -> Option<(String, String, &[u8])> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    loop {
        let (line, after) = line(rest)?;
        let text = std::str::from_utf8(line).ok()?.trim();
        if text.is_empty() || text.starts_with('#') || text.starts_with("//") {
            rest = after;
            continue;
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (method, target) = match words.as_slice() {
            [method, target] => (method, target),
            [method, target, version] if version.starts_with("HTTP/") => (method, target),
            _ => return None,
        };
        let is_target = target.starts_with('/') || target.contains("://");
        return (METHODS.contains(method) && is_target)
            .then(|| ((*method).to_owned(), (*target).to_owned(), after));
    }
}

/// The next line without its end, and what follows; none at the end.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &bytes[bytes.len()..]),
    };
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

fn headers(mut rest: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut headers = Vec::new();
    while let Some((line, after)) = line(rest) {
        rest = after;
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(line);
        if let Some((name, value)) = text.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    (headers, rest)
}

/// The body without chunks, and without the line end that editors add behind it.
fn framed(headers: &[(String, String)], rest: &[u8]) -> Vec<u8> {
    let header = |name: &str| headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
    if header("transfer-encoding").is_some_and(|(_, coding)| coding.eq_ignore_ascii_case("chunked")) {
        return unchunked(rest).unwrap_or_else(|| rest.to_vec());
    }
    let announced = header("content-length").and_then(|(_, length)| length.parse::<usize>().ok());
    match announced.and_then(|announced| rest.split_at_checked(announced)) {
        Some((body, behind)) if behind.iter().all(u8::is_ascii_whitespace) => body.to_vec(),
        // A length that was not mended when the body was edited.
        _ => rest.to_vec(),
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, after) = line(rest)?;
        let size = std::str::from_utf8(size).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let (chunk, after) = after.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = line(after)?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_body() {
        for body in ["{\"a\":1}", "POST is a word\nin a text", "", "POST everything!\n{}"] {
            let request = TrialRequest::parse(body.as_bytes());
            assert_eq!((request.has_head, request.body.as_slice()), (false, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_raw_request_has_kind_query_and_headers() {
        let request = TrialRequest::parse(
            b"# sample\nPOST https://hooks.acme.com/in/contako/abandonado?token=a%20b HTTP/1.1\nX-A:  b \n\n{}\n",
        );
        assert_eq!((request.method.as_str(), request.rest.as_str()), ("POST", "abandonado"));
        assert_eq!(request.query, [("token".to_owned(), "a b".to_owned())]);
        assert_eq!(request.headers, [("X-A".to_owned(), "b".to_owned())]);
        assert_eq!(request.body, b"{}\n");
    }

    #[test]
    fn framing_is_followed_where_it_fits() {
        let check = |request: &str, expect: &str| {
            let body = TrialRequest::parse(request.as_bytes()).body;
            assert_eq!(String::from_utf8_lossy(&body), expect, "{request:?}");
        };
        check("POST /in/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\n", "{}");
        check("POST /in/x HTTP/1.1\r\nContent-Length: 1\r\n\r\n{}", "{}");
        check("POST /in/x HTTP/1.1\r\nContent-Length: 99\r\n\r\n{}", "{}");
        check("POST /in/x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n", "{}");
        check("POST /in/x\r\nTransfer-Encoding: chunked\r\n\r\n{}", "{}");
        check("POST /in/x HTTP/1.1", "");
    }

    #[test]
    fn what_was_found_at_capture_is_kept_apart() {
        let request =
            TrialRequest::parse(b"POST /in/x HTTP/1.1\nx-deskspool-verified: ok, header x matches\n\n{}");
        assert_eq!((request.captured.as_deref(), request.headers.len()), (Some("ok, header x matches"), 0));
    }
}
