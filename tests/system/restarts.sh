#!/usr/bin/env bash
# Restarts under load, the socket passed as systemd passes it: nobody is refused or reset, each 200 is in Freshdesk once.
# The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
room=$(mktemp -d)
trap '[ -z "${desk:-}" ] || kill "$desk" 2>/dev/null; wait; rm -rf "$room"' EXIT
name="five restarts under load refuse nobody"

"$deskspool" sandbox --port 0 --plan unlimited --key sandbox >"$room/sandbox" 2>&1 &
desk=$!
for _ in $(seq 100); do
    url=$(grep -oE 'http://[0-9.:]+' "$room/sandbox" | head -n 1)
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "${url:-}" ] || { echo "not ok $name: no sandbox: $(cat "$room/sandbox")" && exit 1; }
cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "$url"
api_key = "sandbox"
rate_per_minute = 100000
[server]
listen = "127.0.0.1:1"
[spool]
dir = "$room/spool"
disk_free_min = "1MiB"
[status_page]
listen = "off"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
python3 tests/system/restarts.py "$deskspool" "$room" 5 >"$room/met" 2>"$room/errors" ||
    { echo "not ok $name: $(tail -n 3 "$room/errors" "$room/log")" && exit 1; }
python3 - "$room/met" "$url" "$name" <<'PY'
import json, sys, urllib.request, base64, re, collections
met, url, name = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
def ask(path):
    request = urllib.request.Request(url + path, headers={"Authorization": "Basic " + base64.b64encode(b"sandbox:X").decode()})
    return json.load(urllib.request.urlopen(request))
texts = []
for ticket in [t for page in range(1, 4) for t in ask(f"/api/v2/tickets?per_page=100&page={page}")]:
    one = ask(f"/api/v2/tickets/{ticket['id']}")
    texts.append(one["description_text"])
    page = 1
    while notes := ask(f"/api/v2/tickets/{ticket['id']}/conversations?per_page=100&page={page}"):
        texts += [note["body_text"] for note in notes]
        page += 1
found = collections.Counter(re.findall(r"\[(c\d+-\d+)\]", "\n".join(texts)))
said = lambda good, name, why: print(f"ok {name}" if good else f"not ok {name}: {why}")
print(f"# {len(met['sent'])} events, slowest answer {met['slowest']:.2f}s")
said(not met["faults"] and len(met["sent"]) > 100, name, met["faults"][:5])
missing = [e for e in met["sent"] if found[e] == 0]
twice = [e for e in met["sent"] if found[e] > 1]
said(not missing and not twice, "each 200 is delivered once over five restarts", f"missing {missing[:5]} twice {twice[:5]}")
said(met["passed"] == [f"127.0.0.1:{met['port']}"] and f"systemd listens on 127.0.0.1:{met['port']}" in met["screen"],
     "status says that systemd listens", met["screen"])
PY
grep -q 'systemd listens address=127.0.0.1:[0-9]* effect="server.listen is ignored"' "$room/log" &&
    echo "ok the log says that server.listen is ignored" ||
    echo "not ok the log says that server.listen is ignored: $(head -n 5 "$room/log")"
