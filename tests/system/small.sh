#!/usr/bin/env bash
# How little the daemon takes when nothing happens: its memory after the start, and, when it has taken an event and
# delivered it to a sandbox, so that every thread that ever runs does, how often it wakes and what it writes. The binary is
# $DESKSPOOL, or the release build; how large that is, is in README's figures. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/release/deskspool}
resident_max=$((10 * 1024))     # KiB
wakes_per_second_max=2
rest=16   # tiny_http's threads beyond four end after 5 s, idle connections to it after 15
window=75 # longer than a minute: history is kept by the minute, and that of an idle one must cost nothing
room=$(mktemp -d)
daemon= desk= bad=0
trap '[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null; [ -z "$desk" ] || kill -9 "$desk" 2>/dev/null; wait; rm -rf "$room"' EXIT

# at_most WHAT FOUND MOST UNIT [WHY]
at_most() {
    if [ "$2" -le "$3" ]; then echo "ok $1: $2 $4, $3 at most"; else
        echo "not ok $1: $2 $4, $3 at most${5:+; $5}"
        bad=1
    fi
}
give_up() {
    echo "not ok $1: $2"
    exit 1
}

[ -x "$deskspool" ] || give_up "the daemon takes little" "there is no binary: cargo build --release"
"$deskspool" sandbox --port 0 >"$room/desk.log" 2>&1 &
desk=$!
# said FILE PATTERN PID: waits for a line.
said() {
    for _ in {1..600}; do
        grep -m 1 -oE -- "$2" "$1" && return
        kill -0 "$3" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
url=$(said "$room/desk.log" "http://127\.0\.0\.1:[0-9]+" "$desk")
[ -n "$url" ] || give_up "the daemon takes little" "the sandbox is not up: $(tail -n 3 "$room/desk.log")"
cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "$url"
api_key = "sandbox-key"
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
: >"$room/log"
"$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>"$room/log" &
daemon=$!
address=$(said "$room/log" " is up pid=.*" "$daemon" | sed -nE 's/.* listen=([^ ,]+).*/\1/p')
[ -n "$address" ] || give_up "the daemon takes little" "it is not up: $(tail -n 3 "$room/log")"

# Of a daemon that nobody has asked anything yet; what runs for the first time later brings its pages of the binary along.
sleep 3
at_most "an idle daemon is small" "$(awk '/^Rss:/ { print $2 }' "/proc/$daemon/smaps_rollup")" "$resident_max" "KiB resident" \
    "$(awk '/^(Anonymous|Private_Dirty|Shared_Clean|Private_Clean):/ { printf "%s %s KiB ", $1, $2 }' "/proc/$daemon/smaps_rollup")"

body='{"event_id":"1","email":"ana@example.com","text":"hello"}'
exec 4<>"/dev/tcp/${address%:*}/${address##*:}"
printf 'POST /in/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: chat-secret\r\nContent-Length: %d\r\n\r\n%s' \
    "${#body}" "$body" >&4
read -r -t 60 answer <&4
exec 4>&-
case $answer in "HTTP/1.1 200"*) ;; *) give_up "the daemon takes little" "an event is answered: $answer" ;; esac
said "$room/log" "attempt delivered id=1 " "$daemon" >/dev/null ||
    give_up "the daemon takes little" "not delivered: $(tail -n 3 "$room/log")"
"$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" status >/dev/null 2>&1

# wakes: a line for each thread: its number, its name, how often it has gone to sleep.
wakes() {
    for task in "/proc/$daemon/task/"*; do
        awk -v number="${task##*/}" '
            /^Name:/ { name = $2 }
            /^voluntary_ctxt_switches:/ { print number, name, $2 }' "$task/status" 2>/dev/null
    done
}
# written: bytes sent to the disk's cache, and calls that write anything anywhere.
written() { awk '/^(write_bytes|syscw):/ { sum += $2 } END { print sum }' "/proc/$daemon/io"; }

# The minute of the event is written down when it is over.
sleep $((60 - $(date +%s) % 60 + rest))
wakes >"$room/before"
written_before=$(written)
sleep "$window"
wakes >"$room/after"
written_after=$(written)
[ -n "$written_after" ] || give_up "the daemon takes little" "it has ended: $(tail -n 3 "$room/log")"

# The busiest first; a thread that began meanwhile counts from nothing.
awk 'NR == FNR { before[$1] = $3; next } $3 > before[$1] { print $3 - before[$1], $2 }' "$room/before" "$room/after" |
    sort -rn >"$room/woken"
woken=$(awk '{ sum += $1 } END { print sum + 0 }' "$room/woken")
at_most "an idle daemon sleeps" "$woken" $((wakes_per_second_max * window)) "wake-ups in $window s" \
    "$(head -n 5 "$room/woken" | tr '\n' ';')"
at_most "an idle daemon leaves the disk alone" $((written_after - written_before)) 0 "bytes or calls in $window s"
kill -TERM "$daemon" && wait "$daemon" || { echo "not ok the daemon stops: exit $?" && bad=1; }
daemon=
exit "$bad"
