#!/usr/bin/env bash
# The real binary under libfaketime: a clock that stands in 1970 and is set to today, one that is set back by a year, and
# one that has gone on by a week, as after a suspend. The wall clock alone is faked: the monotonic one, which waits and
# ages go by, is the kernel's (libfaketime cannot reach it, and what waits on conditions would hang if it could).
# The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
room=$(mktemp -d)
daemon= desk= bad=0
trap '[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null; [ -z "$desk" ] || kill -9 "$desk" 2>/dev/null; wait; rm -rf "$room"' EXIT

fail() {
    echo "not ok $1: $2"
    bad=1
}
ok() { echo "ok $1"; }

library=
find_library() { library=$(find /usr/lib /usr/lib64 -name libfaketime.so.1 2>/dev/null | head -n 1); }
find_library
if [ -z "$library" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends faketime >/dev/null 2>&1
    find_library
fi
[ -n "$library" ] || { fail "the clock may jump" "libfaketime is not installed, and could not be: install the package faketime"; exit 1; }

# now OFFSET: what the daemon's clock says from here on.
now() { printf '%s\n' "$1" >"$room/next" && mv "$room/next" "$room/time"; }
# said TEXT [FROM]: waits for a line of the daemon's log.
said() {
    local line
    # Both ends of a pipe end by themselves: tail with the daemon, grep with the line.
    line=$(timeout 40 tail -n "+${2:-1}" -f "$room/log" --pid="$daemon" | grep -m 1 -E -- "$1")
    [ -n "$line" ] && printf '%s\n' "$line"
}
lines() { wc -l <"$room/log"; }
start() {
    : >"$room/log"
    LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$room/time FAKETIME_NO_CACHE=1 \
        FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 \
        "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>"$room/log" &
    daemon=$!
    address=$(said " is up pid=" | sed -nE 's/.* listen=([^ ,]+).*/\1/p')
    [ -n "$address" ]
}
stop() {
    kill -TERM "$daemon" && wait "$daemon"
    daemon=
}
# post ID: one event; its status.
post() {
    local body="{\"event_id\":\"$1\",\"conversation_id\":\"$1\",\"email\":\"$1@example.com\",\"text\":\"hello $1\"}" answer
    exec 4<>"/dev/tcp/${address%:*}/${address##*:}" || return
    printf 'POST /in/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: chat-secret\r\nContent-Length: %d\r\n\r\n%s' \
        "${#body}" "$body" >&4
    read -r -t 30 answer <&4
    exec 4>&-
    case $answer in "HTTP/1.1 200"*) return 0 ;; *) return 1 ;; esac
}
verb() { "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" "$@"; }
# A Freshdesk on the port that the configuration names; away until it is wanted.
freshdesk() {
    "$deskspool" sandbox --port "$port" >"$room/desk.log" 2>&1 &
    desk=$!
}
away() {
    kill -9 "$desk" 2>/dev/null
    wait "$desk" 2>/dev/null
    desk=
}

port=$((20000 + RANDOM % 20000))
world() {
    rm -rf "$room/spool"
    cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:$port"
api_key = "sandbox-key"
timeout = "2s"
[server]
listen = "127.0.0.1:0"
[spool]
dir = "$room/spool"
disk_free_min = "1MiB"
[delivery]
backoff = { first = "500ms", factor = 2.0, max = "4s", jitter = 0.0 }
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
}

# jumps NAME FROM TO EXPECTED: an event before and one after the jump, and Freshdesk away in between; both arrive, the
# first one sent again is a duplicate, history knows both, and nothing is dead.
jumps() {
    local name=$1 from=$2 to=$3 expected=$4 line delivered
    world
    now "$from"
    start || { fail "$name" "the daemon is not up: $(tail -n 3 "$room/log")"; return; }
    freshdesk
    post early || { fail "$name" "the first event is not taken"; return; }
    said "attempt delivered id=1 " >/dev/null || { fail "$name" "not delivered before: $(tail -n 3 "$room/log")"; return; }
    away
    post during || { fail "$name" "the second event is not taken"; return; }
    said "attempt (deferred|unknown) id=2 " >/dev/null || { fail "$name" "no attempt fails: $(tail -n 3 "$room/log")"; return; }
    line=$(lines)
    now "$to"
    said "clock jumped $expected" "$line" >/dev/null && ok "$name: the log says that the clock jumped" ||
        fail "$name: the log says that the clock jumped" "$(tail -n 3 "$room/log")"
    post early
    if said "event duplicate .* event=\"early\"" "$line" >/dev/null; then ok "$name: what came before is still known"; else
        fail "$name: what came before is still known" "$(tail -n 3 "$room/log")"
    fi
    freshdesk
    if said "attempt delivered id=2 " "$line" >/dev/null; then ok "$name: what waited is delivered within seconds"; else
        fail "$name: what waited is delivered within seconds" "$(tail -n 5 "$room/log")"
    fi
    post late
    delivered=$(said "attempt delivered id=3 " "$line" | sed -nE 's/.* age=([0-9]+)\.[0-9]+s.*/\1/p')
    if [ -n "$delivered" ] && [ "$delivered" -lt 60 ]; then ok "$name: what comes after is delivered, and young"; else
        fail "$name: what comes after is delivered, and young" "age ${delivered:-unknown}"
    fi
    if [ "$(verb queue --json --state dead,deferred,queued,held | wc -l)" = 0 ] && verb show 1 >/dev/null && verb show 2 >/dev/null; then
        ok "$name: nothing is dead, and history knows both"
    else
        fail "$name: nothing is dead, and history knows both" "$(verb queue --state dead,deferred,queued,held 2>&1)"
    fi
    stop
    away
}

TZ=UTC export TZ
jumps "1970 to today" "@1970-01-01 00:01:00" "+0" "forward by=20[0-9]*d"
jumps "back by a year" "+0" "-365d" "back by=36[45]d"
jumps "on by a week" "+0" "+7d" "forward by=(7d|6d23h)"
exit "$bad"
