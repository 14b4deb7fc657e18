#!/usr/bin/env bash
# `deskspool init` as somebody types it: questions on a real terminal, a hidden key, a wrong key, Ctrl-C; and whose
# files it writes where the service's group exists. DESKSPOOL is the binary. Needs python3; the last part needs root.
set -u
scratch=$(mktemp -d)
"$DESKSPOOL" sandbox --port 0 >"$scratch/sandbox" &
sandbox=$!
trap 'kill "$sandbox" 2>/dev/null; wait "$sandbox" 2>/dev/null; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do grep -q 'API ' "$scratch/sandbox" && break || read -rt 0.1 <> <(:); done
url=$(sed -n 's#.*page *\(http://[^/]*\)/#\1#p' "$scratch/sandbox")
mkdir "$scratch/home"

shows() { if [ "$2" = "$3" ]; then echo "ok $1"; else echo "not ok $1: wanted $2, got $3"; fi; }

# typed OUT PROMPT ANSWER …: runs init on a terminal, answers each prompt, writes what was seen; its exit code.
typed() {
    python3 - "$DESKSPOOL" --config "$scratch/home/deskspool.toml" init --url "$url" --spool "$scratch/spool" -- "$@" <<'END'
import os, pty, re, select, sys, time
split = sys.argv.index("--")
command, (out, *script) = sys.argv[1:split], sys.argv[split + 1:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
seen = ""
def read():
    global seen
    if not select.select([terminal], [], [], 0.2)[0]:
        return True
    try:
        data = os.read(terminal, 65536)
    except OSError:
        return False
    seen += data.decode(errors="replace")
    return bool(data)
deadline, at = time.monotonic() + 60, 0
for prompt, answer in zip(script[::2], script[1::2]):
    while prompt not in seen[at:] and time.monotonic() < deadline and read():
        pass
    at = len(seen)
    os.write(terminal, answer.encode().decode("unicode_escape").encode())
while time.monotonic() < deadline and read():
    pass
open(out, "w").write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
END
}

typed "$scratch/seen" 'hidden' 'wro\x7fng-key\r' 'hidden' 'sandbox-key\r' 'Which platforms?' 'sendpulse, nosuch\r' \
    'Which platforms?' 'sendpulse contako\r' 'Public URL' 'https://hooks.acme.com\r'
shows "init asks and is done" 0 $?
grep -q 'freshdesk 401: the API key is wrong' "$scratch/seen" && grep -q 'ok, "Integrations", ' "$scratch/seen" &&
    echo "ok a wrong key is asked for again" || echo "not ok a wrong key is asked for again: $(tail -n 3 "$scratch/seen")"
grep -q 'there is no "nosuch"' "$scratch/seen" && echo "ok an unknown platform is told" || echo "not ok an unknown platform is told: $(cat "$scratch/seen")"
grep -q 'sandbox-key\|wrng-key\|wrong-key' "$scratch/seen" && echo "not ok the key is hidden: it was shown" || echo "ok the key is hidden"
grep -q "paste    https://hooks.acme.com/in/sendpulse?token=$(cat "$scratch/home/secrets/sendpulse")" "$scratch/seen" &&
    echo "ok it says what to paste" || echo "not ok it says what to paste: $(cat "$scratch/seen")"
"$DESKSPOOL" --config "$scratch/home/deskspool.toml" check --quiet
shows "check passes on what it wrote" 0 $?

sum=$(cksum <"$scratch/home/deskspool.toml")
typed "$scratch/seen" '[y/N]' '\r'
shows "init leaves what is there" 1 $?
shows "the configuration is as it was" "$sum" "$(cksum <"$scratch/home/deskspool.toml")"
typed "$scratch/seen" '[y/N]' 'y\r' 'hidden' 'abc\x03'
shows "Ctrl-C ends it with 130" 130 $?
shows "and nothing was written" "$sum" "$(cksum <"$scratch/home/deskspool.toml")"

# In a mount namespace of its own, where the group exists.
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    { grep -v '^deskspool:' /etc/group; echo 'deskspool:x:4242:'; } >"$scratch/group"
    echo sandbox-key >"$scratch/key"
    unshare -m sh -c 'mount --bind "$1/group" /etc/group && exec "$2" --config "$1/etc/deskspool.toml" init --yes \
        --url "$3" --api-key-file "$1/key" --source sendpulse >"$1/said" 2>&1' sh "$scratch" "$DESKSPOOL" "$url"
    shows "the group's files" "640 0:4242 640 0:4242 640 0:4242 750 0:4242 " "$(cd "$scratch/etc" &&
        stat -c '%a %u:%g' deskspool.toml secrets/sendpulse secrets/freshdesk_api_key secrets | tr '\n' ' ')"
    grep -q '0640 root:deskspool' "$scratch/said" && echo "ok it says whose they are" || echo "not ok it says whose they are: $(cat "$scratch/said")"
fi
