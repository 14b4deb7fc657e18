#!/usr/bin/env bash
# The metrics and the alerting rules as Prometheus reads them: promtool has nothing against either, and every metric
# that a rule asks for is there.
# Expects DESKSPOOL=/path/to/deskspool and promtool; prints "ok NAME" or "not ok NAME: why".
set -uo pipefail
deskspool=${DESKSPOOL:?the binary}
here=$(cd "$(dirname "$0")/../.." && pwd)
rules=$here/packaging/prometheus/alerts.yml
room=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null; wait 2>/dev/null; rm -rf "$room"' EXIT

ok() { printf 'ok %s\n' "$1"; }
not_ok() { printf 'not ok %s: %s\n' "$1" "$2"; }

if said=$(promtool check rules "$rules" 2>&1); then ok "promtool check rules"; else not_ok "promtool check rules" "$said"; fi

cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:9"
api_key = "nobody-listens-there"
[server]
listen = "127.0.0.1:0"
[spool]
dir = "$room/spool"
disk_free_min = "1MiB"
[status_page]
listen = "127.0.0.1:0"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
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

# fetch ADDRESS REQUEST-LINE HEADERS BODY: the answer, head and all.
fetch() {
    exec 4<>"/dev/tcp/${1%:*}/${1##*:}" || return 1
    printf '%s\r\nHost: %s\r\nConnection: close\r\n%s\r\n%s' "$2" "$1" "$3" "$4" >&4
    cat <&4
    exec 4>&-
}
event='{"event_id":"e1","conversation_id":"c1","email":"ana@example.com","text":"hola"}'
length=$'Content-Length: '${#event}$'\r\n'
fetch "$listen" "POST /in/chat HTTP/1.1" $'Authorization: chat-secret\r\n'"$length" "$event" >/dev/null
fetch "$listen" "POST /in/chat HTTP/1.1" $'Authorization: wrong\r\n'"$length" "$event" >/dev/null
fetch "$page" "GET /metrics HTTP/1.1" "" "" | sed '1,/^\r$/d' >"$room/metrics"

if said=$(promtool check metrics <"$room/metrics" 2>&1) && [ -z "$said" ]; then
    ok "promtool check metrics"
else
    not_ok "promtool check metrics" "$said"
fi
missing=
for name in $(grep -oE 'deskspool_[a-z_]+' "$rules" | sort -u); do
    # Freshdesk was never reached here, so there is no last success.
    [ "$name" = deskspool_freshdesk_last_success_timestamp_seconds ] && continue
    # Here is no TLS; tests/system/tls.sh asks for this one.
    [ "$name" = deskspool_tls_certificate_expiry_timestamp_seconds ] && continue
    grep -qE "^# TYPE $name " "$room/metrics" || missing="$missing $name"
done
if [ -z "$missing" ]; then ok "the rules ask for metrics that exist"; else not_ok "the rules ask for metrics that exist" "$missing"; fi
