#!/usr/bin/env bash
# The status page in a headless Chromium: wide and narrow, light and dark, with and without JavaScript; no complaint in
# its console, no request to outside, no link that leads nowhere, nothing wider than the screen.
# Expects DESKSPOOL=/path/to/deskspool, chromium and python3; screenshots go to target/page.
# Prints "ok NAME" or "not ok NAME: why".
set -uo pipefail
deskspool=${DESKSPOOL:?the binary}
here=$(cd "$(dirname "$0")" && pwd)
room=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null; wait 2>/dev/null; rm -rf "$room"' EXIT

cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:9"
api_key = "nobody-listens-there"
[server]
listen = "127.0.0.1:0"
public_url = "https://hooks.acme.example"
[spool]
dir = "$room/spool"
disk_free_min = "1MiB"
[status_page]
listen = "127.0.0.1:0"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
[source.silent]
preset = "generic@1"
secret = "other-secret"
TOML
mkfifo "$room/log"
"$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>"$room/log" &
daemon=$!
while IFS= read -r line; do
    case $line in *" is up pid="*) break ;; esac
done <"$room/log"
exec 3<>"$room/log"
listen=$(sed -E 's/.* listen=([0-9.:]+).*/\1/' <<<"$line")
page=$(sed -E 's/.* page=([0-9.:]+).*/\1/' <<<"$line")

# post SECRET BODY
post() {
    exec 4<>"/dev/tcp/${listen%:*}/${listen##*:}" || return 1
    printf 'POST /in/chat HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAuthorization: %s\r\nContent-Length: %s\r\n\r\n%s' \
        "$listen" "$1" "${#2}" "$2" >&4
    cat <&4 >/dev/null
    exec 4>&-
}
for number in 1 2 3 4 5 6 7 8 9 10 11 12; do
    post chat-secret '{"event_id":"e'$number'","conversation_id":"c'$((number % 4))'","email":"ana@example.com","name":"<script>alert(1)</script>","text":"hola"}'
done
post chat-secret 'not <b>JSON</b>'
post wrong '{}'
python3 "$here/browser.py" "$page" "${CARGO_TARGET_DIR:-$here/../../target}/page"
