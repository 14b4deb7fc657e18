#!/usr/bin/env bash
# One event, watched by strace: it is written to the journal and synced, with the directory of the new segment, before the
# first byte of the 200 leaves. The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
canary=sync-canary-5531
room=$(mktemp -d)
tracer=
# The daemon's parent is strace: when that is killed, the daemon must be, too.
trap '[ -z "${daemon:-}" ] || kill -9 "$daemon" 2>/dev/null; [ -z "$tracer" ] || wait "$tracer"; rm -rf "$room"' EXIT

fail() {
    echo "not ok $1: $2"
    exit 1
}
command -v strace >/dev/null || fail "the sync comes before the answer" "strace is not installed"

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
listen = "off"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
mkfifo "$room/log"
strace -f -y -s 4096 -o "$room/trace" \
    -e trace=fdatasync,fsync,sync_file_range,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg \
    "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>"$room/log" &
tracer=$!
exec 3<"$room/log"
address=
while read -r -t 60 line <&3; do
    echo "$line" >>"$room/lines"
    case $line in *" is up pid="*)
        daemon=${line#* pid=} daemon=${daemon%% *}
        address=${line#* listen=} address=${address%% *}
        break
        ;;
    esac
done
[ -n "$address" ] || fail "the sync comes before the answer" "the daemon is not up: $(tail -n 3 "$room/lines")"
cat <&3 >>"$room/lines" &

body="{\"event_id\":\"1\",\"email\":\"ana@example.com\",\"text\":\"$canary\"}"
exec 4<>"/dev/tcp/${address%:*}/${address##*:}"
printf 'POST /in/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: chat-secret\r\nContent-Length: %d\r\n\r\n%s' \
    "${#body}" "$body" >&4
read -r -t 60 answer <&4
exec 4>&-
case $answer in "HTTP/1.1 200"*) ;; *) fail "the sync comes before the answer" "the answer is: $answer" ;; esac
kill -TERM "$daemon"
wait "$tracer"
tracer= daemon=

# Line numbers are the order of events: a call's line begins when it is made, "resumed" is when it is done.
awk -v canary="$canary" '
    function done() { return $0 ~ / = 0$/ }
    function synced(what) {
        if ($0 ~ ("(fdatasync|fsync)\\([0-9]+<[^>]*" what ">")) { if (done()) return 1; waiting[$1] = what }
        if ($0 ~ /(fdatasync|fsync) resumed>/ && waiting[$1] == what) { delete waiting[$1]; return done() }
        return 0
    }
    !put && /^[0-9]+ +p?write/ && /journal\/[0-9]+\.seg>/ && index($0, canary) { put = NR }
    synced("/journal/[0-9]+\\.seg") && put && !data { data = NR }
    synced("/journal") && !answer { directory = NR }
    !answer && /HTTP\/1\.1 200/ { answer = NR }
    END {
        if (put && data && answer && put < data && data < answer) print "ok the sync comes before the answer"
        else { print "not ok the sync comes before the answer: journal write in line " put ", sync done in " data ", 200 in " answer; bad = 1 }
        if (directory && directory < answer) print "ok a new segment is synced with its directory before the answer"
        else { print "not ok a new segment is synced with its directory before the answer: no such sync"; bad = 1 }
        exit bad
    }' "$room/trace"
code=$?
[ "$code" = 0 ] || grep -nE 'journal|HTTP/1.1 200' "$room/trace" | cut -c1-200
exit "$code"
