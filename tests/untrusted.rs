//! What strangers may send: bodies, proofs and heads that were broken on purpose.
//!
//! Nothing may panic; work may only grow with the length of what was sent; memory has a bound whatever is sent. Work
//! is measured twice, at a length and at sixteen times that length: in bytes that are allocated, and in the time the
//! processor spent on this thread. A run is a fixed number of steps from fixed seeds, and a failure prints its seed.
//!
//! Every run begins with the requests of the other tests and with `tests/untrusted/`: inputs that once found
//! something, or that reach a branch chance does not find, one file each.

use cap::Cap;
use deskspool::clock::Timestamp;
use deskspool::decode::{DecodeError, Decoded, Posted, decode};
use deskspool::gate::request::{Head, HeadScan};
use deskspool::verify::{Encoding, Evidence, Hash, Scheme, Secret, Signed, TOLERANCE, UrlBase, Verifier};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::time::{ClockId, clock_gettime};
use std::alloc::System;
use std::fmt::Write as _;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts what all threads of this test allocate.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// One test at a time: memory is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// A body's limit here, inflated or not.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What everything here may hold at a time, the seeds and the inputs themselves included.
const MEMORY_BYTES_MAX: usize = 96 << 20;

const STEPS: u64 = 5_000;

/// The longer input of a comparison is so many times the shorter one.
const GROWTH: usize = 16;

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_memory(what: &str) {
    let most = MEMORY.max_allocated();
    assert!(most < MEMORY_BYTES_MAX, "{what}: {most} bytes at a time");
}

/// A small generator (xorshift64*): the same numbers everywhere.
struct Chance(u64);

impl Chance {
    fn of(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number).unwrap_or(0) % bound.max(1)
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Pieces that parsers look for.
const TOKENS: [&[u8]; 40] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\ud83d",
    b"\\u00",
    b"{{",
    b"}}",
    b":",
    b",",
    b"null",
    b"1e999",
    b"-",
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"--",
    b"&",
    b"=",
    b"%",
    b"%5B",
    b"%7B%22",
    b"+",
    b"[]=",
    b"payload=",
    b"_charset_=",
    b"\x1f\x8b\x08",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xe9",
    b"Content-Length: 1\r\n",
    b"Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''%",
    b"Transfer-Encoding: chunked\r\n",
    b" HTTP/1.1",
    b"v1,AAAA ",
    b"t=1,v1=00",
    b"Bearer ",
];

/// The input with a few things done to it.
fn mutated(chance: &mut Chance, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap_or(0),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + chance.below(20)).min(bytes.len()))),
            4 => {
                let end = (at + chance.below(60)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let token = chance.one_of(&TOKENS);
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    bytes
}

/// The files below a directory whose names end so.
fn files(directory: &Path, ending: &str, found: &mut Vec<Vec<u8>>) {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("entries can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(std::fs::read(&path).expect("files can be read"));
        }
    }
}

/// Whole requests: a head, an empty line, a body. Long ones are other tests' business.
fn requests() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = Vec::new();
    files(&tests, ".http", &mut found);
    found.retain(|request| request.len() < 8 * 1024);
    assert!(found.len() > 90, "{} requests", found.len());
    found
}

fn split(request: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let headers = lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    (headers, &request[end..])
}

fn understood(headers: &[(String, String)], body: &[u8]) -> Result<Decoded, DecodeError> {
    decode(&Posted { body, headers, bytes_max: BODY_BYTES_MAX })
}

/// Runs `step` for each seed; a panic is told with its seed.
fn for_each_seed(what: &str, mut step: impl FnMut(&mut Chance)) {
    for seed in 1..=STEPS {
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&mut Chance::of(seed))));
        assert!(outcome.is_ok(), "{what}: seed {seed}");
        check_memory(what);
    }
}

#[test]
fn bodies_are_understood_or_not_but_nothing_breaks() {
    let _alone = alone();
    let seeds = requests();
    for request in &seeds {
        let (headers, body) = split(request);
        // Whatever comes out: it comes out.
        let _ = understood(&headers, body);
    }
    const KINDS: [&str; 7] = [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/plain; charset=utf-16",
        "application/json; charset=shift_jis",
        "",
        "multipart/mixed; boundary=\"",
    ];
    let mut count = 0;
    for_each_seed("decode", |chance| {
        let request = &seeds[chance.below(seeds.len())];
        let (mut headers, body) = split(request);
        let other = split(&seeds[chance.below(seeds.len())]).1;
        let body = mutated(chance, body, other);
        if chance.below(3) == 0 {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            headers.push(("content-type".to_owned(), chance.one_of(&KINDS).to_owned()));
        }
        if chance.below(5) == 0 {
            let coding = ["gzip", "deflate", "gzip, deflate", "br"][chance.below(4)];
            headers.push(("Content-Encoding".to_owned(), coding.to_owned()));
        }
        if let Ok(decoded) = understood(&headers, &body) {
            count += 1;
            // What was understood can be written down and read again as the same.
            let text = decoded.value.to_string();
            let again: serde_json::Value = serde_json::from_str(&text).expect("our own JSON");
            assert_eq!(again, decoded.value);
        }
    });
    assert!(count > STEPS / 10, "only {count} bodies were understood");
}

#[test]
fn heads_are_read_or_refused_but_nothing_breaks() {
    let _alone = alone();
    let seeds = requests();
    let mut count = 0;
    for_each_seed("head", |chance| {
        let request = &seeds[chance.below(seeds.len())];
        let end = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(request.len(), |at| at + 4);
        let other = &seeds[chance.below(seeds.len())];
        let mut bytes = mutated(chance, &request[..end], other);
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut scan = HeadScan::default();
        let cut = chance.below(bytes.len());
        let first = scan.advance(&bytes[..cut], 4096);
        let found = if matches!(first, Ok(None)) { scan.advance(&bytes, 4096) } else { first };
        if let Ok(Some(place)) = found {
            assert!(place.start <= place.end && place.end <= bytes.len());
            if let Ok(head) = Head::parse(&bytes[place], 64) {
                count += 1;
                assert!(head.headers.len() <= 64 && !head.method.is_empty());
                assert!(!head.target.iter().any(|byte| byte.is_ascii_whitespace()));
            }
        }
    });
    assert!(count > STEPS / 10, "only {count} heads were read");
}

const NOW: u64 = 1_767_225_600;

fn schemes() -> Vec<Verifier> {
    let hmac = |hash, encoding, signed| Scheme::Hmac {
        header: "X-Sig".to_owned(),
        prefix: String::new(),
        hash,
        encoding,
        signed,
    };
    let header = || "X-Sig".to_owned();
    let template = Signed::parse("v0:{X-Timestamp}:{body}", None).expect("a template");
    let stamped = |name: &str, joint: &str| Scheme::Stamped {
        header: header(),
        name: name.to_owned(),
        joint: joint.to_owned(),
        tolerance: TOLERANCE,
    };
    let all = vec![
        Scheme::Header { header: "Authorization".to_owned(), prefix: String::new() },
        Scheme::Header { header: header(), prefix: "Token ".to_owned() },
        Scheme::Bearer,
        Scheme::Basic { user: Some("hook".to_owned()) },
        Scheme::Query { name: "token".to_owned() },
        Scheme::Path,
        hmac(Hash::Sha256, Encoding::Hex, None),
        hmac(Hash::Sha1, Encoding::Base64, None),
        hmac(Hash::Sha256, Encoding::Base64, Some(template)),
        Scheme::StandardWebhooks { tolerance: TOLERANCE },
        stamped("v1", "."),
        stamped("s", "_"),
        Scheme::SignedForm { header: header(), url: UrlBase::Server("https://a.b".to_owned()) },
    ];
    let secrets = || vec![Secret::new("whsec_b2xk"), Secret::new("whpk_AAAA")];
    all.into_iter().map(|scheme| Verifier::new(scheme, secrets())).collect()
}

/// Names of headers that some scheme looks at.
const PROOFS: [&str; 9] = [
    "Authorization",
    "X-Sig",
    "X-Timestamp",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-id",
    "svix-timestamp",
    "svix-signature",
];

#[test]
fn proofs_nobody_made_are_refused_and_nothing_breaks() {
    let _alone = alone();
    let verifiers = schemes();
    let values: [&[u8]; 9] = [
        b"Bearer whsec_b2x",
        b"Basic aG9vazp3aHNlY19iMng=",
        b"sha256=00ff00ff",
        b"t=1767225600,v1=00ff,v1=00",
        b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1a,AAAA",
        b"1767225600",
        b"Token ",
        b"",
        b"RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    ];
    for_each_seed("verify", |chance| {
        let mut headers = Vec::new();
        for _ in 0..chance.below(8) {
            let value = chance.one_of(&values);
            let other = chance.one_of(&values);
            let value = mutated(chance, value, other);
            headers.push((chance.one_of(&PROOFS).to_owned(), String::from_utf8_lossy(&value).into_owned()));
        }
        let body = mutated(chance, b"a=1&b=%20&c", b"{\"a\":1}");
        let query =
            [("token".to_owned(), "whsec_b2x".to_owned()), ("bodySHA256".to_owned(), "00".to_owned())];
        let query = &query[..chance.below(3)];
        let given = Evidence {
            now: Timestamp(NOW * 1000),
            target: "/in/x?y=%",
            path_token: "whsec_b2xK",
            ..Evidence::of(&headers, query, &body)
        };
        for verifier in &verifiers {
            let refusal = verifier.check(&given).expect_err("nobody knows the secret");
            let told = refusal.to_string();
            assert!(!told.contains("b2xk") && !told.contains("b2x "), "{told}");
            let _ = verifier.shake(None, query);
        }
    });
}

/// Bytes allocated and time of the processor for one run: the least of five, as noise only adds.
fn cost(run: &dyn Fn()) -> (usize, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let allocated = MEMORY.total_allocated();
    run();
    let allocated = MEMORY.total_allocated() - allocated;
    let timed = |_| {
        let start = now();
        run();
        now().saturating_sub(start)
    };
    (allocated, (0..5).map(timed).min().unwrap_or_default())
}

/// Sixteen times the input may cost sixteen times as much, and half as much again for buffers that double; a square
/// would cost two hundred and fifty-six times as much. The processor's time may quadruple beside that: others use
/// its caches.
fn check_linear(what: &str, run: impl Fn(usize), length: usize) {
    if let Err(why) = linear(run, length) {
        panic!("{what}: {why}");
    }
    check_memory(what);
}

/// How often a length is measured again before its time counts: what else this machine does comes and goes, a
/// square stays.
const TRIES: usize = 3;

fn linear(run: impl Fn(usize), length: usize) -> Result<(), String> {
    let tries: Result<(), String> = Err(String::new());
    (0..TRIES).fold(tries, |last, _| last.or_else(|_| measured(&run, length)))
}

fn measured(run: &impl Fn(usize), length: usize) -> Result<(), String> {
    let (bytes, time) = cost(&|| run(length));
    let (more_bytes, more_time) = cost(&|| run(length * GROWTH));
    let bytes_max = bytes * GROWTH * 3 / 2 + 256 * 1024;
    if more_bytes > bytes_max {
        return Err(format!("{bytes} bytes at {length}, {more_bytes} at {GROWTH} times that"));
    }
    let time_max = (time + Duration::from_micros(50)) * (GROWTH * 4) as u32;
    if more_time > time_max {
        return Err(format!("{time:?} at {length}, {more_time:?} at {GROWTH} times that"));
    }
    Ok(())
}

/// A shape of a body: its content type, what it begins with, what it is made of, what it ends with.
type Shape = (&'static str, &'static str, &'static [u8], &'static [u8], &'static [u8]);

const SHAPES: [Shape; 46] = [
    ("open lists", "", b"", b"[", b""),
    ("open objects", "", b"", b"{", b""),
    ("open braces in pairs", "", b"[", b"{{a", b""),
    ("placeholders", "", b"[0", b",{{a}}", b"]"),
    ("nested members", "", b"", b"{\"a\":", b""),
    ("empty lists", "", b"[0", b",[]", b"]"),
    ("objects", "", b"[0", b",{\"a\":{}}", b"]"),
    ("one member again and again", "", b"{\"b\":1", b",\"a\":1", b"}"),
    ("one text without an end", "", b"[\"", b"a", b""),
    ("one text", "", b"[\"", b"a", b"\"]"),
    ("quotes", "", b"", b"\"", b""),
    ("escapes", "", b"[\"", b"\\n", b"\"]"),
    ("stray backslashes", "", b"[\"", b"\\x", b"\"]"),
    ("lone surrogates", "", b"[\"", b"\\ud83d", b"\"]"),
    ("raw line breaks", "", b"[\"", b"\n", b"\"]"),
    ("a long number", "", b"[", b"1", b"]"),
    ("a long exponent", "", b"[1e", b"1", b"]"),
    ("objects on lines", "", b"", b"{}\n", b""),
    ("lists on lines and a broken one", "", b"", b"[1]\n", b"[1"),
    ("an object and a footer", "", b"{}", b"x ", b""),
    ("blanks", "", b"", b" ", b""),
    ("zeros", "", b"", b"\0", b""),
    ("blanks and zeros behind", "", b"{}", b" \0", b""),
    ("a text of JSON", "", b"\"[", b"0,", b"0]\""),
    ("bytes of no charset", "", b"[\"", b"\xff", b"\"]"),
    ("half characters", "", b"[\"", b"\xc3(\xc3\xa9", b"\"]"),
    ("surrogates in bytes", "", b"[\"", b"\xed\xa0\xbd\xed\xb8\x80", b"\"]"),
    ("lone surrogates in bytes", "", b"[\"", b"\xed\xa0\xbd", b"\"]"),
    ("wide characters", "", b"[\0", b"1\0,\0", b"1\0]\0"),
    ("an old charset", "text/plain; charset=iso-2022-jp", b"[\"", b"\x1b$B%F\x1b(B", b"\"]"),
    ("text", "text/plain", b"", b"hello ", b""),
    ("markup", "", b"<a>", b"<b>", b""),
    ("ampersands", FORM, b"a=1", b"&", b""),
    ("fields", FORM, b"a=1", b"&b=1", b""),
    ("percents", FORM, b"a=", b"%", b""),
    ("percent-encoded bytes", FORM, b"a=", b"%E9", b""),
    ("blanks as plus", FORM, b"a=", b"+", b""),
    ("equal signs", FORM, b"a", b"=", b""),
    ("brackets in a name", FORM, b"a", b"[b]", b"=1"),
    ("open brackets in a name", FORM, b"a", b"[", b"=1"),
    ("JSON in a form", FORM, b"payload=%5B1", b"%2C1", b"%5D&a=1"),
    ("a body that is percent-encoded", FORM, b"%5B1", b",1", b"%5D="),
    ("lines that are nearly a boundary", PARTS, b"--b\r\n\r\n", b"\n--", b"\r\n--b--"),
    ("parts", PARTS, b"--b\r\n", b"Content-Disposition: form-data; name=a\r\n\r\n1\r\n--b\r\n", b""),
    ("header lines of a part", PARTS, b"--b\r\n", b"X: y\r\n", b"\r\n1\r\n--b--"),
    (
        "parameters of a part",
        PARTS,
        b"--b\r\nContent-Disposition: form-data",
        b";a=\"\\\"\"",
        b"\r\n\r\n1\r\n--b--",
    ),
];

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=b";

fn shaped((_, kind, begin, piece, end): &Shape, length: usize) -> (Vec<(String, String)>, Vec<u8>) {
    let headers = vec![("Content-Type".to_owned(), (*kind).to_owned())];
    (headers, [begin, piece.repeat(length / piece.len()).as_slice(), end].concat())
}

#[test]
fn the_work_for_a_body_grows_with_its_length() {
    let _alone = alone();
    // The longer body stays below the 128 KiB from which glibc's allocator asks the kernel for fresh pages each time:
    // their faults cost hundreds of times what reading the shorter body does.
    const LENGTH: usize = 4 * 1024;
    for shape in &SHAPES {
        let short = shaped(shape, LENGTH);
        let long = shaped(shape, LENGTH * GROWTH);
        let run = |length: usize| {
            let (headers, body) = if length == 1 { &short } else { &long };
            let _ = understood(headers, body);
        };
        check_linear(shape.0, run, 1);
    }
}

#[test]
fn the_work_for_a_proof_grows_with_its_length() {
    let _alone = alone();
    let verifiers = schemes();
    let pieces: [(&str, &str, &str); 8] = [
        ("webhook-signature", "", "v1,AAAA "),
        ("webhook-signature", "", "v1a,AAAA "),
        ("X-Sig", "t=1767225600", ",v1=00"),
        ("X-Sig", "t=1", ",t=1"),
        ("X-Sig", "", "00"),
        ("Authorization", "Basic ", "OjpB"),
        ("Authorization", "Bearer", " "),
        ("X-Timestamp", "", "1"),
    ];
    for (header, begin, piece) in pieces {
        let made = |length: usize| {
            let mut headers: Vec<(String, String)> =
                PROOFS.iter().map(|name| ((*name).to_owned(), "1767225600".to_owned())).collect();
            headers.retain(|(name, _)| name != header);
            headers.push((header.to_owned(), format!("{begin}{}", piece.repeat(length / piece.len()))));
            (headers, "b=2&a=1&".repeat(length / 8))
        };
        let (short, long) = (made(4 * 1024), made(4 * 1024 * GROWTH));
        let run = |length: usize| {
            let (headers, body) = if length == 1 { &short } else { &long };
            let given =
                Evidence { now: Timestamp(NOW * 1000), ..Evidence::of(headers, &[], body.as_bytes()) };
            for verifier in &verifiers {
                let _ = verifier.check(&given);
            }
        };
        check_linear(&format!("{header}: {begin}{piece}…"), run, 1);
    }
}

#[test]
fn the_work_for_a_head_grows_with_its_length() {
    let _alone = alone();
    let pieces: [(&str, &str); 6] = [
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: ", "x,"),
        ("GET / HTTP/1.1\r\nHost: x\r\n", "A: b\r\n"),
        ("GET /", "a"),
        ("GET / HTTP/1.1\r\nX: ", "\t"),
        ("GET http://", "a"),
        ("GET ", " "),
    ];
    for (begin, piece) in pieces {
        let made =
            |length: usize| format!("{begin}{}\r\n\r\n", piece.repeat(length / piece.len())).into_bytes();
        let (short, long) = (made(2 * 1024), made(2 * 1024 * GROWTH));
        let run = |length: usize| {
            let bytes = if length == 1 { &short } else { &long };
            // As it arrives from a slow client: a few bytes at a time, from the same start.
            let mut scan = HeadScan::default();
            let arrived =
                (1..=bytes.len()).step_by(3).map(|length| scan.advance(&bytes[..length], usize::MAX));
            if let Some(Err(_)) = arrived.into_iter().find(|answer| !matches!(answer, Ok(None))) {
                return;
            }
            let whole = HeadScan::default().advance(bytes, usize::MAX);
            if let Ok(Some(place)) = whole {
                let _ = Head::parse(&bytes[place], 64);
            }
        };
        check_linear(&format!("{begin}{piece}…"), run, 1);
    }
}

#[test]
fn what_a_body_becomes_in_memory_has_a_bound() {
    let _alone = alone();
    for shape in &SHAPES {
        let (headers, body) = shaped(shape, BODY_BYTES_MAX);
        let _ = understood(&headers, &body);
        check_memory(shape.0);
    }
    let mut fields = String::from("payload=%5B%7B%7D");
    for _ in 0..900 {
        fields.push_str(",%7B%7D");
    }
    fields.push_str("%5D");
    for number in 0..900 {
        write!(fields, "&f{number}=%7B%22a%22:%5B{}0%5D%7D", "0,".repeat(500)).expect("memory");
    }
    let form = [("Content-Type".to_owned(), FORM.to_owned())];
    let _ = understood(&form, fields.as_bytes());
    check_memory("fields of JSON beside a list");
}

#[test]
fn a_bomb_is_not_inflated() {
    let _alone = alone();
    let zeros = vec![b' '; 64 * 1024];
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..512 {
        bomb.write_all(&zeros).expect("memory");
    }
    let bomb = bomb.finish().expect("memory");
    assert!(bomb.len() < BODY_BYTES_MAX, "32 MiB in {} bytes", bomb.len());
    let coding = [("Content-Encoding".to_owned(), "gzip".to_owned())];
    assert_eq!(understood(&coding, &bomb), Err(DecodeError::TooLarge(BODY_BYTES_MAX)));
    let members = {
        let mut member = GzEncoder::new(Vec::new(), Compression::fast());
        member.write_all(b" ").expect("memory");
        member.finish().expect("memory")
    };
    let run = |length: usize| {
        let _ = understood(&coding, &members.repeat(length));
    };
    check_linear("members of one byte", run, 500);
}

#[test]
fn a_square_is_noticed() {
    let _alone = alone();
    let square = |length: usize| {
        let side = length * 300;
        let sum = (0..side).fold(0, |sum, row| {
            (0..side).fold(sum, |sum, column| std::hint::black_box(sum ^ (row * column)))
        });
        assert!(sum < usize::MAX);
    };
    linear(square, 1).expect_err("a square is not linear");
}
