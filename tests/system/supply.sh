#!/usr/bin/env bash
# Whose code is in the binary: cargo deny with .deny.toml, and that each of its rules bites; the SBOM against cargo's tree.
# Prints "ok …" or "not ok …: why". Needs cargo-deny, python3; the advisories also their database, by the network.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }
deny() { cargo-deny --locked --config "$1" check "${@:2}" >"$scratch/said" 2>&1; }

command -v cargo-deny >/dev/null || { not_ok "cargo deny" "not installed: packaging/tool cargo-deny 0.20.2 --no-default-features" && exit 1; }

# passes NAME WHAT…
passes() {
    if deny .deny.toml "${@:2}" && ! grep -q '^warning' "$scratch/said"; then ok "$1"; else not_ok "$1" "$(cat "$scratch/said")"; fi
}

# bites NAME WHAT SED WORDS: with one line of the rules changed, it is refused with these words.
bites() {
    sed "$3" .deny.toml >"$scratch/deny.toml"
    if deny "$scratch/deny.toml" "$2"; then not_ok "$1" "accepted"; elif grep -q "$4" "$scratch/said"; then ok "$1"; else
        not_ok "$1" "$(cat "$scratch/said")"
    fi
}

passes "licences, bans and sources are as .deny.toml allows" licenses bans sources
bites "a licence that is not listed is refused" licenses 's/"ISC", //' 'ISC'
bites "a crate that somebody else brings in is refused" bans 's/wrappers = \["deskspool"\]/wrappers = ["nobody"]/' 'tiny_http'
bites "a build script that is not listed is refused" bans '/^    "ring",$/d' 'ring'
bites "a crate from elsewhere is refused" sources '/^allow-registry/d; s/^unknown-git.*/&\nallow-registry = []/' 'not explicitly allowed'

if timeout 120 cargo-deny --locked --config .deny.toml fetch db >"$scratch/said" 2>&1; then
    passes "no advisory but those accepted" advisories
elif [ $? = 124 ] || grep -q "failed to fetch advisory database" "$scratch/said"; then
    ok "advisories not looked at: no database"
else
    not_ok "no advisory but those accepted" "$(cat "$scratch/said")"
fi

if git ls-files --error-unmatch Cargo.lock >"$scratch/said" 2>&1 && cargo metadata --locked --format-version 1 >/dev/null 2>"$scratch/said"; then
    ok "Cargo.lock is committed and right"
else
    not_ok "Cargo.lock is committed and right" "$(cat "$scratch/said")"
fi

sbom=target/packaging/root/usr/share/doc/deskspool/deskspool.cdx.json
said=$(python3 - "$sbom" <(cargo tree --locked --edges normal,no-proc-macro --prefix none --no-dedupe --target "$(rustc -vV | sed -n 's/^host: //p')") <<'PYTHON' 2>&1
import json, re, sys
bom = json.load(open(sys.argv[1]))
tree = {"@".join(line.split()[:2]).replace("@v", "@") for line in open(sys.argv[2])}
parts = {part["bom-ref"]: part for part in [bom["metadata"]["component"], *bom["components"]]}
named = {part["name"] + "@" + part["version"] for part in parts.values() if part["name"] != "rust-std"}
assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5"), "another format"
assert len(tree) > 50 and named == tree, named ^ tree
assert len(parts) == 1 + len(bom["components"]), "named twice"
for part in bom["components"]:
    assert part["licenses"][0]["expression"] and part["purl"], part
    assert part["name"] == "rust-std" or re.fullmatch("[0-9a-f]{64}", part["hashes"][0]["content"]), part
refs = {one["ref"] for one in bom["dependencies"]}
assert refs | {part for part in parts if "rust-std" in part} == set(parts), "not all are in the graph"
assert all(other in parts for one in bom["dependencies"] for other in one["dependsOn"]), "somebody unknown in the graph"
PYTHON
)
if [ -z "$said" ]; then ok "the SBOM has each crate with its hash and licence"; else not_ok "the SBOM has each crate with its hash and licence" "$said"; fi
