//! Presets as goldens: a request goes in, the planned Freshdesk writes come out; no network, no spool.
//!
//! A case is one of the corpus (`tests/corpus`), or one of our own: a directory `tests/presets/<platform>/<case>/` with
//! `request.http` (the bytes as they were sent) and `expect.json` (what a support admin expects, see
//! `tests/presets/README.md`). Of either, `tests/presets/<platform>/<case>/plan.json` has the exact writes; rewritten
//! with `UPDATE_GOLDEN=1`. `source.toml`, if there, is the admin's table for the case.

mod preset_cases;

use preset_cases::{Case, compare, golden, world};
use std::collections::BTreeMap;

/// Cases that this test cannot decide, and who does; `tests/corpus.rs` runs them with the real binary.
const ELSEWHERE: &[(&str, &str)] = &[
    ("empower/verify-url-get", "intake answers methods"),
    ("empower/verify-url-head", "intake answers methods"),
    ("generic/chunked", "the gate removes the framing"),
    ("generic/content-length-too-long-header-only", "the gate refuses by the head"),
    ("generic/get-on-hook", "intake answers methods"),
    ("generic/options-preflight", "intake answers methods"),
    ("generic/put-method", "intake answers methods"),
    ("generic/path-traversal", "intake routes"),
    ("generic/unknown-source-path", "intake routes"),
    ("generic/non-ascii-header", "the gate passes or refuses the header"),
    ("twilio/sms-mms", "the signature covers the address, which intake knows"),
    ("twilio/whatsapp-profile", "the signature covers the address, which intake knows"),
    ("whatsapp/verify-challenge", "intake answers methods"),
    ("whatsapp/verify-wrong-token", "intake answers methods"),
];

#[test]
fn every_case_becomes_what_is_expected() {
    let cases = Case::all();
    for (name, _) in ELSEWHERE {
        assert!(cases.iter().any(|case| case.name == *name), "{name} is listed but is no case");
    }
    let mut failures = Vec::new();
    let mut table: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut classes = compare::Classes::default();
    for case in cases.iter().filter(|case| !ELSEWHERE.iter().any(|(name, _)| *name == case.name)) {
        let results = world::replay(case, &cases);
        let mut wrong = compare::compare(case, &results, &mut classes);
        wrong.extend(golden::check(case, &results));
        let row = table.entry(&case.platform).or_default();
        row.0 += u32::from(wrong.is_empty());
        row.1 += 1;
        failures.extend((!wrong.is_empty()).then_some((&case.name, wrong)));
    }
    for (platform, (passed, all)) in table {
        println!("{platform:20} {passed:3} of {all:3} pass");
    }
    for (name, reason) in ELSEWHERE {
        println!("elsewhere  {name}: {reason}");
    }
    for (name, wrong) in &failures {
        println!("FAILED     {name}\n           {}", wrong.join("\n           "));
    }
    assert!(failures.is_empty(), "{} cases fail", failures.len());
}
