#!/usr/bin/env bash
# A small disk that something else fills to the last block, again and again, while events come in: they are told 503 with
# Retry-After, deliveries go on, intake reopens by itself when there is room, and each event that got a 200 is one ticket.
# Then a start on a full disk, which waits. Needs root for a tmpfs; says so when it cannot mount one.
# The binary is $DESKSPOOL, or the debug build. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
rounds=5
room=$(mktemp -d)
disk=$room/disk
daemon= sandbox= poster=

clean_up() {
    for child in $poster $daemon $sandbox; do kill -9 "$child" 2>/dev/null; done
    wait 2>/dev/null
    umount "$disk" 2>/dev/null
    rm -rf "$room"
}
trap clean_up EXIT
fail() {
    echo "not ok $1: $2"
    tail -n 5 "$room/log" 2>/dev/null
    exit 1
}
mkdir "$disk"
mount -t tmpfs -o size=64m tmpfs "$disk" 2>/dev/null || { echo "not ok a full disk: no tmpfs can be mounted here, which needs root" && exit 1; }
mkdir "$disk/spool"

# until_true SECONDS COMMAND…: waits for it.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        read -r -t 0.05 <>"$room/never"
    done
    return 0
}
mkfifo "$room/never"

"$deskspool" sandbox --port 0 --plan unlimited --state "$room/state.json" >"$room/sandbox.out" 2>&1 &
sandbox=$!
until_true 30 grep -sqE 'http://127.0.0.1:[0-9]+' "$room/sandbox.out" || fail "a full disk" "no sandbox: $(cat "$room/sandbox.out")"
url=$(grep -oE 'http://127.0.0.1:[0-9]+' "$room/sandbox.out" | head -n 1)

cat >"$room/deskspool.toml" <<TOML
[freshdesk]
url = "$url"
api_key = "sandbox-key"
rate_per_minute = 100000
[server]
listen = "127.0.0.1:0"
[spool]
dir = "$disk/spool"
disk_free_min = "4MiB"
[delivery]
backoff = { first = "100ms", factor = 2.0, max = "1s", jitter = 0.0 }
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
verb() { "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" "$@"; }
serve() {
    : >"$room/log"
    "$deskspool" --config "$room/deskspool.toml" --socket "$room/control.sock" serve 2>>"$room/log" &
    daemon=$!
}
is_up() {
    address=$(sed -nE 's/.* is up pid=.* listen=([0-9.:]+).*/\1/p' "$room/log" | tail -n 1)
    [ -n "$address" ]
}

# post NUMBER: the status, and Retry-After if there is one.
post() {
    local body line padding
    printf -v padding '%02000d' 0
    body="{\"event_id\":\"full-$1\",\"email\":\"ana$1@example.com\",\"text\":\"full-disk-$1. $padding\"}"
    exec 4<>"/dev/tcp/${address%:*}/${address##*:}" || return 1
    printf 'POST /in/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: chat-secret\r\nContent-Length: %d\r\n\r\n%s' \
        "${#body}" "$body" >&4
    status= retry_after=
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
        while :; do
            post "$number"
            [ "$status" = 200 ] && break
            echo "$status ${retry_after:-without}" >>"$room/refused"
            read -r -t 0.05 <>"$room/never"
        done
        echo "$number" >>"$room/taken"
    done
}
lines() { wc -l <"$1" 2>/dev/null || echo 0; }
more_than() { [ "$(lines "$1")" -gt "$2" ]; }
fill() { cat /dev/zero >>"$disk/filler" 2>/dev/null; }
is_drained() { [ -z "$(verb queue --json --state queued,deferred,in-flight 2>/dev/null)" ]; }

: >"$room/refused" && : >"$room/taken"
serve
until_true 60 is_up || fail "a full disk" "the daemon is not up"
load &
poster=$!
for ((round = 1; round <= rounds; round++)); do
    until_true 60 more_than "$room/taken" $(($(lines "$room/taken") + 100)) || fail "intake reopens by itself" "round $round: nothing is taken"
    before=$(lines "$room/refused")
    fill
    until_true 30 more_than "$room/refused" "$((before + 20))" || fail "a full disk is told" "round $round: no 503"
    # To the last block, also after what was given back.
    for ((again = 0; again < 10; again++)); do fill; read -r -t 0.05 <>"$room/never"; done
    rm "$disk/filler"
done
until_true 60 more_than "$room/taken" $(($(lines "$room/taken") + 100)) || fail "intake reopens by itself" "nothing is taken at the end"
: >"$room/stop"
wait "$poster"
poster=
kill -0 "$daemon" 2>/dev/null || fail "intake reopens by itself" "the daemon has ended"
echo "ok intake reopens by itself after the disk was full, $rounds times"
others=$(grep -cv '^503 yes$' "$room/refused")
if [ "$others" = 0 ]; then echo "ok $(lines "$room/refused") refusals, each a 503 with Retry-After"; else
    fail "refusals are 503 with Retry-After" "$others are not: $(grep -v '^503 yes$' "$room/refused" | sort | uniq -c | head -n 3)"
fi

# A start on a full disk waits, and goes on when there is room.
kill -TERM "$daemon"
wait "$daemon"
fill
serve
read -r -t 2 <>"$room/never"
kill -0 "$daemon" 2>/dev/null || fail "a start on a full disk waits" "it ended: $(tail -n 2 "$room/log")"
rm "$disk/filler"
until_true 60 is_up || fail "a start on a full disk waits" "it is not up when there is room"
taken() { post last && [ "$status" = 200 ]; }
until_true 60 taken || fail "a start on a full disk waits" "nothing is taken when there is room"
echo last >>"$room/taken"
echo "ok a start on a full disk waits, and goes on when there is room"

until_true 120 is_drained || fail "what got a 200 is one ticket" "not delivered: $(verb queue --json | head -n 3)"
kill -TERM "$daemon"
wait "$daemon"
daemon=
kill -TERM "$sandbox"
wait "$sandbox"
sandbox=
tickets=$(grep -oE '"description_text": *"[^"]*full-disk-[0-9a-z]+\.' "$room/state.json" | grep -oE 'full-disk-[0-9a-z]+\.' | sort)
twice=$(uniq -d <<<"$tickets" | wc -l)
lost=$(comm -13 <(uniq <<<"$tickets") <(sed -E 's/.*/full-disk-&./' "$room/taken" | sort -u) | wc -l)
if [ "$lost" = 0 ] && [ "$twice" = 0 ]; then echo "ok $(lines "$room/taken") events got a 200, each is one ticket"; else
    fail "what got a 200 is one ticket" "$(lines "$room/taken") got a 200, $lost have no ticket, $twice have two"
fi
