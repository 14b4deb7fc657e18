#!/usr/bin/env bash
# TLS as platforms and admins meet it: curl with a CA, both versions, plain HTTP on the TLS port, a renewal by reload, a
# renewal that is wrong, a certificate that ends. Certificates are made here with openssl.
# The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
room=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null; wait 2>/dev/null; rm -rf "$room"' EXIT
ok() { printf 'ok %s\n' "$1"; }
not_ok() { printf 'not ok %s: %s\n' "$1" "$2"; }
# shows NAME TEXT WANTED: the text has what is wanted in it.
shows() { case $2 in *"$3"*) ok "$1" ;; *) not_ok "$1" "$2" ;; esac; }
run() { "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" "$@" 2>&1; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$room/ca.key" -out "$room/ca.pem" \
    -days 3650 -subj "/CN=test authority" 2>/dev/null
# certificate NAME DAYS: NAME.pem with its chain, NAME.key.
certificate() {
    openssl req -newkey rsa:2048 -nodes -keyout "$room/$1.key" -out "$room/$1.csr" -subj "/CN=$1" 2>/dev/null
    printf 'subjectAltName=DNS:hooks.test,IP:127.0.0.1\n' >"$room/ext"
    openssl x509 -req -in "$room/$1.csr" -CA "$room/ca.pem" -CAkey "$room/ca.key" -CAcreateserial -days "$2" \
        -extfile "$room/ext" -out "$room/leaf" 2>/dev/null
    cat "$room/leaf" "$room/ca.pem" >"$room/$1.pem"
    chmod 0600 "$room/$1.key"
}
certificate first 90
certificate second 5
use() { cp "$room/$1.pem" "$room/cert.pem" && cp "$room/$2.key" "$room/key.pem" && chmod 0600 "$room/key.pem"; }
use first first
cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:9"
api_key = "nobody-listens-there"
[server]
listen = "127.0.0.1:0"
public_url = "https://hooks.test"
tls = { cert = "$room/cert.pem", key = { file = "$room/key.pem" } }
[spool]
dir = "$room/spool"
disk_free_min = "1MiB"
[status_page]
listen = "127.0.0.1:0"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
# Whole days that are left: one less from the second on that follows the making.
days() { sed -E 's/(ends in|expires in) (90|89|5|4)d/\1 its days/'; }
shows "check knows the certificate" "$(run check --offline | days)" "certificate ends in its days"
"$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>"$room/log" &
daemon=$!
for _ in $(seq 300); do
    line=$(grep -s " is up pid=" "$room/log") && break
    sleep 0.1
done
port=$(sed -E 's/.* listen=127.0.0.1:([0-9]+).*/\1/' <<<"$line")
page=$(sed -E 's/.* page=([0-9.:]+).*/\1/' <<<"$line")
ask() {
    curl -sS --max-time 30 --noproxy '*' --resolve "hooks.test:$port:127.0.0.1" -w ' %{http_code} %{http_version}' \
        -H 'Authorization: chat-secret' "$@" 2>&1
}
post=(-d '{"event_id":"1","email":"ana@example.com","text":"hola"}' "https://hooks.test:$port/in/chat")
shows "an event over TLS 1.3" "$(ask --cacert "$room/ca.pem" --tlsv1.3 "${post[@]}")" '{"ok":true} 200 1.1'
shows "an event over TLS 1.2" "$(ask --cacert "$room/ca.pem" --tls-max 1.2 "${post[@]}")" '{"ok":true} 200 1.1'
shows "a client that does not know the authority gives up" "$(ask "${post[@]}")" 'curl: (60)'
for _ in $(seq 100); do grep -qs 'certificate turned down' "$room/log" && break; sleep 0.1; done
shows "the log says that a client turned the certificate down" "$(cat "$room/log")" 'certificate turned down from=127.0.0.1'
shows "plain http is told where it is" "$(ask "http://127.0.0.1:$port/in/chat")" \
    "this port speaks https, not plain http"
use second first
shows "a key that is not the certificate's is refused" "$(run reload)" \
    "$room/key.pem is not the key of the first certificate in server.tls.cert"
serial() { openssl s_client -connect "127.0.0.1:$port" </dev/null 2>/dev/null | openssl x509 -noout -subject; }
shows "the certificate before stays" "$(serial)" first
use second second
shows "a reload says that it is another" "$(run reload)" "reloaded: server.tls changed"
shows "the new one is shown" "$(serial)" second
shows "check says that it ends soon" "$(run check --offline | days)" "server.tls.cert: expires in its days"
shows "status says so, too" "$(run status | days)" "1 certificate expires in its days"
ends=$(date -ud "$(openssl x509 -in "$room/second.pem" -noout -enddate | cut -d= -f2)" +%s)
shows "metrics know when" "$(curl -sS --noproxy '*' "http://$page/metrics")" \
    "deskspool_tls_certificate_expiry_timestamp_seconds $ends"
