//! `deskspool init` where nobody can be asked: what it writes, what it refuses, and that it replaces nothing unasked.
//! The questions themselves are asked on a real terminal by `tests/system/init.sh`.

use crate::harness::{KEY, Verb, World, sandbox};
use deskspool::sandbox::Sandbox;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A world whose configuration `init` is to write, and the key in a file.
fn bare(desk: &Sandbox, key: &str) -> World {
    let world = World::new(desk);
    fs::write(world.path("key"), format!("{key}\n")).expect("the directory is ours");
    world
}

/// Runs `init` with the world's spool and key, and these.
fn init(world: &World, url: &str, more: &[&str]) -> Verb {
    let spool = world.path("spool").display().to_string();
    let key = world.path("key").display().to_string();
    let usual = ["init", "--yes", "--url", url, "--api-key-file", &key, "--spool", &spool];
    world.run(&[&usual, more].concat())
}

fn secret(world: &World, name: &str) -> PathBuf {
    world.path("secrets").join(name)
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_it_writes_passes_the_check_and_says_what_to_paste() {
    let desk = sandbox();
    let world = bare(&desk, KEY);
    let sources = ["--source", "sendpulse", "--source", "shop=generic", "--source", "stripe"];
    let done =
        init(&world, &desk.url(), &[&sources[..], &["--public-url", "https://hooks.acme.com/"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("ok, \"Integrations\", "), "{done:?}");
    let token = read(secret(&world, "sendpulse"));
    assert_eq!(token.trim().len(), 48, "192 bits in hex");
    for wanted in [
        format!("paste    https://hooks.acme.com/in/sendpulse?token={}\n", token.trim()),
        format!("with     header Authorization: {}\n", read(secret(&world, "shop")).trim()),
        "paste    https://hooks.acme.com/in/shop\n".to_owned(),
        "missing  the secret that it shows: put it into ".to_owned(),
        " check\n".to_owned(),
    ] {
        assert!(done.out.contains(&wanted), "{wanted}\n{}", done.out);
    }
    for name in ["deskspool.toml", "secrets/sendpulse", "secrets/shop", "secrets/freshdesk_api_key"] {
        let mode = fs::metadata(world.path(name)).expect(name).permissions().mode() & 0o7777;
        assert!(mode == 0o600 || mode == 0o640, "{name} {mode:o}");
    }
    let checked = world.run(&["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.out.contains("key belongs to \"Integrations\""), "{checked:?}");
    assert!(!read(world.config()).contains(KEY) && !done.out.contains(KEY) && !done.err.contains(KEY));
}

#[test]
fn what_is_there_stays_unless_forced_and_secrets_stay_even_then() {
    let desk = sandbox();
    let world = bare(&desk, KEY);
    assert_eq!(init(&world, &desk.url(), &["--source", "sendpulse"]).code, 0);
    let (config, token) = (read(world.config()), read(secret(&world, "sendpulse")));

    let again = init(&world, &desk.url(), &["--source", "contako"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is there already\n   = replace it, and keep it as "), "{again:?}");
    assert_eq!(read(world.config()), config);

    let forced = init(&world, &desk.url(), &["--force", "--source", "contako", "--source", "sendpulse"]);
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(read(world.path("deskspool.toml.old")), config);
    assert_eq!(read(secret(&world, "sendpulse")), token, "the platform knows it already");
    assert!(read(world.config()).contains("[source.contako]"));
}

#[test]
fn a_wrong_key_is_not_taken_and_one_that_cannot_be_tried_is() {
    let desk = sandbox();
    let world = bare(&desk, "another");
    let wrong = init(&world, &desk.url(), &["--source", "sendpulse"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("freshdesk 401: the API key is wrong"), "{wrong:?}");
    assert!(!world.config().exists() && !world.path("secrets").exists(), "nothing is written");

    let unreachable = init(&world, "http://127.0.0.1:1", &["--source", "sendpulse", "--json"]);
    assert_eq!(unreachable.code, 0, "{unreachable:?}");
    let told: serde_json::Value = serde_json::from_str(&unreachable.out).expect("one object");
    assert_eq!(told["key"], "could not be tested (connection refused); `deskspool check` does it later");
    assert_eq!(told["sources"][0]["url"], "https://<this host>/in/sendpulse");
    assert!(
        !unreachable.out.contains(read(secret(&world, "sendpulse")).trim()),
        "JSON names files, not secrets"
    );
}

#[test]
fn a_secret_that_the_platform_made_comes_from_a_file() {
    let desk = sandbox();
    let world = bare(&desk, KEY);
    fs::write(world.path("stripe"), "whsec_abc\n").expect("the directory is ours");
    let file = format!("stripe={}", world.path("stripe").display());
    let done = init(&world, &desk.url(), &["--source", "stripe", "--secret-file", &file]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(read(secret(&world, "stripe")), "whsec_abc\n");
    assert!(!done.out.contains("missing") && !done.out.contains("whsec_abc"), "{done:?}");
}

#[test]
fn what_is_missing_or_unknown_is_told() {
    let desk = sandbox();
    let world = bare(&desk, KEY);
    let check = |more: &[&str], expect: &str| {
        let told = init(&world, &desk.url(), more);
        assert_eq!(told.code, 2, "{told:?}");
        assert!(told.err.contains(expect), "{told:?}");
        assert!(!world.config().exists());
    };
    check(&[], "name at least one platform: alertmanager b2chat");
    check(&["--source", "sendpuls"], "there is no \"sendpuls\"; there are alertmanager");
    check(&["--source", "a b"], "there is no \"a\"");
    check(&["--source", "Shop=generic"], "\"Shop\" is not a name for a source");
    check(&["--source", "zapier,zapier"], "zapier is there twice; say another name: zapier-2=zapier");
    check(
        &["--source", "zapier", "--public-url", "hooks"],
        "expected an address like https://hooks.acme.com",
    );
    check(&["--source", "zapier", "--api-key", KEY], "unexpected argument '--api-key'");
    let silent = world.run(&["init"]);
    assert_eq!((silent.code, silent.err.contains("nobody can be asked")), (2, true), "{silent:?}");
    let keyless = world.run(&["init", "--yes", "--domain", "acme", "--source", "zapier"]);
    assert_eq!((keyless.code, keyless.err.contains("--api-key-file")), (2, true), "{keyless:?}");
    let domain = world.run(&["init", "--yes", "--domain", "a b", "--source", "zapier"]);
    assert_eq!((domain.code, domain.err.contains("expected acme, ")), (2, true), "{domain:?}");
}
