//! Presets as goldens: a request goes in, the planned Freshdesk writes come out; no network, no spool.
//!
//! A case is a directory `tests/presets/<platform>/<case>/` with `request.http` (the bytes as they were sent),
//! `expect.json` (what a support admin expects, see `tests/presets/README.md`) and `plan.json` (the exact
//! writes; rewritten with `UPDATE_GOLDEN=1`). `source.toml`, if there, is the admin's table for the case.

mod preset_cases;

use preset_cases::{Case, compare, golden, world};
use std::path::Path;

/// Cases that this test cannot or need not decide, and who does.
const ELSEWHERE: [(&str, &str); 7] = [
    ("generic/chunked", "the gate removes the framing"),
    ("generic/content-length-too-long-header-only", "the gate refuses by the head"),
    ("generic/get-on-hook", "intake answers methods"),
    ("generic/options-preflight", "intake answers methods"),
    ("generic/path-traversal", "intake routes"),
    ("generic/unknown-source-path", "intake routes"),
    ("generic/non-ascii-header", "the gate passes or refuses the header"),
];

#[test]
fn every_case_becomes_what_is_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/presets");
    let cases = Case::all(&root);
    for (name, _) in ELSEWHERE {
        assert!(cases.iter().any(|case| case.name == name), "{name} is listed but is no case");
    }
    let mut failures = Vec::new();
    let mut classes = compare::Classes::default();
    for platform in ["botpress", "generic", "sendpulse"] {
        let of_platform: Vec<&Case> = cases.iter().filter(|case| case.platform == platform).collect();
        let (here, elsewhere): (Vec<&Case>, Vec<&Case>) =
            of_platform.iter().partition(|case| !ELSEWHERE.iter().any(|(name, _)| *name == case.name));
        let before = failures.len();
        for case in &here {
            let results = world::replay(case, &cases);
            let mut wrong = compare::compare(case, &results, &mut classes);
            wrong.extend(golden::check(case, &results));
            failures.extend((!wrong.is_empty()).then(|| (case.name.clone(), wrong)));
        }
        let failed = failures.len() - before;
        println!(
            "{platform:10} {:3} of {:3} pass, {} decided elsewhere",
            here.len() - failed,
            here.len(),
            elsewhere.len()
        );
    }
    for (name, reason) in ELSEWHERE {
        println!("elsewhere  {name}: {reason}");
    }
    for (name, wrong) in &failures {
        println!("FAILED     {name}\n           {}", wrong.join("\n           "));
    }
    assert!(failures.is_empty(), "{} cases fail", failures.len());
}
