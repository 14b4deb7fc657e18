//! Requests that prove themselves, and those that do not. Signatures are made here with other code than the one
//! that compares them, or are a platform's own published examples.

use super::*;
use ring::hmac;

fn verifier(scheme: Scheme, secrets: &[&str]) -> Verifier {
    Verifier::new(scheme, secrets.iter().map(|secret| Secret::new(*secret)).collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// `""` for let in, else the text of the refusal.
fn check_header(verifier: &Verifier, headers: &[(&str, &str)], expect: &str) {
    let answer = verifier.check(&Evidence::of(&pairs(headers), &[], b"{}"));
    assert_eq!(answer.err().map(|refusal| refusal.to_string()).unwrap_or_default(), expect, "{headers:?}");
}

#[test]
fn a_header_carries_the_secret() {
    let plain = verifier(Scheme::Header { header: "X-Bp-Secret".into(), prefix: String::new() }, &["s3cret"]);
    check_header(&plain, &[("x-bp-secret", "s3cret")], "");
    check_header(&plain, &[("X-BP-SECRET", " s3cret ")], "");
    check_header(
        &plain,
        &[("x-bp-secret", "s3creT")],
        "x-bp-secret did not match (got 6 characters, expected 6)",
    );
    check_header(&plain, &[("x-bp-secret", "")], "x-bp-secret did not match (got 0 characters, expected 6)");
    check_header(&plain, &[("authorization", "s3cret")], "header x-bp-secret is missing");
    check_header(
        &plain,
        &[("x-bp-secret", "Bearer s3cret")],
        "x-bp-secret did not match (got 13 characters, expected 6)",
    );
}

#[test]
fn authorization_may_say_bearer_or_not() {
    let free = verifier(Scheme::Header { header: "Authorization".into(), prefix: String::new() }, &["k"]);
    check_header(&free, &[("Authorization", "k")], "");
    check_header(&free, &[("Authorization", "bearer   k")], "");
    check_header(
        &free,
        &[("Authorization", "Bearerk")],
        "authorization did not match (got 7 characters, expected 1)",
    );
    let token = verifier(Scheme::Header { header: "Authorization".into(), prefix: "Token ".into() }, &["k"]);
    check_header(&token, &[("Authorization", "Token k")], "");
    check_header(
        &token,
        &[("Authorization", "k")],
        "authorization did not match (it does not begin with \"Token \")",
    );
}

#[test]
fn bearer_needs_its_word() {
    let bearer = verifier(Scheme::Bearer, &["tok_abc"]);
    check_header(&bearer, &[("Authorization", "bearer tok_abc")], "");
    check_header(
        &bearer,
        &[("Authorization", "Bearer tok_abd")],
        "authorization did not match (got 7 characters, expected 7)",
    );
    check_header(
        &bearer,
        &[("Authorization", "tok_abc")],
        "authorization did not match (it does not begin with \"Bearer \")",
    );
    check_header(&bearer, &[], "header authorization is missing");
}

#[test]
fn basic_compares_user_and_password() {
    let hook = verifier(Scheme::Basic { user: Some("hook".into()) }, &["p:w"]);
    check_header(&hook, &[("Authorization", "Basic aG9vazpwOnc=")], "");
    check_header(
        &hook,
        &[("Authorization", "Basic aG9vazpwOng=")],
        "authorization did not match (wrong password)",
    );
    check_header(
        &hook,
        &[("Authorization", "Basic aG9va3M6cDp3")],
        "authorization did not match (wrong user)",
    );
    check_header(
        &hook,
        &[("Authorization", "Basic ???")],
        "authorization did not match (it is not \"Basic \" and user:password)",
    );
    let anybody = verifier(Scheme::Basic { user: None }, &["p:w"]);
    check_header(&anybody, &[("Authorization", "Basic aG9va3M6cDp3")], "");
}

#[test]
fn query_carries_the_token() {
    let query = verifier(Scheme::Query { name: "token".into() }, &["t-1"]);
    let check = |given: &[(&str, &str)], expect: &str| {
        let answer = query.check(&Evidence::of(&[], &pairs(given), b""));
        assert_eq!(answer.err().map(|refusal| refusal.to_string()).unwrap_or_default(), expect);
    };
    check(&[("x", "1"), ("token", "t-1")], "");
    check(&[("token", "t-2")], "query parameter token did not match (got 3 characters, expected 3)");
    check(&[("Token", "t-1")], "query parameter token is missing");
}

#[test]
fn both_secrets_of_a_rotation_are_good() {
    let rotating = verifier(Scheme::Bearer, &["old", "newer"]);
    check_header(&rotating, &[("Authorization", "Bearer old")], "");
    check_header(&rotating, &[("Authorization", "Bearer newer")], "");
    check_header(
        &rotating,
        &[("Authorization", "Bearer new")],
        "authorization did not match (got 3 characters, expected 3 or 5)",
    );
}

#[test]
fn a_secret_is_not_printed() {
    let verifier = verifier(Scheme::Bearer, &["hunter2"]);
    assert_eq!(
        format!("{verifier:?}"),
        "Verifier { scheme: Bearer, secrets: [Secret], allow: [], handshake: HandshakeKeys { verify_tokens: [], echo: None, is_empty_post_open: false } }"
    );
}

/// A keyed hash as it is written.
fn signed(hash: Hash, encoding: Encoding, key: &[u8], parts: &[&[u8]]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hash.algorithm(), key), &parts.concat());
    match encoding {
        Encoding::Hex => tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(tag)
        }
    }
}

const NOW: u64 = 1_767_225_600;

/// `""` for let in, else the text of the refusal, at [`NOW`].
fn answer(verifier: &Verifier, headers: &[(&str, &str)], body: &[u8]) -> String {
    let headers = pairs(headers);
    let given = Evidence { now: Timestamp(NOW * 1000), ..Evidence::of(&headers, &[], body) };
    verifier.check(&given).err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

fn hmac_scheme(hash: Hash, encoding: Encoding, prefix: &str, signed: Option<Signed>) -> Scheme {
    Scheme::Hmac { header: "X-Sig".into(), prefix: prefix.into(), hash, encoding, signed }
}

#[test]
fn hmac_is_over_the_raw_body() {
    let body = b"{\"a\": 1}";
    for (hash, encoding) in [
        (Hash::Sha256, Encoding::Hex),
        (Hash::Sha256, Encoding::Base64),
        (Hash::Sha1, Encoding::Hex),
        (Hash::Sha1, Encoding::Base64),
    ] {
        let verifier = verifier(hmac_scheme(hash, encoding, "sig=", None), &["other", "hs"]);
        let good = format!("sig={}", signed(hash, encoding, b"hs", &[body]));
        assert_eq!(answer(&verifier, &[("x-sig", &good)], body), "");
        let refused = "x-sig did not match (the signature is of another secret or another body)";
        assert_eq!(answer(&verifier, &[("x-sig", &good)], b"{\"a\":1}"), refused);
        let of_stranger = format!("sig={}", signed(hash, encoding, b"hS", &[body]));
        assert_eq!(answer(&verifier, &[("x-sig", &of_stranger)], body), refused);
        // Two headers: one good signature is enough, as during a rotation on the platform's side.
        assert_eq!(answer(&verifier, &[("x-sig", &of_stranger), ("X-Sig", &good)], body), "");
        assert_eq!(answer(&verifier, &[], body), "header x-sig is missing");
    }
    let hex = verifier(hmac_scheme(Hash::Sha256, Encoding::Hex, "sha256=", None), &["hs"]);
    let upper = signed(Hash::Sha256, Encoding::Hex, b"hs", &[body]).to_uppercase();
    assert_eq!(answer(&hex, &[("x-sig", &format!("SHA256={upper}"))], body), "");
    let bare = "x-sig did not match (it does not begin with \"sha256=\")";
    assert_eq!(answer(&hex, &[("x-sig", &upper)], body), bare);
    assert_eq!(answer(&hex, &[("x-sig", "sha256=zz")], body), "x-sig did not match (it is not hex)");
    let short = "x-sig did not match (got 2 bytes, expected 32)";
    assert_eq!(answer(&hex, &[("x-sig", "sha256=00ff")], body), short);
}

#[test]
fn a_template_signs_headers_and_its_time_has_a_window() {
    let template = Signed::parse("v0:{X-Stamp-Time}:{X-Id}:{body}", None).expect("a template");
    let verifier = verifier(hmac_scheme(Hash::Sha256, Encoding::Hex, "", Some(template)), &["hs"]);
    let check = |time: &str, expect: &str| {
        let signature = signed(Hash::Sha256, Encoding::Hex, b"hs", &[b"v0:", time.as_bytes(), b":7:", b"{}"]);
        let headers = [("X-Sig", signature.as_str()), ("x-stamp-time", time), ("x-id", "7")];
        assert_eq!(answer(&verifier, &headers, b"{}"), expect, "{time}");
        let of_other = [("X-Sig", signature.as_str()), ("x-stamp-time", time), ("x-id", "8")];
        assert!(answer(&verifier, &of_other, b"{}").starts_with("x-sig did not match"), "the id is signed");
    };
    check(&NOW.to_string(), "");
    check(&format!("{NOW}123"), "");
    check(&(NOW - 300).to_string(), "");
    check(&(NOW + 300).to_string(), "");
    let outside = |seconds: u64, word: &str| {
        format!(
            "the signed time is outside the window (signed {seconds} s {word}, at most 300 s are allowed; is this \
             machine's clock right?)"
        )
    };
    check(&(NOW - 301).to_string(), &outside(301, "old"));
    check(&(NOW + 400).to_string(), &outside(400, "in the future"));
    check("0", &outside(NOW, "old"));
    check("tomorrow", "x-stamp-time did not match (the time is not a number of seconds)");
    check("-5", "x-stamp-time did not match (the time is not a number of seconds)");
    let signature = signed(Hash::Sha256, Encoding::Hex, b"hs", &[b"v0::7:{}"]);
    let twice = [("X-Sig", signature.as_str()), ("x-stamp-time", "1"), ("x-stamp-time", "2"), ("x-id", "7")];
    assert_eq!(answer(&verifier, &twice, b"{}"), "x-stamp-time did not match (it comes more than once)");
    assert_eq!(answer(&verifier, &twice[..1], b"{}"), "header x-stamp-time is missing");
}

#[test]
fn templates_say_what_is_wrong_with_them() {
    let check = |text: &str, tolerance: Option<u64>, expect: Option<SignedError>| {
        assert_eq!(Signed::parse(text, tolerance.map(Duration::from_secs)).err(), expect, "{text}");
    };
    check("{body}", None, None);
    check("{X-Timestamp}.{body}", Some(60), None);
    check("{X-Sent}.{body}", Some(60), None);
    check("{X-Id}.{X-Other}.{body}", None, None);
    check("{X-Id}.{X-Other}.{body}", Some(60), Some(SignedError::WhichTime));
    check("x{body}", Some(60), Some(SignedError::NoTime));
    check("{X-Timestamp}", None, Some(SignedError::NoBody));
    check("", None, Some(SignedError::NoBody));
    check("{body", None, Some(SignedError::Brace));
    check("body}", None, Some(SignedError::Brace));
    check("{{body}}", None, Some(SignedError::Brace));
    check("{X Y}{body}", None, Some(SignedError::NotAHeader));
    check("{}{body}", None, Some(SignedError::NotAHeader));
}

const STANDARD: Scheme = Scheme::StandardWebhooks { tolerance: TOLERANCE };

#[test]
fn standard_webhooks_with_its_published_example() {
    // The example of the specification's reference implementations.
    let verifier = verifier(STANDARD, &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
    let body = br#"{"test": 2432232314}"#;
    let check = |family: &str, signature: &str, now: u64, expect: &str| {
        let headers = pairs(&[
            (&format!("{family}-id"), id),
            (&format!("{family}-timestamp"), time),
            (&format!("{family}-signature"), signature),
        ]);
        let given = Evidence { now: Timestamp(now * 1000), ..Evidence::of(&headers, &[], body) };
        let answer = verifier.check(&given).err().map(|refusal| refusal.to_string()).unwrap_or_default();
        assert!(answer.starts_with(expect) && answer.is_empty() == expect.is_empty(), "{answer}");
    };
    let (good, at) = ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", 1_614_265_330);
    check("webhook", good, at, "");
    check("svix", good, at + 300, "");
    check("webhook", &format!("v1,AAAA v1a,BBBB {good}"), at, "");
    check(
        "webhook",
        &format!("v2{}", &good[2..]),
        at,
        "webhook-signature did not match (it has no signature v1",
    );
    check(
        "webhook",
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
        at,
        "webhook-signature did not match",
    );
    check("webhook", good, at + 301, "the signed time is outside the window");
    check("svix", good, at - 301, "the signed time is outside the window");
    check("other", good, at, "header webhook-signature is missing");
}

#[test]
fn standard_keys_are_base64_and_two_are_good_during_a_rotation() {
    let rotating = verifier(STANDARD, &["whsec_b2xk", "bmV3"]);
    let time = NOW.to_string();
    let check = |key: &[u8], expect: bool| {
        let parts: [&[u8]; 4] = [b"m1.", time.as_bytes(), b".", b"{}"];
        let signature = format!("v1,{}", signed(Hash::Sha256, Encoding::Base64, key, &parts));
        let headers =
            [("webhook-id", "m1"), ("webhook-timestamp", time.as_str()), ("webhook-signature", &signature)];
        assert_eq!(answer(&rotating, &headers, b"{}").is_empty(), expect, "{key:?}");
    };
    check(b"old", true);
    check(b"new", true);
    check(b"bmV3", false);
    check(b"whsec_b2xk", false);
    for (key, expect) in [("whsec_b2xk", true), ("whsec_%%", false), ("whpk_", false), ("anything", true)] {
        assert_eq!(is_standard_key(&Secret::new(key)), expect, "{key}");
    }
}

#[test]
fn standard_webhooks_with_a_public_key() {
    use base64::Engine;
    use ring::signature::KeyPair;
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let verifier = verifier(STANDARD, &[&format!("whpk_{}", encode(pair.public_key().as_ref()))]);
    let signature = format!("v1a,{}", encode(pair.sign(format!("m1.{NOW}.{{}}").as_bytes()).as_ref()));
    let time = NOW.to_string();
    let headers = [("webhook-id", "m1"), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    assert_eq!(answer(&verifier, &headers, b"{}"), "");
    assert!(answer(&verifier, &headers, b"{ }").starts_with("webhook-signature did not match"));
}

#[test]
fn stamped_lists_hold_several_signatures() {
    let stripe = Scheme::Stamped {
        header: "Stripe-Signature".into(),
        name: "v1".into(),
        joint: ".".into(),
        tolerance: TOLERANCE,
    };
    let verifier = verifier(stripe, &["whsec_a", "whsec_b"]);
    let time = NOW.to_string();
    let parts: [&[u8]; 3] = [time.as_bytes(), b".", b"{}"];
    let good = signed(Hash::Sha256, Encoding::Hex, b"whsec_b", &parts);
    let check = |list: &str, expect: &str| {
        let answer = answer(&verifier, &[("stripe-signature", list)], b"{}");
        assert!(answer.starts_with(expect) && answer.is_empty() == expect.is_empty(), "{list}: {answer}");
    };
    check(&format!("t={NOW},v1={good}"), "");
    check(&format!("t={NOW}, v0=00, v1=00ff, v1={good}"), "");
    check(&format!("t={NOW},v0={good}"), "stripe-signature did not match (it has no signature v1= in hex)");
    check(&format!("v1={good}"), "stripe-signature did not match (it has no time t=)");
    check(&format!("t=1,t={NOW},v1={good}"), "stripe-signature did not match (it has no time t=)");
    check(&format!("t={},v1={good}", NOW + 1), "stripe-signature did not match (the signature is of another");
    let old = (NOW - 301).to_string();
    let parts: [&[u8]; 3] = [old.as_bytes(), b".", b"{}"];
    let replayed = signed(Hash::Sha256, Encoding::Hex, b"whsec_b", &parts);
    check(&format!("t={old},v1={replayed}"), "the signed time is outside the window");
}

fn signed_form(url: UrlBase, secret: &str) -> Verifier {
    verifier(Scheme::SignedForm { header: "X-Twilio-Signature".into(), url }, &[secret])
}

#[test]
fn signed_forms_with_their_published_example() {
    // From Twilio's page on webhook security.
    let verifier = signed_form(UrlBase::Server("https://mycompany.com".into()), "12345");
    let body =
        b"Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309&CallSid=CA1234567890ABCDE";
    let check = |target: &str, body: &[u8], expect: bool| {
        let headers = pairs(&[("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")]);
        let given = Evidence { target, ..Evidence::of(&headers, &[], body) };
        assert_eq!(verifier.check(&given).is_ok(), expect, "{target}");
    };
    check("/myapp.php?foo=1&bar=2", body, true);
    check("/myapp.php?foo=1&bar=3", body, false);
    check("/myapp.php", body, false);
    check("/myapp.php?foo=1&bar=2", &body[..body.len() - 1], false);
}

#[test]
fn signed_urls_with_a_port_or_of_another_host() {
    let check = |base: UrlBase, signed_url: &str, target: &str, expect: bool| {
        let signature = signed(Hash::Sha1, Encoding::Base64, b"k", &[signed_url.as_bytes(), b"a1b2b3"]);
        let headers = pairs(&[("x-twilio-signature", &signature)]);
        let given = Evidence { target, ..Evidence::of(&headers, &[], b"b=3&a=1&b=2&b=3") };
        assert_eq!(signed_form(base, "k").check(&given).is_ok(), expect, "{signed_url} {target}");
    };
    let server = |url: &str| UrlBase::Server(url.to_owned());
    check(server("https://a.b"), "https://a.b/in/x", "/in/x", true);
    check(server("https://a.b"), "https://a.b:443/in/x", "/in/x", true);
    check(server("https://a.b:443"), "https://a.b/in/x", "/in/x", true);
    check(server("http://a.b"), "http://a.b:80/in/x?q=%20", "/in/x?q=%20", true);
    check(server("https://a.b"), "http://a.b/in/x", "/in/x", false);
    check(server("https://a.b:8443"), "https://a.b/in/x", "/in/x", false);
    check(server("https://a.b/hooks"), "https://a.b/hooks/in/x", "/in/x", true);
    check(UrlBase::Whole("https://c.d/other".into()), "https://c.d/other?q=1", "/in/x?q=1", true);
    check(UrlBase::Whole("https://c.d/other".into()), "https://c.d/in/x", "/in/x", false);
}

#[test]
fn a_signed_url_may_carry_the_hash_of_its_body() {
    let verifier = signed_form(UrlBase::Server("https://a.b".into()), "k");
    let body = b"{\"a\":1}";
    let hash: String = ring::digest::digest(&ring::digest::SHA256, body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let target = format!("/in/x?bodySHA256={hash}");
    let url = format!("https://a.b{target}");
    let headers =
        pairs(&[("x-twilio-signature", &signed(Hash::Sha1, Encoding::Base64, b"k", &[url.as_bytes()]))]);
    let query = pairs(&[("bodySHA256", &hash)]);
    let check = |body: &[u8], expect: &str| {
        let given = Evidence { target: &target, ..Evidence::of(&headers, &query, body) };
        assert_eq!(
            verifier.check(&given).err().map(|refusal| refusal.to_string()).unwrap_or_default(),
            expect
        );
    };
    check(body, "");
    check(b"{\"a\":2}", "bodySHA256 did not match (the body is another one)");
}

#[test]
fn only_listed_addresses_may_post() {
    let mut open = verifier(Scheme::None, &[]);
    open.allow = vec!["203.0.113.0/24".parse().expect("a range"), "2001:db8::/32".parse().expect("a range")];
    assert!(open.is_remote_only());
    let check = |peer: Option<&str>, expect: bool| {
        let peer = peer.map(|peer| peer.parse().expect("an address"));
        let answer = open.check(&Evidence { peer, ..Evidence::of(&[], &[], b"") });
        assert_eq!(answer.is_ok(), expect, "{peer:?}");
        assert!(answer.is_ok() || answer.is_err_and(|refusal| refusal.is_address));
    };
    check(Some("203.0.113.9"), true);
    check(Some("2001:db8::9"), true);
    check(Some("198.51.100.9"), false);
    check(None, false);
}

#[test]
fn handshakes() {
    let mut keys = verifier(Scheme::Bearer, &["s"]);
    let check = |keys: &Verifier, query: &[(&str, &str)], expect: Result<&str, &str>| {
        let shaken = match keys.shake(None, &pairs(query)) {
            Handshake::Answer(text) => Ok(text),
            Handshake::Refused(refusal) => Err(refusal.why),
            Handshake::None => Err(String::new()),
        };
        assert_eq!(shaken.as_ref().map(String::as_str).map_err(String::as_str), expect, "{query:?}");
    };
    let meta = [("hub.mode", "subscribe"), ("hub.challenge", "1158201444"), ("hub.verify_token", "vt")];
    check(&keys, &meta, Err(""));
    keys.handshake.verify_tokens = vec![Secret::new("old"), Secret::new("vt")];
    check(&keys, &meta, Ok("1158201444"));
    check(&keys, &meta[..2], Err("verify_token did not match"));
    check(&keys, &[meta[1], ("hub.verify_token", "nope")], Err("verify_token did not match"));
    check(&keys, &[("hub.challenge", "<b>\n"), meta[2]], Err("the challenge is not plain text"));
    check(&keys, &[("hub.challenge", ""), meta[2]], Err("the challenge is not plain text"));
    check(&keys, &[("a", "b")], Err(""));
    keys.handshake.echo = Some("validationToken".to_owned());
    check(&keys, &[("validationToken", "Validation: 1")], Ok("Validation: 1"));
    keys.allow = vec!["203.0.113.0/24".parse().expect("a range")];
    check(&keys, &meta, Err("address is not in allow"));
}

#[test]
fn headers_with_proofs_are_known() {
    let standard = verifier(STANDARD, &["k"]);
    assert!(standard.is_proof_header("Svix-Signature") && standard.is_proof_header("webhook-signature"));
    assert!(!standard.is_proof_header("webhook-id"), "it is the event's id");
    assert!(verifier(Scheme::Bearer, &["k"]).is_proof_header("AUTHORIZATION"));
    assert!(!verifier(Scheme::Path, &["k"]).is_proof_header("x"));
}
#[test]
fn secrets_in_the_path() {
    let path = verifier(Scheme::Path, &["t-1", "t-2"]);
    let check = |token: &str, expect: &str| {
        let given = Evidence { path_token: token, ..Evidence::of(&[], &[], b"") };
        assert_eq!(path.check(&given).err().map(|refusal| refusal.to_string()).unwrap_or_default(), expect);
    };
    check("t-2", "");
    check("t-3", "secret in the path did not match (got 3 characters, expected 3 or 3)");
    check("", "secret in the path is missing");
}
