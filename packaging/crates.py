"""Which crates are part of the binary, asked of cargo: for licences and sbom, which import this."""
import json
import re
import subprocess


def ask(*words):
    return subprocess.run(["cargo", *words, "--locked"], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def linked(target=None):
    """The packages in the binary, as cargo metadata describes them, each with those it stands on; the first is our own.

    The tree is the one that tells: metadata knows features too that only tests switch on. Procedural macros are left out."""
    known = {(one["name"], one["version"]): one for one in json.loads(ask("metadata", "--format-version", "1"))["packages"]}
    tree = ask("tree", "--edges", "normal,no-proc-macro", "--prefix", "depth", "--no-dedupe", *(["--target", target] if target else []))
    found, above = {}, []
    for depth, name, version in re.findall(r"^(\d+)(\S+) v(\S+)", tree, re.MULTILINE):
        found.setdefault((name, version), set())
        above[int(depth) :] = [(name, version)]
        if len(above) > 1:
            found[above[-2]].add(above[-1])
    return [{**known[one], "stands_on": [known[other] for other in sorted(those)]} for one, those in found.items()]
