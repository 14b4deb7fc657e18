#!/usr/bin/env bash
# A disk that fails under load: syncs that end in EIO, everything in EROFS for a while, and a real ext4 that its kernel has made
# read-only. Platforms are told 503 with Retry-After, a segment whose sync failed is never written or synced again, intake goes
# on by itself where the disk does, and each event that got a 200 is one ticket. Needs root for strace and a loop device;
# without them it fails and says so.
# The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
lacks=
for command in strace losetup mkfs.ext4 e2fsck; do command -v "$command" >/dev/null || lacks="$lacks $command"; done
[ -z "$lacks" ] || { echo "not ok a failing disk: not installed:$lacks" && exit 1; }
room=$(mktemp -d)
disk=$room/disk
daemon= sandbox= poster= tracer=

clean_up() {
    for child in $tracer $poster $daemon $sandbox; do kill -9 "$child" 2>/dev/null; done
    wait 2>/dev/null
    umount -l "$disk" 2>/dev/null
    rm -rf --one-file-system "$room"
}
trap clean_up EXIT
fail() {
    echo "not ok $1: $2"
    tail -n 5 "$room/log" 2>/dev/null
    exit 1
}
mkdir "$disk"
truncate -s 128M "$room/image"
mkfs.ext4 -q -F "$room/image" && mount -o loop "$room/image" "$disk" 2>/dev/null ||
    { echo "not ok a failing disk: this needs root and a free loop device" && exit 1; }

# until_true SECONDS COMMAND…: waits for it.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        pause 0.05
    done
    return 0
}
pause() { read -r -t "$1" <>"$room/never"; }
mkfifo "$room/never"

"$deskspool" sandbox --port 0 --plan unlimited --state "$room/state.json" >"$room/sandbox.out" 2>&1 &
sandbox=$!
until_true 30 grep -sqE 'http://127.0.0.1:[0-9]+' "$room/sandbox.out" || fail "a failing disk" "no sandbox: $(cat "$room/sandbox.out")"
url=$(grep -oE 'http://127.0.0.1:[0-9]+' "$room/sandbox.out" | head -n 1)

cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "$url"
api_key = "sandbox-key"
rate_per_minute = 100000
timeout = "1s"
[server]
listen = "127.0.0.1:0"
[status_page]
listen = "off"
[spool]
dir = "$disk/spool"
disk_free_min = "1MiB"
[delivery]
backoff = { first = "100ms", factor = 2.0, max = "1s", jitter = 0.0 }
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
verb() { "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" "$@"; }
serve() {
    : >"$room/log"
    RUNTIME_DIRECTORY=$room "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>>"$room/log" &
    daemon=$!
    until_true 60 is_up || fail "a failing disk" "the daemon is not up"
}
is_up() {
    address=$(sed -nE 's/.* is up pid=.* listen=([0-9.:]+).*/\1/p' "$room/log" | tail -n 1)
    [ -n "$address" ]
}

# post NUMBER: the status, and Retry-After if there is one.
post() {
    local body line
    status= retry_after=
    body="{\"event_id\":\"failing-$1\",\"email\":\"ana$1@example.com\",\"text\":\"failing-disk-$1. \"}"
    { exec 4<>"/dev/tcp/${address%:*}/${address##*:}"; } 2>/dev/null || return 1
    printf 'POST /in/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: chat-secret\r\nContent-Length: %d\r\n\r\n%s' \
        "${#body}" "$body" >&4
    read -r -t 30 _ status _ <&4
    while read -r -t 30 line <&4; do
        line=${line%$'\r'}
        case ${line,,} in "retry-after:"*) retry_after=yes ;; "") break ;; esac
    done
    exec 4>&-
}
# Posts as a platform does: again, until it is taken.
load() {
    local number=0
    while [ ! -e "$room/stop" ]; do
        number=$((number + 1))
        while [ ! -e "$room/stop" ]; do
            post "$1-$number"
            [ "$status" = 200 ] && echo "$1-$number" >>"$room/taken" && break
            echo "${status:-nothing} ${retry_after:-without}" >>"$room/refused"
            pause 0.02
        done
    done
}
start_load() {
    rm -f "$room/stop"
    load "$1" &
    poster=$!
}
stop_load() {
    : >"$room/stop"
    wait "$poster"
    poster=
}
lines() { wc -l <"$1" 2>/dev/null || echo 0; }
more_than() { [ "$(lines "$1")" -gt "$2" ]; }
is_drained() { [ -z "$(verb queue --json --state queued,deferred,in-flight 2>/dev/null)" ]; }
is_traced() { ! grep -q '^TracerPid:.*[[:space:]]0$' "/proc/$daemon/status"; }
# Makes system calls of the daemon fail until `mend`.
break_calls() {
    strace -f -y -qq -o "$room/$1.trace" -e trace="$2" -e inject="$2:$3" -p "$daemon" 2>/dev/null &
    tracer=$!
    until_true 20 is_traced || fail "a failing disk" "strace cannot attach to the daemon"
}
mend() {
    kill -INT "$tracer"
    wait "$tracer"
    tracer=
}
# taken_again NAME: whether intake goes on.
taken_again() { until_true 60 more_than "$room/taken" $(($(lines "$room/taken") + 50)) || fail "$1" "nothing is taken any more"; }
: >"$room/refused" && : >"$room/taken"
serve
start_load eio
taken_again "a sync that fails"

# Some syncs fail; between them the daemon goes on with the next segment.
break_calls eio fdatasync 'error=EIO:when=3+4'
failed() { [ "$(grep -c 'journal.*EIO' "$room/eio.trace")" -ge 8 ]; }
until_true 60 failed || fail "a sync that fails is told" "no sync of the journal failed"
mend
taken_again "intake goes on after syncs that failed"
failures=$(grep -c 'journal.*EIO' "$room/eio.trace")
# A line is "PID fdatasync(7</…/00000003.seg>) = -1 EIO (…)": after it nothing may be synced on that segment.
again=$(awk 'match($0, /<[^>]*\.seg>/) { path = substr($0, RSTART, RLENGTH); if (path in failed) print; if (/EIO/) failed[path] }' "$room/eio.trace")
if [ -z "$again" ]; then echo "ok a segment whose sync failed is abandoned: $failures failed, none was tried again"; else
    fail "a segment whose sync failed is abandoned" "$(head -n 3 <<<"$again")"
fi
grep -q '^503 yes$' "$room/refused" && echo "ok intake goes on by itself after syncs that failed" ||
    fail "a sync that fails is told" "nobody was told 503"

# Nothing can be changed for a while.
before=$(lines "$room/refused")
break_calls erofs pwrite64,fdatasync,fsync,fallocate,ftruncate,mkdir,rename,unlink 'error=EROFS'
until_true 30 more_than "$room/refused" $((before + 20)) || fail "a read-only disk is told" "no 503"
pause 3
taken=$(lines "$room/taken")
pause 1
[ "$(lines "$room/taken")" = "$taken" ] || fail "a read-only disk is told" "events are taken nevertheless"
mend
taken_again "intake goes on when the disk can be written again"
kill -0 "$daemon" 2>/dev/null || fail "intake goes on when the disk can be written again" "the daemon has ended"
echo "ok intake goes on by itself when a read-only disk can be written again"

# As after an error of the disk: this file system stays read-only until it was checked. In the moment of it ext4 lets some
# syncs return that wrote nothing (see takes_changes in src/spool/ground.rs): so it is done some times.
aborts=12
for round in $(seq "$aborts"); do
    name="a file system that was made read-only, $round"
    before=$(lines "$room/refused")
    mount -o remount,abort "$disk" 2>/dev/null
    until_true 30 more_than "$room/refused" $((before + 5)) || fail "$name" "no 503"
    if (: >"$disk/probe") 2>/dev/null; then fail "$name" "it is not read-only"; fi
    kill -0 "$daemon" 2>/dev/null || fail "$name" "the daemon has ended"
    stop_load
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null
    until_true 10 umount "$disk" 2>/dev/null || fail "$name" "it cannot be unmounted"
    e2fsck -fy "$room/image" >"$room/e2fsck" 2>&1
    [ $? -le 2 ] && mount -o loop "$room/image" "$disk" || fail "$name" "$(tail -n 3 "$room/e2fsck")"
    serve
    start_load "later-$round"
    taken_again "a start on $name"
done
stop_load
echo "ok $aborts starts on a file system that was made read-only and checked"

others=$(grep -cv -e '^503 yes$' -e '^nothing ' "$room/refused")
if [ "$others" = 0 ]; then echo "ok $(grep -c '^503 yes$' "$room/refused") refusals, each a 503 with Retry-After"; else
    fail "refusals are 503 with Retry-After" "$others are not: $(grep -v '^503 yes$' "$room/refused" | sort | uniq -c | head -n 3)"
fi
until_true 120 is_drained || fail "what got a 200 is one ticket" "not delivered: $(verb queue --json | head -n 3)"
kill -TERM "$daemon"
wait "$daemon"
daemon=
kill -TERM "$sandbox"
wait "$sandbox"
sandbox=
tickets=$(grep -oE '"description_text": *"[^"]*failing-disk-[0-9a-z-]+\.' "$room/state.json" | grep -oE 'failing-disk-[0-9a-z-]+\.' | sort)
twice=$(uniq -d <<<"$tickets" | wc -l)
lost=$(comm -13 <(uniq <<<"$tickets") <(sed -E 's/.*/failing-disk-&./' "$room/taken" | sort -u) | wc -l)
if [ "$lost" = 0 ] && [ "$twice" = 0 ]; then echo "ok $(lines "$room/taken") events got a 200, each is one ticket"; else
    fail "what got a 200 is one ticket" "$(lines "$room/taken") got a 200, $lost have no ticket, $twice have two"
fi
