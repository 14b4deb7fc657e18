#!/usr/bin/env bash
# The status page in a headless Chromium: wide and narrow, light and dark, with and without JavaScript; no complaint in
# its console, no request to outside, nothing axe-core finds serious, nothing wider than the screen; every number leads
# to a list of as many; actions with and without the token; a mapping that is tried.
# Three daemons: one busy and with actions, one whose Freshdesk is down and that is read-only, one that is new.
# Expects DESKSPOOL=/path/to/deskspool, chromium, python3 and npm (for axe-core); screenshots go to target/page.
# Prints "ok NAME" or "not ok NAME: why".
set -uo pipefail
deskspool=${DESKSPOOL:?the binary}
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
room=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$room"' EXIT

# start NAME PATTERN COMMAND…: runs it, waits for a line with PATTERN, leaves it in $line.
start() {
    local name=$1 pattern=$2
    shift 2
    mkfifo "$room/$name.log"
    "$@" >"$room/$name.log" 2>&1 &
    pids+=($!)
    exec {log}<"$room/$name.log"
    while IFS= read -r -t 60 line <&"$log"; do
        case $line in *"$pattern"*) break ;; esac
    done
    # Somebody must read on, or it waits for a reader.
    cat <&"$log" >"$room/$name.rest" &
    pids+=($!)
}

# serve NAME FRESHDESK TABLES: a daemon; its addresses are $listen and $page.
serve() {
    printf '%s\n' "$3" >"$room/$1.toml"
    cat >>"$room/$1.toml" <<TOML
[freshdesk]
url = "$2"
api_key = "sandbox-key"
[server]
listen = "127.0.0.1:0"
public_url = "https://hooks.acme.example"
[spool]
dir = "$room/$1"
disk_free_min = "1MiB"
TOML
    start "$1" " is up pid=" "$deskspool" --config "$room/$1.toml" --socket "$room/$1.sock" serve
    listen=$(sed -E 's/.* listen=([0-9.:]+).*/\1/' <<<"$line")
    page=$(sed -E 's/.* page=([0-9.:]+).*/\1/' <<<"$line")
}

# post SOURCE SECRET BODY
post() {
    exec 4<>"/dev/tcp/${listen%:*}/${listen##*:}" || return 1
    printf 'POST /in/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAuthorization: %s\r\nContent-Length: %s\r\n\r\n%s' \
        "$1" "$listen" "$2" "$(printf %s "$3" | wc -c)" "$3" >&4
    cat <&4 >/dev/null
    exec 4>&-
}

# event NUMBER CONVERSATION TEXT
event() {
    printf '{"event_id":"e%s","conversation_id":"c%s","email":"ana@example.com","name":"Ana <script>alert(1)</script>","text":"%s","lang":"es"}' "$@"
}

control() { "$deskspool" --config "$room/busy.toml" --socket "$room/busy.sock" "$@" >/dev/null; }

start desk "http://" "$deskspool" sandbox --port 0
desk=$(grep -oE 'http://[0-9.:]+' <<<"$line" | head -n 1)
serve new "$desk" '[status_page]
listen = "127.0.0.1:0"
[source.sendpulse]
preset = "sendpulse@1"
secret = "s"
[source.botpress]
preset = "botpress@1"
secret = "s"'
new=$page
serve down http://127.0.0.1:9 '[status_page]
listen = "127.0.0.1:0"
[source.chat]
preset = "generic@1"
secret = "s"'
down=$page
for number in 1 2 3 4 5 6 7 8 9 10 11 12; do post chat s "$(event "$number" $((number % 4)) hola)"; done
printf s >"$room/secret"
chmod 600 "$room/secret"
serve busy "$desk" '[status_page]
listen = "127.0.0.1:0"
actions = true
password = "open sesame"
[source.chat]
preset = "generic@1"
secret = { file = "'"$room"'/secret" }
# Tests of the bot are nobody'"'"'s business.
keep_if = "event.text != '"'ping'"'"
[source.chat.ticket]
subject = "Web: {{ event.text | truncate(40) }}"
[source.shop]
preset = "generic@1"
secret = "s"
[source.shop.ticket]
priority = "high"
custom_fields = { cf_no_such_field = "{{ event.lang }}" }
[source.later]
preset = "generic@1"
secret = "s"
[source.silent]
preset = "generic@1"
secret = "s"'
post later s "$(event 1 1 'ready already')"
control pause later --reason 'moving to new bot'
post chat wrong '{}'
post chat s 'not <b>JSON</b>'
post chat s "$(event 0 1 ping)"
for number in 1 2 3 4 5 6; do post chat s "$(event "$number" $((number % 3)) '¿Dónde está mi pedido 5531? Lo espero desde el lunes')"; done
post chat s "$(event 6 0 '¿Dónde está mi pedido 5531? Lo espero desde el lunes')"
post chat s "$(event 7 1 '¿Siguen ahí?')"
for number in 1 2 3; do post shop s "$(event "$number" "$number" 'precio?')"; done
for number in 2 3 4 5; do post later s "$(event "$number" "$number" hola)"; done

modules=$room/axe
npm install --silent --no-audit --no-fund --no-update-notifier --prefix "$modules" axe-core >/dev/null 2>&1
python3 "$here/browser.py" "$target/page" "$modules/node_modules/axe-core/axe.min.js" "busy=$page" "down=$down" "new=$new"
